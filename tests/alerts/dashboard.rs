//! The dashboard: it works in any Grafana; and its queries.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::helm::{Helm, Major, objects, one};

/// The width of a row of panels.
const WIDTH: u64 = 24;

/// The dashboard in the chart's ConfigMap.
fn dashboard() -> Result<Value> {
    let on = ["--set", "grafanaDashboard.enabled=true"];
    let rendered = objects(&Helm::offline(Major::Four)?.template(&on)?)?;
    let map = one(&rendered, "ConfigMap", "-dashboard");
    assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
    let text = map["data"]["node-insights.json"].as_str();
    Ok(serde_json::from_str(text.context("no dashboard")?)?)
}

fn panels(dashboard: &Value) -> Vec<&Value> {
    dashboard["panels"].as_array().unwrap().iter().collect()
}

/// A query, and the title of its panel.
pub struct Query {
    pub panel: String,
    pub expr: String,
}

/// Every query, with the variables replaced as Grafana would.
pub fn queries() -> Result<Vec<Query>> {
    let dashboard = dashboard()?;
    let mut queries = Vec::new();
    for panel in panels(&dashboard) {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expr = target["expr"].as_str().context("a target without query")?;
            let expr = expr.replace("$__rate_interval", "30s");
            assert!(!expr.contains('$'), "an unknown variable: {expr}");
            queries.push(Query {
                panel: panel["title"].as_str().unwrap_or_default().to_owned(),
                expr,
            });
        }
    }
    Ok(queries)
}

#[test]
fn the_dashboard_queries_the_selected_data_source() -> Result<()> {
    let dashboard = dashboard()?;
    assert_eq!(dashboard["uid"], "node-insights");
    assert!(!dashboard["tags"].as_array().unwrap().is_empty());
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let [variable] = &variables[..] else {
        panic!("one variable: {variables:?}");
    };
    assert_eq!(variable["name"], "datasource");
    assert_eq!(
        (&variable["type"], &variable["query"]),
        (&"datasource".into(), &"prometheus".into())
    );
    for panel in panels(&dashboard) {
        if panel["type"] == "row" {
            continue;
        }
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{panel}");
        for item in [panel].into_iter().chain(targets) {
            let source = &item["datasource"];
            assert_eq!(source["type"], "prometheus", "{item}");
            assert_eq!(source["uid"], "${datasource}", "{item}");
        }
    }
    Ok(())
}

#[test]
fn every_panel_has_its_own_place_and_a_description() -> Result<()> {
    let dashboard = dashboard()?;
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels(&dashboard) {
        assert!(ids.insert(panel["id"].as_u64()), "{panel}");
        let title = panel["title"].as_str().unwrap_or_default();
        let description = panel["description"].as_str().unwrap_or_default();
        assert!(!title.is_empty(), "{panel}");
        assert!(
            panel["type"] == "row" || description.ends_with('.'),
            "{title}"
        );
        let at = |field: &str| panel["gridPos"][field].as_u64().unwrap();
        assert!(at("x") + at("w") <= WIDTH, "{title}");
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(taken.insert((x, y)), "{title} overlaps another panel");
            }
        }
        let mut names = BTreeSet::new();
        for target in panel["targets"].as_array().into_iter().flatten() {
            assert!(names.insert(target["refId"].as_str()), "{title}");
        }
    }
    Ok(())
}

#[test]
fn no_query_sums_the_same_gauge_over_several_replicas() -> Result<()> {
    // Cluster-wide gauges, which every replica exports.
    let shared = [
        "node_insights_nodes",
        "node_insights_degraded_nodes",
        "node_insights_blocked_drains",
        "node_insights_stalled_nodes",
    ];
    for Query { panel, expr } in queries()? {
        for name in shared {
            for (at, _) in expr
                .match_indices(&format!("{name}{{"))
                .chain(expr.match_indices(&format!("{name})")))
            {
                let before = &expr[..at];
                let mut once = ["pool, phase", "pool, reason", "pool"].iter();
                let is_once = once.any(|by| before.ends_with(&format!("max by ({by}) (")));
                assert!(is_once, "{panel}: {expr}");
            }
        }
    }
    Ok(())
}
