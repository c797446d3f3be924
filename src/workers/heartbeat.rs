//! Says that this worker lives, as long as it may hold leases.

use tokio_util::sync::CancellationToken;

use super::Context;
use crate::outbox::worker;
use crate::periodic;

/// The first beat makes the worker known.
pub(super) async fn first(context: &Context) -> sqlx::Result<()> {
    beat(context).await
}

/// Beats until stopped, then takes the worker out.
pub(super) async fn run(context: Context, stop: CancellationToken) {
    periodic::run("heartbeat", context.settings.heartbeat, stop, || beat(&context)).await;
    let retired = async {
        let mut conn = context.db.acquire().await?;
        worker::retire(&mut conn, context.worker).await
    };
    if let Err(error) = retired.await {
        tracing::warn!(%error, "the worker could not be taken out; it will be found silent");
    }
}

async fn beat(context: &Context) -> sqlx::Result<()> {
    let mut conn = context.db.acquire().await?;
    let name = format!("{}:{}", hostname(), std::process::id());
    worker::beat(&mut conn, context.worker, &name, context.settings.heartbeat).await
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map_or_else(|_| "host".to_owned(), |h| h.trim().to_owned())
}
