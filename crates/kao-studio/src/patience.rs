//! A connection that does not wait for ever for somebody who takes nothing of what is sent.

use std::future::Future;
use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// A stream whose writes fail when for so long not a byte of them was taken.
pub struct Patient<S> {
    stream: S,
    time: Duration,
    /// Set while a write waits.
    waits: Option<Pin<Box<Sleep>>>,
}

impl<S: Unpin> Patient<S> {
    pub fn new(stream: S, time: Duration) -> Self {
        Patient { stream, time, waits: None }
    }

    /// What `write` says, or that it took too long.
    fn bounded<T>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<Result<T>>,
    ) -> Poll<Result<T>> {
        if let Poll::Ready(written) = write(Pin::new(&mut self.stream), context) {
            self.waits = None;
            return Poll::Ready(written);
        }
        let time = self.time;
        let waits = self.waits.get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
        waits.as_mut().poll(context).map(|()| Err(Error::from(ErrorKind::TimedOut)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        self.get_mut().bounded(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[std::io::IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        self.get_mut()
            .bounded(context, |stream, context| stream.poll_write_vectored(context, parts))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.get_mut().bounded(context, |stream, context| stream.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.get_mut().bounded(context, |stream, context| stream.poll_shutdown(context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::time::Instant;

    /// Writes to somebody who does `reads` with the connection, until all is written or an error.
    fn written_to(n_bytes: usize, reads: impl FnOnce(TcpStream) + Send + 'static) -> Result<()> {
        const TIME: Duration = Duration::from_millis(300);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let reader = std::thread::spawn(move || reads(TcpStream::connect(address).unwrap()));
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
        let written = runtime.unwrap().block_on(async {
            let mut stream = Patient::new(tokio::net::TcpStream::from_std(stream).unwrap(), TIME);
            let (bytes, mut done) = (vec![7; n_bytes], 0);
            while done < n_bytes {
                done += std::future::poll_fn(|context| {
                    Pin::new(&mut stream).poll_write(context, &bytes[done..])
                })
                .await?;
            }
            Ok(())
        });
        reader.join().unwrap();
        written
    }

    #[test]
    fn who_takes_nothing_is_not_waited_for_and_who_is_slow_is() {
        const MUCH: usize = 64 << 20;
        let started = Instant::now();
        let stalled = written_to(MUCH, |stream| {
            std::thread::sleep(Duration::from_millis(1500));
            drop(stream);
        });
        assert_eq!(stalled.unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(started.elapsed() < Duration::from_secs(60));
        let slow = written_to(MUCH, |mut stream| {
            let mut some = vec![0; 4 << 20];
            while stream.read(&mut some).is_ok_and(|n| n > 0) {
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        assert!(slow.is_ok(), "{slow:?}");
    }
}
