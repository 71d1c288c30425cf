//! A connection on which nothing is sent unless this replica may write.
//!
//! A process can be stopped at any point, and for longer than its lease lasts; what it had decided to write
//! before it would then be written after somebody else has taken over. So the last thing that is asked
//! before bytes leave the process is whether it still may, below the encryption, where the next step is the
//! system call. Bytes that the kernel has not sent yet when the connection is closed are thrown away.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::registry::election::Leadership;

/// The connection, below the encryption.
pub(super) struct Fenced {
    stream: TcpStream,
    leadership: Leadership,
}

impl Fenced {
    /// # Errors
    /// When the kernel refuses to drop what is not sent.
    pub(super) fn new(stream: TcpStream, leadership: Leadership) -> io::Result<Self> {
        // What is not sent when this process ends is not sent at all.
        stream.set_zero_linger()?;
        Ok(Self { stream, leadership })
    }

    fn check(&self) -> io::Result<()> {
        if self.leadership.holds() {
            Ok(())
        } else {
            Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "this replica does not hold the lease",
            ))
        }
    }
}

impl AsyncWrite for Fenced {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
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

impl AsyncRead for Fenced {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}
