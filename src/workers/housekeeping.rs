//! Keeps the tables ready: the partitions of the coming days, no workers of the past.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Context, periodic};
use crate::outbox::{partitions, worker};

/// What a turn did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Partitions made.
    pub partitions: i32,
    /// Silent workers forgotten.
    pub workers: u64,
}

/// Keeps house until stopped.
pub async fn run(context: Context, stop: CancellationToken) {
    periodic::run("housekeeping", Duration::from_hours(1), stop, || run_once(&context)).await;
}

/// Keeps house once.
pub async fn run_once(context: &Context) -> sqlx::Result<Kept> {
    let mut conn = context.db.acquire().await?;
    Ok(Kept { partitions: partitions::ensure(&mut conn).await?, workers: worker::forget_silent(&mut conn).await? })
}
