//! A queue of 100,000 messages of as many records, for one destination that takes everything at once: claimed, rendered with
//! their declarations of 1 kB, made ready to be sent, settled. Limits: the same number of jobs of 1 kB, claimed in batches,
//! handed to the client and deleted – on one plain table, and where the state has a narrow row beside the payload.

use super::bed::Bed;
use super::meter::{Meter, Sample};
use super::plain::{CLAIM_DELETE, Limit, NARROW_DELETE};
use super::queue::{Queue, receiver};
use super::rounds::Series;
use super::{BenchError, Figure, Options};
use crate::workers::Destination;
use crate::workers::egress::Client;

const NAME: &str = "drain";
const UNIT: &str = "messages/s";
const USUAL: usize = 100_000;

/// Deliveries that are open at a time, and messages that a claim takes.
const CONCURRENCY: u16 = 1000;
const BATCH: u16 = 1000;

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
    queue.fill(1..=size, std::slice::from_ref(&destination)).await?;
    let sample = to_nowhere(bed, queue, destination, size).await?;
    if queue.left().await? > 0 { Err(BenchError::Nothing("messages are left")) } else { Ok(sample) }
}

/// Drains so many messages of those that are there, or somewhat more.
pub(super) async fn to_nowhere(
    bed: &Bed<'_>,
    queue: &Queue,
    destination: Destination,
    wanted: usize,
) -> Result<Sample, BenchError> {
    let client = destination.client.clone();
    let meter = Meter::start(bed, &[]).await?;
    let delivered = queue.drain(&[destination], wanted, || client.unsent()).await?;
    meter.stop(delivered).await
}

/// A destination that takes everything at once.
pub(super) fn nowhere() -> Result<Destination, BenchError> {
    let url = "http://nowhere.invalid/".to_owned();
    Ok(receiver("bench", url, Client::nowhere()?, CONCURRENCY, BATCH))
}
