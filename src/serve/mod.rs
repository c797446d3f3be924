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
mod place;
mod stream;
#[cfg(test)]
mod tests;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::activity::{Activity, Counted, Open};
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

/// Requests of one HTTP/2 connection that may be open.
const STREAMS: u32 = 128;

/// HTTP/2 peers that are gone are found by a ping.
const PING: Duration = Duration::from_secs(20);

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

/// A peer that is gone already is no error; no file descriptors is one that passes.
async fn refused(error: &io::Error) {
    use io::ErrorKind as K;
    let peer = [K::ConnectionRefused, K::ConnectionAborted, K::ConnectionReset].contains(&error.kind());
    if !peer {
        tracing::error!(%error, "no connection can be accepted");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn http2(settings: &Settings) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(settings.head_max).unwrap_or(u32::MAX))
        .max_concurrent_streams(STREAMS)
        .keep_alive_interval(PING);
    builder
}

/// Whether the first bytes are those of HTTP/2 (RFC 9113 §3.4), without taking them. hyper-util's own detection takes
/// them, and a buffer that begins with a few bytes is twice as large as it need be, for as long as the connection lives.
async fn speaks_http2(stream: &TcpStream) -> io::Result<bool> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0";
    let mut first = [0; PREFACE.len()];
    Ok(stream.peek(&mut first).await? == PREFACE.len() && first == PREFACE)
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
                Err(error) => refused(&error).await,
            }
        }
        drop(listener);
        tasks.close();
        tokio::select! {
            () = tasks.wait() => {}
            () = self.hard.cancelled() => {}
        }
    }

    async fn connection(self: Arc<Self>, tcp: TcpStream, permit: OwnedSemaphorePermit) {
        // Events are written one by one: each goes at once, whatever was sent before it.
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!(%error, "small pieces may be held back");
        }
        let activity = Arc::new(Activity::new());
        let first = async {
            tokio::select! {
                // What has come before a stop is answered.
                biased;
                is = speaks_http2(&tcp) => Some(is.unwrap_or_default()),
                () = activity.idle(self.settings.idle) => None,
                () = self.soft.cancelled() => None,
            }
        };
        // On the heap, as is what is done only by one kind of connections or for a moment: a parked one has no room for it.
        let Some(is_http2) = Box::pin(first).await else {
            return;
        };
        let stream = Stream::new(tcp, self.settings.stall, Arc::clone(&activity));
        if is_http2 {
            Box::pin(self.http2(stream, &activity)).await;
        } else {
            self.http1(stream, &activity).await;
        }
        drop(permit);
    }

    /// Lets a connection do its work until it ends, is idle for too long, or has to.
    async fn http2(&self, stream: Stream, activity: &Arc<Activity>) {
        let (router, counted) = (TowerToHyperService::new(self.router.clone()), Arc::clone(activity));
        let service = service_fn(move |request: Request<Incoming>| {
            let open = Open::begin(&counted);
            let answer = router.call(request);
            async move { Ok::<_, std::convert::Infallible>(answer.await?.map(|body| Counted { body, open })) }
        });
        let mut connection = pin!(http2(&self.settings).serve_connection(TokioIo::new(stream), service));
        let mut idle = pin!(activity.idle(self.settings.idle));
        let mut stopping = false;
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection ended early");
                    }
                    break;
                }
                () = &mut idle => break,
                () = self.hard.cancelled() => break,
                () = self.soft.cancelled(), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}
