//! A queue of 100,000 messages of as many records, for one destination that takes everything at once: claimed, rendered with
//! their declarations of 1 kB, made ready to be sent, settled. Limits: the same number of jobs of 1 kB, claimed in batches,
//! handed to the client and deleted – on one plain table, and where the state has a narrow row beside the payload.

use std::time::Instant;

use reqwest::header::HeaderMap;
use sqlx::{AssertSqlSafe, Connection as _};

use super::bed::{Bed, fill, quiet};
use super::meter::{Meter, Sample};
use super::queue::{DECLARATION, Queue};
use super::rounds::Series;
use super::script::{self, Load, Runner, Until};
use super::{BenchError, Figure, Options};
use crate::outbox::Effect;
use crate::outbox::destination::{Auth, Definition};
use crate::workers::Destination;
use crate::workers::egress::Client;

const NAME: &str = "drain";
const UNIT: &str = "messages/s";
const USUAL: usize = 100_000;

/// Deliveries that are open at a time, and messages that a claim takes.
const CONCURRENCY: u16 = 1000;
const BATCH: u16 = 1000;

/// The limit's batch, and its clients: what is best for it on two cores.
const LIMIT_BATCH: usize = 1000;
const LIMIT_CLIENTS: usize = 2;

pub(super) async fn run(
    options: &Options,
    bed: &Bed<'_>,
    report: &mut (dyn FnMut(Figure) + Send),
) -> Result<(), BenchError> {
    let size = options.size.unwrap_or(USUAL);
    let queue = Queue::new(bed, "ours").await?;
    let plain = Limit::new(bed, &CLAIM_DELETE).await?;
    let narrow = Limit::new(bed, &NARROW_DELETE).await?;
    let mut ours = Series::new("to nowhere");
    let mut limits = [&plain, &narrow].map(|limit| Series::new(limit.title()));
    for round in 0..=options.rounds {
        queue.clear().await?;
        ours.note(round, no_op(bed, &queue, size).await?);
        for (limit, series) in [&plain, &narrow].into_iter().zip(&mut limits) {
            series.note(round, limit.drain(bed, size).await?);
        }
    }
    let [plain, narrow] = limits;
    report(ours.figure(NAME, UNIT).beside(plain.rate()));
    report(plain.figure(NAME, UNIT));
    report(
        Figure { variant: "to nowhere, by the narrow limit".to_owned(), ..ours.figure(NAME, UNIT) }
            .beside(narrow.rate()),
    );
    report(narrow.figure(NAME, UNIT));
    Ok(())
}

/// Fills the queue and drains all of it to nowhere.
async fn no_op(bed: &Bed<'_>, queue: &Queue, size: usize) -> Result<Sample, BenchError> {
    let destination = nowhere()?;
    let client = destination.client.clone();
    queue.fill(1..=size, std::slice::from_ref(&destination)).await?;
    let meter = Meter::start(bed, &[]).await?;
    let delivered = queue.drain(&[destination], size, || client.unsent()).await?;
    let sample = meter.stop(delivered).await?;
    if queue.left().await? > 0 { Err(BenchError::Nothing("messages are left")) } else { Ok(sample) }
}

/// A destination that takes everything at once.
pub(super) fn nowhere() -> Result<Destination, BenchError> {
    Ok(Destination {
        definition: Definition {
            name: "bench".to_owned(),
            url: "http://nowhere.invalid/".to_owned(),
            effects: vec![Effect::Search],
            auth: Auth::None,
            concurrency: CONCURRENCY,
            batch: BATCH,
            ..Definition::default()
        },
        audience: "bench".to_owned(),
        client: Client::nowhere()?,
        headers: HeaderMap::new(),
        secrets: Vec::new(),
        ed25519: false,
        wanted: None,
    })
}

/// A queue in plain SQL.
struct Plain {
    name: &'static str,
    title: &'static str,
    fill: &'static str,
    script: &'static str,
    /// The table of what is left.
    jobs: &'static str,
    /// What has to be done after all jobs, and is counted with them.
    last: Option<&'static str>,
}

const CLAIM_DELETE: Plain = Plain {
    name: "claim_delete",
    title: "claim and delete",
    fill: include_str!("limits/claim_delete_fill.sql"),
    script: include_str!("limits/claim_delete.sql"),
    jobs: "plain",
    last: None,
};

const NARROW_DELETE: Plain = Plain {
    name: "narrow_delete",
    title: "claim and delete narrow rows",
    fill: include_str!("limits/narrow_delete_fill.sql"),
    script: include_str!("limits/narrow_delete.sql"),
    jobs: "narrow",
    last: Some("truncate narrow_payload"),
};

/// A limit in a database of its own.
struct Limit {
    plain: &'static Plain,
    runner: Runner,
    url: String,
}

impl Limit {
    async fn new(bed: &Bed<'_>, plain: &'static Plain) -> Result<Self, BenchError> {
        Ok(Self { plain, runner: Runner::find(bed.cluster.bin_dir()), url: bed.database(plain.name).await? })
    }

    fn title(&self) -> String {
        format!("limit: {} ({})", self.plain.title, self.runner.name())
    }

    /// Fills it and drains all of it.
    async fn drain(&self, bed: &Bed<'_>, size: usize) -> Result<Sample, BenchError> {
        fill(&self.url, self.plain.fill, &[("rows", &size.to_string()), ("declaration", DECLARATION)]).await?;
        let turns = size.div_ceil(LIMIT_BATCH * LIMIT_CLIENTS);
        let load = Load {
            url: &self.url,
            script: self.plain.script,
            clients: LIMIT_CLIENTS,
            until: Until::Turns(turns),
            variables: &[("batch", LIMIT_BATCH.to_string())],
        };
        let meter = Meter::start(bed, &[]).await?;
        let ran = script::run(&self.runner, &bed.dir, &load).await?;
        let last = self.last().await?;
        let sample = meter.stop(size).await?;
        let jobs = self.plain.jobs;
        let mut conn = quiet(&self.url).await?;
        let left: i64 =
            sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from {jobs}"))).fetch_one(&mut conn).await?;
        conn.close().await?;
        if left > 0 {
            return Err(BenchError::Nothing("the limit left jobs"));
        }
        Ok(Sample { seconds: ran.seconds + last, ..sample })
    }

    /// Seconds that what comes after all jobs takes.
    async fn last(&self) -> Result<f64, BenchError> {
        let Some(sql) = self.plain.last else { return Ok(0.0) };
        let mut conn = quiet(&self.url).await?;
        let started = Instant::now();
        sqlx::raw_sql(sql).execute(&mut conn).await?;
        let seconds = started.elapsed().as_secs_f64();
        conn.close().await?;
        Ok(seconds)
    }
}
