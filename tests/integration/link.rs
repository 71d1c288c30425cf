//! The network link between an operator and its API server, which a test can cut.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kube::config::Kubeconfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A link that forwards every byte until it is cut: then nothing gets through in either direction, and no
/// connection is refused or closed, as when packets are dropped. Data that was not forwarded stays in the
/// sender's buffers, and is lost if the sender resets the connection: none of it had arrived.
pub struct Link {
    is_cut: watch::Sender<bool>,
    accepting: JoinHandle<()>,
    /// The kubeconfig for the operator, which points to this link.
    pub kubeconfig: PathBuf,
}

impl Link {
    /// To the API server of this kubeconfig.
    pub async fn to(kubeconfig: &Path) -> Result<Self> {
        let config = Kubeconfig::read_from(kubeconfig)?;
        let url = config
            .clusters
            .into_iter()
            .find_map(|named| named.cluster?.server);
        let url = url.context("a kubeconfig without a server")?;
        let server = url.trim_start_matches("https://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let path = kubeconfig.with_extension("link.yaml");
        let text = std::fs::read_to_string(kubeconfig)?;
        std::fs::write(&path, text.replace(&server, &address))?;
        let (is_cut, cut) = watch::channel(false);
        let accepting = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (server, cut) = (server.clone(), cut.clone());
                tokio::spawn(async move {
                    if let Ok(far) = TcpStream::connect(server).await {
                        connect(near, far, cut).await;
                    }
                });
            }
        });
        Ok(Self {
            is_cut,
            accepting,
            kubeconfig: path,
        })
    }

    /// Cuts the link.
    pub fn cut(&self) {
        self.is_cut.send_replace(true);
    }

    /// Restores the link.
    pub fn restore(&self) {
        self.is_cut.send_replace(false);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Forwards in both directions, which end together: a reset on one side resets the other.
async fn connect(near: TcpStream, far: TcpStream, cut: watch::Receiver<bool>) {
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    tokio::select! {
        () = forward(near_read, far_write, cut.clone()) => {}
        () = forward(far_read, near_write, cut) => {}
    }
}

/// Waits until the link is cut, or restored; false when it is dropped.
async fn becomes(cut: &mut watch::Receiver<bool>, value: bool) -> bool {
    cut.wait_for(|cut| *cut == value).await.is_ok()
}

async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut cut: watch::Receiver<bool>) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        if !becomes(&mut cut, false).await {
            return;
        }
        // Without this check, the kernel's buffer of a reset connection could still be read.
        if matches!(from.as_ref().take_error(), Ok(Some(_)) | Err(_)) {
            return;
        }
        tokio::select! {
            biased;
            // Polled first, so that nothing is read that would be forwarded later.
            _ = becomes(&mut cut, true) => {}
            read = from.read(&mut buffer) => match read {
                Ok(count @ 1..) if to.write_all(&buffer[..count]).await.is_ok() => {}
                _ => return,
            },
        }
    }
}
