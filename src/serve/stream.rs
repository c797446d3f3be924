//! The socket as hyper sees it: first what was read before, then what comes; writes fail once nothing was taken for too
//! long.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::activity::Activity;

/// A connection's stream.
pub(super) struct Stream {
    tcp: TcpStream,
    /// Read before what the socket has.
    before: Vec<u8>,
    /// The client has said more than was asked for yet: what comes after it is not looked for.
    more: bool,
    stall: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    /// Told of what is written, where that says that an answer goes on.
    activity: Option<Arc<Activity>>,
}

impl Stream {
    pub(super) fn new(tcp: TcpStream, stall: Duration, activity: Option<Arc<Activity>>) -> Self {
        Self { tcp, before: Vec::new(), more: false, stall, stalled: None, activity }
    }

    /// Puts bytes before those that come.
    pub(super) fn unread(&mut self, bytes: &[u8]) {
        let rest = std::mem::take(&mut self.before);
        self.before = [bytes, &rest].concat();
    }

    /// Ready when the client is gone. What it says meanwhile stays in the socket; there may be an end behind that, which
    /// is found when it is written to: so does hyper.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.more || !self.before.is_empty() {
            return Poll::Pending;
        }
        let mut byte = [0];
        match ready!(self.tcp.poll_peek(cx, &mut ReadBuf::new(&mut byte))) {
            Ok(0) | Err(_) => Poll::Ready(()),
            Ok(_) => {
                self.more = true;
                Poll::Pending
            }
        }
    }

    fn watched(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            if let Some(activity) = &self.activity {
                activity.touch();
            }
            return written;
        }
        let stall = self.stall;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(stall)));
        stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.before.is_empty() {
            self.more = false;
            return Pin::new(&mut self.tcp).poll_read(cx, buf);
        }
        let taken = self.before.len().min(buf.remaining());
        let rest = self.before.split_off(taken);
        buf.put_slice(&std::mem::replace(&mut self.before, rest));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write(cx, buf);
        self.watched(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs);
        self.watched(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.tcp).poll_flush(cx);
        if let (Poll::Ready(Ok(())), Some(activity)) = (&flushed, &self.activity) {
            activity.written();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
