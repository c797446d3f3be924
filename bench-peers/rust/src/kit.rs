//! What every contestant needs: its settings, its talk with the driver, and the handler of its jobs.

use std::env;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io::{self, Write as _};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines, Stdin};
use tokio::sync::{Notify, Semaphore};

use crate::job::Job;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;
/// Awaiting it stops a worker.
pub(crate) type Stop = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// Jobs that are posted at the same time.
pub(crate) const IN_FLIGHT: usize = 64;

/// What a worker is set up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As many jobs a second as it can.
    Drain,
    /// The same where each is an HTTP request, [`IN_FLIGHT`] at a time.
    Post,
    /// As soon as it can.
    Watch,
}

/// A peer.
pub(crate) trait Queue: Clone + Send + Sync + Sized + 'static {
    type Producer: Producer;
    /// Finds its database.
    fn open(url: &str) -> impl Future<Output = Result<Self>> + Send;
    /// Makes its tables in an empty database.
    fn install(&self) -> impl Future<Output = Result<()>>;
    /// A client with a connection of its own.
    fn producer(&self) -> impl Future<Output = Result<Self::Producer>> + Send;
    /// Starts the worker.
    fn work(&self, handler: Handler, pace: Pace) -> impl Future<Output = Result<Stop>> + Send;
    /// How many jobs are not completed.
    fn left(&self) -> impl Future<Output = Result<i64>> + Send;
}

/// A client that adds jobs.
pub(crate) trait Producer: Send + 'static {
    /// A row of business and a job in one transaction, statement by statement.
    fn submit(&mut self, job: &Job) -> impl Future<Output = Result<()>> + Send;
    /// One job.
    fn add(&mut self, job: &Job) -> impl Future<Output = Result<()>> + Send;
    /// Many jobs, in the peer's own way for many.
    fn fill(&mut self, jobs: &[Job]) -> impl Future<Output = Result<()>> + Send;
}

/// The row that stands for the work of the application (the driver made its table).
pub(crate) const BUSINESS: &str = "insert into business (payload) values ($1::jsonb)";

pub(crate) fn setting(name: &str) -> Result<String> {
    env::var(name).map_err(|_| format!("{name} is not set: bench.py sets it").into())
}

/// One line to the driver.
pub(crate) fn say(line: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Milliseconds since 1970, as processes of one machine can compare them.
pub(crate) fn wall() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1000.0
}

/// The driver's side of the talk: it says when to go, and ends its input when the result was taken.
pub(crate) struct Driver(Lines<BufReader<Stdin>>);

impl Driver {
    pub(crate) fn new() -> Self {
        Self(BufReader::new(tokio::io::stdin()).lines())
    }

    /// Tells that all is prepared, and waits for its word. Between this and `done` lies what is measured.
    pub(crate) async fn ready(&mut self) -> Result<()> {
        say(&json!({ "ready": true }))?;
        self.0.next_line().await?.map(drop).ok_or_else(|| "the driver left".into())
    }

    /// Hands over the result, and waits until the driver has read its meters.
    pub(crate) async fn done(&mut self, result: &Value) -> Result<()> {
        say(result)?;
        self.end().await
    }

    /// Waits for the end of the input.
    pub(crate) async fn end(&mut self) -> Result<()> {
        while self.0.next_line().await?.is_some() {}
        Ok(())
    }
}

/// The handler of the jobs.
#[derive(Clone)]
pub(crate) struct Handler(Arc<Handled>);

/// How jobs are posted.
struct Post {
    client: Client<HttpConnector, Full<Bytes>>,
    url: String,
    in_flight: Semaphore,
}

struct Handled {
    count: AtomicU64,
    wanted: u64,
    first: OnceLock<Instant>,
    reached: Notify,
    post: Option<Post>,
    starts: Option<Mutex<Vec<(u64, f64)>>>,
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handler")
    }
}

impl Handler {
    /// Counts jobs; posts each to this address if there is one, [`IN_FLIGHT`] at a time.
    pub(crate) fn counting(wanted: u64, post_to: Option<String>) -> Self {
        let client = || Client::builder(TokioExecutor::new()).pool_max_idle_per_host(IN_FLIGHT).build_http();
        let post = post_to.map(|url| Post { client: client(), url, in_flight: Semaphore::new(IN_FLIGHT) });
        Self::new(wanted, post, None)
    }

    /// Notes when each job is started.
    pub(crate) fn noting() -> Self {
        Self::new(u64::MAX, None, Some(Mutex::default()))
    }

    fn new(wanted: u64, post: Option<Post>, starts: Option<Mutex<Vec<(u64, f64)>>>) -> Self {
        let (count, first, reached) = (AtomicU64::new(0), OnceLock::new(), Notify::new());
        Self(Arc::new(Handled { count, wanted, first, reached, post, starts }))
    }

    /// Handles a job that the peer has parsed.
    pub(crate) async fn job(&self, job: &Job) -> Result<()> {
        self.note(|| Ok(job.id))?;
        if self.0.post.is_some() { self.body(job.json()).await } else { self.count() }
    }

    /// Handles a job that the peer hands over as it is.
    pub(crate) async fn text(&self, text: String) -> Result<()> {
        self.note(|| Ok(serde_json::from_str::<Job>(&text)?.id))?;
        if self.0.post.is_some() { self.body(text).await } else { self.count() }
    }

    async fn body(&self, body: String) -> Result<()> {
        if let Some(Post { client, url, in_flight }) = &self.0.post {
            let _permit = in_flight.acquire().await?;
            let request = Request::post(url).header("content-type", "application/json");
            let response = client.request(request.body(Full::from(body))?).await?;
            if !response.status().is_success() {
                return Err(format!("the receiver answered {}", response.status()).into());
            }
            response.into_body().collect().await?;
        }
        self.count()
    }

    fn note(&self, id: impl FnOnce() -> Result<u64>) -> Result<()> {
        self.0.first.get_or_init(Instant::now);
        if let Some(starts) = &self.0.starts {
            let now = wall();
            starts.lock().unwrap_or_else(PoisonError::into_inner).push((id()?, now));
        }
        Ok(())
    }

    fn count(&self) -> Result<()> {
        if self.0.count.fetch_add(1, Ordering::Relaxed) + 1 == self.0.wanted {
            self.0.reached.notify_one();
        }
        Ok(())
    }

    /// When the first job came.
    pub(crate) fn first(&self) -> Option<Instant> {
        self.0.first.get().copied()
    }

    /// How many were handled.
    pub(crate) fn handled(&self) -> u64 {
        self.0.count.load(Ordering::Relaxed)
    }

    /// Waits until as many as wanted were.
    pub(crate) async fn reached(&self) {
        self.0.reached.notified().await;
    }

    pub(crate) fn starts(&self) -> Vec<(u64, f64)> {
        let starts = self.0.starts.as_ref().map(|starts| starts.lock().unwrap_or_else(PoisonError::into_inner).clone());
        starts.unwrap_or_default()
    }
}
