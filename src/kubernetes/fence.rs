//! A connection on which nothing is sent unless this replica may write.
//!
//! A process can be suspended at any point, for longer than its lease lasts. A write that it had decided on before
//! could then be sent after another replica has taken over. So the lease is checked last, just before bytes leave
//! the process: below the encryption, where the next step is the system call. Bytes that the kernel has not sent
//! when the connection is closed are discarded.

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
    /// When the kernel does not accept the option to discard unsent bytes.
    pub(super) fn new(stream: TcpStream, leadership: Leadership) -> io::Result<Self> {
        // Unsent bytes are discarded when this process ends.
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
