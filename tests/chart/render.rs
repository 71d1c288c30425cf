//! What the chart renders from given values, without a cluster.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use serde_json::{Value, json};

use crate::helm::{Case, Helm, Major, chart, objects, one};
use crate::support::project;

/// Set to write the snapshots instead of comparing them.
const UPDATE: &str = "UPDATE_SNAPSHOTS";

#[test]
fn lint_finds_nothing() -> Result<()> {
    for major in Major::BOTH {
        let helm = Helm::offline(major)?;
        for case in Case::accepted()? {
            helm.run(&["lint", "--strict", &chart(), "--values", &case.path])?;
        }
    }
    Ok(())
}

#[test]
fn the_chart_renders_the_snapshots() -> Result<()> {
    let mut differing = Vec::new();
    for major in Major::BOTH {
        let helm = Helm::offline(major)?;
        for case in Case::accepted()? {
            let rendered = helm.template(&["--values", &case.path])?;
            let rendered = without_copies(&rendered);
            let path = snapshot(&case.name);
            if std::env::var_os(UPDATE).is_some() && major == Major::Four {
                fs::write(&path, &rendered)?;
            } else if fs::read_to_string(&path).unwrap_or_default() != rendered {
                differing.push(format!("{major}: {}", path.display()));
            }
        }
    }
    assert!(
        differing.is_empty(),
        "the chart differs from these snapshots; `make snapshots` updates them, `git diff` shows the \
         difference: {differing:#?}"
    );
    Ok(())
}

#[test]
fn values_that_cannot_work_are_rejected_with_the_reason() -> Result<()> {
    for major in Major::BOTH {
        let helm = Helm::offline(major)?;
        for case in Case::rejected()? {
            let text = fs::read_to_string(&case.path)?;
            let reason = text
                .lines()
                .next()
                .and_then(|line| line.strip_prefix("# Rejected: "))
                .expect("the first line has the expected error");
            let Err(error) = helm.template(&["--values", &case.path]) else {
                panic!("{major} renders {}", case.name);
            };
            let error = error.to_string();
            assert!(error.contains(reason), "{major}, {}: {error}", case.name);
        }
    }
    Ok(())
}

#[test]
fn the_rendered_crds_are_those_in_the_crds_folder() -> Result<()> {
    for major in Major::BOTH {
        let rendered = objects(&Helm::offline(major)?.template(&[])?)?;
        for entry in fs::read_dir(project().join("crds"))? {
            let path = entry?.path();
            if path.extension().is_none_or(|end| end != "yaml") {
                continue;
            }
            let [published] = &objects(&fs::read_to_string(&path)?)?[..] else {
                panic!("{} has one CRD", path.display());
            };
            let name = published["metadata"]["name"].as_str().unwrap();
            let crd = one(&rendered, "CustomResourceDefinition", name);
            assert!(
                with_floats(&crd["spec"]) == with_floats(&published["spec"]),
                "{major}: {name} is not that of crds/"
            );
            assert_eq!(
                crd["metadata"]["annotations"]["helm.sh/resource-policy"],
                "keep"
            );
        }
        let rendered = objects(&Helm::offline(major)?.template(&["--set", "crds.keep=false"])?)?;
        let crd = one(
            &rendered,
            "CustomResourceDefinition",
            "nodeprogressinsights.nodeinsights.dev",
        );
        assert_eq!(crd["metadata"]["annotations"], Value::Null);
    }
    Ok(())
}

#[test]
fn the_dashboard_is_that_of_the_file_and_has_the_label_that_grafana_selects() -> Result<()> {
    let file = fs::read_to_string(format!("{}/files/dashboard.json", chart()))?;
    for major in Major::BOTH {
        let rendered =
            Helm::offline(major)?.template(&["--values", &Case::named("full-values").path])?;
        let rendered = objects(&rendered)?;
        let map = one(&rendered, "ConfigMap", "-dashboard");
        assert!(map["data"]["node-insights.json"] == file.trim(), "{major}");
        let labels = &map["metadata"]["labels"];
        assert_eq!(
            labels["grafana_dashboard"], "1",
            "the chart's label takes precedence"
        );
        assert_eq!(labels["example.com/folder"], "nodes");
        assert_eq!(map["metadata"]["annotations"]["grafana_folder"], "Nodes");
    }
    Ok(())
}

#[test]
fn prometheus_operator_objects_are_rendered_if_their_api_is_served_or_always_if_configured()
-> Result<()> {
    const API: [&str; 2] = ["--api-versions", "monitoring.coreos.com/v1"];
    for major in Major::BOTH {
        let helm = Helm::offline(major)?;
        let count = |args: &[&str], kind: &str| -> Result<usize> {
            let rendered = objects(&helm.template(args)?)?;
            Ok(rendered.iter().filter(|it| it["kind"] == kind).count())
        };
        for (value, kind) in [
            ("metrics.serviceMonitor", "ServiceMonitor"),
            ("metrics.podMonitor", "PodMonitor"),
            ("prometheusRule", "PrometheusRule"),
        ] {
            let on = format!("{value}.enabled=true");
            let token = "metrics.podMonitor.authorization.credentials.name=token";
            let set = ["--set", &on, "--set", token];
            let mode = |mode: &str| format!("{value}.mode={mode}");
            let (skip, fail, always) = (
                mode("skipIfMissing"),
                mode("failIfMissing"),
                mode("alwaysRender"),
            );
            assert_eq!(count(&API, kind)?, 0, "off by default");
            for (mode, api, rendered) in [
                (&skip, false, Some(0)),
                (&skip, true, Some(1)),
                (&fail, false, None),
                (&fail, true, Some(1)),
                (&always, false, Some(1)),
            ] {
                let mut args = [&set[..], &["--set", mode]].concat();
                if api {
                    args.extend(API);
                }
                assert_eq!(count(&args, kind).ok(), rendered, "{major} {mode} {api}");
            }
        }
    }
    Ok(())
}

#[test]
fn kubernetes_before_1_33_is_rejected_and_version_suffixes_of_providers_are_accepted() -> Result<()>
{
    for major in Major::BOTH {
        let helm = Helm::offline(major)?;
        for (version, is_accepted) in [
            ("v1.32.9", false),
            ("v1.33.0", true),
            ("v1.33.1-eks-94953ac", true),
            ("v1.34.2+k3s1", true),
        ] {
            let result = helm.template(&["--kube-version", version]);
            assert_eq!(result.is_ok(), is_accepted, "{major} {version}: {result:?}");
        }
    }
    Ok(())
}

#[test]
fn the_image_is_named_by_its_parts() -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let helm = Helm::offline(Major::Four)?;
    for (set, image) in [
        ("logLevel=info", format!("node-insights:{version}")),
        (
            "image.registry=r.example",
            format!("r.example/node-insights:{version}"),
        ),
        (
            "image.registry=no.example,global.imageRegistry=r.example",
            format!("r.example/node-insights:{version}"),
        ),
        ("image.repository=a/b,image.tag=c", "a/b:c".to_owned()),
        (
            "image.digest=sha256:2c26b46b68ffc68ff99b453c1d304134",
            format!("node-insights:{version}@sha256:2c26b46b68ffc68ff99b453c1d304134"),
        ),
    ] {
        let rendered = objects(&helm.template(&["--set", set])?)?;
        let deployment = one(&rendered, "Deployment", "");
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["image"], image, "{set}");
        let doctor = one(&rendered, "Pod", "-doctor");
        assert_eq!(doctor["spec"]["containers"][0]["image"], image, "{set}");
    }
    Ok(())
}

#[test]
fn a_release_of_another_name_has_objects_of_its_own_name() -> Result<()> {
    let helm = Helm::offline(Major::Four)?;
    let rendered = helm.run(&["template", "blue", &chart(), "--namespace", "green"])?;
    let mut names = Vec::new();
    for object in objects(&rendered)? {
        if object["kind"] == "CustomResourceDefinition" {
            continue;
        }
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        assert!(name.starts_with("blue-node-insights"), "{name}");
        let namespace = &object["metadata"]["namespace"];
        assert!(namespace.is_null() || namespace == "green", "{name}");
        assert_eq!(
            object["metadata"]["labels"]["app.kubernetes.io/instance"],
            "blue"
        );
        names.push(name);
    }
    assert!(names.len() > 10, "{names:?}");
    // The longest release name: that of a Service has the lowest limit.
    let long = "a".repeat(53);
    let rendered = helm.run(&["template", &long, &chart()])?;
    for object in objects(&rendered)? {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let limit = match object["kind"].as_str().unwrap() {
            "Service" | "Pod" | "Deployment" => 63,
            _ => 253,
        };
        assert!(name.len() <= limit && !name.ends_with('-'), "{name}");
    }
    Ok(())
}

#[test]
fn one_replica_has_no_disruption_budget_and_two_have_one() -> Result<()> {
    let helm = Helm::offline(Major::Four)?;
    for (set, budgets, strategy) in [
        (
            "replicaCount=2",
            1,
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}),
        ),
        (
            "replicaCount=1",
            0,
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}),
        ),
        (
            "replicaCount=1,leaderElection.enabled=false",
            0,
            json!({"type": "Recreate"}),
        ),
        (
            "podDisruptionBudget.enabled=false",
            0,
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}),
        ),
    ] {
        let rendered = objects(&helm.template(&["--set", set])?)?;
        let found = rendered
            .iter()
            .filter(|object| object["kind"] == "PodDisruptionBudget")
            .count();
        assert_eq!(found, budgets, "{set}");
        assert_eq!(
            one(&rendered, "Deployment", "")["spec"]["strategy"],
            strategy,
            "{set}"
        );
    }
    Ok(())
}

#[test]
fn no_pod_tolerates_a_cordon() -> Result<()> {
    for case in Case::accepted()? {
        let rendered = Helm::offline(Major::Four)?.template(&["--values", &case.path])?;
        assert!(
            !rendered.contains("node.kubernetes.io/unschedulable"),
            "{}",
            case.name
        );
    }
    Ok(())
}

fn snapshot(name: &str) -> PathBuf {
    project().join(format!("tests/chart/snapshots/{name}.yaml"))
}

/// The rendered text without copies of whole files, the CRDs and the dashboard, which have tests of their own; and
/// without empty lines, in which Helm 3 and Helm 4 differ.
fn without_copies(rendered: &str) -> String {
    let documents = rendered.split_inclusive("\n---\n");
    documents
        .filter(|document| {
            !document.contains("\nkind: CustomResourceDefinition\n")
                && !document.contains("\n    grafana_dashboard: ")
        })
        .flat_map(str::lines)
        .filter(|line| !line.is_empty())
        .flat_map(|line| [line, "\n"])
        .collect()
}

/// The same with every number as a float, as `100` and `100.0` are the same number.
fn with_floats(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => items.iter().map(with_floats).collect(),
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| (key.clone(), with_floats(value)))
            .collect(),
        other => other.clone(),
    }
}
