//! Serves a router over HTTP/1.1 and cleartext HTTP/2, to clients that may be slow, hostile or gone.
//!
//! Promises: no more than [`Settings::connections`] are open, further ones wait in the backlog; a connection without an
//! open request – one that says nothing, drips a header, or is kept alive – is closed after [`Settings::idle`]; one that
//! takes nothing of what it is sent, after [`Settings::stall`]. A soft stop finishes what is open, a hard one does not.
//!
//! How long a request's body or a handler may take is said elsewhere, in `handlers::edge`. What hyper refuses by itself
//! (no HTTP, more than 100 header fields or [`Settings::head_max`]) is answered with 400, 414 or 431 without a body.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use hyper::Request;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::{http1, http2};
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

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

/// Accepts until the soft stop; returns when what was open has ended, or at the hard stop.
pub async fn run(
    listener: TcpListener,
    router: Router,
    settings: Settings,
    soft: CancellationToken,
    hard: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(settings.connections.min(Semaphore::MAX_PERMITS)));
    let tasks = TaskTracker::new();
    let server = Server { router, settings, soft, hard };
    loop {
        let accepted = tokio::select! {
            () = server.soft.cancelled() => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        match accepted {
            Ok((stream, permit)) => drop(tasks.spawn(server.clone().connection(stream, permit))),
            Err(error) => refused(&error).await,
        }
    }
    drop(listener);
    tasks.close();
    tokio::select! {
        () = tasks.wait() => {}
        () = server.hard.cancelled() => {}
    }
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

fn http1(settings: &Settings) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // Idle connections and slow headers are cut by `Activity`, which knows both protocols: no timer here.
    builder.max_buf_size(settings.head_max.max(8192)).header_read_timeout(None);
    builder
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

#[derive(Clone)]
struct Server {
    router: Router,
    settings: Settings,
    soft: CancellationToken,
    hard: CancellationToken,
}

impl Server {
    async fn connection(self, stream: TcpStream, permit: OwnedSemaphorePermit) {
        let activity = Arc::new(Activity::new());
        let stream = Stream { tcp: stream, stall: self.settings.stall, stalled: None, activity: Arc::clone(&activity) };
        let (router, counted) = (TowerToHyperService::new(self.router.clone()), Arc::clone(&activity));
        let service = service_fn(move |request: Request<Incoming>| {
            let open = Open::begin(&counted);
            let answer = router.call(request);
            async move { Ok::<_, std::convert::Infallible>(answer.await?.map(|body| Counted { body, _open: open })) }
        });
        let is_http2 = tokio::select! {
            is = speaks_http2(&stream.tcp) => is.unwrap_or_default(),
            () = activity.idle(self.settings.idle) => return,
            () = self.soft.cancelled() => return,
        };
        let (settings, stream) = (self.settings, TokioIo::new(stream));
        // Each on the heap by itself: no connection keeps room for the other kind.
        if is_http2 {
            Box::pin(self.drive(http2(&settings).serve_connection(stream, service), &activity)).await;
        } else {
            Box::pin(self.drive(http1(&settings).serve_connection(stream, service), &activity)).await;
        }
        drop(permit);
    }

    /// Lets a connection do its work until it ends, is idle for too long, or has to.
    async fn drive<C>(&self, connection: C, activity: &Activity)
    where
        C: GracefulConnection,
        C::Error: std::error::Error,
    {
        let mut connection = std::pin::pin!(connection);
        let mut idle = std::pin::pin!(activity.idle(self.settings.idle));
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

/// What a connection is doing.
struct Activity {
    open: AtomicUsize,
    born: Instant,
    /// When a request began or ended or bytes were taken, in ms after `born`.
    last: AtomicU64,
}

impl Activity {
    fn new() -> Self {
        Self { open: AtomicUsize::new(0), born: Instant::now(), last: AtomicU64::new(0) }
    }

    fn touch(&self) {
        self.last.store(self.age(), Ordering::Relaxed);
    }

    fn age(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns when there was no open request for so long.
    async fn idle(&self, limit: Duration) {
        loop {
            let open = self.open.load(Ordering::Relaxed) > 0;
            let quiet = Duration::from_millis(self.age().saturating_sub(self.last.load(Ordering::Relaxed)));
            let left = if open { limit } else { limit.saturating_sub(quiet) };
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }
}

/// An open request, until its answer has been handed over or given up.
struct Open(Arc<Activity>);

impl Open {
    fn begin(activity: &Arc<Activity>) -> Self {
        activity.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(activity))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.touch();
    }
}

/// The body of an answer.
struct Counted {
    body: axum::body::Body,
    _open: Open,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream whose writes fail once nothing was taken for too long.
struct Stream {
    tcp: TcpStream,
    stall: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    activity: Arc<Activity>,
}

impl Stream {
    fn watched(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            self.activity.touch();
            return written;
        }
        let stall = self.stall;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(stall)));
        stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
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
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;

    use super::*;

    const SETTINGS: Settings = Settings {
        connections: 1,
        idle: Duration::from_mins(1),
        stall: Duration::from_millis(200),
        head_max: 16 * 1024,
    };

    async fn start(soft: &CancellationToken, hard: &CancellationToken) -> (SocketAddr, tokio::task::JoinHandle<()>) {
        let large = || async { vec![b'x'; 64 * 1024 * 1024] };
        let router = Router::new().route("/large", get(large)).route("/never", get(std::future::pending::<()>));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        (addr, tokio::spawn(run(listener, router, SETTINGS, soft.clone(), hard.clone())))
    }

    async fn ask(addr: SocketAddr, path: &str) -> TcpStream {
        let stream = TcpStream::connect(addr).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.writable().await.unwrap();
        assert_eq!(stream.try_write(request.as_bytes()).unwrap(), request.len());
        stream
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_of_its_answer_is_cut() {
        let (soft, hard) = (CancellationToken::new(), CancellationToken::new());
        let (addr, server) = start(&soft, &hard).await;
        let greedy = ask(addr, "/large").await;
        // There is room for one only: the second is served once the first was cut.
        let second = ask(addr, "/nothing").await;
        tokio::time::timeout(Duration::from_secs(20), second.readable()).await.expect("it is never cut").unwrap();
        soft.cancel();
        tokio::time::timeout(Duration::from_secs(20), server).await.unwrap().unwrap();
        drop(greedy);
    }

    #[tokio::test]
    async fn a_soft_stop_waits_for_what_is_open_and_a_hard_one_does_not() {
        let (soft, hard) = (CancellationToken::new(), CancellationToken::new());
        let (addr, mut server) = start(&soft, &hard).await;
        let open = ask(addr, "/never").await;
        tokio::time::timeout(Duration::from_millis(200), open.readable()).await.expect_err("it is answered");
        soft.cancel();
        tokio::time::timeout(Duration::from_millis(200), &mut server).await.expect_err("it does not wait");
        hard.cancel();
        tokio::time::timeout(Duration::from_secs(20), server).await.unwrap().unwrap();
    }
}
