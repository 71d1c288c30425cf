//! The configuration for kube-state-metrics: it has the documented structure, and each of its paths is a field
//! of our CRDs.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use node_insights::api::crd;
use serde::Deserialize;
use serde_json::Value;

use crate::helm::{Helm, Major, objects, one};

/// The part of kube-state-metrics' custom resource state configuration that is used here.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    kind: String,
    spec: Spec,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    resources: Vec<Resource>,
}

type Labels = BTreeMap<String, Vec<String>>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Resource {
    group_version_kind: GroupVersionKind,
    metric_name_prefix: String,
    labels_from_path: Labels,
    metrics: Vec<Metric>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupVersionKind {
    group: String,
    version: String,
    kind: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metric {
    name: String,
    help: String,
    each: Each,
}

/// The type of a metric, and its configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, tag = "type")]
enum Each {
    Info {
        info: Info,
    },
    StateSet {
        #[serde(rename = "stateSet")]
        state_set: StateSet,
    },
    Gauge {
        gauge: Gauge,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Info {
    path: Vec<String>,
    labels_from_path: Labels,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct StateSet {
    path: Vec<String>,
    label_name: String,
    list: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Gauge {
    path: Vec<String>,
    #[serde(default)]
    labels_from_path: Labels,
    #[serde(default)]
    value_from: Vec<String>,
}

/// The schema of the field at a path; lists are descended into.
fn field<'a>(schema: &'a Value, path: &[String]) -> Option<&'a Value> {
    let schema = if schema["type"] == "array" {
        &schema["items"]
    } else {
        schema
    };
    match path {
        [] => Some(schema),
        [first, rest @ ..] => field(schema["properties"].get(first)?, rest),
    }
}

fn config() -> Result<Config> {
    let on = ["--set", "kubeStateMetrics.enabled=true"];
    let rendered = objects(&Helm::offline(Major::Four)?.template(&on)?)?;
    let map = one(&rendered, "ConfigMap", "-kube-state-metrics");
    let text = map["data"]["config.yaml"].as_str().context("no file")?;
    Ok(serde_saphyr::from_str(text)?)
}

#[test]
fn every_path_is_a_field_of_the_insights() -> Result<()> {
    let config = config()?;
    assert_eq!(config.kind, "CustomResourceStateMetrics");
    let crds = crd::all()?;
    let mut kinds = BTreeSet::new();
    let mut names = BTreeSet::new();
    for resource in &config.spec.resources {
        let of = &resource.group_version_kind;
        let crd = crds
            .iter()
            .map(|(_, crd)| crd)
            .find(|crd| crd.spec.names.kind == of.kind)
            .context("no such kind")?;
        assert_eq!(of.group, crd.spec.group);
        let version = &crd.spec.versions[0];
        assert_eq!(of.version, version.name);
        let schema = serde_json::to_value(&version.schema)?["openAPIV3Schema"].clone();
        kinds.insert(of.kind.as_str());
        for path in resource.labels_from_path.values() {
            assert_eq!(path, &["metadata", "name"]);
        }
        for metric in &resource.metrics {
            let name = format!("{}_{}", resource.metric_name_prefix, metric.name);
            assert!(metric.help.ends_with('.'), "{name}");
            let exists = |schema: &Value, path: &[String]| {
                assert!(field(schema, path).is_some(), "{name}: {path:?}");
            };
            match &metric.each {
                Each::Info { info } => {
                    let base = field(&schema, &info.path).context(name.clone())?;
                    info.labels_from_path
                        .values()
                        .for_each(|path| exists(base, path));
                }
                Each::StateSet { state_set } => {
                    let base = field(&schema, &state_set.path).context(name.clone())?;
                    let values: BTreeSet<&str> = base["enum"]
                        .as_array()
                        .context("no list of values")?
                        .iter()
                        .filter_map(Value::as_str)
                        .collect();
                    let list: BTreeSet<&str> = state_set.list.iter().map(String::as_str).collect();
                    assert_eq!(list, values, "{name}");
                    assert_eq!(state_set.path.last(), Some(&state_set.label_name));
                }
                Each::Gauge { gauge } => {
                    let base = field(&schema, &gauge.path).context(name.clone())?;
                    gauge
                        .labels_from_path
                        .values()
                        .for_each(|path| exists(base, path));
                    exists(base, &gauge.value_from);
                }
            }
            assert!(names.insert(name.clone()), "{name} is duplicate");
        }
    }
    assert_eq!(
        kinds,
        BTreeSet::from(["NodeProgressInsight", "PoolProgressInsight"])
    );
    for name in [
        "kube_nodeprogressinsight_status_phase",
        "kube_poolprogressinsight_status_assessment",
    ] {
        assert!(names.contains(name), "{names:?}");
    }
    Ok(())
}

#[test]
fn a_path_that_does_not_exist_is_found() {
    let schema = serde_json::json!({"properties": {"status": {"properties": {
        "summaries": {"type": "array", "items": {"properties": {"count": {}}}},
    }}}});
    let path = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
    assert!(field(&schema, &path("status.summaries.count")).is_some());
    assert!(field(&schema, &path("status.summaries.counts")).is_none());
    assert!(field(&schema, &path("conditions")).is_none());
}
