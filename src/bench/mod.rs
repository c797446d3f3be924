//! `crvs-outbox bench`: figures that anyone can measure again on their own machine.
//!
//! Each scenario starts a database of its own, this program's `serve` as a process beside it, and a receiver that
//! answers 200 to everything; all of them share the machine's cores, so only ratios and orders of magnitude carry over
//! to other machines. Durable settings: `fsync` and `synchronous_commit` are on.
//!
//! It promises to leave nothing behind but its folder's absence, and to measure from outside: over HTTP, in `/proc`, and
//! in the tables. It does not promise to be a load generator for other services.

mod attachments;
mod bed;
mod duplicates;
mod figures;
mod load;
mod sink;
mod watchers;

use std::path::PathBuf;

use clap::ValueEnum;
use dev_postgres::ClusterError;

use self::bed::Bed;
pub use self::figures::Figure;

use crate::auth::SignerError;
use crate::db::DbError;

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// 10,000 clients wait while 500 declarations a second come in: memory, and how soon a settled one is told
    Watchers,
    /// 32 uploads of 40 MB at once, streamed and inline: memory
    Attachments,
    /// What looking for possible duplicates adds to a submission among 1,000,000 records
    Duplicates,
}

/// What a run is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is measured.
    pub scenario: Scenario,
    /// The scenario's size, in its own unit: waiting clients, uploads, records. Its usual one if not given.
    pub size: Option<usize>,
    /// Submissions a second, where the scenario has a rate.
    pub rate: u32,
    /// Seconds that are measured, where the scenario has a duration.
    pub seconds: u32,
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
    /// A part of the run broke.
    #[error("a part of the run broke")]
    Broke(#[from] tokio::task::JoinError),
}

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
    }
}
