//! The dashboard: that Grafana can use it anywhere, and which queries it has.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::helm::{Helm, Major, objects, one};

/// How wide a row of panels is.
const WIDTH: u64 = 24;

/// The dashboard as the chart's ConfigMap brings it.
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

/// Every query, with what Grafana would put in for its variables.
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
fn the_dashboard_asks_the_data_source_that_people_choose() -> Result<()> {
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
        for asking in [panel].into_iter().chain(targets) {
            let source = &asking["datasource"];
            assert_eq!(source["type"], "prometheus", "{asking}");
            assert_eq!(source["uid"], "${datasource}", "{asking}");
        }
    }
    Ok(())
}

#[test]
fn every_panel_has_its_place_and_says_what_it_shows() -> Result<()> {
    let dashboard = dashboard()?;
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels(&dashboard) {
        assert!(ids.insert(panel["id"].as_u64()), "{panel}");
        let title = panel["title"].as_str().unwrap_or_default();
        let says = panel["description"].as_str().unwrap_or_default();
        assert!(!title.is_empty(), "{panel}");
        assert!(panel["type"] == "row" || says.ends_with('.'), "{title}");
        let at = |field: &str| panel["gridPos"][field].as_u64().unwrap();
        assert!(at("x") + at("w") <= WIDTH, "{title}");
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(taken.insert((x, y)), "{title} lies on another panel");
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
fn no_query_adds_up_what_several_replicas_say_of_the_same_thing() -> Result<()> {
    // Gauges over the cluster, which every replica has.
    let shared = ["node_insights_nodes", "node_insights_degraded_nodes"];
    for Query { panel, expr } in queries()? {
        for name in shared {
            for (at, _) in expr
                .match_indices(&format!("{name}{{"))
                .chain(expr.match_indices(&format!("{name})")))
            {
                let before = &expr[..at];
                let is_once = before.ends_with("max by (pool, phase) (")
                    || before.ends_with("max by (pool) (");
                assert!(is_once, "{panel}: {expr}");
            }
        }
    }
    Ok(())
}
