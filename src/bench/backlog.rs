//! [`super::drain`] under burdens: a large backlog, an old snapshot that somebody holds, messages that wait behind dead ones, a
//! long history. Limit: the same drain without the burden, in turns with it, in a database of its own.

use sqlx::{Connection as _, Executor as _, PgConnection};

use super::bed::{Bed, quiet};
use super::drain::{nowhere, to_nowhere};
use super::meter::Sample;
use super::queue::Queue;
use super::rounds::Series;
use super::{BenchError, Figure, Options};

const UNIT: &str = "messages/s";
const BACKLOG: usize = 1_000_000;
const HORIZON: usize = 1_000_000;
const BLOCKED: usize = 100_000;
const HISTORY: usize = 10_000_000;

/// Of what waits, so many hundredths are drained a round; of what is finished, one is.
const DRAINED_OF_BACKLOG: usize = 15;

/// 15% of what waits, beside twice as much that is finished.
pub(super) async fn backlog(
    options: &Options,
    bed: &Bed<'_>,
    report: &mut (dyn FnMut(Figure) + Send),
) -> Result<(), BenchError> {
    let pending = options.size.unwrap_or(BACKLOG);
    let drained = (pending * DRAINED_OF_BACKLOG / 100).max(1);
    let (burdened, clean) = queues(bed).await?;
    burdened.prepare(include_str!("history.sql"), pending * 2).await?;
    burdened.fill(1..=pending, &[nowhere()?]).await?;
    let mut next = pending + 1;
    let mut pair = Pair::new("backlog", format!("{drained} of {pending}, {} finished", pending * 2));
    for round in 0..=options.rounds {
        let sample = to_nowhere(bed, &burdened, nowhere()?, drained).await?;
        // As many wait at the next round.
        let added = sample.items;
        pair.note(round, sample, without(bed, &clean, drained).await?);
        if round < options.rounds {
            burdened.fill(next..=next + added - 1, &[nowhere()?]).await?;
            next += added;
        }
    }
    pair.report(report);
    Ok(())
}

/// While a session holds a snapshot of before it.
pub(super) async fn horizon(
    options: &Options,
    bed: &Bed<'_>,
    report: &mut (dyn FnMut(Figure) + Send),
) -> Result<(), BenchError> {
    let size = options.size.unwrap_or(HORIZON);
    let (burdened, clean) = queues(bed).await?;
    let mut pair = Pair::new("horizon", format!("{size}, an old snapshot held"));
    for round in 0..=options.rounds {
        burdened.clear().await?;
        burdened.fill(1..=size, &[nowhere()?]).await?;
        let held = hold_snapshot(burdened.url()).await?;
        let sample = to_nowhere(bed, &burdened, nowhere()?, size).await?;
        held.close().await?;
        insist_on_emptiness(&burdened).await?;
        pair.note(round, sample, without(bed, &clean, size).await?);
    }
    pair.report(report);
    Ok(())
}

/// Beside as many that wait behind a dead one each.
pub(super) async fn blocked(
    options: &Options,
    bed: &Bed<'_>,
    report: &mut (dyn FnMut(Figure) + Send),
) -> Result<(), BenchError> {
    let size = options.size.unwrap_or(BLOCKED);
    let (burdened, clean) = queues(bed).await?;
    let mut pair = Pair::new("blocked", format!("{size} beside {size} blocked"));
    for round in 0..=options.rounds {
        burdened.clear().await?;
        burdened.prepare(include_str!("blocked.sql"), size).await?;
        burdened.fill(1..=size, &[nowhere()?]).await?;
        let sample = to_nowhere(bed, &burdened, nowhere()?, size).await?;
        pair.note(round, sample, without(bed, &clean, size).await?);
    }
    pair.report(report);
    Ok(())
}

/// Beside a hundred times as many of today's that are finished.
pub(super) async fn history(
    options: &Options,
    bed: &Bed<'_>,
    report: &mut (dyn FnMut(Figure) + Send),
) -> Result<(), BenchError> {
    let finished = options.size.unwrap_or(HISTORY);
    let drained = (finished / 100).max(1);
    let (burdened, clean) = queues(bed).await?;
    burdened.prepare(include_str!("history.sql"), finished).await?;
    let mut pair = Pair::new("history", format!("{drained} beside {finished} finished"));
    for round in 0..=options.rounds {
        let first = usize::try_from(round).unwrap_or_default() * drained + 1;
        burdened.fill(first..=first + drained - 1, &[nowhere()?]).await?;
        let sample = to_nowhere(bed, &burdened, nowhere()?, drained).await?;
        insist_on_emptiness(&burdened).await?;
        pair.note(round, sample, without(bed, &clean, drained).await?);
    }
    pair.report(report);
    Ok(())
}

async fn queues(bed: &Bed<'_>) -> Result<(Queue, Queue), BenchError> {
    Ok((Queue::new(bed, "burdened").await?, Queue::new(bed, "clean").await?))
}

/// The drain without a burden.
async fn without(bed: &Bed<'_>, clean: &Queue, size: usize) -> Result<Sample, BenchError> {
    clean.clear().await?;
    clean.fill(1..=size, &[nowhere()?]).await?;
    let sample = to_nowhere(bed, clean, nowhere()?, size).await?;
    insist_on_emptiness(clean).await?;
    Ok(sample)
}

async fn insist_on_emptiness(queue: &Queue) -> Result<(), BenchError> {
    if queue.left().await? > 0 { Err(BenchError::Nothing("messages are left")) } else { Ok(()) }
}

/// A session whose transaction sees what is now, until it is closed.
async fn hold_snapshot(url: &str) -> Result<PgConnection, BenchError> {
    let mut conn = quiet(url).await?;
    conn.execute(sqlx::raw_sql("begin isolation level repeatable read; select count(*) from destination")).await?;
    Ok(conn)
}

/// The drain with the burden and without.
struct Pair {
    scenario: &'static str,
    with: Series,
    without: Series,
}

impl Pair {
    fn new(scenario: &'static str, variant: String) -> Self {
        Self { scenario, with: Series::new(variant), without: Series::new("limit: the drain without") }
    }

    fn note(&mut self, round: u32, with: Sample, without: Sample) {
        self.with.note(round, with);
        self.without.note(round, without);
    }

    fn report(&self, report: &mut (dyn FnMut(Figure) + Send)) {
        report(self.with.figure(self.scenario, UNIT).beside(self.without.rate()));
        report(self.without.figure(self.scenario, UNIT));
    }
}
