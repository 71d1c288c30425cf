//! Dumps of real clusters beside the project, if there are any: the insights agree with the output of
//! a public tool for the same clusters.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use node_insights::api::PoolProgressInsightStatus;
use node_insights::api::types::Phase;
use node_insights_harness::load::{Options, load_cluster};

use crate::support::{World, project};

/// The folder of the dumps, which are not part of the repository.
fn folder() -> PathBuf {
    project().join("../shared/testdata/openshift")
}

/// A row of the node tables.
#[derive(Debug, PartialEq, Eq)]
struct NodeRow {
    pool: String,
    name: String,
    phase: Phase,
    version: String,
}

/// A row of the pool table.
#[derive(Debug, PartialEq, Eq)]
struct PoolRow {
    name: String,
    assessment: String,
    percent: i32,
    progress: String,
    counts: Vec<(String, i32)>,
}

/// The output of the tool.
#[derive(Debug, Default)]
struct Expected {
    nodes: Vec<NodeRow>,
    pools: Vec<PoolRow>,
}

/// Parses the node and pool tables; the rest is ignored.
fn parse(text: &str) -> Result<Expected> {
    let mut expected = Expected::default();
    let mut table: Option<String> = None;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line == "Control Plane Nodes" {
            table = Some("master".to_owned());
        } else if let Some(pool) = line.strip_prefix("Worker Pool Nodes: ") {
            table = Some(pool.to_owned());
        } else if line.starts_with("WORKER POOL") {
            for line in lines.by_ref().take_while(|line| !line.is_empty()) {
                expected
                    .pools
                    .push(pool_row(line).with_context(|| line.to_owned())?);
            }
        } else if line.is_empty() {
            table = None;
        } else if let (Some(pool), false) = (&table, line.starts_with("NAME ")) {
            // A multi-line message continues on lines without columns.
            if let Some(row) = node_row(pool, line) {
                expected.nodes.push(row);
            }
        }
    }
    Ok(expected)
}

fn node_row(pool: &str, line: &str) -> Option<NodeRow> {
    let mut columns = line.split_whitespace();
    let name = columns.next()?.to_owned();
    let assessment = columns.next()?;
    let known = [
        "Completed",
        "Progressing",
        "Outdated",
        "Excluded",
        "Degraded",
        "Unavailable",
    ];
    if !known.contains(&assessment) {
        return None;
    }
    let phase = match columns.next()? {
        "Updated" => Phase::Completed,
        "Pending" => Phase::Pending,
        "Draining" => Phase::Draining,
        "Updating" => Phase::Updating,
        "Rebooting" => Phase::Rebooting,
        "Paused" => Phase::Paused,
        _ => return None,
    };
    Some(NodeRow {
        pool: pool.to_owned(),
        name,
        phase,
        version: columns.next()?.to_owned(),
    })
}

/// `worker   Excluded   0% (0/3)   3 Available, 0 Progressing, 0 Draining, 3 Excluded`
fn pool_row(line: &str) -> Option<PoolRow> {
    let (columns, counts) = line.split_once(')')?;
    let mut columns = columns.split_whitespace();
    Some(PoolRow {
        name: columns.next()?.to_owned(),
        assessment: columns.next()?.to_owned(),
        percent: columns.next()?.strip_suffix('%')?.parse().ok()?,
        progress: columns.next()?.strip_prefix('(')?.to_owned(),
        counts: counts
            .split(',')
            .filter_map(|count| {
                let (number, name) = count.trim().split_once(' ')?;
                Some((name.trim().to_owned(), number.parse().ok()?))
            })
            .collect(),
    })
}

#[tokio::test]
async fn the_insights_of_dumped_clusters_agree_with_a_public_tool() -> Result<()> {
    let Ok(entries) = fs::read_dir(folder()) else {
        // Not println: the output of a passing test is captured.
        let mut stderr = std::io::stderr();
        writeln!(
            stderr,
            "SKIPPED: comparing with real clusters, no dumps in {}",
            folder().display()
        )?;
        return Ok(());
    };
    let mut scenarios: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("expected.txt").exists())
        .collect();
    scenarios.sort();
    assert!(!scenarios.is_empty(), "the folder has scenarios");
    let world = World::empty().await?;
    for scenario in scenarios {
        println!("comparing {}", scenario.display());
        compare(&world, &scenario)
            .await
            .with_context(|| scenario.display().to_string())?;
    }
    Ok(())
}

/// Runs one operator after the other on one API server, which also checks that nothing of the last cluster remains.
async fn compare(world: &World, scenario: &Path) -> Result<()> {
    let options = Options {
        crds: Some(folder().join("crds")),
        ..Options::default()
    };
    load_cluster(world.client.clone(), scenario, &options).await?;
    let text = fs::read_to_string(scenario.join("expected.txt"))?;
    let expected = parse(&text)?;
    let dumped = fs::read_to_string(scenario.join("node.yaml"))?
        .matches("kind: Node\n")
        .count();
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    let nodes = world.all_reported(dumped).await?;

    if text.starts_with("The cluster is not updating.") {
        for name in nodes.keys() {
            world.node_reaches(name, Phase::Completed).await?;
        }
    } else {
        assert_eq!(
            expected.nodes.len(),
            dumped,
            "every node is in the tool's tables"
        );
    }
    for row in &expected.nodes {
        world
            .node_becomes(&row.name, &format!("{row:?}"), |status| {
                let pool = status.pool_ref.as_ref().map(|pool| pool.name.as_str());
                pool == Some(&row.pool)
                    && status.phase == row.phase
                    && status.version.as_deref() == Some(&row.version)
            })
            .await?;
    }
    for row in &expected.pools {
        let count = |pool: &PoolProgressInsightStatus, name: &str| {
            let mut summaries = pool.summaries.iter();
            let summary = summaries.find(|summary| format!("{:?}", summary.type_) == name);
            summary.map(|summary| summary.count)
        };
        world
            .pool_becomes(&row.name, &format!("{row:?}"), |pool| {
                let mut counts = row.counts.iter();
                pool.assessment.as_str() == row.assessment
                    && (pool.completion_percent, &pool.progress) == (row.percent, &row.progress)
                    && counts.all(|(name, number)| count(pool, name) == Some(*number))
            })
            .await?;
    }
    assert!(operator.stop().await?.success());
    Ok(())
}

#[test]
fn the_tables_of_the_tool_are_parsed() {
    let text = "\
Control Plane Nodes
NAME   ASSESSMENT   PHASE      VERSION   EST   MESSAGE
m-1    Degraded     Updating   4.14.0    ?     failed to run [nice
 more of it]
m-2    Completed    Updated    4.14.1    -

WORKER POOL   ASSESSMENT   COMPLETION   STATUS
worker        Excluded     33% (1/3)    3 Available, 0 Progressing, 0 Draining, 2 Excluded

Worker Pool Nodes: worker
NAME   ASSESSMENT   PHASE    VERSION   EST   MESSAGE
w-1    Excluded     Paused   4.14.0    -
";
    let expected = parse(text).unwrap();
    let rows: Vec<_> = expected
        .nodes
        .iter()
        .map(|row| (row.pool.as_str(), row.name.as_str(), row.phase))
        .collect();
    assert_eq!(
        rows,
        [
            ("master", "m-1", Phase::Updating),
            ("master", "m-2", Phase::Completed),
            ("worker", "w-1", Phase::Paused)
        ]
    );
    let pool = &expected.pools[0];
    assert_eq!(
        (pool.percent, pool.progress.as_str(), pool.counts.len()),
        (33, "1/3", 4)
    );
}
