//! Probes as a kubelet does.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

/// Probes `/livez` from its own thread, which the flood does not delay, until it is stopped.
pub struct Prober {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Result<Duration>>,
}

impl Prober {
    pub fn start(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut longest = Duration::ZERO;
            while !stopped.load(Ordering::Relaxed) {
                let began = Instant::now();
                probe(address).with_context(|| format!("/livez, {:?}", began.elapsed()))?;
                longest = longest.max(began.elapsed());
                thread::sleep(Duration::from_millis(50));
            }
            Ok(longest)
        });
        Self { stop, thread }
    }

    /// Stops; returns the longest response time.
    pub fn end(self) -> Result<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.join();
        ended.unwrap_or_else(|_| anyhow::bail!("the thread that probes /livez panicked"))
    }
}

fn probe(address: SocketAddr) -> Result<()> {
    let mut stream = std::net::TcpStream::connect_timeout(&address, super::PROBE_GIVEN_UP)?;
    stream.set_read_timeout(Some(super::PROBE_GIVEN_UP))?;
    stream.write_all(b"GET /livez HTTP/1.0\r\nHost: operator\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.0 200"), "{answer:?}");
    Ok(())
}
