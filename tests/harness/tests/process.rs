//! Supervised programs: how they end, their exit code, their output.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::time::Duration;

use node_insights_harness::{Exit, Process, eventually};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn the_exit_code_of_a_program_is_passed_on() {
    let dir = TempDir::new().unwrap();
    let process = shell("exit 3", &dir);
    assert_eq!(process.wait_timeout(SOON).await.unwrap(), Exit::Code(3));
    // A signal after the exit is no error, and the exit code stays the same.
    process.terminate().unwrap();
    assert_eq!(process.exited().unwrap(), Some(Exit::Code(3)));
}

#[tokio::test]
async fn a_program_can_handle_sigterm() {
    let dir = TempDir::new().unwrap();
    let process = shell(
        "trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done",
        &dir,
    );
    eventually("the trap", SOON, async || {
        Ok((process.read_stdout() == "ready\n").then_some(()))
    })
    .await
    .unwrap();
    process.terminate().unwrap();
    assert!(process.wait_timeout(SOON).await.unwrap().success());
}

#[tokio::test]
async fn a_program_ended_by_a_signal_reports_which() {
    let dir = TempDir::new().unwrap();
    let process = shell("exec sleep 600", &dir);
    process.kill().unwrap();
    assert_eq!(process.wait_timeout(SOON).await.unwrap(), Exit::Signal(9));
}

#[tokio::test]
async fn a_program_that_does_not_exist_ends_with_127_and_its_reason() {
    let dir = TempDir::new().unwrap();
    let process = Process::spawn(
        "none",
        Path::new("/no/such/program"),
        [""; 0],
        &[],
        dir.path(),
    )
    .unwrap();
    assert_eq!(process.wait_timeout(SOON).await.unwrap(), Exit::Code(127));
    assert!(
        process.read_stderr().contains("No such file"),
        "{}",
        process.read_stderr()
    );
}

#[tokio::test]
async fn a_program_gets_its_environment_and_its_own_two_logs() {
    let dir = TempDir::new().unwrap();
    for word in ["one", "two"] {
        let script = "echo out $WORD; echo err $WORD >&2";
        let process = Process::spawn(
            "talker",
            Path::new("/bin/sh"),
            ["-c", script],
            &[("WORD", word)],
            dir.path(),
        )
        .unwrap();
        assert!(process.wait_timeout(SOON).await.unwrap().success());
        assert_eq!(process.read_stdout(), format!("out {word}\n"));
        assert_eq!(process.read_stderr(), format!("err {word}\n"));
    }
    assert!(dir.path().join("talker-2.stderr.log").exists());
}

#[tokio::test]
async fn memory_and_processor_time_are_those_of_the_program() {
    let dir = TempDir::new().unwrap();
    let process = shell("while :; do :; done", &dir);
    eventually("50 ms of processor time", SOON, async || {
        Ok((process.cpu_time()? >= Duration::from_millis(50)).then_some(()))
    })
    .await
    .unwrap();
    let rss = process.rss_bytes().unwrap();
    assert!((100 << 10..100 << 20).contains(&rss), "{rss} bytes");
    assert!(process.peak_rss_bytes().unwrap() >= rss);
}

#[tokio::test]
async fn a_wait_that_times_out_reports_what_it_waited_for_and_the_last_error() {
    let error = eventually(
        "the moon",
        Duration::from_millis(120),
        async || -> anyhow::Result<Option<()>> { anyhow::bail!("no moon today") },
    )
    .await
    .unwrap_err();
    assert_eq!(
        format!("{error:#}"),
        "timed out after 120ms waiting for: the moon: no moon today"
    );

    let error = eventually("an answer", Duration::from_millis(120), async || {
        std::future::pending::<anyhow::Result<Option<()>>>().await
    })
    .await
    .unwrap_err();
    assert!(
        format!("{error:#}").ends_with("the last probe did not return"),
        "{error:#}"
    );
}

fn shell(script: &str, dir: &TempDir) -> Process {
    Process::spawn(
        "shell",
        Path::new("/bin/sh"),
        ["-c", script],
        &[],
        dir.path(),
    )
    .unwrap()
}
