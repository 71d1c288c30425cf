//! What `preflight` says where something may not be read, and where it is asked for something that does not exist.

use k8s_openapi::api::rbac::v1::ClusterRole;
use node_insights_harness::eventually;

use super::*;

const ACCOUNT: &str = "looker";

/// An account that may list these resources of these groups; returns its kubeconfig.
async fn may_list(world: &World, rules: &[(&str, &[&str])]) -> Result<std::path::PathBuf> {
    let rules: Vec<Value> = rules
        .iter()
        .map(|(group, resources)| {
            json!({"apiGroups": [group], "resources": resources, "verbs": ["list"]})
        })
        .collect();
    grant(world, &json!(rules)).await
}

async fn grant(world: &World, rules: &Value) -> Result<std::path::PathBuf> {
    let group = "rbac.authorization.k8s.io";
    let version = format!("{group}/v1");
    let metadata = json!({"name": ACCOUNT});
    let objects = [
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": ACCOUNT, "namespace": "default"},
        }),
        json!({"apiVersion": version, "kind": "ClusterRole", "metadata": metadata, "rules": rules}),
        json!({
            "apiVersion": version, "kind": "ClusterRoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": ACCOUNT},
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": "default"}],
        }),
    ];
    for object in objects {
        // JSON is YAML.
        world.plane.apply_yaml(&object.to_string()).await?;
    }
    world
        .plane
        .service_account_kubeconfig("default", ACCOUNT)
        .await
}

/// Runs it until the API server knows the role, and the output has this text.
async fn says(world: &World, kubeconfig: &Path, args: &[&str], text: &str) -> Result<Run> {
    eventually(text, SOON, async || {
        let run = Run::of(world, kubeconfig, args).await?;
        let output = format!("{}{}", run.stdout, run.stderr);
        Ok(output.contains(text).then_some(run))
    })
    .await
}

#[tokio::test]
async fn a_missing_permission_is_an_error_that_names_verb_and_resource() -> Result<()> {
    let cluster = cluster(&["blue"]).await?;
    let world = &cluster.world;
    let always: (&str, &[&str]) = ("", &["nodes", "configmaps"]);
    let daemons: (&str, &[&str]) = ("apps", &["daemonsets"]);
    let budgets: (&str, &[&str]) = ("policy", &["poddisruptionbudgets"]);
    for (rules, resource) in [
        (vec![daemons], "nodes"),
        (vec![always, daemons], "poddisruptionbudgets.policy"),
        (vec![always, daemons, budgets], "pods"),
    ] {
        let kubeconfig = may_list(world, &rules).await?;
        let expected = format!("Cannot list {resource}, because it is forbidden");
        let run = says(world, &kubeconfig, &[], &expected).await?;
        assert_eq!(run.exit, Exit::Code(1));
        assert_eq!(run.stdout, "", "nothing is reported");
        let check = format!("kubectl auth can-i list {resource}");
        assert!(run.stderr.contains(&check), "{}", run.stderr);
    }
    Ok(())
}

#[tokio::test]
async fn an_optional_kind_that_may_not_be_listed_is_a_gap_and_no_silence() -> Result<()> {
    let cluster = cluster(&["blue"]).await?;
    let world = &cluster.world;
    karpenter::install(&world.client).await?;
    let rules: [(&str, &[&str]); 4] = [
        ("", &["nodes", "pods", "configmaps"]),
        ("apps", &["daemonsets"]),
        ("policy", &["poddisruptionbudgets"]),
        ("karpenter.sh", &["nodeclaims"]),
    ];
    let kubeconfig = may_list(world, &rules).await?;
    let run = says(world, &kubeconfig, &[], "nodepools.karpenter.sh").await?;
    assert_eq!(run.exit, Exit::Code(2), "{}{}", run.stdout, run.stderr);
    let first = run.stdout.lines().next().unwrap_or_default();
    assert_eq!(
        first,
        "0 of 2 nodes could not be drained: nothing was found in what could be read"
    );
    let report = Run::of(world, &kubeconfig, &["-o", "json"]).await?.json()?;
    let gaps = report["gaps"].as_array().context("gaps")?;
    let gaps: Vec<&Value> = gaps.iter().map(|gap| &gap["resource"]).collect();
    assert!(gaps.contains(&&json!("nodepools.karpenter.sh")), "{gaps:?}");
    Ok(())
}

#[tokio::test]
async fn the_role_on_the_page_is_all_that_it_needs() -> Result<()> {
    let cluster = cluster(&["blue"]).await?;
    let world = &cluster.world;
    karpenter::install(&world.client).await?;
    plans::install(&world.client).await?;
    let page = include_str!("../../../docs/preflight.md");
    let (_, role) = page.split_once("```yaml\n").context("a role")?;
    let (role, _) = role.split_once("```").context("its end")?;
    let role: ClusterRole = serde_saphyr::from_str(role)?;
    let kubeconfig = grant(world, &serde_json::to_value(role.rules)?).await?;
    let run = says(world, &kubeconfig, &[], "nothing was found that would").await?;
    assert_eq!(run.exit, Exit::Code(0), "{}{}", run.stdout, run.stderr);
    Ok(())
}

#[tokio::test]
async fn an_unknown_pool_is_an_error_that_lists_the_pools() -> Result<()> {
    let cluster = cluster(&["blue", "green"]).await?;
    let run = Run::admin(&cluster.world, &["--pool", "bleu"]).await?;
    assert_eq!(run.exit, Exit::Code(1));
    assert_eq!(run.stdout, "");
    assert_eq!(
        run.stderr,
        "node-insights: There is no pool 'bleu': the pools are blue.node-pool, green.node-pool\n"
    );
    Ok(())
}

#[tokio::test]
async fn a_wrong_flag_and_an_unreachable_api_server_are_errors_and_no_findings() -> Result<()> {
    let mut cluster = cluster(&[]).await?;
    let run = Run::admin(&cluster.world, &["--pol", "blue"]).await?;
    assert_eq!(run.exit, Exit::Code(1), "2 means that there are warnings");
    assert!(run.stderr.contains("--pool"), "{}", run.stderr);
    cluster.world.plane.stop_api_server().await?;
    let run = Run::admin(&cluster.world, &[]).await?;
    assert_eq!(run.exit, Exit::Code(1));
    assert!(
        run.stderr.contains("The API server cannot be reached"),
        "{}",
        run.stderr
    );
    Ok(())
}
