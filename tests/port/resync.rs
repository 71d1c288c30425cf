//! `node-insights resync`, as a process, against a port.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use axum::Router;
use node_insights::http::tls::Certificate;
use node_insights::registry::operations::OperationState;
use node_insights_harness::{Exit, Process, eventually};
use tempfile::TempDir;

use crate::fakes::{ADMIN, VIEWER, World, closed_port, listen};

/// Long enough for a loaded machine.
const SOON: Duration = Duration::from_mins(1);

/// The process, running or ended.
struct Resync {
    process: Process,
    _logs: TempDir,
}

impl Resync {
    fn start(args: &[&str], token: &str) -> Self {
        let logs = tempfile::tempdir().unwrap();
        let file = logs.path().join("token");
        std::fs::write(&file, token).unwrap();
        let file = file.to_string_lossy().into_owned();
        let mut all = vec!["resync", "--token-file", &file];
        all.extend(args);
        let program = Path::new(env!("CARGO_BIN_EXE_node-insights"));
        let process = Process::spawn("resync", program, all, &[], logs.path()).unwrap();
        Self {
            process,
            _logs: logs,
        }
    }

    async fn code(&self) -> i32 {
        match self.process.wait_timeout(SOON).await.unwrap() {
            Exit::Code(code) => code,
            // A code above 128, as in a shell.
            Exit::Signal(signal) => 128 + signal,
        }
    }

    fn stdout(&self) -> String {
        self.process.read_stdout()
    }

    fn stderr(&self) -> String {
        self.process.read_stderr()
    }

    /// Checks that it failed with one line on stderr that contains `hint`.
    async fn fails(&self, hint: &str) {
        assert_eq!(self.code().await, 1, "{}", self.stderr());
        let text = self.stderr();
        assert!(text.starts_with("node-insights: "), "{text}");
        assert!(text.contains(hint), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}

/// Waits for an operation, and returns its id.
async fn running(world: &World) -> String {
    eventually("an operation", SOON, async || {
        let operation = world.operations.list().pop();
        Ok(operation.map(|operation| operation.id.to_string()))
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn it_starts_an_operation_and_prints_its_id_and_url() {
    let world = World::start().await;
    // Without and with a trailing slash.
    for (server, did) in [
        (world.server(), "started"),
        (format!("{}/", world.server()), "runs already"),
    ] {
        let resync = Resync::start(&["--server", &server], ADMIN);
        assert_eq!(resync.code().await, 0, "{}", resync.stderr());
        let id = running(&world).await;
        assert_eq!(resync.stdout(), format!("operation/{id} {did}\n"));
        let url = format!("curl {}/operations/{id}\n", world.server());
        assert!(resync.stderr().ends_with(&url), "{}", resync.stderr());
    }
    assert_eq!(world.controller.started(), 1);
}

#[tokio::test]
async fn a_pool_of_any_name_can_be_evaluated_again() {
    let world = World::start().await;
    for pool in ["worker", "ünïcode & more"] {
        let args = ["--server", &world.server(), "--pool", pool];
        let resync = Resync::start(&args, ADMIN);
        assert_eq!(resync.code().await, 0, "{}", resync.stderr());
    }
    let operations = world.operations.list();
    let targets: Vec<_> = operations
        .iter()
        .map(|operation| (&*operation.kind, operation.target.as_deref()))
        .collect();
    assert_eq!(
        targets,
        [
            ("reevaluate", Some("ünïcode & more")),
            ("reevaluate", Some("worker"))
        ]
    );
}

#[tokio::test]
async fn with_wait_it_prints_the_outcome() {
    let world = World::start().await;
    let resync = Resync::start(&["--wait", "--server", &world.server()], ADMIN);
    let id = running(&world).await;
    let handle = world.controller.take(&id);
    handle.progress(3, 5000);
    handle.count("nodes compared", 5000);
    handle.count("differences found", 2);
    handle.succeed("all is\u{1b}[31m well", None);
    assert_eq!(resync.code().await, 0, "{}", resync.stderr());
    let expected = format!(
        "operation/{id} started\n\
         operation/{id} succeeded after 0 s: all is [31m well (2 differences found, 5000 nodes compared)\n"
    );
    assert_eq!(resync.stdout(), expected);
    // No progress bar without a terminal.
    assert_eq!(resync.stderr(), "");
}

#[tokio::test]
async fn with_wait_it_fails_with_the_reason_of_a_failed_or_cancelled_operation() {
    let world = World::start().await;
    let args = ["--wait", "--server", &world.server()];
    let failing = Resync::start(&args, ADMIN);
    let id = running(&world).await;
    world.controller.take(&id).fail("the API server went away");
    failing
        .fails(&format!("operation/{id} failed: the API server went away"))
        .await;

    let args = ["--wait", "--pool", "worker", "--server", &world.server()];
    let cancelled = Resync::start(&args, ADMIN);
    let id = eventually("another operation", SOON, async || {
        let newest = world.operations.list().swap_remove(0);
        Ok((newest.state == OperationState::Running).then(|| newest.id.to_string()))
    })
    .await
    .unwrap();
    world.operations.cancel(&id).unwrap();
    world.controller.take(&id).stopped("2 of 3 nodes were done");
    cancelled
        .fails(&format!("operation/{id} cancelled: 2 of 3 nodes were done"))
        .await;
}

#[tokio::test]
async fn ctrl_c_leaves_the_operation_running_and_prints_how_to_cancel_it() {
    let world = World::start().await;
    let resync = Resync::start(&["--wait", "--server", &world.server()], ADMIN);
    let id = running(&world).await;
    // It listens for the signal before it prints this.
    eventually("the first line", SOON, async || {
        Ok(resync.stdout().contains("started").then_some(()))
    })
    .await
    .unwrap();
    let pid = resync.process.pid().to_string();
    let sent = Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(sent.success());
    assert_eq!(resync.code().await, 130);
    let text = resync.stderr();
    assert!(text.contains(&format!("operation/{id} goes on")), "{text}");
    assert!(text.contains("curl -X DELETE"), "{text}");
    assert_eq!(world.state(&id), OperationState::Running);
    assert!(!world.operations.show(&id).unwrap().cancel_requested);
}

#[tokio::test]
async fn without_an_operator_it_prints_how_to_reach_one() {
    let server = format!("http://{}", closed_port().await);
    let resync = Resync::start(&["--server", &server], ADMIN);
    resync.fails("kubectl port-forward").await;
    assert!(resync.stderr().contains(&server), "{}", resync.stderr());
    assert!(resync.stderr().contains("refused"), "{}", resync.stderr());
    for server in ["operator:8080", "ftp://operator", "", "/", "http://"] {
        let resync = Resync::start(&["--server", server], ADMIN);
        resync.fails("as in http://127.0.0.1:8080").await;
    }
}

#[tokio::test]
async fn a_server_that_is_not_the_operator_is_reported() {
    let anything = async || "<html>hello\u{1b}[31m</html>";
    let other = listen(Router::new().fallback(anything)).await;
    let resync = Resync::start(&["--server", &format!("http://{other}")], ADMIN);
    resync
        .fails("is no operator of this version (200 OK)")
        .await;
    assert!(!resync.stderr().contains('\u{1b}'));
}

#[tokio::test]
async fn without_a_token_or_permission_it_prints_how_to_get_one() {
    let world = World::start().await;
    let args = ["--server", &world.server()];
    Resync::start(&args, " \n").fails("it is empty").await;
    Resync::start(&args, "a\nb").fails("is none").await;
    let expired = Resync::start(&args, "expired");
    expired.fails("does not accept the token").await;
    let viewer = Resync::start(&args, VIEWER);
    viewer.fails("viewer may not post /operations/resync").await;
    assert!(viewer.stderr().contains("node-insights-operate"));
    assert_eq!(world.controller.started(), 0);
}

#[tokio::test]
async fn an_unknown_pool_is_answered_with_the_known_ones() {
    let world = World::start().await;
    let args = ["--server", &world.server(), "--pool", "gpus"];
    let resync = Resync::start(&args, ADMIN);
    resync.fails("there are: master, worker").await;
}

#[tokio::test]
async fn the_loss_of_the_operator_while_waiting_is_reported() {
    let world = World::start().await;
    let resync = Resync::start(&["--wait", "--server", &world.server()], ADMIN);
    let id = running(&world).await;
    world.end().await;
    resync
        .fails(&format!(
            "Lost sight of operation/{id}, which may go on: Cannot reach"
        ))
        .await;
}

#[tokio::test]
async fn an_unknown_flag_is_a_usage_error() {
    let resync = Resync::start(&["--pol", "worker"], ADMIN);
    assert_eq!(resync.code().await, 2);
    assert!(resync.stderr().contains("--pool"), "{}", resync.stderr());
}

#[tokio::test]
async fn over_https_it_trusts_the_given_ca_or_with_a_flag_any_certificate() {
    let dir = tempfile::tempdir().unwrap();
    crate::secured::issue(dir.path());
    let certificate = Certificate::of_files(dir.path()).unwrap();
    let world = World::secured(certificate).await;
    let server = format!("https://localhost:{}", world.port.port());
    let file = dir.path().join("tls.crt");
    let file = file.to_string_lossy();
    for trust in [
        &["--certificate-authority", &*file][..],
        &["--insecure-skip-tls-verify"],
    ] {
        let resync = Resync::start(&[&["--server", &server], trust].concat(), ADMIN);
        assert_eq!(resync.code().await, 0, "{}", resync.stderr());
    }
    // A server with another certificate does not get the token.
    crate::secured::issue(dir.path());
    let args = ["--server", &server, "--certificate-authority", &file];
    Resync::start(&args, ADMIN).fails("certificate").await;
    let args = ["--server", &server, "--certificate-authority", "/nowhere"];
    let hint = "from /nowhere, which --certificate-authority names";
    Resync::start(&args, ADMIN).fails(hint).await;
}
