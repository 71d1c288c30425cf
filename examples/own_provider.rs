//! A custom provider, without a change of the operator: `cargo run --example own_provider -- run`.
//!
//! Acme labels and updates the nodes of its fleets, and writes a `Rollout` for each node, with its target version and
//! progress. This file is all that the operator needs. The trait `Provider` documents what else a provider can
//! report.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Parser as _;
use node_insights::api::types::{DesiredVersionSource, Phase, ProviderName, UpdateKind};
use node_insights::app::{self, config};
use node_insights::domain::fact::{Fact, Kind, KindSpec, Object, Parsed};
use node_insights::domain::facts::{Unavailable, View};
use node_insights::domain::node::NodeFacts;
use node_insights::domain::pool::{Membership, PoolId};
use node_insights::domain::pool_name::LabelKey;
use node_insights::domain::state::{Desired, Evaluation};
use node_insights::providers::step::Step as UpdateStep;
use node_insights::providers::{Claim, Provider, Providers, Subject, built_in};
use node_insights::telemetry::logging;
use serde::Deserialize;

/// The label of Acme's nodes; its value is the fleet, which is the pool.
const FLEET: &str = "acme.example/fleet";

/// The relevant fields of a `Rollout`, which has the name of its node.
#[derive(Debug, PartialEq)]
struct Rollout {
    version: Arc<str>,
    step: Step,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
enum Step {
    Waiting,
    Draining,
    Installing,
    Done,
}

impl Fact for Rollout {
    const KIND: KindSpec = KindSpec::new("acme.example", &["v1"], "Rollout", "rollouts");

    fn parse(object: &Object<'_>) -> Parsed<Self> {
        #[derive(Deserialize)]
        struct Raw {
            spec: Spec,
            status: Status,
        }
        #[derive(Deserialize)]
        struct Spec {
            version: String,
        }
        #[derive(Deserialize)]
        struct Status {
            step: Step,
        }
        match object.read::<Raw>() {
            Ok(raw) => Parsed::Fact(Self {
                version: raw.spec.version.into(),
                step: raw.status.step,
            }),
            Err(error) => Parsed::Unreadable(error),
        }
    }
}

/// Acme's updater.
struct Acme {
    label: LabelKey,
}

impl Provider for Acme {
    fn name(&self) -> ProviderName {
        ProviderName::new("Acme")
    }

    fn kinds(&self) -> Vec<Kind> {
        vec![Kind::of::<Rollout>()]
    }

    fn claim(&self, node: &NodeFacts, _: &View<'_>) -> Claim {
        if node.labels.contains(FLEET) {
            Claim::Evidence("label acme.example/fleet")
        } else {
            Claim::None
        }
    }

    fn pool(&self, node: &NodeFacts, _: &View<'_>) -> Result<Membership, Unavailable> {
        let fleet = node.labels.get(FLEET).unwrap_or_default();
        Ok(Membership::Pool(PoolId::label(&self.label, fleet).into()))
    }

    fn evaluate(&self, node: &Subject<'_>, view: &View<'_>) -> Result<Evaluation, Unavailable> {
        let rollout = view.get::<Rollout>(&node.facts.name)?;
        let step = rollout.map_or(Step::Done, |rollout| rollout.step);
        let (phase, reason, message) = match step {
            Step::Waiting => (Phase::Pending, "Pending", "The node waits for its turn"),
            Step::Draining => (Phase::Draining, "Draining", "Acme drains the node"),
            Step::Installing => (Phase::Updating, "Installing", "Acme updates the node"),
            Step::Done => (Phase::Completed, "Updated", ""),
        };
        let kind = (phase != Phase::Completed).then_some(UpdateKind::Version);
        let desired = rollout.map(|rollout| Desired {
            version: Arc::clone(&rollout.version),
            source: DesiredVersionSource::Provider,
        });
        Ok(UpdateStep::new(phase, kind, reason, message).evaluation(node.facts, desired))
    }
}

fn main() -> ExitCode {
    match operate() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("own_provider: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn operate() -> anyhow::Result<()> {
    let config::Command::Run(config) = config::Cli::parse().command else {
        bail!("This example only runs the operator: own_provider run");
    };
    let _telemetry = logging::init(config.log_format, &config.log_level)?;
    let (mut providers, overlays) = built_in(&config.provider_options());
    let label = LabelKey::all(&[FLEET.to_owned()]).swap_remove(0);
    // First, so that it claims its nodes before other providers do.
    providers.insert(0, Box::new(Acme { label }));
    let providers = Providers::new(providers, overlays)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("Cannot start the runtime")?;
    let result = runtime.block_on(app::run(*config, providers));
    runtime.shutdown_background();
    result
}
