//! A receiver that answers 200 to everything at once, on a thread of its own, and costs little.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use axum::body::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A running receiver; stopped when dropped.
pub(super) struct Sink {
    /// Where it listens.
    pub(super) addr: SocketAddr,
    seen: Arc<Seen>,
    stop: CancellationToken,
}

/// What came.
#[derive(Default)]
struct Seen {
    answered: AtomicUsize,
    /// Who came when, while somebody wants to know.
    arrivals: Mutex<Option<Vec<Arrival>>>,
}

/// The head of a request that came.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    /// Its `Idempotency-Key`: the message's transaction id.
    pub(super) transaction_id: String,
    pub(super) at: SystemTime,
}

impl Sink {
    pub(super) fn start() -> std::io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let (addr, stop, seen) = (listener.local_addr()?, CancellationToken::new(), Arc::<Seen>::default());
        let (told, seeing) = (stop.clone(), Arc::clone(&seen));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("receiver".to_owned()).spawn(move || {
            let outcome = runtime.block_on(told.run_until_cancelled(receive(listener, seeing)));
            if let Some(Err(error)) = outcome {
                tracing::error!(%error, "the receiver failed");
            }
        })?;
        Ok(Self { addr, seen, stop })
    }

    /// How many requests were answered.
    pub(super) fn answered(&self) -> usize {
        self.seen.answered.load(Ordering::Relaxed)
    }

    /// Begins to write down who comes, and forgets who came.
    pub(super) fn watch(&self) {
        if let Ok(mut arrivals) = self.seen.arrivals.lock() {
            *arrivals = Some(Vec::new());
        }
    }

    /// Who came since then. Nobody is written down any more.
    pub(super) fn arrivals(&self) -> Vec<Arrival> {
        self.seen.arrivals.lock().ok().and_then(|mut arrivals| arrivals.take()).unwrap_or_default()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn receive(listener: std::net::TcpListener, seen: Arc<Seen>) -> std::io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let seen = Arc::clone(&seen);
        let service = service_fn(move |request| answer(request, Arc::clone(&seen)));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        // A client that breaks off is the end of its connection, and of nothing else.
        tokio::spawn(async { drop(connection.await) });
    }
}

async fn answer(request: Request<Incoming>, seen: Arc<Seen>) -> Result<Response<Empty<Bytes>>, hyper::Error> {
    if let Ok(mut arrivals) = seen.arrivals.lock()
        && let Some(arrivals) = arrivals.as_mut()
    {
        let key = request.headers().get("idempotency-key").and_then(|value| value.to_str().ok());
        arrivals.push(Arrival { transaction_id: key.unwrap_or_default().to_owned(), at: SystemTime::now() });
    }
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        drop(frame?);
    }
    seen.answered.fetch_add(1, Ordering::Relaxed);
    Ok(Response::new(Empty::new()))
}
