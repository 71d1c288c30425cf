//! The checker itself: what it must find, and what it must not mistake for a use.

use super::source::{PathUse, paths, test_modules};
use super::{check, dependencies};

fn rules(file: &str, text: &str) -> Vec<String> {
    check(file, text, &dependencies(), false)
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn found(text: &str) -> Vec<String> {
    paths("src/reconcile/watches.rs", text)
        .iter()
        .map(PathUse::text)
        .collect()
}

#[test]
fn finds_a_use_of_a_layer_above_with_its_file_and_line() {
    let text = "//! Doc.\n\nuse crate::api::types::Phase;\nuse crate::kubernetes::write;\n";
    assert_eq!(
        rules("src/domain/state.rs", text),
        [
            "src/domain/state.rs:4: domain may not use kubernetes: domain is pure: no client, no runtime, no log"
        ]
    );
}

#[test]
fn finds_a_path_in_code_in_a_nested_module_and_in_a_test() {
    for text in [
        "fn f() { crate::reconcile::run(); }",
        "fn f() -> Vec<crate::reconcile::Feed> { todo!() }",
        "mod inner { fn f() { crate::reconcile::run(); } }",
        "#[cfg(test)]\nmod tests { use crate::reconcile::run; }",
        "fn f() { ::node_insights::reconcile::run(); }",
        "macro_rules! m { () => { $crate::reconcile::run() } }",
    ] {
        assert_eq!(rules("src/registry/store.rs", text).len(), 1, "{text}");
    }
}

#[test]
fn follows_super_to_another_layer_and_not_within_one() {
    let rule = |text| rules("src/domain/evaluate/openshift.rs", text).len();
    assert_eq!(rule("use super::super::super::reconcile::run;"), 1);
    assert_eq!(rule("mod a { use super::super::super::super::app; }"), 1);
    assert_eq!(rule("use super::super::facts::NodeFacts;"), 0);
    assert_eq!(rule("use super::kubernetes::WELL_KNOWN;"), 0);
}

#[test]
fn expands_groups() {
    assert_eq!(
        found("use crate::{api::{self, node::{A, B as C}}, domain::*};\nlet x = 1;"),
        [
            "crate::api",
            "crate::api::node::A",
            "crate::api::node::B",
            "crate::domain::*"
        ]
    );
}

#[test]
fn finds_a_second_violation_in_a_group_over_several_lines() {
    let text = "use crate::{\n    app,\n    domain::text,\n    reconcile::run,\n};";
    let lines = rules("src/kubernetes/watch.rs", text);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("src/kubernetes/watch.rs:2: "));
    assert!(lines[1].starts_with("src/kubernetes/watch.rs:4: "));
}

#[test]
fn distinguishes_a_part_of_a_module_from_the_rest_of_it() {
    for (text, number) in [
        ("use crate::kubernetes::access::Access;", 0),
        ("use crate::kubernetes::access;", 0),
        ("use crate::kubernetes::access_log;", 1),
        ("use crate::kubernetes::write;", 1),
        ("use crate::kubernetes;", 1),
        (
            "use crate::registry::{operations::Operation, store::Store};",
            1,
        ),
    ] {
        assert_eq!(rules("src/http/debug.rs", text).len(), number, "{text}");
    }
}

#[test]
fn keeps_the_domain_pure() {
    for text in [
        "use tokio::sync::mpsc;",
        "use kube::Resource;",
        "use tracing::info;",
        "fn f() { tracing::info!(\"text\"); }",
        "fn f() { let now = jiff::Timestamp::now(); }",
        "use jiff::Timestamp; fn f() { let now = Timestamp::now(); }",
        "use std::time::Instant; fn f() { Instant::now(); }",
        "fn f() { std::time::SystemTime::now(); }",
    ] {
        assert_eq!(rules("src/domain/state.rs", text).len(), 1, "{text}");
    }
}

#[test]
fn keeps_the_registry_generic() {
    assert_eq!(
        rules("src/registry/dirty.rs", "use tokio::sync::mpsc;").len(),
        0
    );
    for text in [
        "use tokio::net::TcpStream;",
        "fn f() { tokio::spawn(async {}); }",
        "use tokio_util::time::DelayQueue;",
        "use tracing::info;",
    ] {
        assert_eq!(rules("src/registry/dirty.rs", text).len(), 1, "{text}");
    }
    assert_eq!(
        rules("src/registry/dirty.rs", "use kube::Resource;").len(),
        1
    );
    let redb = "use redb::Database;";
    assert_eq!(rules("src/registry/backend/memory.rs", redb).len(), 1);
    assert_eq!(rules("src/registry/backend/file/disk.rs", redb).len(), 0);
    assert_eq!(
        rules("src/registry/backend/file/disk.rs", "use kube::Resource;").len(),
        1,
        "an exception is for one crate"
    );
}

#[test]
fn lets_only_the_kubernetes_layer_and_the_exceptions_name_the_client() {
    for text in [
        "use kube::Client;",
        "use kube::{Api, ResourceExt};",
        "use kube::api::{Api, ListParams};",
        "fn f(client: &kube::Client) {}",
        "use kube::*;",
    ] {
        assert_eq!(
            rules("src/reconcile/node_state.rs", text).len(),
            1,
            "{text}"
        );
        assert_eq!(rules("src/kubernetes/write.rs", text).len(), 0, "{text}");
        assert_eq!(rules("src/reconcile/watches.rs", text).len(), 0, "{text}");
    }
    assert_eq!(
        rules("src/reconcile/node_state.rs", "use kube::ResourceExt;").len(),
        0
    );
}

#[test]
fn ignores_comments_and_strings() {
    for text in [
        "/// See [`crate::reconcile::run`].\nfn f() {}",
        "/* crate::app /* crate::app */ crate::app */",
        r#"const A: &str = "crate::app::run \" crate::app::run";"#,
        "const A: &str = r#\"crate::app::run \" crate::app::run\"#;",
        "const A: &[u8] = b\"crate::app::run\";",
        "const A: [char; 2] = ['\"', '\\'']; // crate::app::run",
        "fn f<'a>(a: &'a str) -> &'a str { a } // crate::app::run",
    ] {
        assert_eq!(rules("src/domain/state.rs", text), [""; 0], "{text}");
    }
}

#[test]
fn continues_after_a_string_a_character_and_a_lifetime() {
    let text = "fn f<'a>(a: &'a str) { g('\"', \"\\\"\", r\"\\\"); crate::app::run(); }";
    assert_eq!(found(text), ["crate::app::run"]);
}

#[test]
fn lets_tests_use_other_crates_and_clocks() {
    let text = "#[cfg(test)]\nmod tests { use tokio::time; fn f() { jiff::Timestamp::now(); } }";
    assert_eq!(rules("src/domain/state.rs", text), [""; 0]);
    let after = format!("{text}\nfn g() {{ jiff::Timestamp::now(); }}");
    assert_eq!(rules("src/domain/state.rs", &after).len(), 1);
}

#[test]
fn knows_which_files_are_for_tests_only() {
    let text = "mod a;\n#[cfg(test)]\nmod tests;\n#[cfg(test)]\npub(crate) mod fixtures;\nmod b;";
    assert_eq!(
        test_modules("src/domain/state.rs", text),
        [
            ["domain", "state", "tests"],
            ["domain", "state", "fixtures"]
        ]
    );
}
