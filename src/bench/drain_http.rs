//! A queue of 30,000 messages of 1 kB, each signed and posted to a receiver that answers at once, 64 at a time. Limit:
//! [`minimal`], which posts as many jobs of 1 kB of a plain table, unsigned, and deletes them.

use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};

use super::bed::Bed;
use super::meter::{Meter, Sample};
use super::minimal;
use super::plain::{CLAIM_DELETE, Limit};
use super::queue::{Queue, receiver};
use super::rounds::Series;
use super::sink::Sink;
use super::{BenchError, Figure, Options};
use crate::auth::WebhookSecret;
use crate::workers::Destination;
use crate::workers::egress::{self, ClientSettings};

const NAME: &str = "drain-http";
const UNIT: &str = "messages/s";
const USUAL: usize = 30_000;
/// Exchanges that are open at a time, of both.
const AT_ONCE: u16 = 64;
const BATCH: u16 = 1000;
/// A secret of 24 bytes, and no secret.
const SECRET: &str = "whsec_YmVuY2gtYmVuY2gtYmVuY2gtYmVuY2gt";

pub(super) async fn run(
    options: &Options,
    bed: &Bed<'_>,
    report: &mut (dyn FnMut(Figure) + Send),
) -> Result<(), BenchError> {
    let size = options.size.unwrap_or(USUAL);
    let sink = Sink::start()?;
    let queue = Queue::new(bed, "ours").await?;
    let plain = Limit::new(bed, &CLAIM_DELETE).await?;
    let (mut ours, mut limit) = (Series::new("signed, 64 at a time"), Series::new("limit: minimal loop in Rust"));
    for round in 0..=options.rounds {
        queue.clear().await?;
        let destination = Destination { secrets: Arc::new([WebhookSecret::parse(SECRET)?]), ..posted("bench", &sink)? };
        ours.note(round, drained(bed, &queue, &[destination], size, &sink).await?);
        limit.note(round, posted_by_the_minimal_loop(bed, &plain, size, &sink).await?);
    }
    report(ours.figure(NAME, UNIT).beside(limit.rate()));
    report(limit.figure(NAME, UNIT));
    Ok(())
}

/// A destination at the receiver.
pub(super) fn posted(name: &str, sink: &Sink) -> Result<Destination, BenchError> {
    let loopback = IpNet::V4(Ipv4Net::new_assert(std::net::Ipv4Addr::LOCALHOST, 8));
    let client = egress::build(&ClientSettings { allow: Arc::new([loopback]), ..ClientSettings::default() })?;
    Ok(receiver(name, format!("http://{}/{name}", sink.addr), client, AT_ONCE, BATCH))
}

/// Fills the queue with messages of so many records for each of these destinations, and drains it.
pub(super) async fn drained(
    bed: &Bed<'_>,
    queue: &Queue,
    destinations: &[Destination],
    records: usize,
    sink: &Sink,
) -> Result<Sample, BenchError> {
    queue.fill(1..=records, destinations).await?;
    let wanted = records * destinations.len();
    let meter = Meter::start(bed, &[]).await?;
    queue.drain(destinations, wanted, || sink.answered()).await?;
    let sample = meter.stop(wanted).await?;
    if queue.left().await? > 0 { Err(BenchError::Nothing("messages are left")) } else { Ok(sample) }
}

async fn posted_by_the_minimal_loop(
    bed: &Bed<'_>,
    plain: &Limit,
    size: usize,
    sink: &Sink,
) -> Result<Sample, BenchError> {
    plain.fill(size).await?;
    let meter = Meter::start(bed, &[]).await?;
    let posted = minimal::post_all(&plain.url, &format!("http://{}/limit", sink.addr), usize::from(AT_ONCE)).await?;
    let sample = meter.stop(posted).await?;
    plain.insist_on_emptiness().await?;
    Ok(sample)
}
