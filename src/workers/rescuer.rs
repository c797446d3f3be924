//! Takes back the leases of dead and late workers.

use tokio_util::sync::CancellationToken;

use super::{Context, periodic};
use crate::metrics;
use crate::outbox::claim::{self, Rescued};

/// Rescues until stopped.
pub async fn run(context: Context, stop: CancellationToken) {
    let every = context.settings.heartbeat;
    periodic::run("rescuer", every, stop, || run_once(&context)).await;
}

/// Rescues once.
pub async fn run_once(context: &Context) -> sqlx::Result<Rescued> {
    let mut conn = context.db.acquire().await?;
    let rescued = claim::rescue(&mut conn, context.settings.max_rescues).await?;
    if rescued != Rescued::default() {
        metrics::rescued(rescued.retrying + rescued.dead);
        context.wakeup.wake();
    }
    Ok(rescued)
}
