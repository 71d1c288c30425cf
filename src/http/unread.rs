//! A connection that fails when the client does not read what is written.
//!
//! hyper has deadlines for what a client sends, but not for this. It applies below the encryption, so it covers
//! the handshake as well.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// A client that reads nothing for this long is disconnected.
pub(super) const STALL: Duration = Duration::from_secs(10);
/// Deadline for a whole answer. The largest one, an export of 20,000 nodes, has 12 MB: enough for a client that
/// reads 1 Mbit/s.
const WHOLE: Duration = Duration::from_mins(2);

/// A connection whose client must keep reading.
pub(super) struct Unread<S> {
    stream: S,
    /// When writing first stalled since the last read.
    held_up: Option<Instant>,
    /// Set while writing is stalled.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<S> Unread<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            held_up: None,
            alarm: None,
        }
    }

    /// Passes on the result of a write, or fails if writing has stalled for too long.
    fn note(
        &mut self,
        written: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.alarm = None;
            return written;
        }
        let now = Instant::now();
        let whole = *self.held_up.get_or_insert(now) + WHOLE;
        let alarm = self
            .alarm
            .get_or_insert_with(|| Box::pin(sleep_until(whole.min(now + STALL))));
        ready!(alarm.as_mut().poll(context));
        let error = "The client does not read what is written";
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, error)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Unread<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            self.held_up = None;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Unread<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.note(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::sleep;

    use super::*;

    const LARGE: &[u8] = &[0; 1 << 20];

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_reads_is_disconnected() {
        let (ours, _theirs) = duplex(1024);
        let began = Instant::now();
        let error = Unread::new(ours).write_all(LARGE).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed(), STALL);
    }

    /// Has a client read `size` bytes at a time, pausing for `pause`; returns the outcome and how long it took.
    async fn taken_by(size: usize, pause: Duration) -> (io::Result<()>, Duration) {
        let (ours, mut theirs) = duplex(1024);
        let began = Instant::now();
        let mut ours = Unread::new(ours);
        let reading = async {
            let mut taken = vec![0; size];
            loop {
                sleep(pause).await;
                theirs.read_exact(&mut taken).await.unwrap();
            }
        };
        let written = tokio::select! {
            written = ours.write_all(LARGE) => written,
            () = reading => unreachable!("the reader never ends"),
        };
        (written, began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_too_slowly_is_disconnected() {
        let (written, took) = taken_by(1, Duration::from_secs(1)).await;
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(took, WHOLE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_slowly_but_steadily_gets_everything() {
        let (written, took) = taken_by(1024, Duration::from_millis(100)).await;
        written.unwrap();
        assert!(took > 5 * STALL, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn each_answer_has_the_whole_deadline() {
        let (ours, mut theirs) = duplex(1024);
        let mut ours = Unread::new(ours);
        let half = vec![0; 512 << 10];
        let mut taken = vec![0; 64 << 10];
        let began = Instant::now();
        for _ in 0..2 {
            theirs.write_all(b"next").await.unwrap();
            ours.read_exact(&mut [0; 4]).await.unwrap();
            let reading = async {
                // Just within the deadline of one answer.
                for _ in 0..8 {
                    sleep(STALL.saturating_sub(Duration::from_millis(1))).await;
                    theirs.read_exact(&mut taken).await.unwrap();
                }
            };
            let (written, ()) = tokio::join!(ours.write_all(&half), reading);
            written.unwrap();
        }
        assert!(began.elapsed() > WHOLE, "{:?}", began.elapsed());
    }
}
