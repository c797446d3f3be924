//! Compares records that were accepted at the same moment, and so did not see each other.

use tokio_util::sync::CancellationToken;

use super::Context;
use crate::periodic;
use crate::records::duplicates::{self, Rechecked};

/// Checks until stopped.
pub async fn run(context: Context, stop: CancellationToken) {
    let every = context.settings.duplicate_check;
    periodic::run("duplicates", every, stop, || run_once(&context)).await;
}

/// Checks all that was committed since the last turn, a page per transaction. One instance at a time.
pub async fn run_once(context: &Context) -> sqlx::Result<Rechecked> {
    let mut done = Rechecked::default();
    loop {
        let mut tx = context.maintenance.begin().await?;
        let page = duplicates::recheck(&mut tx).await?;
        tx.commit().await?;
        done.records += page.records;
        done.found += page.found;
        done.held += page.held;
        if !page.more {
            return Ok(done);
        }
    }
}
