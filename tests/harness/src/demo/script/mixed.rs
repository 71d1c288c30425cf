//! Several updaters in one cluster, each at work on its own nodes at the same time, and nodes that nobody updates.

use std::collections::BTreeMap;

use anyhow::Result;
use futures::future::{LocalBoxFuture, try_join_all};
use kube::Client;

use super::{Script, Shared, Update};
use crate::kubernetes::Nodes;
use crate::kubernetes::node::NodeTemplate;
use crate::truth::COMPLETED;

/// Scripts that run at once.
#[derive(Debug)]
pub(in crate::demo) struct Mixed(Vec<Shared>);

impl Mixed {
    pub(in crate::demo) fn new(parts: Vec<Shared>) -> Self {
        Self(parts)
    }

    fn held(&self) -> Option<&Shared> {
        self.0.iter().find(|part| part.held_pool().is_some())
    }
}

impl Script for Mixed {
    fn name(&self) -> &'static str {
        "mixed"
    }

    fn nodes(&self) -> usize {
        self.0.iter().map(|part| part.nodes()).sum()
    }

    fn nodes_afterwards(&self) -> usize {
        self.0.iter().map(|part| part.nodes_afterwards()).sum()
    }

    fn describe(&self) -> String {
        let parts: Vec<String> = self.0.iter().map(|part| part.describe()).collect();
        format!("All at the same time:\n- {}", parts.join("\n- "))
    }

    fn install<'a>(&'a self, client: &'a Client) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(async move {
            for part in &self.0 {
                part.install(client).await?;
            }
            Ok(())
        })
    }

    fn load<'a>(&'a self, client: &'a Client) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(async move {
            for part in &self.0 {
                part.load(client).await?;
            }
            Ok(())
        })
    }

    fn play<'a>(&'a self, client: &'a Client) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let parts = self.0.iter().map(|part| part.play(client));
            try_join_all(parts).await.map(drop)
        })
    }

    fn held_drain(&self) -> Option<&'static str> {
        self.0.iter().find_map(|part| part.held_drain())
    }

    fn held_pool(&self) -> Option<&'static str> {
        self.held()?.held_pool()
    }

    fn release<'a>(&'a self, client: &'a Client) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(async move {
            match self.held() {
                Some(part) => part.release(client).await,
                None => Ok(()),
            }
        })
    }
}

/// A node of Fargate, which nobody updates.
#[derive(Debug)]
pub(in crate::demo) struct Fargate(pub(in crate::demo) Update);

impl Script for Fargate {
    fn name(&self) -> &'static str {
        "Fargate"
    }

    fn nodes(&self) -> usize {
        1
    }

    fn describe(&self) -> String {
        "A node of Fargate is never updated.".to_owned()
    }

    fn load<'a>(&'a self, client: &'a Client) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let label = ("eks.amazonaws.com/compute-type", "fargate");
            let template = NodeTemplate {
                name: "fargate-0".to_owned(),
                labels: BTreeMap::from([(label.0.to_owned(), label.1.to_owned())]),
                annotations: BTreeMap::new(),
                kubelet_version: format!("{}-eks-94953ac", self.0.from),
                os_image: "Amazon Linux 2".to_owned(),
                images: 0,
            };
            let nodes = Nodes::new(client.clone());
            let joined = async {
                nodes.join(&template.object()?).await?;
                nodes.become_ready(&template.name).await
            };
            let truth = &self.0.truth;
            truth.joins(&template.name, &[COMPLETED], joined).await
        })
    }

    fn play<'a>(&'a self, _client: &'a Client) -> LocalBoxFuture<'a, Result<()>> {
        super::done()
    }
}
