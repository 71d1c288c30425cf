//! A memory limit applies to what runs in its cgroup and to nothing else, and leaves nothing behind.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed expectation is the result of a test"
)]

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use node_insights_harness::memory_limit::MemoryLimit;
use node_insights_harness::{Exit, Process};

const MEBIBYTE: u64 = 1024 * 1024;
const DEADLINE: Duration = Duration::from_secs(30);

/// A shell in the cgroup that holds this many bytes.
fn holding(group: &MemoryLimit, bytes: u64, dir: &Path) -> Result<Process> {
    let hold = format!(
        "{} && text=$(head -c {bytes} /dev/zero | tr '\\0' x)",
        group.enter()
    );
    Process::spawn("hold", Path::new("/bin/bash"), ["-c", &hold], &[], dir)
}

#[tokio::test]
#[ignore = "needs cgroups, which not every machine lets us create: hack/test.sh memory"]
async fn a_process_above_the_limit_is_killed_and_counted_and_one_below_it_is_not() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let group = MemoryLimit::new(32 * MEBIBYTE)?;
    let little = holding(&group, 4 * MEBIBYTE, dir.path())?;
    assert_eq!(little.wait_timeout(DEADLINE).await?, Exit::Code(0));
    assert_eq!(group.oom_kills()?, 0);
    let peak = group.peak_bytes()?;
    assert!((4 * MEBIBYTE..=32 * MEBIBYTE).contains(&peak), "{peak}");
    let much = holding(&group, 64 * MEBIBYTE, dir.path())?;
    assert_ne!(much.wait_timeout(DEADLINE).await?, Exit::Code(0));
    assert!(group.oom_kills()? > 0);
    Ok(())
}

#[tokio::test]
#[ignore = "needs cgroups, which not every machine lets us create: hack/test.sh memory"]
async fn dropping_the_cgroup_kills_a_process_that_still_runs() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let group = MemoryLimit::new(32 * MEBIBYTE)?;
    let wait = format!("{} && echo in && read -r <> <(:)", group.enter());
    let waiting = Process::spawn(
        "wait",
        Path::new("/bin/bash"),
        ["-c", &wait],
        &[],
        dir.path(),
    )?;
    node_insights_harness::eventually("it is in the cgroup", DEADLINE, async || {
        Ok(waiting.read_stdout().contains("in").then_some(()))
    })
    .await?;
    let enter = group.enter();
    let folder = Path::new(enter.split('\'').nth(1).unwrap())
        .parent()
        .unwrap();
    assert!(folder.is_dir());
    drop(group);
    assert_eq!(waiting.wait_timeout(DEADLINE).await?, Exit::Signal(9));
    assert!(!folder.exists());
    Ok(())
}
