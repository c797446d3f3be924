//! Keeps the tables as they should be: the partitions of the coming days, none older than the retention, no workers of
//! the past. One instance at a time; the others find nothing left to do.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Context;
use crate::outbox::{partitions, worker};
use crate::periodic;

/// What a turn did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Partitions made.
    pub made: i32,
    /// Partitions dropped, with what was finished in their days.
    pub dropped: i32,
    /// Silent workers forgotten.
    pub workers: u64,
}

/// Keeps house until stopped.
pub async fn run(context: Context, stop: CancellationToken) {
    periodic::run("housekeeping", Duration::from_hours(1), stop, || run_once(&context)).await;
}

/// Keeps house once. Making comes first: it matters most, and dropping may have to wait for readers.
pub async fn run_once(context: &Context) -> sqlx::Result<Kept> {
    let mut conn = context.db.acquire().await?;
    let made = partitions::ensure(&mut conn).await?;
    let workers = worker::forget_silent(&mut conn).await?;
    let changes = partitions::drop_older_changes(&mut conn, context.settings.changes_days).await?;
    let dropped = changes + partitions::drop_older(&mut conn, context.settings.retention_days).await?;
    Ok(Kept { made, dropped, workers })
}
