//! The demo: a real control plane, a simulated cluster, the operator, and an update to watch.
//!
//! ```text
//! control plane ─► CRDs, RBAC ─► simulated cluster ─► operator ─┬─► rollout (one to two minutes)
//!                                                               └─► both tables, once a second
//! ```
//!
//! Ends by itself when everything is Completed, and leaves nothing behind without `--keep`. Needs no
//! kubectl: the API server renders the tables.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::ControlPlane;
use crate::kubernetes::Pace;

mod holdup;
mod operator;
mod scenario;
mod screen;
mod script;
mod table;
mod view;

use holdup::HoldUp;
use operator::Operator;
pub use scenario::{Platform, Scenario};
use screen::Screen;
use view::View;

/// How long the operator may take to write the first insight of every node.
const FIRST_INSIGHTS: Duration = Duration::from_secs(30);

/// How long everything may take to be Completed, at the pace of the demo: three times the usual.
const DEADLINE: Duration = Duration::from_mins(6);

/// How often the tables are read.
const REFRESH: Duration = Duration::from_secs(1);

/// What to show, and with what.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which cluster is simulated.
    pub platform: Platform,
    /// Leave control plane and operator running at the end.
    pub keep: bool,
    /// The operator's program.
    pub operator: PathBuf,
    /// The folder with the operator's CRDs.
    pub crds: PathBuf,
    /// The folder with its RBAC; without one, the operator runs as an administrator.
    pub rbac: PathBuf,
    /// How fast the update goes.
    pub pace: Pace,
}

impl Options {
    /// The demo of a platform, with the operator from the folder above this build's examples.
    ///
    /// # Errors
    /// When this program's own path is not known.
    pub fn new(platform: Platform) -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let root = root.canonicalize().unwrap_or(root);
        let program =
            std::env::current_exe().context("Looking for the operator beside this program")?;
        let folder = program
            .parent()
            .and_then(Path::parent)
            .unwrap_or(Path::new(""));
        Ok(Self {
            platform,
            keep: false,
            operator: folder.join("node-insights"),
            crds: root.join("crds"),
            rbac: root.join("config"),
            pace: Pace::DEMO,
        })
    }
}

/// Runs the demo to its end, or until it is interrupted.
///
/// # Errors
/// When something does not start, the operator exits, or not everything is Completed in time. The
/// message has the operator's last log lines.
pub async fn run(options: &Options) -> Result<()> {
    tokio::select! {
        result = play(options) => result,
        () = stopped() => bail!("Stopped; everything that was started has ended"),
    }
}

async fn play(options: &Options) -> Result<()> {
    if !options.operator.is_file() {
        bail!(
            "No operator at {}: build it with `cargo build --bin node-insights`",
            options.operator.display()
        );
    }
    let step = Step::begin(
        "Starting etcd and kube-apiserver (about 5 s; building them once takes minutes)",
    );
    let control_plane = ControlPlane::start().await?;
    step.done();

    let step = Step::begin("Installing the custom resources of node-insights");
    control_plane
        .apply_dir(&options.crds)
        .await
        .with_context(|| format!("Applying the CRDs in {}", options.crds.display()))?;
    step.done();

    let client = control_plane.client();
    let version = client.apiserver_version().await?.git_version;
    let scenario = Scenario::new(options.platform, &version, options.pace)?;
    let step = Step::begin(&format!("Writing {}", scenario.describe()));
    scenario.install(&client).await?;
    scenario.load(&client).await?;
    let mut hold_up = match scenario.held_drain() {
        Some(node) => Some(HoldUp::plant(&client, node).await?),
        None => None,
    };
    step.done();

    let step = Step::begin("Starting the operator, until every node has its insight");
    let mut operator = Operator::start(&options.operator, &options.rbac, &control_plane).await?;
    let mut view = View::new(client.clone(), scenario.nodes());
    let first = tokio::time::timeout(FIRST_INSIGHTS, first_insights(&mut view, &mut operator));
    let first = first.await.unwrap_or_else(|_| {
        bail!(
            "Not every node has an insight after {FIRST_INSIGHTS:?}: {}",
            view.unfinished()
        )
    });
    first.map_err(|error| operator.explain(&error))?;
    step.done();

    screen::emit(&format!("{}\n", scenario.describe_update()));
    view.expect(scenario.nodes_afterwards());
    let started = Instant::now();
    let shown = Show {
        scenario: &scenario,
        client: &client,
        operator: &mut operator,
        pace: options.pace,
    };
    let shown = shown.run(&mut view, hold_up.as_mut()).await;
    shown.map_err(|error| operator.explain(&error))?;
    let took = started.elapsed().as_secs_f64();
    screen::emit(&format!(
        "
All nodes and pools are Completed, after {took:.0} s.
"
    ));
    if options.keep {
        let text = leave_running(operator, control_plane)?;
        screen::emit(&format!("{text}\n"));
    }
    Ok(())
}

/// Returns once every node has an insight; fails if the operator exits.
async fn first_insights(view: &mut View, operator: &mut Operator) -> Result<()> {
    let mut ticks = tokio::time::interval(REFRESH / 10);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        operator.alive()?;
        view.refresh().await?;
        if view.is_full() {
            return Ok(());
        }
    }
}

/// A simulated rollout, and the operator that reports it.
struct Show<'a> {
    scenario: &'a Scenario,
    client: &'a kube::Client,
    operator: &'a mut Operator,
    pace: Pace,
}

impl Show<'_> {
    /// Runs the rollout and shows the tables until everything is Completed.
    async fn run(self, view: &mut View, mut hold_up: Option<&mut HoldUp>) -> Result<()> {
        let mut screen = Screen::new();
        let deadline = tokio::time::sleep(DEADLINE.mul_f64(self.pace.factor().max(1.0)));
        tokio::pin!(deadline);
        let rollout = self.scenario.play(self.client);
        tokio::pin!(rollout);
        let mut played = false;
        let mut paused = self.scenario.paused_pool();
        let mut ticks = tokio::time::interval(REFRESH);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                result = &mut rollout, if !played => {
                    result.context("The simulated update failed")?;
                    played = true;
                }
                () = &mut deadline => {
                    screen.finish(view);
                    bail!("Not everything is Completed in time: {}", view.unfinished());
                }
                _ = ticks.tick() => {
                    self.operator.alive()?;
                    view.refresh().await?;
                    if let Some(hold_up) = &mut hold_up
                        && let Some(news) = hold_up.go_on(self.client, view).await?
                    {
                        screen.announce(&news);
                    }
                    screen.show(view);
                    if let Some(pool) = paused.take_if(|pool| view.waits_only_for(pool)) {
                        self.scenario.unpause(self.client).await?;
                        screen.announce(&format!("All other pools are Completed: unpausing {pool}"));
                    }
                    if played && view.is_completed() {
                        screen.finish(view);
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// Leaves everything running, and returns how to use and how to stop it.
fn leave_running(operator: Operator, control_plane: ControlPlane) -> Result<String> {
    let operator = operator.keep()?;
    let detached = control_plane.keep()?;
    let mut text = format!(
        "\nThe control plane and the operator keep running. Try:\n\n  export KUBECONFIG={}\n",
        detached.kubeconfig.display()
    );
    text.push_str("  kubectl get npi,ppi\n  kubectl get npi -o wide --watch\n");
    text.push_str("  cargo run --example rollout -- --help   simulates one more update\n");
    // The operator first: otherwise it would only log that its API server is gone.
    let pids = std::iter::once(operator).chain(detached.pids.iter().copied());
    let pids: Vec<String> = pids.map(|pid| pid.to_string()).collect();
    write!(
        text,
        // After SIGTERM, an API server whose etcd is gone would wait for it.
        "\nStop it with:\n\n  kill -9 {}; rm -r {}\n",
        pids.join(" "),
        detached.dir.display()
    )?;
    Ok(text)
}

/// Returns on SIGINT (Ctrl-C) or SIGTERM.
async fn stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        result = tokio::signal::ctrl_c() => {
            if result.is_err() {
                std::future::pending::<()>().await;
            }
        }
        _ = terminate.recv() => {}
    }
}

/// Prints what is being done, and then how long it took.
struct Step(Instant);

impl Step {
    fn begin(what: &str) -> Self {
        screen::emit(&format!("{what} …\n"));
        Self(Instant::now())
    }

    fn done(self) {
        let took = self.0.elapsed().as_secs_f64();
        screen::emit(&format!("  {took:.1} s\n"));
    }
}
