//! A cluster that kubeadm made.

use serde_json::json;

use super::*;
use crate::api::types::Phase;
use crate::domain::fact::Meta;
use crate::domain::fixtures::node;
use crate::domain::state::NodeState;
use crate::providers::fixtures::{FactTable, evaluated};
use crate::providers::{Options, Platform, Providers};

fn parse(configuration: &str) -> Parsed<KubeadmConfig> {
    let meta = Meta::default();
    let json = json!({"data": {"ClusterConfiguration": configuration}}).to_string();
    KubeadmConfig::parse(&Object::new(&meta, &json))
}

fn state(kubelet: &str, config: Option<&str>) -> NodeState {
    let providers = Providers::standard(&Options {
        platform: Platform::Kubernetes,
        ..Options::default()
    })
    .unwrap();
    let mut table = FactTable::new(providers.kinds());
    if let Some(version) = config {
        let version = Some(version.into());
        table.put("kube-system/kubeadm-config", KubeadmConfig { version });
    }
    table.facts.set_api_server_version(Some("v1.34.0".into()));
    let node = node("n").kubelet(kubelet).build();
    evaluated(&providers, &table.facts, &node, None)
}

#[test]
fn the_version_is_in_yaml_in_a_text_of_the_config_map() {
    let text = "apiServer: {}\nkind: ClusterConfiguration\nkubernetesVersion: v1.33.1\nnetworking:\n  podSubnet: 10.0.0.0/8\n";
    let config = KubeadmConfig {
        version: Some("v1.33.1".into()),
    };
    assert_eq!(parse(text), Parsed::Fact(config));
    assert_eq!(
        parse("kind: ClusterConfiguration"),
        Parsed::Fact(KubeadmConfig { version: None })
    );
    assert!(matches!(parse("kind: [unclosed"), Parsed::Flawed(..)));
    let meta = Meta::default();
    let other = KubeadmConfig::parse(&Object::new(&meta, r#"{"data": {"other": "1"}}"#));
    assert_eq!(other, Parsed::Ignored);
    let broken = KubeadmConfig::parse(&Object::new(&meta, r#"{"data": [1]}"#));
    assert!(matches!(broken, Parsed::Unreadable(_)));
}

#[test]
fn the_config_map_claims_the_nodes_and_names_their_desired_version() {
    let behind = state("v1.32.4", Some("v1.33.1"));
    assert_eq!(behind.provider.as_str(), "kubeadm");
    assert_eq!(behind.phase, Phase::Pending);
    let desired = behind.desired.unwrap();
    assert_eq!(&*desired.version, "v1.33.1");
    assert_eq!(desired.source, DesiredVersionSource::Provider);
    assert_eq!(state("v1.33.1", Some("v1.33.1")).phase, Phase::Completed);
}

#[test]
fn without_the_config_map_the_nodes_are_plain() {
    let plain = state("v1.32.4", None);
    assert_eq!(plain.provider.as_str(), "Kubernetes");
    let source = plain.desired.map(|desired| desired.source);
    assert_eq!(source, Some(DesiredVersionSource::ApiServer));
}
