//! `crvs-outbox bench`: figures that anyone can measure again on their own machine.
//!
//! Each scenario has a database of its own, this program's `serve` as a process beside it (or its workers alone, in this
//! process), and a receiver that answers 200 to everything; all of them share the machine's cores, so only ratios and orders
//! of magnitude carry over to other machines. So a figure of throughput stands beside its limit: the same work in plain SQL,
//! in rounds between its own (`rounds`, `script`). The database is set up as for production (`SETTINGS`).
//!
//! It promises to leave nothing behind but its folder's absence, and to measure from outside: over HTTP, in `/proc`, and
//! in the tables. It does not promise to be a load generator for other services.

mod attachments;
mod backlog;
mod bed;
mod drain;
mod drain_http;
mod duplicates;
mod fanout;
mod figures;
mod hammer;
mod idle;
mod load;
mod meter;
mod minimal;
mod own_rows;
mod pickup;
mod plain;
mod queue;
mod rounds;
mod script;
mod sink;
mod submit;
mod watchers;

use std::path::PathBuf;

use clap::ValueEnum;
use dev_postgres::ClusterError;

use self::bed::Bed;
pub use self::figures::Figure;

use crate::auth::{SignerError, WebhookKeyError, WebhookSecretError};
use crate::db::DbError;
use crate::workers::egress::ClientError;

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// 10,000 clients wait while 500 declarations a second come in: memory, and how soon a settled one is told
    Watchers,
    /// 32 uploads of 40 MB at once, streamed and inline: memory
    Attachments,
    /// What looking for possible duplicates adds to a submission among 1,000,000 records
    Duplicates,
    /// 100,000 waiting messages are delivered to nowhere, by the workers alone; limit: claim and delete in plain SQL
    Drain,
    /// 30,000 waiting messages are signed and posted, 64 at a time; limit: a minimal loop in Rust that deletes
    DrainHttp,
    /// Submissions over HTTP by 1, 8, 64 and 256 clients; limit: the same rows in plain SQL, statement by statement
    Submit,
    /// The same, 100 a request, by 2 and 8 clients; limit: the same rows in plain SQL, in batches
    SubmitBatch,
    /// From the commit of a submission to its request at the receiver, at 50 and 500 submissions a second
    Pickup,
    /// 150,000 of 1,000,000 waiting messages are drained beside 2,000,000 finished ones; limit: the drain without
    Backlog,
    /// 1,000,000 messages are drained while a session holds an old snapshot; limit: the drain without
    Horizon,
    /// 100,000 messages are drained beside as many that wait behind dead ones; limit: the drain without
    Blocked,
    /// 100,000 messages are drained beside 10,000,000 of today's that are finished; limit: the drain without
    History,
    /// 20,000 records' messages for 5 destinations are posted; limit: as many messages for one
    Fanout,
    /// The service with four destinations and nothing to do: CPU, memory, statements
    Idle,
}

/// What a run is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is measured.
    pub scenario: Scenario,
    /// The scenario's size, in its own unit: clients, uploads, records, messages. Its usual one if not given.
    pub size: Option<usize>,
    /// Submissions a second, where the scenario has a rate.
    pub rate: Option<u32>,
    /// Seconds that are measured, of each round where there are rounds, where the scenario has a duration.
    pub seconds: Option<u32>,
    /// Rounds that count, where the scenario has rounds.
    pub rounds: u32,
}

/// Why a run gave no figures.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The database did not start.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A file or a process.
    #[error("a file or a process failed")]
    Io(#[from] std::io::Error),
    /// The key could not be made.
    #[error("no token could be made")]
    Token(#[from] SignerError),
    /// The database cannot be used.
    #[error(transparent)]
    Db(#[from] DbError),
    /// A statement failed.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// A request failed.
    #[error("a request failed")]
    Request(#[from] reqwest::Error),
    /// An answer was another than the scenario needs.
    #[error("{0} answered {1}")]
    Answer(&'static str, u16),
    /// The service did not become ready.
    #[error("the service did not become ready; its log: {0}")]
    NotReady(PathBuf),
    /// Nothing was measured.
    #[error("nothing was measured: {0}")]
    Nothing(&'static str),
    /// The limit could not be measured.
    #[error("the limit could not be measured: {0}")]
    Limit(String),
    /// The workers' key could not be made.
    #[error("no key could be made")]
    Key(#[from] WebhookKeyError),
    /// The secret of deliveries is none.
    #[error("no secret could be read")]
    Secret(#[from] WebhookSecretError),
    /// The client that sends nothing could not be made.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The metrics cannot be recorded.
    #[error("the metrics cannot be recorded")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
    /// A part of the run broke.
    #[error("a part of the run broke")]
    Broke(#[from] tokio::task::JoinError),
}

impl Scenario {
    /// Settings of its cluster, by name. WAL is compressed with `compression`: `lz4`, or `on` where the server has no other.
    pub fn settings(self, compression: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
        let more = (self == Self::Pickup).then_some(("track_commit_timestamp", "on"));
        SETTINGS.iter().copied().chain([("wal_compression", compression)]).chain(more)
    }
}

/// Settings of every cluster: those of a machine that is used for it, and every commit is flushed.
const SETTINGS: &[(&str, &str)] = &[
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("shared_buffers", "1GB"),
    ("max_wal_size", "4GB"),
    ("checkpoint_timeout", "15min"),
    ("max_connections", "300"),
];

/// Measures one scenario. `cluster` was started for it; `report` is told each figure as soon as it is there.
pub async fn run(
    options: &Options,
    cluster: &dev_postgres::Cluster,
    dir: &std::path::Path,
    report: &mut (dyn FnMut(Figure) + Send),
) -> Result<(), BenchError> {
    let bed = Bed::new(cluster, dir)?;
    match options.scenario {
        Scenario::Watchers => watchers::run(options, &bed, report).await,
        Scenario::Attachments => attachments::run(options, &bed, report).await,
        Scenario::Duplicates => duplicates::run(options, &bed, report).await,
        Scenario::Drain => drain::run(options, &bed, report).await,
        Scenario::DrainHttp => drain_http::run(options, &bed, report).await,
        Scenario::Submit => {
            submit::one(options, &bed, report).await?;
            own_rows::run(options, &bed, report).await
        }
        Scenario::SubmitBatch => submit::batches(options, &bed, report).await,
        Scenario::Pickup => pickup::run(options, &bed, report).await,
        Scenario::Backlog => backlog::backlog(options, &bed, report).await,
        Scenario::Horizon => backlog::horizon(options, &bed, report).await,
        Scenario::Blocked => backlog::blocked(options, &bed, report).await,
        Scenario::History => backlog::history(options, &bed, report).await,
        Scenario::Fanout => fanout::run(options, &bed, report).await,
        Scenario::Idle => idle::run(options, &bed, report).await,
    }
}
