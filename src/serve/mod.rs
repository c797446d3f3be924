//! Serves a router over HTTP/1.1 and cleartext HTTP/2, to clients that may be slow, hostile or gone.
//!
//! Promises: no more than [`Settings::connections`] are open, further ones wait in the backlog; a connection without an
//! open request – one that says nothing, drips a header, or is kept alive – is closed after [`Settings::idle`]; one that
//! takes nothing of what it is sent, after [`Settings::stall`]. A soft stop finishes what is open, a hard one does not.
//!
//! How long a request's body or a handler may take is said elsewhere, in `handlers::edge`. What hyper refuses by itself
//! (no HTTP, more than 100 header fields or [`Settings::head_max`]) is answered with 400, 414 or 431 without a body.

mod activity;
mod http1;
mod http2;
mod place;
mod stream;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::activity::Activity;
use self::stream::Stream;

/// What one listener allows.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Connections that may be open.
    pub connections: usize,
    /// How long a connection may be without an open request; so long may a request's header take.
    pub idle: Duration,
    /// How long a client may take nothing of an answer.
    pub stall: Duration,
    /// Bytes of a request's line and header that are read at most.
    pub head_max: usize,
}

/// A handler that has not answered by then is one that waits: its connection is parked.
const PATIENCE: Duration = Duration::from_millis(100);

/// Accepts until the soft stop; returns when what was open has ended, or at the hard stop.
pub async fn run(
    listener: TcpListener,
    router: Router,
    settings: Settings,
    soft: CancellationToken,
    hard: CancellationToken,
) {
    Arc::new(Server::new(router, settings, soft, hard)).run(listener).await;
}

async fn accept(listener: &TcpListener, permits: &Arc<Semaphore>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.map_err(io::Error::other)?;
    Ok((listener.accept().await?.0, permit))
}

/// What is wrong with one connection is no error (accept(2) passes on what the network has for it); with no file
/// descriptors or no memory left the next one would fail as well, until some are given back.
async fn refused(error: &io::Error) {
    use io::ErrorKind as K;
    const ITS_OWN: [K; 7] = [
        K::ConnectionRefused,
        K::ConnectionAborted,
        K::ConnectionReset,
        K::HostUnreachable,
        K::NetworkUnreachable,
        K::NetworkDown,
        K::PermissionDenied,
    ];
    if !ITS_OWN.contains(&error.kind()) {
        tracing::error!(%error, "no connection can be accepted");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Whether the first bytes are those of HTTP/2 (RFC 9113 §3.4), and those that had to be taken to know it. Nearly always
/// none: the first bytes come together, and one look at them is enough. hyper-util's own detection takes them, and a buffer
/// that begins with a few bytes is twice as large as it need be, for as long as the connection lives.
async fn speaks_http2(tcp: &mut TcpStream) -> io::Result<(bool, Vec<u8>)> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0";
    let mut first = [0; PREFACE.len()];
    let mut known = tcp.peek(&mut first).await?;
    let mut taken = 0;
    while known > 0 && known < PREFACE.len() && PREFACE.starts_with(&first[..known]) {
        let read = tcp.read(&mut first[taken..]).await?;
        if read == 0 {
            break;
        }
        taken += read;
        known = taken;
    }
    Ok((known == PREFACE.len() && first == PREFACE, first[..taken].to_vec()))
}

struct Server {
    router: Router,
    settings: Settings,
    soft: CancellationToken,
    hard: CancellationToken,
    patience: Duration,
    /// How many times a connection was parked.
    #[cfg(test)]
    parked: std::sync::atomic::AtomicUsize,
}

impl Server {
    fn new(router: Router, settings: Settings, soft: CancellationToken, hard: CancellationToken) -> Self {
        Self {
            router,
            settings,
            soft,
            hard,
            patience: PATIENCE,
            #[cfg(test)]
            parked: std::sync::atomic::AtomicUsize::default(),
        }
    }

    async fn run(self: Arc<Self>, listener: TcpListener) {
        let permits = Arc::new(Semaphore::new(self.settings.connections.min(Semaphore::MAX_PERMITS)));
        let tasks = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = self.soft.cancelled() => break,
                accepted = accept(&listener, &permits) => accepted,
            };
            match accepted {
                Ok((stream, permit)) => drop(tasks.spawn(Arc::clone(&self).connection(stream, permit))),
                Err(error) => drop(self.soft.run_until_cancelled(refused(&error)).await),
            }
        }
        drop(listener);
        tasks.close();
        tokio::select! {
            () = tasks.wait() => {}
            () = self.hard.cancelled() => {}
        }
    }

    async fn connection(self: Arc<Self>, mut tcp: TcpStream, permit: OwnedSemaphorePermit) {
        // Events are written one by one: each goes at once, whatever was sent before it.
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!(%error, "small pieces may be held back");
        }
        let activity = Arc::new(Activity::new());
        let first = async {
            tokio::select! {
                // What has come before a stop is answered.
                biased;
                is = speaks_http2(&mut tcp) => Some(is.unwrap_or_default()),
                () = activity.idle(self.settings.idle) => None,
                () = self.soft.cancelled() => None,
            }
        };
        // On the heap, as is what is done only by one kind of connections or for a moment: a parked one has no room for it.
        let Some((is_http2, taken)) = Box::pin(first).await else {
            return;
        };
        let told = (!is_http2).then(|| Arc::clone(&activity));
        let mut stream = Stream::new(tcp, self.settings.stall, told);
        stream.unread(&taken);
        if is_http2 {
            Box::pin(self.http2(stream, &activity)).await;
        } else {
            self.http1(stream, &activity).await;
        }
        drop(permit);
    }
}
