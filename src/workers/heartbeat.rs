//! Says that this worker lives, as long as it may hold leases.
//!
//! On a connection of its own, made again when it is lost: a beat waits behind nothing that the pools' connections are
//! held for. A beat that fails or does not end in time is tried again soon enough that one lost connection costs no
//! lease. Not promised: a heart that beats without a database.

use std::time::Duration;

use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use super::Context;
use crate::db::{self, DbError};
use crate::metrics;
use crate::outbox::worker;
use crate::periodic;

/// A worker's heart.
pub(super) struct Heart {
    context: Context,
    name: String,
    conn: Option<PgConnection>,
}

impl Heart {
    /// The first beat makes the worker known.
    pub(super) async fn start(context: Context) -> Result<Self, DbError> {
        let name = format!("{}:{}", hostname(), std::process::id());
        let mut heart = Self { context, name, conn: None };
        heart.beat().await?;
        Ok(heart)
    }

    /// Beats until stopped, then takes the worker out.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let every = self.context.settings.heartbeat;
        let mut pause = every;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(periodic::jittered(pause)) => {}
            }
            pause = match self.beat().await {
                Ok(()) => every,
                Err(error) => {
                    metrics::maintenance_failed("heartbeat");
                    tracing::warn!(error = &error as &dyn std::error::Error, "the heart missed a beat");
                    every / 8
                }
            };
        }
        if let Err(error) = self.retire().await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "the worker could not be taken out; it will be found silent");
        }
    }

    async fn beat(&mut self) -> Result<(), DbError> {
        let (id, every) = (self.context.worker, self.context.settings.heartbeat);
        let name = self.name.clone();
        self.say(async |conn| worker::beat(conn, id, &name, every).await).await
    }

    async fn retire(&mut self) -> Result<(), DbError> {
        let id = self.context.worker;
        self.say(async |conn| worker::retire(conn, id).await).await
    }

    /// The connection is put back only after an answer: one that was cut short has more to say.
    async fn say(&mut self, statement: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<()>) -> Result<(), DbError> {
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => db::connect(&self.context.database_url).await?,
        };
        let said = tokio::time::timeout(self.patience(), statement(&mut conn)).await;
        said.map_err(|_elapsed| DbError::NoAnswer)??;
        self.conn = Some(conn);
        Ok(())
    }

    /// So long that a beat that hangs is tried again before two intervals are over; never less than a slow database takes.
    fn patience(&self) -> Duration {
        (self.context.settings.heartbeat / 2).max(Duration::from_secs(1))
    }
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map_or_else(|_| "host".to_owned(), |h| h.trim().to_owned())
}
