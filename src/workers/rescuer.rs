//! Takes back the leases of dead and late workers.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Context;
use crate::metrics;
use crate::outbox::rescue::{self, Rescued};
use crate::periodic;

/// Rescues until stopped.
pub async fn run(context: Context, stop: CancellationToken) {
    // Leases are lost two heartbeats after the last one: looking often keeps it near that.
    let every = context.settings.heartbeat / 4;
    periodic::run("rescuer", every, stop, || run_once(&context)).await;
}

/// How often claims are looked for that are written nowhere.
const UNWRITTEN: Duration = Duration::from_mins(1);

/// Finds unwritten claims until stopped, for [`run`] to find them when they are lost.
pub async fn find_unwritten(context: Context, stop: CancellationToken) {
    periodic::run("unwritten claims", UNWRITTEN, stop, || find_unwritten_once(&context)).await;
}

async fn find_unwritten_once(context: &Context) -> sqlx::Result<u64> {
    rescue::find_unwritten(&mut *context.maintenance.acquire().await?).await
}

/// Rescues once.
pub async fn run_once(context: &Context) -> sqlx::Result<Rescued> {
    if !rescue::is_any_lost(&mut *context.db.acquire().await?).await? {
        return Ok(Rescued::default());
    }
    let mut tx = context.db.begin().await?;
    let rescued = rescue::rescue(&mut tx, context.settings.max_rescues).await?;
    tx.commit().await?;
    if rescued != Rescued::default() {
        metrics::rescued(rescued.retrying + rescued.dead);
        context.wakeup.wake();
    }
    Ok(rescued)
}
