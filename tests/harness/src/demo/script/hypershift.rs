//! The nodes of a hosted cluster are updated in place.

use anyhow::Result;
use futures::future::LocalBoxFuture;
use kube::Client;

use super::{Script, Update};
use crate::hypershift::HyperShift;
use crate::kubernetes::numbered;
use crate::truth::PENDING;

const HOSTED: usize = 4;
const CONFIG: &str = "0c1de7ab";

/// One node of a node pool after the other is drained, changed and rebooted.
#[derive(Debug)]
pub(in crate::demo) struct InPlace(pub(in crate::demo) Update);

impl Script for InPlace {
    fn name(&self) -> &'static str {
        "hosted OpenShift"
    }

    fn nodes(&self) -> usize {
        HOSTED
    }

    fn describe(&self) -> String {
        let to = &self.0.to;
        format!(
            "Updating a node pool of {HOSTED} nodes of a hosted cluster in place to {to}: drain, change, reboot; about half a minute."
        )
    }

    fn load<'a>(&'a self, client: &'a Client) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let hosted = HyperShift::new(client);
            for node in numbered("hosted", HOSTED) {
                let joined = hosted.join(&node, "workers", &self.0.from);
                self.0.truth.joins(&node, &[PENDING], joined).await?;
            }
            Ok(())
        })
    }

    fn play<'a>(&'a self, client: &'a Client) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let hosted = HyperShift::new(client).telling(&self.0.truth);
            for node in numbered("hosted", HOSTED) {
                hosted
                    .update(&node, CONFIG, &self.0.to, self.0.pace)
                    .await?;
            }
            Ok(())
        })
    }
}
