//! Back-pressure: while too much is waiting, submissions are refused with 503, and nothing of them is written.
//!
//! Promises: a repetition of what was accepted before is answered as ever; callbacks and operators pass. What counts is
//! [`crate::outbox::pressure`]'s. Not promised: a sharp edge: the backlog is looked at now and then, by each process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::outbox::pressure::{self, Limits};
use crate::{metrics, periodic};

/// Whether submissions are refused. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Pressure(Arc<AtomicBool>);

impl Pressure {
    /// Whether too much is waiting, when last looked at.
    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Looks now.
    pub async fn look(&self, db: &PgPool, limits: Limits) -> sqlx::Result<()> {
        let mut conn = db.acquire().await?;
        let backlogs = pressure::read(&mut conn, limits).await?;
        drop(conn);
        for backlog in &backlogs {
            metrics::backlog(&backlog.destination, backlog.ready, backlog.oldest_due, backlog.flows);
        }
        let on = pressure::is_too_much(&backlogs, limits);
        if self.0.swap(on, Ordering::Relaxed) != on {
            if on {
                tracing::error!(?limits, "too much is waiting; submissions are refused");
            } else {
                tracing::info!("the backlog is within its limits; submissions are accepted again");
            }
        }
        metrics::pressure(on);
        Ok(())
    }

    /// Looks until stopped. While the database cannot be asked, what was last seen holds.
    pub async fn watch(self, db: PgPool, limits: Limits, every: Duration, stop: CancellationToken) {
        periodic::run("pressure", every, stop, || self.look(&db, limits)).await;
    }
}
