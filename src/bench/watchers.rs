//! 10,000 clients wait on one instance – half of them on a long poll of their changes, half on an event stream – while
//! declarations come in at a steady rate and each is followed by a long poll of its own. Measured: the service's memory,
//! and the time from the commit of a transaction's last delivery to its client's being told.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::bed::{Bed, Service};
use super::figures::{count, megabytes};
use super::load::{Client, Told, steady};
use super::sink::Sink;
use super::{BenchError, Figure, Options};

const NAME: &str = "watchers";
const USUAL: usize = 10_000;
const USUAL_RATE: u32 = 500;
const USUAL_SECONDS: u32 = 20;
const WARM_UP: Duration = Duration::from_secs(3);
/// Waiting clients that connect at the same time.
const AT_ONCE: usize = 200;
const CONNECTING: Duration = Duration::from_mins(2);

/// How many clients wait: connected, and their request sent.
type Waiting = Arc<AtomicUsize>;

pub(super) async fn run(
    options: &Options,
    bed: &Bed<'_>,
    report: &mut (dyn FnMut(Figure) + Send),
) -> Result<(), BenchError> {
    let wanted = options.size.unwrap_or(USUAL);
    let (rate, seconds) = (options.rate.unwrap_or(USUAL_RATE), options.seconds.unwrap_or(USUAL_SECONDS));
    let sink = Sink::start()?;
    let service = bed.serve(sink.addr, "[limits]\nrequests_per_second = 0\n").await?;
    let client = Client {
        http: reqwest::Client::builder().no_proxy().build()?,
        base: format!("http://{}", service.public),
        token: bed.token("bench-agent", "declare")?.into(),
    };
    steady(&client, rate, WARM_UP, "warm-up").await?;
    report(Figure::value(NAME, "memory before anybody waits", megabytes(service.memory()?.now), "MB"));
    let waiting = Waiting::default();
    let watchers = watch(bed, &service, wanted, &waiting).await?;
    report(Figure::value(NAME, "waiting clients", count(waiting.load(Ordering::Relaxed)), "clients"));
    report(Figure::value(NAME, "memory with all of them", megabytes(service.memory()?.now), "MB"));
    // Ten thousand who come at once are a storm of their own: what is measured is the time after it.
    steady(&client, rate.min(50), WARM_UP, "with-them").await?;
    let told = steady(&client, rate, Duration::from_secs(u64::from(seconds)), "run").await?;
    report(Figure::value(NAME, "clients still waiting at the end", count(waiting.load(Ordering::Relaxed)), "clients"));
    report(Figure::value(NAME, "memory at most, under load", megabytes(service.memory()?.most), "MB"));
    drop(watchers);
    let reached = count(told.len()) / f64::from(seconds.max(1));
    report(Figure::value(NAME, "submissions", reached, "per second"));
    report(Figure::latency(NAME, "POST /records", told.iter().map(|t| t.accepted).collect()));
    let late = lateness(&bed.db().await?, &told).await?;
    if late.len() < told.len() {
        return Err(BenchError::Nothing("submissions without a delivery"));
    }
    report(Figure::latency(NAME, "last delivery settled to client told", late));
    Ok(())
}

/// Connects clients that wait, and keeps them waiting until the set is dropped.
async fn watch(bed: &Bed<'_>, service: &Service, wanted: usize, waiting: &Waiting) -> Result<JoinSet<()>, BenchError> {
    let mut tasks = JoinSet::new();
    let started = Instant::now();
    for n in 0..wanted {
        let token = bed.token(&format!("bench-watcher-{n}"), "declare")?;
        let client = Watcher { at: service.public, token, stream: n.is_multiple_of(2), waiting: Arc::clone(waiting) };
        tasks.spawn(client.wait_for_ever());
        // No more than some connect at the same time.
        while waiting.load(Ordering::Relaxed) + AT_ONCE < n + 1
            || (n + 1 == wanted && waiting.load(Ordering::Relaxed) < wanted)
        {
            if started.elapsed() > CONNECTING {
                return Err(BenchError::Nothing("not all clients could connect"));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    Ok(tasks)
}

/// One client: a plain socket, so that ten thousand of them cost this process little.
struct Watcher {
    at: SocketAddr,
    token: String,
    /// An event stream, or a long poll that is sent again whenever its time is up.
    stream: bool,
    waiting: Waiting,
}

impl Watcher {
    /// Counted as waiting until it is refused or cut off.
    async fn wait_for_ever(self) {
        if let Ok(mut socket) = TcpStream::connect(self.at).await
            && let Ok(request) = self.request(&mut socket).await
        {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = self.hold(&mut socket, &request).await {
                tracing::warn!(%error, "a client that waited was let down");
            }
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// What it waits with. Both kinds ask where the feed stands first.
    async fn request(&self, socket: &mut TcpStream) -> std::io::Result<String> {
        let cursor = self.cursor(socket).await?;
        Ok(if self.stream {
            self.head(&format!("/changes?cursor={cursor}"), "text/event-stream")
        } else {
            self.head(&format!("/changes?cursor={cursor}&wait=60"), "application/json")
        })
    }

    async fn cursor(&self, socket: &mut TcpStream) -> std::io::Result<String> {
        socket.write_all(self.head("/changes", "application/json").as_bytes()).await?;
        let mut buffer = vec![0; 4096];
        let read = socket.read(&mut buffer).await?;
        let text = String::from_utf8_lossy(buffer.get(..read).unwrap_or_default()).into_owned();
        let cursor = text.split_once(r#""cursor":""#).and_then(|(_, rest)| rest.split_once('"'));
        cursor.map(|(cursor, _)| cursor.to_owned()).ok_or_else(|| std::io::Error::other("no cursor"))
    }

    /// Waits, and asks again whenever an answer came. Nothing changes for it, so an answer is one small read.
    async fn hold(&self, socket: &mut TcpStream, request: &str) -> std::io::Result<()> {
        let mut buffer = [0; 1024];
        let mut asked = false;
        loop {
            if !asked || !self.stream {
                socket.write_all(request.as_bytes()).await?;
                asked = true;
            }
            let read = socket.read(&mut buffer).await?;
            let answer = buffer.get(..read).unwrap_or_default();
            if answer.is_empty() {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if answer.starts_with(b"HTTP/1.1 4") || answer.starts_with(b"HTTP/1.1 5") {
                return Err(std::io::Error::other("refused"));
            }
        }
    }

    fn head(&self, path: &str, accept: &str) -> String {
        let token = &self.token;
        format!("GET {path} HTTP/1.1\r\nHost: bench\r\nAccept: {accept}\r\nAuthorization: Bearer {token}\r\n\r\n")
    }
}

/// From the start of the transaction that settled the last delivery to the client's being told, by one clock.
async fn lateness(db: &PgPool, told: &[Told]) -> Result<Vec<Duration>, BenchError> {
    let ids: Vec<&str> = told.iter().map(|t| t.transaction_id.as_str()).collect();
    let rows = sqlx::query!(
        r#"
        select a.transaction_id, max(h.finished_at) as "settled_at!"
        from record_action a join outbox_history h on h.action_id = a.id
        where a.transaction_id = any ($1)
        group by a.transaction_id
        "#,
        &ids as &[&str],
    )
    .fetch_all(db)
    .await?;
    let settled: HashMap<String, OffsetDateTime> = rows.into_iter().map(|r| (r.transaction_id, r.settled_at)).collect();
    let late = told.iter().filter_map(|t| {
        let settled = settled.get(&t.transaction_id)?;
        t.settled_at.duration_since(SystemTime::from(*settled)).ok()
    });
    Ok(late.collect())
}
