//! Keeps the tables as they should be: the partitions of the coming days, none older than the retention, no workers of
//! the past, no attachments that nothing refers to. One instance at a time; the others find nothing left to do.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Context;
use crate::outbox::{partitions, worker};
use crate::periodic;
use crate::records::uploads;

/// What a turn did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Partitions made.
    pub made: i32,
    /// Partitions dropped, with what was finished in their days.
    pub dropped: i32,
    /// Silent workers forgotten.
    pub workers: u64,
    /// Attachments collected that no record has.
    pub attachments: u64,
    /// Bytes (blobs) collected that belong to no attachment, of broken uploads for example.
    pub blobs: u64,
}

/// Keeps house until stopped.
pub async fn run(context: Context, stop: CancellationToken) {
    periodic::run("housekeeping", Duration::from_hours(1), stop, || run_once(&context)).await;
}

/// Keeps house once. Making comes first: it matters most, and dropping may have to wait for readers.
pub async fn run_once(context: &Context) -> sqlx::Result<Kept> {
    let mut conn = context.maintenance.acquire().await?;
    let made = partitions::ensure(&mut conn).await?;
    let workers = worker::forget_silent(&mut conn).await?;
    drop(conn);
    let (attachments, blobs) = collect(context).await?;
    let mut conn = context.maintenance.acquire().await?;
    // Somebody who reads the one (a dump) keeps nobody from dropping the other.
    let changes = partitions::drop_older_changes(&mut conn, context.settings.changes_days).await;
    let others = partitions::drop_older(&mut conn, context.settings.retention_days).await;
    let dropped = changes? + others?;
    Ok(Kept { made, dropped, workers, attachments, blobs })
}

/// Collects attachments that nothing refers to, then bytes that belong to none.
async fn collect(context: &Context) -> sqlx::Result<(u64, u64)> {
    let hours = i32::from(context.settings.unreferenced_hours);
    let (mut attachments, mut blobs) = (0, 0);
    loop {
        let mut tx = context.maintenance.begin().await?;
        let turn = uploads::collect(&mut tx, hours).await?;
        tx.commit().await?;
        attachments += turn;
        if turn == 0 {
            break;
        }
    }
    loop {
        let turn = collect_blobs(context, hours).await?;
        blobs += turn;
        if turn == 0 {
            return Ok((attachments, blobs));
        }
    }
}

/// A turn's worth of bytes; returns how many were collected.
async fn collect_blobs(context: &Context, hours: i32) -> sqlx::Result<u64> {
    let mut conn = context.maintenance.acquire().await?;
    let orphans = uploads::orphans(&mut conn, hours).await?;
    drop(conn);
    let mut blobs = 0;
    for blob in orphans {
        if let Some(path) = &blob.path {
            let Some(objects) = context.store.at(&blob.place) else {
                tracing::warn!(place = blob.place, "bytes to collect are in a store that is not configured");
                continue;
            };
            if let Err(error) = objects.delete(path).await {
                tracing::warn!(%error, "an object could not be deleted yet");
                continue;
            }
        }
        blobs += u64::from(uploads::delete(&mut *context.maintenance.acquire().await?, blob.id).await?);
    }
    Ok(blobs)
}
