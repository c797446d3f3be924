//! A promised callback that did not come: the registration is sent again, under the same transaction id.

use std::time::Duration;

use sqlx::PgConnection;
use uuid::Uuid;

use super::CommandError;
use crate::outbox::{Effect, NewMessage, enqueue, history};
use crate::records::effects::{self, EVENT_REGISTRATION};
use crate::records::model::Step;
use crate::records::store::{action, record};
use crate::transactions;

/// When to look again where no destination validates.
pub(super) const NOBODY_VALIDATES: Duration = Duration::from_mins(5);

/// Marks requested registrations that no destination was there to validate: they are looked at again, and sent once
/// there is one.
pub(super) async fn ask_later(conn: &mut PgConnection, unasked: &[Uuid]) -> Result<(), CommandError> {
    for action_id in unasked {
        action::await_callback(conn, *action_id, Some(NOBODY_VALIDATES.as_secs_f64())).await?;
    }
    Ok(())
}

/// Registrations whose promised callback is overdue, the longest first.
pub async fn overdue(conn: &mut PgConnection, limit: i64) -> Result<Vec<Uuid>, CommandError> {
    Ok(action::overdue(conn, limit).await?)
}

/// How many registrations the country was to decide by now, or was asked for again: at least so many.
pub async fn count_overdue(conn: &mut PgConnection) -> Result<i64, CommandError> {
    Ok(action::count_overdue(conn).await?)
}

/// Sends an overdue registration again, in the caller's transaction; false if it is not overdue any more.
pub async fn redeliver(conn: &mut PgConnection, action_id: Uuid) -> Result<bool, CommandError> {
    let Some(request) = action::requested(conn, action_id).await? else {
        return Ok(false);
    };
    let row = record::lock(conn, request.record_id).await?.ok_or(CommandError::NotFound)?;
    let overdue = row.awaiting_action_id == Some(action_id)
        && action::is_overdue(conn, action_id).await?
        && !history::has_live(conn, action_id, EVENT_REGISTRATION).await?;
    if !overdue {
        return Ok(false);
    }
    let owner_id = transactions::owner_beside(conn, &request.transaction_id, &request.created_by).await?;
    let message = NewMessage {
        effect: Effect::Validation,
        kind: EVENT_REGISTRATION,
        transaction_id: format!("{EVENT_REGISTRATION}__{}_{}", effects::word(Step::Register), request.transaction_id),
        record_id: request.record_id,
        action_id,
        initiator_id: request.created_by,
        owner_id,
        initiator_scopes: request.scopes,
        traceparent: None,
        redelivery: request.redeliveries + 1,
    };
    enqueue::hold_predecessors(conn, request.record_id).await?;
    if enqueue::enqueue(conn, &[message]).await?.is_empty() {
        // Nobody validates at the moment: the record stays overdue, and is looked at again.
        action::await_callback(conn, action_id, Some(NOBODY_VALIDATES.as_secs_f64())).await?;
        return Ok(false);
    }
    action::count_redelivery(conn, action_id).await?;
    Ok(true)
}
