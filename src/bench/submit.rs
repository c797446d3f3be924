//! Submissions over HTTP with a token, one record of 1 kB each, by 1 to 256 clients at the same time; and 100 per request.
//! Destinations are paused, so that accepting is measured and nothing else. Limit: the same rows in plain SQL in the service's
//! own schema – statement by statement in one transaction by as many clients, and in batches of 64 by two.
//!
//! The limit verifies no token, reads no JSON and looks for no duplicates; that its rows are those of ours is checked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::{Connection as _, Row as _};

use super::bed::{Bed, Service, execute, fill, quiet};
use super::hammer::{self, Request, Target, hammer};
use super::load::{Client, large_birth};
use super::meter::{Meter, Sample};
use super::queue::CLEAR;
use super::rounds::Series;
use super::script::{self, Load, Runner, Until};
use super::sink::Sink;
use super::{BenchError, Figure, Options};

const UNIT: &str = "submissions/s";
const USUAL_SECONDS: u32 = 5;
/// Submissions of a request, and of a transaction of its limit.
const BATCH: usize = 100;
const LIMIT_BATCH: usize = 64;
const LIMIT_CLIENTS: usize = 2;

const PAUSE: &str =
    "update destination set paused_at = now(), paused_by = 'bench', paused_why = 'only accepting is measured'";
const OPEN: &str = "select exists (select from outbox_message where state = 'delivering')";
/// How long open deliveries may take to end.
const PATIENCE: Duration = Duration::from_secs(30);
const RESUME: &str = "update destination set paused_at = null, paused_by = null, paused_why = null";
const SETTINGS: &str = "[limits]\nrequests_per_second = 0\n[backpressure]\nmax_ready = 1000000000\n";

/// What is measured beside what.
struct Variant {
    clients: usize,
    request: Request,
    limit: Option<Plain>,
}

/// A limit: a script and its clients.
#[derive(Clone, Copy)]
struct Plain {
    title: &'static str,
    script: &'static str,
    clients: usize,
    /// Submissions of one time through it.
    items: usize,
}

/// One submission a request.
pub(super) async fn one(
    options: &Options,
    bed: &Bed<'_>,
    report: &mut (dyn FnMut(Figure) + Send),
) -> Result<(), BenchError> {
    let bench = Bench::new(bed, options).await?;
    for clients in options.size.map_or(vec![1, 8, 64, 256], |clients| vec![clients]) {
        let limit =
            Plain { title: "statement by statement", script: include_str!("limits/submit.sql"), clients, items: 1 };
        bench.compare("submit", &Variant { clients, request: Request::One, limit: Some(limit) }, report).await?;
    }
    let clients = options.size.unwrap_or(64);
    bench.compare("submit", &Variant { clients, request: Request::One, limit: None }, report).await
}

/// A hundred.
pub(super) async fn batches(
    options: &Options,
    bed: &Bed<'_>,
    report: &mut (dyn FnMut(Figure) + Send),
) -> Result<(), BenchError> {
    let bench = Bench::new(bed, options).await?;
    for clients in options.size.map_or(vec![2, 8], |clients| vec![clients]) {
        let (script, items) = (include_str!("limits/submit_batch.sql"), LIMIT_BATCH);
        let limit = Plain { title: "in batches of 64", script, clients: LIMIT_CLIENTS, items };
        bench
            .compare("submit-batch", &Variant { clients, request: Request::Batch(BATCH), limit: Some(limit) }, report)
            .await?;
    }
    Ok(())
}

/// The service, and the same schema without one.
struct Bench<'a> {
    bed: &'a Bed<'a>,
    service: Service,
    /// What the service sends to, where it sends.
    _sink: Sink,
    token: Arc<str>,
    runner: Runner,
    /// The limit's database.
    plain: String,
    /// What it writes.
    variables: Vec<(&'static str, String)>,
    rounds: u32,
    seconds: u32,
}

impl<'a> Bench<'a> {
    async fn new(bed: &'a Bed<'a>, options: &Options) -> Result<Self, BenchError> {
        let sink = Sink::start()?;
        let service = bed.serve(sink.addr, SETTINGS).await?;
        execute(bed.url(), PAUSE).await?;
        let plain = bed.schema("plain").await?;
        execute(&plain, include_str!("limits/submit_setup.sql")).await?;
        let token: Arc<str> = bed.token("bench-agent", "declare")?.into();
        let http = reqwest::Client::builder().no_proxy().build()?;
        let client = Client { http, base: service.at(""), token: Arc::clone(&token) };
        client.declare(&hammer::id(0), large_birth(0)).await?;
        let variables = written(bed.url()).await?;
        let (runner, seconds) = (Runner::find(bed.cluster.bin_dir()), options.seconds.unwrap_or(USUAL_SECONDS));
        Ok(Self { bed, service, _sink: sink, token, runner, plain, variables, rounds: options.rounds, seconds })
    }

    async fn compare(
        &self,
        scenario: &'static str,
        variant: &Variant,
        report: &mut (dyn FnMut(Figure) + Send),
    ) -> Result<(), BenchError> {
        let Variant { clients, request, limit } = variant;
        let per_request = match request {
            Request::One => String::new(),
            Request::Batch(items) => format!(", {items} a request"),
        };
        let delivering = if limit.is_some() { "" } else { ", delivering" };
        let mut ours = Series::new(format!("{clients} clients{per_request}{delivering}"));
        let title = limit.map(|l| format!("limit: {}, {} clients ({})", l.title, l.clients, self.runner.name()));
        let mut theirs = Series::new(title.unwrap_or_default());
        for round in 0..=self.rounds {
            ours.note(round, self.ours(round, variant).await?);
            if let Some(limit) = limit {
                theirs.note(round, self.limit(limit).await?);
                insist_on_the_same_rows(self.bed.url(), &self.plain).await?;
            }
        }
        let figure = ours.figure(scenario, UNIT);
        if limit.is_some() {
            report(figure.beside(theirs.rate()));
            report(theirs.figure(scenario, UNIT));
        } else {
            report(figure);
        }
        Ok(())
    }

    async fn ours(&self, round: u32, variant: &Variant) -> Result<Sample, BenchError> {
        let Variant { clients, request, limit } = *variant;
        let delivering = limit.is_none();
        if delivering {
            self.quiet_down().await?;
        }
        fill(self.bed.url(), CLEAR, &[]).await?;
        if delivering {
            execute(self.bed.url(), RESUME).await?;
        }
        let (addr, token) = (self.service.public, Arc::clone(&self.token));
        let target = Target { addr, token, request, run: u64::from(round) + 1 };
        let meter = Meter::start(self.bed, &[self.service.pid()]).await?;
        let latencies = hammer(&target, clients, self.seconds).await?;
        let items = match request {
            Request::One => latencies.len(),
            Request::Batch(items) => latencies.len() * items,
        };
        Ok(Sample { latencies, ..meter.stop(items).await? })
    }

    /// Pauses deliveries and waits until none is open: what is taken away is in nobody's hands then.
    async fn quiet_down(&self) -> Result<(), BenchError> {
        execute(self.bed.url(), PAUSE).await?;
        let mut conn = self.bed.quiet().await?;
        let deadline = Instant::now() + PATIENCE;
        while sqlx::query_scalar(OPEN).fetch_one(&mut conn).await? {
            if Instant::now() > deadline {
                return Err(BenchError::Nothing("deliveries stay open"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        conn.close().await?;
        Ok(())
    }

    async fn limit(&self, limit: &Plain) -> Result<Sample, BenchError> {
        fill(&self.plain, CLEAR, &[]).await?;
        let mut variables = self.variables.clone();
        variables.push(("batch", limit.items.to_string()));
        let until = Until::Seconds(self.seconds);
        let load =
            Load { url: &self.plain, script: limit.script, clients: limit.clients, until, variables: &variables };
        let meter = Meter::start(self.bed, &[]).await?;
        let ran = script::run(&self.runner, &self.bed.dir, &load).await?;
        let sample = meter.stop(ran.turns * limit.items).await?;
        Ok(Sample { seconds: ran.seconds, ..sample })
    }
}

/// The texts that a submission of ours wrote.
async fn written(url: &str) -> Result<Vec<(&'static str, String)>, BenchError> {
    let mut conn = quiet(url).await?;
    let row = sqlx::query(include_str!("limits/submit_like.sql")).fetch_one(&mut conn).await?;
    conn.close().await?;
    let text = |name: &'static str| Ok::<_, sqlx::Error>((name, row.try_get::<String, _>(name)?));
    Ok(vec![text("declaration")?, text("reply")?, text("names")?, text("traceparent")?])
}

/// Rows of each table for one submission: as many, and about as wide.
async fn insist_on_the_same_rows(ours: &str, limit: &str) -> Result<(), BenchError> {
    let (ours, limit) = (rows(ours).await?, rows(limit).await?);
    for ((table, number, width), (_, its_number, its_width)) in ours.iter().zip(&limit) {
        // A pair may resemble each other by chance.
        let any = number.max(*its_number) > 0.01;
        let same = (number - its_number).abs() < 0.01 && (!any || (width - its_width).abs() <= width * 0.15);
        if !same {
            let said = format!("{table}: {number} rows of {width} bytes, not {its_number} of {its_width}");
            return Err(BenchError::Limit(said));
        }
    }
    Ok(())
}

async fn rows(url: &str) -> Result<Vec<(String, f64, f64)>, BenchError> {
    let mut conn = quiet(url).await?;
    let rows = sqlx::query_as(include_str!("limits/submit_rows.sql")).fetch_all(&mut conn).await?;
    conn.close().await?;
    Ok(rows)
}
