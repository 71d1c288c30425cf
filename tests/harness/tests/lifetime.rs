//! How control planes end: with their owner, with a killed process, or not at all when detached.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use node_insights_harness::{ControlPlane, Process, eventually};

/// For what usually takes milliseconds.
const SOON: Duration = Duration::from_secs(30);

/// Names the file that `helper_holds_a_control_plane_until_it_is_killed` writes to.
const HELPER_FILE: &str = "NODE_INSIGHTS_HELPER_FILE";

#[tokio::test]
async fn dropping_a_control_plane_leaves_no_process_and_no_folder() {
    let plane = ControlPlane::builder()
        .controller_manager(true)
        .start()
        .await
        .unwrap();
    let dir = plane.dir().to_owned();
    let pids: Vec<u32> = plane.processes().map(Process::pid).collect();
    assert_eq!(pids.len(), 3);
    assert!(pids.iter().all(|pid| runs(*pid)));

    let mode = std::fs::metadata(&dir).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "nobody else may read the admin's key");

    drop(plane);

    assert!(!pids.iter().any(|pid| runs(*pid)));
    assert!(!dir.exists());
}

#[tokio::test]
async fn a_killed_test_leaves_no_process() {
    let (helper, dir, pids) = start_helper("kill").await;
    helper.kill().unwrap();

    eventually("the programs gone", SOON, async || {
        Ok((!pids.iter().any(|pid| runs(*pid))).then_some(()))
    })
    .await
    .unwrap();
    // The logs are left, as nothing was there to remove them; etcd's data is not.
    assert!(Path::new(&dir).join("etcd.stderr.log").exists());
    let data = Path::new(&dir).join("etcd");
    eventually("etcd's data gone", SOON, async || {
        Ok((!data.exists()).then_some(()))
    })
    .await
    .unwrap();
    std::fs::remove_dir_all(dir).unwrap();
}

#[tokio::test]
async fn a_detached_control_plane_outlives_its_starter() {
    let (helper, dir, pids) = start_helper("keep").await;
    assert!(helper.wait_timeout(SOON).await.unwrap().success());

    let config = Kubeconfig::read_from(Path::new(&dir).join("admin.kubeconfig")).unwrap();
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default())
        .await
        .unwrap();
    Client::try_from(config)
        .unwrap()
        .apiserver_version()
        .await
        .unwrap();

    for pid in &pids {
        let pid = rustix::process::Pid::from_raw(i32::try_from(*pid).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    eventually("the programs gone", SOON, async || {
        Ok((!pids.iter().any(|pid| runs(*pid))).then_some(()))
    })
    .await
    .unwrap();
    std::fs::remove_dir_all(dir).unwrap();
}

/// Not a test: the two tests above run this in a process of their own.
#[tokio::test]
#[ignore = "a helper of other tests that does nothing by itself"]
async fn helper_holds_a_control_plane_until_it_is_killed() {
    let Some(file) = std::env::var_os(HELPER_FILE) else {
        return;
    };
    let plane = ControlPlane::start().await.unwrap();
    let pids: Vec<u32> = plane.processes().map(Process::pid).collect();
    let line = format!("{} {pids:?}", plane.dir().display());
    if Path::new(&file)
        .extension()
        .is_some_and(|end| end == "keep")
    {
        assert_eq!(plane.keep().unwrap().pids, pids);
        write_atomically(Path::new(&file), &line);
    } else {
        write_atomically(Path::new(&file), &line);
        std::future::pending::<()>().await;
    }
}

/// Starts the helper; returns it, the folder and the process ids of its control plane.
async fn start_helper(mode: &str) -> (Process, String, Vec<u32>) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("helper").with_extension(mode);
    let helper = Process::spawn(
        "helper",
        &std::env::current_exe().unwrap(),
        [
            "--ignored",
            "--exact",
            "helper_holds_a_control_plane_until_it_is_killed",
        ],
        &[(HELPER_FILE, file.to_str().unwrap())],
        dir.path(),
    )
    .unwrap();
    let line = eventually(
        "the helper's control plane",
        Duration::from_secs(90),
        async || Ok(std::fs::read_to_string(&file).ok()),
    )
    .await
    .unwrap_or_else(|error| {
        panic!(
            "{error:#}\n{}\n{}",
            helper.read_stdout(),
            helper.read_stderr()
        )
    });
    let (folder, pids) = line.split_once(' ').unwrap();
    let pids: Vec<u32> = serde_json::from_str(pids).unwrap();
    assert_eq!(pids.len(), 2);
    (helper, folder.to_owned(), pids)
}

/// Renames a complete file, so that the reader never sees half a line.
fn write_atomically(path: &Path, line: &str) {
    let draft = path.with_extension("draft");
    std::fs::write(&draft, line).unwrap();
    std::fs::rename(draft, path).unwrap();
}

/// Whether a process is running; a zombie is not.
fn runs(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit_once(')')
            .unwrap()
            .1
            .trim_start()
            .starts_with('Z')
    })
}

#[tokio::test]
async fn a_test_that_panics_ends_the_programs_and_keeps_the_logs() {
    let (dir, pids) = tokio::task::spawn(async {
        let plane = ControlPlane::start().await.unwrap();
        let pids: Vec<u32> = plane.processes().map(Process::pid).collect();
        std::panic::resume_unwind(Box::new((plane.dir().to_owned(), pids)))
    })
    .await
    .map_err(|error| {
        *error
            .into_panic()
            .downcast::<(std::path::PathBuf, Vec<u32>)>()
            .unwrap()
    })
    .map(|(): ()| unreachable!())
    .unwrap_err();

    assert!(!pids.iter().any(|pid| runs(*pid)));
    assert!(dir.join("kube-apiserver.stderr.log").exists());
    assert!(dir.join("etcd").exists());
    std::fs::remove_dir_all(dir).unwrap();
}
