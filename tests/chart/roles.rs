//! The roles for users: who may read insights, read metrics, and start operations.

use std::collections::BTreeSet;

use anyhow::Result;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::Api;
use kube::api::PostParams;
use node_insights::domain::fact::Select;
use node_insights::providers::{Options, Providers, keys};
use node_insights_harness::{ControlPlane, eventually};
use serde_json::{Value, json};

use crate::helm::{Helm, Major, objects, one};
use crate::support::SOON;

/// As in OpenShift: an aggregated `ClusterRole`.
const CLUSTER_READER: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: cluster-reader
aggregationRule:
  clusterRoleSelectors:
    - matchLabels:
        rbac.authorization.k8s.io/aggregate-to-cluster-reader: \"true\"
rules: []
";

#[tokio::test]
async fn viewers_of_the_cluster_can_read_insights_and_cannot_write_them() -> Result<()> {
    let plane = ControlPlane::builder()
        .controller_manager(true)
        .start()
        .await?;
    plane.apply_yaml(CLUSTER_READER).await?;
    let readers = "metrics.readers[0].kind=User,metrics.readers[0].name=scraper";
    Helm::of(Major::Four, &plane)?.install(&["--set", readers])?;
    let roles = ["view", "edit", "admin", "cluster-reader"];
    for role in roles {
        let (role, user) = (format!("--clusterrole={role}"), format!("--user={role}"));
        let binding = ["create", "clusterrolebinding", &user[7..], &role, &user];
        plane.kubectl(&binding).await?;
    }
    for role in roles {
        eventually(&format!("{role} may list insights"), SOON, async || {
            Ok(may(&plane, role, &insights("list")).await?.then_some(()))
        })
        .await?;
        for (verb, is_allowed) in [
            ("get", true),
            ("watch", true),
            ("create", false),
            ("update", false),
            ("delete", false),
        ] {
            assert_eq!(
                may(&plane, role, &insights(verb)).await?,
                is_allowed,
                "{role} {verb}"
            );
        }
        // Not even an admin of every namespace may start operations or read metrics.
        assert!(!may(&plane, role, &path("post", "/operations/resync")).await?);
        assert!(!may(&plane, role, &path("get", "/metrics")).await?);
    }

    let operate = "--clusterrole=node-insights-operate";
    plane
        .kubectl(&["create", "clusterrolebinding", "ops", operate, "--user=ops"])
        .await?;
    for (user, verb, url, is_allowed) in [
        ("ops", "post", "/operations/resync", true),
        ("ops", "delete", "/operations/1", true),
        ("ops", "get", "/operations/1/result", true),
        ("ops", "get", "/metrics", false),
        ("scraper", "get", "/metrics", true),
        ("scraper", "post", "/operations/resync", false),
        ("guest", "get", "/metrics", false),
    ] {
        eventually(
            &format!("{user}: {verb} {url} is {is_allowed}"),
            SOON,
            async || {
                let allowed = may(&plane, user, &path(verb, url)).await?;
                Ok((allowed == is_allowed).then_some(()))
            },
        )
        .await?;
    }
    Ok(())
}

#[test]
fn the_operator_may_list_and_watch_exactly_what_the_table_of_kinds_and_security_md_name()
-> Result<()> {
    let read = read(&Options::default())?;
    assert_eq!(granted(&[])?, read);
    let security = include_str!("../../SECURITY.md");
    let is_listed = |resource: &str| {
        let mut rows = security.lines().filter(|line| line.starts_with("| "));
        rows.any(|row| {
            row.split([' ', ',', '|']).any(|word| word == resource)
                && row.contains("| list, watch |")
        })
    };
    let missing: Vec<_> = read.iter().filter(|kind| !is_listed(&kind.1)).collect();
    assert!(missing.is_empty(), "SECURITY.md does not list {missing:?}");
    Ok(())
}

#[test]
fn a_provider_that_is_disabled_takes_its_permissions_and_its_kinds_away() -> Result<()> {
    let everything = granted(&[])?;
    let mut taken = BTreeSet::new();
    let mut take = |value: &str, options: Options| {
        let granted = granted(&["--set", value])?;
        assert_eq!(granted, read(&options)?, "{value}");
        taken.extend(everything.difference(&granted).cloned());
        anyhow::Ok(())
    };
    for key in keys() {
        let value = format!("providers.{key}.enabled=false");
        let disabled = [key].into();
        take(
            &value,
            Options {
                disabled,
                ..Options::default()
            },
        )?;
    }
    let without = Options {
        no_drain_blockers: true,
        ..Options::default()
    };
    take("drainBlockers.enabled=false", without)?;
    // Only Nodes are read whatever is enabled.
    let nodes = (String::new(), "nodes".to_owned(), String::new());
    assert_eq!(everything.difference(&taken).collect::<Vec<_>>(), [&nodes]);
    let operator =
        Helm::offline(Major::Four)?.template(&["--set", "providers.kured.enabled=false"])?;
    assert!(
        operator.contains("--disabled-providers=kured"),
        "{operator}"
    );
    Ok(())
}

/// API group, resource and name of objects; the name is empty for all of them.
type Readable = BTreeSet<(String, String, String)>;

/// What the chart lets the operator list and watch.
fn granted(args: &[&str]) -> Result<Readable> {
    let rendered = Helm::offline(Major::Four)?.template(args)?;
    let objects = objects(&rendered)?;
    let role = one(&objects, "ClusterRole", "node-insights");
    let mut granted = BTreeSet::new();
    for rule in role["rules"].as_array().into_iter().flatten() {
        // Its own objects it writes as well.
        if rule["verbs"] == json!(["list", "watch"]) {
            for resource in rule["resources"].as_array().into_iter().flatten() {
                let (group, name) = (&rule["apiGroups"][0], &rule["resourceNames"][0]);
                granted.insert((text(group), text(resource), text(name)));
            }
        }
    }
    Ok(granted)
}

/// What the operator lists and watches.
fn read(options: &Options) -> Result<Readable> {
    let providers = Providers::standard(options)?;
    let kinds = providers.kinds().iter();
    let mut read: Readable = kinds
        .map(|kind| {
            let name = match kind.spec.select {
                Select::Object { name, .. } => name,
                Select::All | Select::Named(_) | Select::Labelled(_) | Select::OnNode => "",
            };
            let spec = &kind.spec;
            (
                spec.group.to_owned(),
                spec.plural.to_owned(),
                name.to_owned(),
            )
        })
        .collect();
    read.insert((String::new(), "nodes".to_owned(), String::new()));
    Ok(read)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn insights(verb: &str) -> Value {
    json!({"resourceAttributes": {
        "group": "nodeinsights.dev", "resource": "nodeprogressinsights", "verb": verb
    }})
}

fn path(verb: &str, path: &str) -> Value {
    json!({"nonResourceAttributes": {"path": path, "verb": verb}})
}

/// Whether the API server allows a user that.
async fn may(plane: &ControlPlane, user: &str, what: &Value) -> Result<bool> {
    let mut spec = what.clone();
    spec["user"] = user.into();
    spec["groups"] = json!(["system:authenticated"]);
    let review = serde_json::from_value(json!({"metadata": {}, "spec": spec}))?;
    let reviews: Api<SubjectAccessReview> = Api::all(plane.client());
    let answer = reviews.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}
