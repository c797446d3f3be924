//! From the commit of a submission to the arrival of its request at the receiver, and from the client's answer to that arrival,
//! at 50 submissions a second (the service is idle but for them) and at 500. By one clock: PostgreSQL's note of the commit,
//! which is made just before it is flushed, so the flush is counted; and the receiver's. An arrival before the answer counts
//! as none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use sqlx::Connection as _;
use time::OffsetDateTime;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::bed::{Bed, Service, quiet};
use super::hammer::{Connection, id};
use super::load::large_birth;
use super::sink::Sink;
use super::{BenchError, Figure, Options};

const NAME: &str = "pickup";
/// What a client is limited by is not what is measured; and its connections are kept while others are used.
const SETTINGS: &str = "[limits]\nrequests_per_second = 0\nidle_seconds = 600\n";
const USUAL_RATES: [u32; 2] = [50, 500];
const USUAL_SECONDS: u32 = 10;
const WARM_UP: u32 = 3;
/// How long the last request may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// When the client had its answer.
type Answers = HashMap<String, SystemTime>;

pub(super) async fn run(
    options: &Options,
    bed: &Bed<'_>,
    report: &mut (dyn FnMut(Figure) + Send),
) -> Result<(), BenchError> {
    let (sink, seconds) = (Sink::start()?, options.seconds.unwrap_or(USUAL_SECONDS));
    let service = bed.serve_to(&["search"], sink.addr, SETTINGS).await?;
    let rates = options.rate.map_or(USUAL_RATES.to_vec(), |rate| vec![rate]);
    let mut load =
        Load { service: &service, token: bed.token("bench-agent", "declare")?, idle: Arc::default(), next: 0 };
    for rate in rates {
        load.steady(rate, WARM_UP.min(seconds)).await?;
        load.until_arrived(&sink).await?;
        let (mut after_commit, mut after_answer) = (Vec::new(), Vec::new());
        for round in 1..=options.rounds {
            sink.watch();
            let answers = load.steady(rate, seconds).await?;
            load.until_arrived(&sink).await?;
            tracing::info!(contestant = NAME, round, rate, submissions = answers.len());
            let (commit, answer) = lateness(bed.url(), &sink, &answers).await?;
            after_commit.extend(commit);
            after_answer.extend(answer);
        }
        report(Figure::latency(NAME, format!("{rate} a second, commit to arrival"), after_commit));
        report(Figure::latency(NAME, format!("{rate} a second, answer to arrival"), after_answer));
    }
    Ok(())
}

/// Submissions at a rate.
struct Load<'a> {
    service: &'a Service,
    token: String,
    /// Connections that nobody uses.
    idle: Arc<Mutex<Vec<Connection>>>,
    next: u64,
}

impl Load<'_> {
    /// Waits until the requests of all submissions so far have arrived.
    async fn until_arrived(&self, sink: &Sink) -> Result<(), BenchError> {
        let (deadline, all) = (Instant::now() + PATIENCE, usize::try_from(self.next).unwrap_or_default());
        while sink.answered() < all {
            if Instant::now() > deadline {
                return Err(BenchError::Nothing("submissions without a request"));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Submits for so long, whatever the answers take.
    async fn steady(&mut self, rate: u32, seconds: u32) -> Result<Answers, BenchError> {
        let mut ticks = interval(Duration::from_secs(1) / rate.max(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut tasks = JoinSet::new();
        for _ in 0..rate * seconds {
            ticks.tick().await;
            self.next += 1;
            let kept = self.idle.lock().ok().and_then(|mut idle| idle.pop());
            let (at, token, idle, n) = (self.service.public, self.token.clone(), Arc::clone(&self.idle), self.next);
            tasks.spawn(async move {
                let mut connection = match kept {
                    Some(connection) => connection,
                    None => Connection::open(at, "/records", &token).await?,
                };
                let id = id(n);
                let status = connection.send(Some(&id), &large_birth(n)).await?;
                let answered = SystemTime::now();
                if status != 202 {
                    return Err(BenchError::Answer("POST /records", status));
                }
                if let Ok(mut idle) = idle.lock() {
                    idle.push(connection);
                }
                Ok((id, answered))
            });
        }
        let mut answers = Answers::new();
        while let Some(one) = tasks.join_next().await {
            let (id, answered) = one??;
            answers.insert(id, answered);
        }
        Ok(answers)
    }
}

/// From the commit to the arrival of each, and from the answer.
async fn lateness(url: &str, sink: &Sink, answers: &Answers) -> Result<(Vec<Duration>, Vec<Duration>), BenchError> {
    let ids: Vec<&str> = answers.keys().map(String::as_str).collect();
    let mut conn = quiet(url).await?;
    let commits: Vec<(String, OffsetDateTime)> =
        sqlx::query_as(include_str!("pickup.sql")).bind(ids).fetch_all(&mut conn).await?;
    conn.close().await?;
    let commits: HashMap<String, SystemTime> = commits.into_iter().map(|(id, at)| (id, at.into())).collect();
    let (mut after_commit, mut after_answer) = (Vec::new(), Vec::new());
    for arrival in sink.arrivals() {
        // The message's id is its kind, the action, and the client's.
        let Some((_, id)) = arrival.transaction_id.rsplit_once("__declare_") else { continue };
        let since = |at: Option<&SystemTime>| Some(arrival.at.duration_since(*at?).unwrap_or_default());
        after_commit.extend(since(commits.get(id)));
        after_answer.extend(since(answers.get(id)));
    }
    if after_commit.is_empty() { Err(BenchError::Nothing("no arrivals")) } else { Ok((after_commit, after_answer)) }
}
