//! kured reboots the nodes of a plain cluster, whose version stays.

use anyhow::Result;
use futures::future::LocalBoxFuture;
use kube::Client;

use super::{Script, Update, refs};
use crate::kubernetes::{Cluster, numbered};
use crate::kured::Kured;
use crate::load::write_objects;
use crate::truth::COMPLETED;

const POOL: &str = "edge";
const NODES: usize = 4;

/// One node after the other is rebooted.
#[derive(Debug)]
pub(in crate::demo) struct Reboots(pub(in crate::demo) Update);

impl Script for Reboots {
    fn name(&self) -> &'static str {
        "kured"
    }

    fn nodes(&self) -> usize {
        NODES
    }

    fn describe(&self) -> String {
        format!(
            "kured reboots {NODES} nodes, one after the other, less than a minute. Their version stays."
        )
    }

    fn load<'a>(&'a self, client: &'a Client) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(async move {
            Kured::new(client).install().await?;
            let cluster = Cluster::builder(&self.0.to)
                .control_plane(0)
                .pool(POOL, NODES)
                .build()?;
            let names = numbered(POOL, NODES);
            let loaded = write_objects(client, cluster.objects(), true);
            let truth = &self.0.truth;
            truth
                .step_of(&refs(&names), &[COMPLETED], loaded)
                .await
                .map(drop)
        })
    }

    fn play<'a>(&'a self, client: &'a Client) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let kured = Kured::new(client).telling(&self.0.truth);
            for node in numbered(POOL, NODES) {
                kured.play(&node, &self.0.to, self.0.pace).await?;
            }
            Ok(())
        })
    }
}
