//! Queues in plain SQL, and what it takes to drain them: the limits of [`super::drain`].

use std::time::Instant;

use sqlx::{AssertSqlSafe, Connection as _};

use super::BenchError;
use super::bed::{Bed, fill, quiet};
use super::meter::{Meter, Sample};
use super::queue::DECLARATION;
use super::script::{self, Load, Runner, Until};

/// The batch, and the clients: what is best on two cores.
const BATCH: usize = 1000;
const CLIENTS: usize = 2;

/// A queue in plain SQL.
pub(super) struct Plain {
    name: &'static str,
    title: &'static str,
    fill: &'static str,
    script: &'static str,
    /// The table of what is left.
    jobs: &'static str,
    /// What has to be done after all jobs, and is counted with them.
    last: Option<&'static str>,
}

/// One table.
pub(super) const CLAIM_DELETE: Plain = Plain {
    name: "claim_delete",
    title: "claim and delete",
    fill: include_str!("limits/claim_delete_fill.sql"),
    script: include_str!("limits/claim_delete.sql"),
    jobs: "plain",
    last: None,
};

/// Two: what changes, and what does not.
pub(super) const NARROW_DELETE: Plain = Plain {
    name: "narrow_delete",
    title: "claim and delete narrow rows",
    fill: include_str!("limits/narrow_delete_fill.sql"),
    script: include_str!("limits/narrow_delete.sql"),
    jobs: "narrow",
    last: Some("truncate narrow_payload"),
};

/// A limit in a database of its own.
pub(super) struct Limit {
    plain: &'static Plain,
    runner: Runner,
    pub(super) url: String,
}

impl Limit {
    pub(super) async fn new(bed: &Bed<'_>, plain: &'static Plain) -> Result<Self, BenchError> {
        Ok(Self { plain, runner: Runner::find(bed.cluster.bin_dir()), url: bed.database(plain.name).await? })
    }

    /// What it is called in figures.
    pub(super) fn title(&self) -> String {
        format!("limit: {} ({})", self.plain.title, self.runner.name())
    }

    /// Fills it and drains all of it.
    pub(super) async fn drain(&self, bed: &Bed<'_>, size: usize) -> Result<Sample, BenchError> {
        self.fill(size).await?;
        let turns = size.div_ceil(BATCH * CLIENTS);
        let load = Load {
            url: &self.url,
            script: self.plain.script,
            clients: CLIENTS,
            until: Until::Turns(turns),
            variables: &[("batch", BATCH.to_string())],
        };
        let meter = Meter::start(bed, &[]).await?;
        let ran = script::run(&self.runner, &bed.dir, &load).await?;
        let last = self.last().await?;
        let sample = meter.stop(size).await?;
        self.insist_on_emptiness().await?;
        Ok(Sample { seconds: ran.seconds + last, ..sample })
    }

    /// Makes it, with so many jobs.
    pub(super) async fn fill(&self, size: usize) -> Result<(), BenchError> {
        let names = [("rows", size.to_string()), ("declaration", DECLARATION.to_owned())];
        fill(&self.url, self.plain.fill, &names).await
    }

    /// All jobs have to be gone.
    pub(super) async fn insist_on_emptiness(&self) -> Result<(), BenchError> {
        let sql = format!("select count(*) from {}", self.plain.jobs);
        let mut conn = quiet(&self.url).await?;
        let left: i64 = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut conn).await?;
        conn.close().await?;
        if left > 0 { Err(BenchError::Nothing("the limit left jobs")) } else { Ok(()) }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// pgbench may be missing where this runs; then there is nothing to compare.
    #[tokio::test]
    async fn pgbench_and_our_own_runner_do_the_same() {
        let dir = std::env::temp_dir().join(format!("crvs-outbox-bench-test-{}", std::process::id()));
        let options = dev_postgres::Options { throwaway: true, ..dev_postgres::Options::default() };
        let cluster = dev_postgres::Cluster::start_with(&dir.join("pg"), &options).unwrap();
        let bed = Bed::new(&cluster, &dir).unwrap();
        for plain in [&CLAIM_DELETE, &NARROW_DELETE] {
            let mut limit = Limit::new(&bed, plain).await.unwrap();
            for runner in [Runner::find(cluster.bin_dir()), Runner::Own] {
                limit.runner = runner;
                // Fails if a job is left.
                let sample = limit.drain(&bed, 2 * BATCH * CLIENTS - 1).await.unwrap();
                assert!(sample.seconds > 0.0 && sample.wal_bytes > 0.0);
            }
        }
        cluster.stop().unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
