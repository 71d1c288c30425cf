//! The operator under measurement: the release binary as its service account, with default flags.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use node_insights_harness::{ControlPlane, Process, eventually};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

/// Namespace and name of its service account.
pub(crate) const ACCOUNT: (&str, &str) = ("node-insights", "node-insights");

/// The metric that shows which replica leads.
const LEADS: &str = "leader_election_master_status{";
/// How long it may take to open its port, which it does before it connects to the API server.
const PORT_DEADLINE: Duration = Duration::from_secs(30);
/// Twice the budget, so that a shutdown which exceeds it is still measured.
const EXIT_DEADLINE: Duration = Duration::from_secs(20);
/// Memory is settled when it is stable for this many readings, one per second.
const STEADY_READINGS: usize = 5;
/// After this many readings it counts as settled in any case.
const READINGS: usize = 60;

/// How to start it.
#[derive(Clone)]
pub(crate) struct Program {
    path: PathBuf,
    kubeconfig: PathBuf,
    log_dir: PathBuf,
}

impl Program {
    /// The program at `path`, as its service account, which must exist.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) async fn new(path: &Path, plane: &ControlPlane) -> Result<Self> {
        let (namespace, name) = ACCOUNT;
        Ok(Self {
            path: path.to_owned(),
            kubeconfig: plane.service_account_kubeconfig(namespace, name).await?,
            log_dir: plane.dir().to_owned(),
        })
    }

    /// Starts it, and does not wait for anything.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(&self) -> Result<Operator> {
        self.start_with(&[])
    }

    /// The same, with `flags` in addition to the default ones.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start_with(&self, flags: &[&str]) -> Result<Operator> {
        let started = Instant::now();
        let usual = [
            "run",
            "--metrics-address",
            "127.0.0.1:0",
            "--health-address",
            "127.0.0.1:0",
            "--log-format",
            "json",
        ];
        let args = usual.iter().chain(flags).copied();
        // Its state goes beside its log, not into the user's state folder.
        let envs = [
            ("KUBECONFIG", &*self.kubeconfig.to_string_lossy()),
            ("XDG_STATE_HOME", &*self.log_dir.to_string_lossy()),
        ];
        let process = Process::spawn("node-insights", &self.path, args, &envs, &self.log_dir)?;
        Ok(Operator {
            process,
            started,
            ports: OnceCell::new(),
        })
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// When it exits, or is not ready within `timeout`.
    pub(crate) async fn start_ready(&self, timeout: Duration) -> Result<Operator> {
        let operator = self.start()?;
        operator.ready(timeout).await?;
        Ok(operator)
    }
}

/// A running operator, killed by its drop.
pub(crate) struct Operator {
    process: Process,
    started: Instant,
    ports: OnceCell<Ports>,
}

/// The addresses of its ports.
struct Ports {
    health: String,
    metrics: String,
}

impl Operator {
    /// When it was started.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Waits until `/readyz` answers 200, and returns how long that took from the start.
    ///
    /// # Errors
    /// When it exits, or is not ready within `timeout`.
    pub(crate) async fn ready(&self, timeout: Duration) -> Result<Duration> {
        let address = &self.ports().await?.health;
        let ready = eventually("the operator is ready", timeout, async || {
            match get(address, "/readyz").await? {
                (200, _) => Ok(Some(self.started.elapsed())),
                (_, report) => bail!("{report}"),
            }
        });
        self.meanwhile(ready).await
    }

    /// Waits until it leads.
    ///
    /// # Errors
    /// When it exits, or does not lead within `timeout`.
    pub(crate) async fn leads(&self, timeout: Duration) -> Result<()> {
        let leads = eventually("the operator leads", timeout, async || {
            let metrics = self.page("/metrics").await?;
            let status = metrics.lines().find(|line| line.starts_with(LEADS));
            Ok(status
                .is_some_and(|line| line.ends_with(" 1"))
                .then_some(()))
        });
        self.meanwhile(leads).await
    }

    /// The body of its response at `path`.
    ///
    /// # Errors
    /// When the status is not 200.
    pub(crate) async fn page(&self, path: &str) -> Result<String> {
        match get(&self.ports().await?.metrics, path).await? {
            (200, body) => Ok(body),
            (status, body) => bail!("{path} answers {status}: {body}"),
        }
    }

    /// The result of `work`, which needs a running operator.
    ///
    /// # Errors
    /// That of `work`; or the operator's last log lines, if it exits first.
    pub(crate) async fn meanwhile<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            outcome = work => outcome,
            exit = self.process.wait() => {
                bail!("the operator ended with {}: {}", exit?, self.process.stderr_tail())
            }
        }
    }

    /// Its memory now, in MiB.
    ///
    /// # Errors
    /// When it has exited; the same for the methods below.
    pub(crate) fn rss_mib(&self) -> Result<f64> {
        Ok(mib(self.process.rss_bytes()?))
    }

    /// Its peak memory, in MiB.
    pub(crate) fn peak_mib(&self) -> Result<f64> {
        Ok(mib(self.process.peak_rss_bytes()?))
    }

    /// The CPU time that it has used, in seconds.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        Ok(self.process.cpu_time()?.as_secs_f64())
    }

    /// Waits until its memory stays within 1 %, and returns it in MiB.
    pub(crate) async fn settled_mib(&self) -> Result<f64> {
        let mut steady = self.rss_mib()?;
        let mut readings = 0;
        for _ in 0..READINGS {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let now = self.rss_mib()?;
            if (now - steady).abs() > steady / 100.0 {
                (steady, readings) = (now, 0);
            } else {
                readings += 1;
            }
            if readings == STEADY_READINGS {
                break;
            }
        }
        self.rss_mib()
    }

    /// Sends SIGTERM and waits until it has exited; returns how long that took.
    ///
    /// # Errors
    /// When it exceeds its budget by far, or exits with an error.
    pub(crate) async fn stop(self) -> Result<Duration> {
        let asked = Instant::now();
        self.process.terminate()?;
        let exit = self.process.wait_timeout(EXIT_DEADLINE).await?;
        let took = asked.elapsed();
        if !exit.success() {
            bail!("it ended with {exit}: {}", self.process.stderr_tail());
        }
        Ok(took)
    }

    /// Kills it, and waits until it has exited.
    ///
    /// # Errors
    /// When it does not exit.
    pub(crate) async fn kill(self) -> Result<()> {
        self.process.kill()?;
        self.process.wait_timeout(EXIT_DEADLINE).await?;
        Ok(())
    }

    /// The addresses of its ports, from the first lines that it logs.
    async fn ports(&self) -> Result<&Ports> {
        let find = async || {
            let found = eventually("the operator's ports", PORT_DEADLINE, async || {
                let log = self.process.read_stderr();
                let lines = log
                    .lines()
                    .filter_map(|line| serde_json::from_str(line).ok());
                let lines: Vec<Value> = lines.collect();
                let of = |what: &str| {
                    let mut lines = lines.iter().filter(|line| line["message"] == what);
                    lines.find_map(|line| line["address"].as_str().map(str::to_owned))
                };
                let found = of("Serving health").zip(of("Serving metrics and operations"));
                Ok(found.map(|(health, metrics)| Ports { health, metrics }))
            });
            self.meanwhile(found).await
        };
        self.ports.get_or_try_init(find).await
    }
}

fn mib(bytes: u64) -> f64 {
    // Kibibytes, as the kernel counts them, fit exactly.
    u32::try_from(bytes / 1024).map_or(f64::INFINITY, f64::from) / 1024.0
}

async fn get(address: &str, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: operator\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("a response without a body")?;
    let status = head
        .split(' ')
        .nth(1)
        .context("a response without a status")?;
    Ok((status.parse()?, body.to_owned()))
}
