//! What the operator requires of a cluster: `node-insights doctor` reports what is missing and how to fix it. So does
//! a running operator, which continues once it is fixed.

use anyhow::{Context as _, Result};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::Api;
use kube::api::{ListParams, PostParams};
use node_insights_harness::openshift::{Cluster, Pool};
use node_insights_harness::{Exit, eventually};
use serde_json::Value;

use crate::support::{SOON, World, count, project, spawn};

const NODES: &str = "nodeprogressinsights.nodeinsights.dev";
/// As the chart sets them.
const FLAGS: [&str; 4] = [
    "--lease",
    "node-insights/node-insights",
    "--sync-status",
    "configmap:node-insights/node-insights-sync-status",
];

async fn world() -> Result<World> {
    let cluster = Cluster::builder("4.19.14")
        .pool(Pool::new("worker", 2))
        .build()?;
    World::openshift(&cluster).await
}

/// Runs `doctor` as the operator's account; returns its exit code and its output.
async fn doctor(world: &World, args: &[&str]) -> Result<(Exit, String)> {
    let plane = &world.plane;
    let kubeconfig = plane
        .service_account_kubeconfig("node-insights", "node-insights")
        .await?;
    let args = [&["doctor"], &FLAGS[..], args].concat();
    let process = spawn(
        &args,
        &[("KUBECONFIG", &kubeconfig.to_string_lossy())],
        plane.dir(),
    )?;
    let exit = process.wait_timeout(SOON).await?;
    assert_eq!(process.read_stderr(), "");
    Ok((exit, process.read_stdout()))
}

/// Removes a field from the CRD in the cluster, as in an older version of it.
async fn make_crd_outdated(world: &World) -> Result<()> {
    let path = project().join(format!(
        "crds/nodeinsights.dev_{}.yaml",
        "nodeprogressinsights"
    ));
    let text = std::fs::read_to_string(path)?;
    let mut old: Value = serde_saphyr::from_str(&text)?;
    let status = "/spec/versions/0/schema/openAPIV3Schema/properties/status";
    let status = old.pointer_mut(status).context("a CRD without a status")?;
    // Its validation rules refer to the field.
    status
        .as_object_mut()
        .context("no object")?
        .remove("x-kubernetes-validations");
    let fields = status["properties"].as_object_mut().context("no fields")?;
    fields.remove("timeline").context("no timeline")?;
    let required = status["required"]
        .as_array_mut()
        .context("no required fields")?;
    required.retain(|field| field != "timeline");
    world.plane.apply_yaml(&old.to_string()).await
}

/// Revokes the operator's permission to watch nodes.
async fn revoke_watch(world: &World) -> Result<()> {
    let api: Api<ClusterRole> = Api::all(world.client.clone());
    let mut role = api.get("node-insights").await?;
    for rule in role.rules.iter_mut().flatten() {
        if rule.resources.as_deref() == Some(&["nodes".to_owned()]) {
            rule.verbs.retain(|verb| verb != "watch");
        }
    }
    role.metadata.managed_fields = None;
    api.replace("node-insights", &PostParams::default(), &role)
        .await?;
    Ok(())
}

#[tokio::test]
async fn doctor_finds_nothing_where_nothing_is_missing() -> Result<()> {
    let world = world().await?;
    let (exit, output) = doctor(&world, &[]).await?;
    assert_eq!(exit, Exit::Code(0), "{output}");
    assert!(output.ends_with("Nothing is missing.\n"), "{output}");
    for check in [
        "API server",
        "CRD: nodeprogressinsights.nodeinsights.dev",
        "permission: watch clusterversions.config.openshift.io",
        "permission: update leases.coordination.k8s.io node-insights in node-insights",
        "permission: get configmaps node-insights-sync-status in node-insights",
    ] {
        let line = output.lines().find(|line| line.starts_with(check));
        assert!(
            line.is_some_and(|line| line.contains("  ok  ")),
            "{check}: {output}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn doctor_names_what_is_missing_and_what_to_do() -> Result<()> {
    let world = world().await?;
    make_crd_outdated(&world).await?;
    revoke_watch(&world).await?;
    let (exit, output) = eventually("the permission is revoked", SOON, async || {
        let (exit, output) = doctor(&world, &[]).await?;
        Ok(output.contains("\n2 of ").then_some((exit, output)))
    })
    .await?;
    assert_eq!(exit, Exit::Code(1), "{output}");
    for text in [
        "FAILED   it is too old: it has no status.timeline",
        "kubectl apply -f crds/",
        "permission: watch nodes",
        "kubectl auth can-i watch nodes",
    ] {
        assert!(output.contains(text), "{text}: {output}");
    }

    let (exit, output) = doctor(&world, &["-o", "json"]).await?;
    assert_eq!(exit, Exit::Code(1));
    let json: Value = serde_json::from_str(&output)?;
    assert_eq!(json["ok"], false);
    let findings = json["findings"].as_array().context("findings")?;
    let failed: Vec<&Value> = findings
        .iter()
        .filter(|finding| finding["result"] == "failed")
        .collect();
    assert_eq!(failed.len(), 2, "{output}");
    assert_eq!(failed[0]["check"], format!("CRD: {NODES}"));
    assert!(failed.iter().all(|finding| finding["remedy"].is_string()));
    Ok(())
}

#[tokio::test]
async fn doctor_reports_that_the_api_server_cannot_be_reached() -> Result<()> {
    let mut world = world().await?;
    let plane = &mut world.plane;
    let kubeconfig = plane
        .service_account_kubeconfig("node-insights", "node-insights")
        .await?;
    plane.stop_api_server().await?;
    let process = spawn(
        &["doctor"],
        &[("KUBECONFIG", &kubeconfig.to_string_lossy())],
        plane.dir(),
    )?;
    assert_eq!(process.wait_timeout(SOON).await?, Exit::Code(1));
    let output = process.read_stdout();
    assert!(
        output.contains("UNKNOWN  The API server cannot be reached"),
        "{output}"
    );
    Ok(())
}

#[tokio::test]
async fn an_operator_reports_an_outdated_crd_and_recovers_once_it_is_updated() -> Result<()> {
    let world = world().await?;
    make_crd_outdated(&world).await?;
    let operator = world.operator(&["--sync-interval", "5s"]).await?;
    let why = operator.says_why("[-] crds: ").await?;
    assert!(why.contains("it has no status.timeline"), "{why}");
    assert!(why.contains("kubectl apply -f crds/"), "{why}");
    // The known fields are written, once: fields that the API server drops are not sent again and again.
    let phase = "jsonpath={.status.phase}";
    eventually("the phase of worker-0", SOON, async || {
        let output = world
            .plane
            .kubectl(&["get", "npi", "worker-0", "-o", phase])
            .await?;
        Ok((output == "Completed").then_some(()))
    })
    .await?;
    let mark = world.plane.audit().mark()?;
    eventually("two compares", SOON, async || {
        let labels = ["reason=\"interval\"", "result=\"success\""];
        let compared = operator
            .metric("node_insights_sync_attempts_total", &labels)
            .await?;
        Ok((compared >= 2).then_some(()))
    })
    .await?;
    let writes = world.operator_writes(mark)?;
    assert_eq!(
        count(&writes, "update", "nodeprogressinsights", "status"),
        0
    );
    world.install_crds().await?;
    operator.ready().await
}

#[tokio::test]
async fn an_operator_in_a_pod_records_an_event_about_missing_requirements_on_its_pod() -> Result<()>
{
    let world = world().await?;
    make_crd_outdated(&world).await?;
    let plane = &world.plane;
    let kubeconfig = plane
        .service_account_kubeconfig("node-insights", "node-insights")
        .await?;
    // As the chart sets them.
    let envs = [
        ("KUBECONFIG", &*kubeconfig.to_string_lossy()),
        ("POD_NAMESPACE", "node-insights"),
        ("POD_NAME", "node-insights-7d9f-abcde"),
        ("POD_UID", "5f3c1c1e-0000-4000-8000-000000000000"),
    ];
    let args = ["run", "--metrics-address", "127.0.0.1:0"];
    let process = spawn(&args, &envs, plane.dir())?;
    let api: Api<Event> = Api::namespaced(world.client.clone(), "node-insights");
    let event = eventually("the Event", SOON, async || {
        let events = api.list(&ListParams::default()).await?.items;
        let mut events = events.into_iter();
        Ok(events.find(|event| event.reason.as_deref() == Some("DefinitionsOutdated")))
    })
    .await?;
    assert_eq!(event.type_.as_deref(), Some("Warning"));
    let note = event.note.unwrap_or_default();
    assert!(note.contains("it has no status.timeline"), "{note}");
    let regarding = event.regarding.unwrap_or_default();
    assert_eq!(regarding.kind.as_deref(), Some("Pod"));
    assert_eq!(regarding.uid.as_deref(), Some(envs[3].1));
    assert_eq!(event.reporting_instance.as_deref(), Some(envs[2].1));
    process.terminate()?;
    assert!(process.wait_timeout(SOON).await?.success());
    Ok(())
}
