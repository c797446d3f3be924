//! The queue without a lane.

use std::time::Duration;

use crvs_outbox::outbox::Claimed;
use crvs_outbox::outbox::claim::{Ask, Batch, Floor, claim};
use sqlx::PgConnection;
use uuid::Uuid;

/// What a lane would ask for, for an hour, from the start of the queue.
fn ask(destination: &str, worker: Uuid, limit: u16) -> Ask<'_> {
    let from = Floor::default();
    Ask { destination, worker, limit, retries: limit.div_ceil(2), lease: Duration::from_hours(1), from, over: &[] }
}

/// Claims, whatever the circuit says.
async fn batch(conn: &mut PgConnection, destination: &str, worker: Uuid, limit: u16) -> Batch {
    claim(conn, &ask(destination, worker, limit)).await.unwrap()
}

/// The messages of a claim.
pub(crate) async fn take(conn: &mut PgConnection, destination: &str, worker: Uuid, limit: u16) -> Vec<Claimed> {
    batch(conn, destination, worker, limit).await.messages
}
