//! The CustomResourceDefinitions, made from the Rust types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, CustomResourceDefinitionNames,
    CustomResourceDefinitionSpec, CustomResourceDefinitionVersion, CustomResourceSubresourceStatus,
    CustomResourceSubresources, CustomResourceValidation, JSONSchemaProps, SelectableField,
};
use kube::api::ObjectMeta;
use kube::core::schema::{OptionalEnum, StructuralSchemaRewriter};
use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::transform_subschemas;
use serde_json::{Map, Value};

use super::insight::{GROUP, InsightStatus, VERSION};
use super::{NodeProgressInsightStatus, PoolProgressInsightStatus};

/// A status type has a schema that a CRD cannot have.
#[derive(Debug, thiserror::Error)]
#[error("The schema of {kind} is not a structural schema")]
pub struct CrdError {
    /// Kind whose status cannot be described.
    kind: &'static str,
    /// The error of serde.
    source: serde_json::Error,
}

/// Both CRDs, with their file names in `crds/`.
///
/// # Errors
/// When a status type has a schema that a CRD cannot have.
pub fn all() -> Result<[(String, CustomResourceDefinition); 2], CrdError> {
    Ok([
        (
            file_name::<NodeProgressInsightStatus>(),
            crd::<NodeProgressInsightStatus>()?,
        ),
        (
            file_name::<PoolProgressInsightStatus>(),
            crd::<PoolProgressInsightStatus>()?,
        ),
    ])
}

fn file_name<S: InsightStatus>() -> String {
    format!("{GROUP}_{}.yaml", S::PLURAL)
}

fn crd<S: InsightStatus>() -> Result<CustomResourceDefinition, CrdError> {
    Ok(CustomResourceDefinition {
        metadata: ObjectMeta {
            name: Some(format!("{}.{GROUP}", S::PLURAL)),
            ..ObjectMeta::default()
        },
        spec: CustomResourceDefinitionSpec {
            group: GROUP.into(),
            names: CustomResourceDefinitionNames {
                kind: S::KIND.into(),
                list_kind: Some(format!("{}List", S::KIND)),
                plural: S::PLURAL.into(),
                singular: Some(S::SINGULAR.into()),
                short_names: Some(S::SHORT_NAMES.iter().map(ToString::to_string).collect()),
                categories: Some(vec!["insights".into()]),
            },
            scope: "Cluster".into(),
            versions: vec![version::<S>()?],
            ..CustomResourceDefinitionSpec::default()
        },
        status: None,
    })
}

fn version<S: InsightStatus>() -> Result<CustomResourceDefinitionVersion, CrdError> {
    Ok(CustomResourceDefinitionVersion {
        name: VERSION.into(),
        served: true,
        storage: true,
        additional_printer_columns: Some(
            S::COLUMNS
                .iter()
                .map(|column| CustomResourceColumnDefinition {
                    name: column.name.into(),
                    type_: column.kind.into(),
                    json_path: column.path.into(),
                    priority: column.wide.then_some(1),
                    ..CustomResourceColumnDefinition::default()
                })
                .collect(),
        ),
        selectable_fields: Some(
            S::SELECTABLE
                .iter()
                .map(|path| SelectableField {
                    json_path: (*path).into(),
                })
                .collect(),
        ),
        subresources: Some(CustomResourceSubresources {
            status: Some(CustomResourceSubresourceStatus(Value::Object(Map::new()))),
            scale: None,
        }),
        schema: Some(CustomResourceValidation {
            open_api_v3_schema: Some(schema::<S>()?),
        }),
        ..CustomResourceDefinitionVersion::default()
    })
}

fn schema<S: InsightStatus>() -> Result<JSONSchemaProps, CrdError> {
    let status = SchemaSettings::openapi3()
        .with(|settings| {
            settings.inline_subschemas = true;
            settings.meta_schema = None;
        })
        .with_transform(StructuralSchemaRewriter)
        .with_transform(OptionalEnum)
        .with_transform(absent_not_null)
        .into_generator()
        .into_root_schema_for::<S>();
    let status: JSONSchemaProps =
        serde_json::from_value(status.to_value()).map_err(|source| CrdError {
            kind: S::KIND,
            source,
        })?;
    Ok(JSONSchemaProps {
        type_: Some("object".into()),
        description: Some(S::DESCRIPTION.into()),
        properties: Some([("status".to_owned(), status)].into()),
        ..JSONSchemaProps::default()
    })
}

/// Optional fields are absent, never null.
fn absent_not_null(schema: &mut Schema) {
    schema.remove("nullable");
    transform_subschemas(&mut absent_not_null, schema);
}
