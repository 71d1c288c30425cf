//! Checks that the CRDs in the cluster have every field that this version writes. Newer CRDs do: fields are only
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

/// Maximum number of missing fields that are named.
const NAMED: usize = 5;
const REMEDY: &str = "install those of this version: helm upgrade, or kubectl apply -f crds/";
const ATTEMPT: Attempt = Attempt {
    verbs: "get",
    resource: "customresourcedefinitions",
    group: "apiextensions.k8s.io",
};

/// One check per CRD.
pub(super) fn crds(client: &Client) -> Vec<Question<'_>> {
    // A test generates all of them.
    let ours = crd::all().into_iter().flatten();
    ours.map(|(_, ours)| ask(client, ours).boxed()).collect()
}

async fn ask(client: &Client, ours: CustomResourceDefinition) -> Finding {
    let name = ours.name_any();
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let outcome = match within(ATTEMPT, api.get_opt(&name)).await {
        Ok(Some(theirs)) => compare(&ours, &theirs),
        Ok(None) => failed("it does not exist".to_owned()),
        Err(diagnosis) => Outcome::unknown(diagnosis),
    };
    Finding {
        check: format!("CRD: {name}"),
        outcome,
    }
}

fn failed(what: String) -> Outcome {
    Outcome::Failed {
        what,
        remedy: REMEDY.to_owned(),
    }
}

/// Whether their CRD has everything that ours has.
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
        others => format!(" and {others} more"),
    };
    failed(format!(
        "it is too old: it has no {}{others}",
        named.join(", ")
    ))
}

/// The schema of our version, if it is served.
fn schema(crd: &CustomResourceDefinition) -> Option<&JSONSchemaProps> {
    let versions = crd.spec.versions.iter();
    let mut served = versions.filter(|version| version.name == VERSION && version.served);
    served.next()?.schema.as_ref()?.open_api_v3_schema.as_ref()
}

/// Collects what ours has below `path` and theirs lacks.
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

    fn our_crd() -> CustomResourceDefinition {
        let [(_, nodes), _] = crd::all().unwrap();
        nodes
    }

    fn edited(edit: impl FnOnce(&mut JSONSchemaProps)) -> CustomResourceDefinition {
        let mut theirs = our_crd();
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
    fn the_crd_of_this_version_has_every_field() {
        assert!(compare(&our_crd(), &our_crd()).is_ok());
    }

    #[test]
    fn a_newer_crd_has_every_field() {
        let newer = edited(|status| {
            let field = ("other".to_owned(), JSONSchemaProps::default());
            status.properties.get_or_insert_default().extend([field]);
        });
        assert!(compare(&our_crd(), &newer).is_ok());
    }

    #[test]
    fn fields_that_an_older_crd_lacks_are_named() {
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
        let Outcome::Failed { what, remedy } = compare(&our_crd(), &older) else {
            panic!("no missing field was reported");
        };
        assert_eq!(
            what,
            "it is too old: it has no status.phase=\"Paused\", status.poolRef.group, status.timeline"
        );
        assert!(remedy.contains("kubectl apply -f crds/"), "{remedy}");
    }

    #[test]
    fn a_crd_that_does_not_serve_this_version_fails() {
        let mut theirs = our_crd();
        theirs.spec.versions[0].served = false;
        let outcome = compare(&our_crd(), &theirs);
        assert_eq!(outcome, failed("it does not serve v1alpha1".to_owned()));
    }
}
