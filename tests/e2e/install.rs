//! The chart is installed, and the pods are confined as it specifies.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use node_insights::api::types::Phase;
use node_insights_harness::eventually;

use crate::cluster::{Cluster, FIRST, SECOND};
use crate::helm::{NAME, chart};
use crate::node::Kubelet;
use crate::support::SOON;

/// The chart's limit, in bytes.
const MEMORY_LIMIT: u64 = 128 << 20;

pub async fn the_chart_is_installed_under_pod_security_restricted(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["create", "namespace", NAME]).await?;
    let enforce = "pod-security.kubernetes.io/enforce=restricted";
    cluster
        .kubectl(&["label", "namespace", NAME, enforce])
        .await?;
    let image = "--image=localhost/toolbox:1";
    let plain = cluster.kubectl(&["run", "plain", "-n", NAME, image]).await;
    let error = plain
        .err()
        .context("a pod without restrictions was admitted")?;
    ensure!(
        format!("{error:#}").contains("violates PodSecurity \"restricted"),
        "{error:#}"
    );
    let notes = cluster
        .helm
        .release("install", &[&chart(), "--wait", "--timeout", "90s"])?;
    ensure!(notes.contains("is installed"), "{notes}");
    Ok(())
}

pub async fn each_replica_is_confined_and_has_its_own_node(cluster: &Cluster) -> Result<()> {
    cluster.is_spread().await?;
    let processes = operators()?;
    ensure!(processes.len() == 2, "{processes:?}");
    for process in processes {
        let process = Path::new("/proc").join(process);
        let status = fs::read_to_string(process.join("status"))?;
        for (field, value) in [
            ("Uid", "65532\t65532\t65532\t65532"),
            ("Gid", "65532\t65532\t65532\t65532"),
            ("CapEff", "0000000000000000"),
            ("CapBnd", "0000000000000000"),
            ("NoNewPrivs", "1"),
            // A filter is installed.
            ("Seccomp", "2"),
        ] {
            let line = format!("{field}:\t{value}");
            ensure!(status.lines().any(|it| it == line), "not {line}: {status}");
        }
        let mounts = fs::read_to_string(process.join("mountinfo"))?;
        let root = mounts
            .lines()
            .find(|line| line.split(' ').nth(4) == Some("/"));
        let options = root
            .and_then(|line| line.split(' ').nth(5))
            .unwrap_or_default();
        ensure!(
            options.split(',').any(|it| it == "ro"),
            "its root: {options}"
        );
        let limit = memory_limit(&process)?;
        ensure!(limit == MEMORY_LIMIT, "its limit is {limit} bytes");
    }
    Ok(())
}

pub async fn every_node_is_reported(cluster: &Cluster) -> Result<()> {
    let current = Kubelet::Current.version().await?;
    let older = Kubelet::AsOlder.version().await?;
    for (node, phase, version) in [
        (FIRST, Phase::Completed, &current),
        (SECOND, Phase::Pending, &older),
    ] {
        let insight = cluster.world.node_reaches(node, phase).await?;
        ensure!(insight.version.as_ref() == Some(version), "{insight:#?}");
        ensure!(
            insight.desired_version.as_ref() == Some(&current),
            "{insight:#?}"
        );
    }
    let pool = cluster
        .world
        .pool_becomes("worker", "one outdated node", |pool| pool.progress == "0/1")
        .await?;
    ensure!(pool.version.as_ref() == Some(&older), "{pool:#?}");
    Ok(())
}

pub async fn helm_test_passes(cluster: &Cluster) -> Result<()> {
    let output = cluster.helm.release("test", &["--timeout", "60s"])?;
    ensure!(output.contains("Succeeded"), "{output}");
    eventually("its pod is gone", SOON, async || {
        let label = "app.kubernetes.io/component=doctor";
        let left = ["get", "pods", "-n", NAME, "-l", label, "-o", "name"];
        let left = cluster.kubectl(&left).await?;
        ensure!(left.is_empty(), "{left}");
        Ok(Some(()))
    })
    .await
}

/// The process ids of the operators on all nodes, in this PID namespace.
fn operators() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        // The process may end in between.
        let Ok(name) = fs::read_to_string(entry.path().join("comm")) else {
            continue;
        };
        if name.trim() == "node-insights" {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(found)
}

/// The memory limit of a process's cgroup.
fn memory_limit(process: &Path) -> Result<u64> {
    let groups = fs::read_to_string(process.join("cgroup"))?;
    let path = |controllers: &str| {
        groups.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (name, path) = rest.split_once(':')?;
            (name == controllers).then(|| path.trim_start_matches('/').to_owned())
        })
    };
    let root = Path::new("/sys/fs/cgroup");
    // cgroup v1, or else v2.
    let file = match path("memory") {
        Some(path) => root.join("memory").join(path).join("memory.limit_in_bytes"),
        None => root
            .join(path("").context("it is in no cgroup")?)
            .join("memory.max"),
    };
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    Ok(text.trim().parse()?)
}
