//! The network between one operator and its API server, which a test can cut.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kube::config::Kubeconfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A line that passes on every byte until it is cut: then nothing gets through in either direction, and no
/// connection is refused or closed, as when packets are dropped. What was not passed on waits where it is,
/// in the buffers of whoever sent it, and is gone if the sender resets the connection meanwhile: no packet of
/// it had arrived.
pub struct Line {
    is_cut: watch::Sender<bool>,
    accepting: JoinHandle<()>,
    /// What the operator is given in place of the kubeconfig that it was made from.
    pub kubeconfig: PathBuf,
}

impl Line {
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
        let path = kubeconfig.with_extension("line.yaml");
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

    /// Lets nothing through any more.
    pub fn cut(&self) {
        self.is_cut.send_replace(true);
    }

    /// Lets everything through again.
    pub fn mend(&self) {
        self.is_cut.send_replace(false);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Both directions end together: one that is reset is reset on the other side.
async fn connect(near: TcpStream, far: TcpStream, cut: watch::Receiver<bool>) {
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    tokio::select! {
        () = pass(near_read, far_write, cut.clone()) => {}
        () = pass(far_read, near_write, cut) => {}
    }
}

/// Whether the line was ever cut, or mended.
async fn becomes(cut: &mut watch::Receiver<bool>, value: bool) -> bool {
    cut.wait_for(|cut| *cut == value).await.is_ok()
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut cut: watch::Receiver<bool>) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        if !becomes(&mut cut, false).await {
            return;
        }
        // What the kernel still has of a connection that was reset could be read all the same.
        if matches!(from.as_ref().take_error(), Ok(Some(_)) | Err(_)) {
            return;
        }
        tokio::select! {
            biased;
            // Looked at first, so that nothing is read that would be passed on later.
            _ = becomes(&mut cut, true) => {}
            read = from.read(&mut buffer) => match read {
                Ok(count @ 1..) if to.write_all(&buffer[..count]).await.is_ok() => {}
                _ => return,
            },
        }
    }
}
