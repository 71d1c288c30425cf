//! Whether the definitions in the cluster have what this version writes. Newer ones do: fields are only
//! ever added.

use std::collections::BTreeSet;

use futures::FutureExt;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::{Api, Client, ResourceExt};

use super::{Finding, Outcome, Question, within};
use crate::api::crd;
use crate::api::insight::VERSION;
use crate::kubernetes::diagnosis::Attempt;

/// So many fields that are missing are named.
const NAMED: usize = 5;
const REMEDY: &str = "install those of this version: helm upgrade, or kubectl apply -f crds/";
const ATTEMPT: Attempt = Attempt {
    verbs: "get",
    resource: "customresourcedefinitions",
    group: "apiextensions.k8s.io",
};

/// A question for each definition.
pub(super) fn definitions(client: &Client) -> Vec<Question<'_>> {
    // A test makes all of them.
    let ours = crd::all().into_iter().flatten();
    ours.map(|(_, ours)| ask(client, ours).boxed()).collect()
}

async fn ask(client: &Client, ours: CustomResourceDefinition) -> Finding {
    let name = ours.name_any();
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let outcome = match within(ATTEMPT, api.get_opt(&name)).await {
        Ok(Some(theirs)) => compare(&ours, &theirs),
        Ok(None) => failed("it is not there".to_owned()),
        Err(diagnosis) => Outcome::unknown(diagnosis),
    };
    Finding {
        check: format!("definition: {name}"),
        outcome,
    }
}

fn failed(what: String) -> Outcome {
    Outcome::Failed {
        what,
        remedy: REMEDY.to_owned(),
    }
}

/// Whether theirs has everything that ours has.
fn compare(ours: &CustomResourceDefinition, theirs: &CustomResourceDefinition) -> Outcome {
    let Some(served) = schema(theirs) else {
        return failed(format!("it does not serve {VERSION}"));
    };
    let mut missing = BTreeSet::new();
    if let Some(ours) = schema(ours) {
        collect(ours, served, "", &mut missing);
    }
    if missing.is_empty() {
        return Outcome::ok("it has every field that this version writes");
    }
    let named: Vec<&str> = missing.iter().take(NAMED).map(String::as_str).collect();
    let others = match missing.len() - named.len() {
        0 => String::new(),
        others => format!(" and {others} others"),
    };
    failed(format!(
        "it is too old: it has no {}{others}",
        named.join(", ")
    ))
}

/// What the version that we write is checked against, if it is served.
fn schema(definition: &CustomResourceDefinition) -> Option<&JSONSchemaProps> {
    let versions = definition.spec.versions.iter();
    let mut served = versions.filter(|version| version.name == VERSION && version.served);
    served.next()?.schema.as_ref()?.open_api_v3_schema.as_ref()
}

/// What ours has and theirs has not, below `path`.
fn collect(
    ours: &JSONSchemaProps,
    theirs: &JSONSchemaProps,
    path: &str,
    missing: &mut BTreeSet<String>,
) {
    for (name, ours) in ours.properties.iter().flatten() {
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        let found = theirs.properties.as_ref().and_then(|all| all.get(name));
        match found {
            Some(theirs) => collect(ours, theirs, &path, missing),
            None if theirs.x_kubernetes_preserve_unknown_fields == Some(true) => {}
            None => {
                missing.insert(path);
            }
        }
    }
    if let (
        Some(JSONSchemaPropsOrArray::Schema(ours)),
        Some(JSONSchemaPropsOrArray::Schema(theirs)),
    ) = (&ours.items, &theirs.items)
    {
        collect(ours, theirs, path, missing);
    }
    if let (Some(ours), Some(theirs)) = (&ours.enum_, &theirs.enum_) {
        let unknown = ours.iter().filter(|value| !theirs.contains(value));
        missing.extend(unknown.map(|value| format!("{path}={}", value.0)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition() -> CustomResourceDefinition {
        let [(_, nodes), _] = crd::all().unwrap();
        nodes
    }

    fn edited(edit: impl FnOnce(&mut JSONSchemaProps)) -> CustomResourceDefinition {
        let mut theirs = definition();
        let schema = theirs.spec.versions[0].schema.as_mut().unwrap();
        let properties = schema
            .open_api_v3_schema
            .as_mut()
            .unwrap()
            .properties
            .as_mut();
        edit(properties.unwrap().get_mut("status").unwrap());
        theirs
    }

    #[test]
    fn the_definition_of_this_version_has_everything() {
        assert!(compare(&definition(), &definition()).is_ok());
    }

    #[test]
    fn a_newer_definition_has_everything_too() {
        let newer = edited(|status| {
            let field = ("other".to_owned(), JSONSchemaProps::default());
            status.properties.get_or_insert_default().extend([field]);
        });
        assert!(compare(&definition(), &newer).is_ok());
    }

    #[test]
    fn what_an_older_definition_has_not_is_named() {
        let older = edited(|status| {
            let properties = status.properties.get_or_insert_default();
            properties.remove("timeline");
            let phase = properties.get_mut("phase").unwrap();
            phase
                .enum_
                .as_mut()
                .unwrap()
                .retain(|value| value.0 != "Paused");
            let pool = properties.get_mut("poolRef").unwrap();
            pool.properties.get_or_insert_default().remove("group");
        });
        let Outcome::Failed { what, remedy } = compare(&definition(), &older) else {
            panic!("it has everything");
        };
        assert_eq!(
            what,
            "it is too old: it has no status.phase=\"Paused\", status.poolRef.group, status.timeline"
        );
        assert!(remedy.contains("kubectl apply -f crds/"), "{remedy}");
    }

    #[test]
    fn a_definition_that_does_not_serve_this_version_is_of_no_use() {
        let mut theirs = definition();
        theirs.spec.versions[0].served = false;
        let outcome = compare(&definition(), &theirs);
        assert_eq!(outcome, failed("it does not serve v1alpha1".to_owned()));
    }
}
