//! Sends registrations again whose promised callback did not come.

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Context;
use crate::metrics;
use crate::periodic;
use crate::records::commands::{self, CommandError};

/// Registrations looked at in one turn.
const PER_TURN: i64 = 100;

/// Checks until stopped.
pub async fn run(context: Context, stop: CancellationToken) {
    let every = context.settings.callback_check;
    periodic::run("callbacks", every, stop, || run_once(&context)).await;
}

/// Checks once; returns how many were sent again. Each in a transaction of its own.
pub async fn run_once(context: &Context) -> Result<usize, CommandError> {
    let mut conn = context.db.acquire().await?;
    let overdue = commands::overdue(&mut conn, PER_TURN).await?;
    metrics::validation_overdue(commands::count_overdue(&mut conn).await?);
    drop(conn);
    let mut sent = 0;
    for action_id in overdue {
        match again(context, action_id).await {
            Ok(true) => {
                tracing::warn!(%action_id, "the country's callback is overdue; its registration is sent again");
                sent += 1;
            }
            Ok(false) => {}
            // The others are not to wait for one that is locked.
            Err(error) => tracing::warn!(%action_id, error = &error as &dyn std::error::Error, "not sent again"),
        }
    }
    if sent > 0 {
        context.wakeup.wake();
    }
    Ok(sent)
}

async fn again(context: &Context, action_id: Uuid) -> Result<bool, CommandError> {
    let mut tx = context.db.begin().await?;
    let again = commands::redeliver(&mut tx, action_id).await?;
    tx.commit().await?;
    Ok(again)
}
