//! Deadlines with a paused clock, and the number of reads from the kernel.

use std::cell::Cell;
use std::rc::Rc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::net::TcpListener;

use super::*;

fn connection() -> (Heard<DuplexStream>, DuplexStream) {
    let (ours, theirs) = duplex(1024);
    (Heard::new(ours), theirs)
}

async fn after<T>(seconds: u64, work: impl Future<Output = T>) -> T {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    work.await
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_silent_for_75_seconds_fails() {
    let (mut ours, mut theirs) = connection();
    let started = Instant::now();
    for _ in 0..3 {
        let (read, written) = tokio::join!(ours.read_u8(), after(74, theirs.write_u8(7)));
        written.unwrap();
        assert_eq!(read.unwrap(), 7);
    }
    let ended = timeout(2 * SILENCE, ours.read_u8()).await;
    let error = ended.expect("the read never ended").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(error.to_string().contains("within 75 s"), "{error}");
    assert_eq!(started.elapsed().as_secs(), 3 * 74 + 75);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_has_the_whole_deadline_for_the_next_answer() {
    let (ours, mut theirs) = connection();
    let (mut read, mut write) = tokio::io::split(ours);
    let (answer, asked) = tokio::join!(
        read.read_u8(),
        after(70, async {
            write.write_u8(1).await?;
            after(70, theirs.write_u8(2)).await
        })
    );
    asked.unwrap();
    assert_eq!(answer.unwrap(), 2);
}

/// Has endless bytes, and counts how often it is read.
struct Endless(Rc<Cell<usize>>);

impl AsyncRead for Endless {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.set(self.0.get() + 1);
        buffer.initialize_unfilled().fill(7);
        buffer.advance(buffer.remaining());
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_record_that_is_read_in_pieces_is_read_from_the_kernel_once() {
    let asked = Rc::new(Cell::new(0));
    let mut connection = Heard::new(Endless(Rc::clone(&asked)));
    let mut piece = [0; 4096];
    for _ in 0..4 {
        connection.read_exact(&mut piece).await.unwrap();
    }
    assert_eq!(asked.get(), 1);
}

/// Accepts connections and never sends, as a firewall does or a port with another protocol.
#[tokio::test]
async fn a_connection_that_cannot_be_established_fails_after_5_seconds() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("https://{}", listener.local_addr().unwrap());
    let mut config = Config::new(server.parse().unwrap());
    config.accept_invalid_certs = true;
    let client = client(&config, Ok).unwrap();
    let asking = client.apiserver_version();
    tokio::pin!(asking);
    // The connection is open, so only the deadline remains to be waited for.
    let accepted = tokio::select! {
        accepted = listener.accept() => accepted.unwrap(),
        answer = &mut asking => panic!("answered without a connection: {answer:?}"),
    };
    tokio::time::pause();
    let started = Instant::now();
    let error = asking.await.unwrap_err();
    drop(accepted);
    let cause = crate::kubernetes::diagnosis::root_cause(&error);
    assert!(cause.contains("within 5 s"), "{cause}");
    let seconds = started.elapsed().as_secs_f64();
    assert!((4.5..5.5).contains(&seconds), "{seconds} s");
}
