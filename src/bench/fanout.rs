//! The messages of 20,000 records for five destinations, posted to a receiver that answers at once. Limit: as many messages for
//! one destination.

use super::bed::Bed;
use super::drain_http::{drained, posted};
use super::queue::Queue;
use super::rounds::Series;
use super::sink::Sink;
use super::{BenchError, Figure, Options};

const NAME: &str = "fanout";
const UNIT: &str = "messages/s";
const USUAL: usize = 20_000;
const DESTINATIONS: [&str; 5] = ["bench-a", "bench-b", "bench-c", "bench-d", "bench-e"];

pub(super) async fn run(
    options: &Options,
    bed: &Bed<'_>,
    report: &mut (dyn FnMut(Figure) + Send),
) -> Result<(), BenchError> {
    let size = options.size.unwrap_or(USUAL);
    let sink = Sink::start()?;
    let (many, one) = (Queue::new(bed, "ours").await?, Queue::new(bed, "limited").await?);
    let (mut ours, mut limit) =
        (Series::new("5 destinations"), Series::new("limit: as many messages for 1 destination"));
    for round in 0..=options.rounds {
        many.clear().await?;
        let destinations: Vec<_> = DESTINATIONS.iter().map(|name| posted(name, &sink)).collect::<Result<_, _>>()?;
        ours.note(round, drained(bed, &many, &destinations, size, &sink).await?);
        one.clear().await?;
        limit.note(round, drained(bed, &one, &[posted("bench", &sink)?], size * DESTINATIONS.len(), &sink).await?);
    }
    report(ours.figure(NAME, UNIT).beside(limit.rate()));
    report(limit.figure(NAME, UNIT));
    Ok(())
}
