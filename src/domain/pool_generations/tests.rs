//! The generation that a pool is updated to.

use proptest::prelude::*;

use super::*;
use crate::domain::fixtures::{at, member as member_of};

const LINUX: (&str, &str) = ("linux", "amd64");

fn member(name: &str, version: &str, created: i64) -> Member {
    Member {
        created: Some(at(created)),
        name: name.into(),
        ..member_of(version, LINUX)
    }
}

fn pool(members: &[Member]) -> PoolGenerations {
    let mut pool = PoolGenerations::default();
    for member in members {
        pool.change(None, Some(member), None);
    }
    pool
}

fn target(members: &[Member]) -> Option<String> {
    let pool = pool(members);
    let target = pool.target(LINUX, Precision::Full)?;
    Some(target.version.to_string())
}

#[test]
fn the_youngest_ready_node_shows_what_the_pool_is_updated_to() {
    let old = member("a", "v1.31.2", 0);
    let new = member("b", "v1.32.0", 10);
    assert_eq!(
        target(&[old.clone(), new.clone()]).as_deref(),
        Some("v1.32.0")
    );
    let joining = Member {
        is_ready: false,
        ..new
    };
    assert_eq!(target(&[old, joining]).as_deref(), Some("v1.31.2"));
    assert_eq!(target(&[]), None);
}

#[test]
fn of_builds_without_an_order_the_youngest_counts_and_of_numbered_ones_the_newest() {
    let eks = [
        member("a", "v1.31.2-eks-ccc", 0),
        member("b", "v1.31.2-eks-aaa", 10),
    ];
    assert_eq!(target(&eks).as_deref(), Some("v1.31.2-eks-aaa"));
    let gke = [
        member("a", "v1.31.2-gke.9", 0),
        member("b", "v1.31.2-gke.10", 10),
        member("late", "v1.31.2-gke.8", 20),
    ];
    assert_eq!(target(&gke).as_deref(), Some("v1.31.2-gke.10"));
}

#[test]
fn an_older_node_that_joins_late_is_no_target_while_newer_nodes_stay() {
    let nodes = [member("a", "v1.32.0", 0), member("late", "v1.31.2", 10)];
    assert_eq!(target(&nodes).as_deref(), Some("v1.32.0"));
    // A rollback: every newer node is cordoned.
    let leaving = nodes.clone().map(|node| Member {
        is_staying: &*node.name == "late",
        ..node
    });
    assert_eq!(target(&leaving).as_deref(), Some("v1.31.2"));
}

#[test]
fn nodes_of_another_operating_system_or_architecture_are_no_target() {
    let mut windows = member("b", "v1.32.0", 10);
    windows.flavour.os = "windows".into();
    let mut arm = member("c", "v1.32.0", 20);
    arm.flavour.arch = "arm64".into();
    let nodes = [member("a", "v1.31.2", 0), windows, arm];
    assert_eq!(target(&nodes).as_deref(), Some("v1.31.2"));
}

#[test]
fn a_node_ahead_of_the_api_server_is_no_target_and_never_hides_one() {
    let mut nodes = pool(&[
        member("a", "v1.31.2", 0),
        member("b", "v1.31.9", 10),
        member("foreign", "v1.34.0", 20),
    ]);
    let version = |text| Version::parse(text).unwrap();
    let shown = |nodes: &PoolGenerations, precision| {
        let target = nodes.target(LINUX, precision).unwrap();
        target.version.to_string()
    };
    assert_eq!(shown(&nodes, Precision::Full), "v1.34.0");
    assert!(nodes.set_api_server(Some(&version("v1.31.5"))));
    // Patches of nodes and control planes are independent in a managed cluster.
    assert_eq!(shown(&nodes, Precision::Minor), "v1.31.9");
    assert_eq!(shown(&nodes, Precision::Full), "v1.31.2");
    assert!(!nodes.set_api_server(Some(&version("v1.31.6"))));
}

#[test]
fn the_image_of_the_youngest_node_and_the_age_of_its_generation_are_part_of_the_target() {
    let image = |name, image: &str, created| Member {
        image: Some(image.into()),
        ..member(name, "v1.31.2", created)
    };
    let nodes = pool(&[
        image("a", "ami-9", 0),
        image("b", "ami-1", 10),
        image("c", "ami-1", 20),
    ]);
    let target = nodes.target(LINUX, Precision::Full).unwrap();
    assert_eq!(target.image.as_deref(), Some("ami-1"));
    assert_eq!(target.since, Some(at(10)));
}

fn a_member() -> impl Strategy<Value = Member> {
    let version = "v1\\.3[12]\\.[01]([-+](gke\\.|k3s|eks-)[0-2])?";
    let os = prop::sample::select(vec!["linux", "windows"]);
    let flags = (any::<bool>(), any::<bool>());
    (0..6u8, version, 0..4i64, os, flags).prop_map(
        |(name, version, created, os, (is_ready, is_staying))| Member {
            flavour: Flavour {
                os: os.into(),
                arch: "amd64".into(),
            },
            is_ready,
            is_staying,
            ..member(&format!("n{name}"), &version, created)
        },
    )
}

/// The rule of the module, without shortcuts.
fn expected(members: &BTreeMap<Arc<str>, Member>, os: &str) -> Option<Arc<str>> {
    let of_flavour = || {
        let members = members.values();
        members.filter(|member| &*member.flavour.os == os && member.is_ready)
    };
    let is_newest = |member: &&Member| {
        !of_flavour()
            .any(|other| other.is_staying && other.version.version > member.version.version)
    };
    let youngest = of_flavour()
        .filter(is_newest)
        .max_by_key(|member| member.age())?;
    Some(Arc::clone(&youngest.version.text))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn targets_follow_every_change_and_are_reported_exactly_when_they_change(
        changes in prop::collection::vec((a_member(), any::<bool>()), 1..30),
    ) {
        let mut members: BTreeMap<Arc<str>, Member> = BTreeMap::new();
        let mut pool = PoolGenerations::default();
        let targets = |pool: &PoolGenerations| {
            ["linux", "windows"].map(|os| pool.target((os, "amd64"), Precision::Full).cloned())
        };
        for (member, is_here) in changes {
            let shown = targets(&pool);
            let before = members.remove(&member.name);
            let after = is_here.then_some(member);
            let is_changed = pool.change(before.as_ref(), after.as_ref(), None);
            members.extend(after.map(|member| (Arc::clone(&member.name), member)));
            for (os, shown) in ["linux", "windows"].into_iter().zip(targets(&pool)) {
                let version = shown.map(|target| target.version);
                prop_assert_eq!(version, expected(&members, os));
            }
            prop_assert_eq!(is_changed, shown != targets(&pool));
            prop_assert_eq!(pool.is_empty(), members.is_empty());
        }
        for member in members.into_values() {
            pool.change(Some(&member), None, None);
        }
        prop_assert_eq!(pool, PoolGenerations::default());
    }
}
