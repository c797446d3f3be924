//! The country's verdict on a requested registration, by callback or in the answer to our own delivery.
//!
//! First verdict wins. The key of its dedupe is the request (`verdict/{transaction id}` in `client_transaction`,
//! and a unique index on `record_action`), never an Idempotency-Key: peers copy our own headers back to us and
//! draw a new number each time they are asked.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::amend::{Amendment, Given, amend};
use super::{CommandError, Outcome, reply};
use crate::outbox::{Queued, complete, enqueue};
use crate::records::changes;
use crate::records::duplicates::{self, Resolution};
use crate::records::effects::{self, EVENT_REGISTRATION, Origin};
use crate::records::model::{Status, Step, transition};
use crate::records::store::action::{self, NewAction, Requested};
use crate::records::store::record::{self, Row};
use crate::transactions::{self, Claim, Claimed, Fingerprint, Saved};

/// What the country says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Register it under this number.
    Accepted {
        /// Unique across records.
        registration_number: String,
        /// Identifiers to add to the child (type code, value).
        identifiers: Vec<(String, String)>,
        /// What it adds to the declaration.
        amendment: Amendment,
        /// Free text.
        comment: Option<String>,
    },
    /// Do not register it.
    Rejected {
        /// Why.
        reason: String,
        /// Free text.
        comment: Option<String>,
    },
}

/// Longest registration number and reason, in characters.
pub const NUMBER_MAX: usize = 100;
/// See [`NUMBER_MAX`].
pub const REASON_MAX: usize = 10_000;

/// Whether a text can be a registration number, whichever way it comes: printable, and without space around it, so that
/// two that look the same are the same.
pub fn is_registration_number(text: &str) -> bool {
    let invisible = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    (1..=NUMBER_MAX).contains(&text.chars().count()) && text.trim() == text && !text.contains(invisible)
}

/// Whether a text can be the reason of a rejection.
pub fn is_reason(text: &str) -> bool {
    !text.trim().is_empty() && text.chars().count() <= REASON_MAX && !text.contains('\0')
}

/// A verdict and who gives it.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The record.
    pub record_id: Uuid,
    /// The requested registration that is decided; `None`: the record's newest.
    pub action_id: Option<Uuid>,
    /// If given, it must be that of the record.
    pub tracking_id: Option<String>,
    /// Who says so.
    pub by: String,
    /// What they say.
    pub verdict: Verdict,
    /// W3C trace context.
    pub traceparent: Option<String>,
}

/// Applies a verdict, once. The same again is `Replayed` with the same reply.
pub async fn decide(conn: &mut PgConnection, decision: &Decision) -> Result<Outcome, CommandError> {
    let request = request_of(conn, decision).await?;
    let key = format!("verdict/{}", request.transaction_id);
    let fingerprint = fingerprint(&decision.verdict);
    let claim = Claim { transaction_id: &key, principal_id: "verdict", fingerprint: &fingerprint };
    match transactions::claim(conn, &[claim]).await?.pop() {
        Some(Claimed::Fresh) => {}
        Some(Claimed::Done(reply)) => return Ok(Outcome::Replayed(reply)),
        Some(Claimed::Reused) | None => return Err(CommandError::AlreadyDecided),
    }
    let mut row = record::lock(conn, request.record_id).await?.ok_or(CommandError::NotFound)?;
    if let Err(refused) = check(conn, decision, &request, &row).await {
        // The caller may commit what else it has to write: a refused verdict must not look like one that stands.
        transactions::release(conn, &key).await?;
        return Err(refused);
    }
    let action_id = Uuid::now_v7();
    let step = apply(conn, decision, &request, &mut row, action_id).await?;
    if step == Step::Refuse {
        duplicates::resolve(conn, row.id, Resolution::Rejected, &decision.by).await?;
    }
    // Before anything of the record is finished: locks are taken in the order of ids.
    enqueue::hold_predecessors(conn, row.id).await?;
    complete::finish_unleased(conn, request.id, EVENT_REGISTRATION).await?;
    let queued = send(conn, decision, &request, step, action_id).await?;
    changes::record_moved(conn, row.id).await?;
    let duplicates = duplicates::of_record(conn, row.id).await?;
    let reply = reply::accepted(&request.transaction_id, &row, duplicates, queued)?;
    let saved = Saved { transaction_id: &key, reply: &reply, record_id: row.id, action_id };
    transactions::save(conn, &[saved]).await?;
    Ok(Outcome::Done(reply))
}

async fn request_of(conn: &mut PgConnection, decision: &Decision) -> Result<Requested, CommandError> {
    let newest = match decision.action_id {
        Some(id) => Some(id),
        None => action::newest_requested(conn, decision.record_id).await?,
    };
    let request = match newest {
        Some(id) => action::requested(conn, id).await?,
        None => None,
    };
    request.filter(|r| r.record_id == decision.record_id).ok_or(CommandError::NotFound)
}

/// What makes two verdicts the same: the number, or that it is a rejection (its first reason stays).
fn fingerprint(verdict: &Verdict) -> Fingerprint {
    let text = match verdict {
        Verdict::Accepted { registration_number, .. } => format!("accepted\n{registration_number}"),
        Verdict::Rejected { .. } => "rejected".to_owned(),
    };
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    sha256.into()
}

async fn check(
    conn: &mut PgConnection,
    decision: &Decision,
    request: &Requested,
    row: &Row,
) -> Result<(), CommandError> {
    if row.awaiting_action_id != Some(request.id) {
        return Err(CommandError::Superseded);
    }
    if decision.tracking_id.as_ref().is_some_and(|t| *t != row.tracking_id) {
        return Err(CommandError::WrongTrackingId);
    }
    if let Verdict::Accepted { registration_number, .. } = &decision.verdict
        && record::number_is_taken(conn, registration_number, row.id).await?
    {
        return Err(CommandError::NumberTaken);
    }
    Ok(())
}

async fn apply(
    conn: &mut PgConnection,
    decision: &Decision,
    request: &Requested,
    row: &mut Row,
    action_id: Uuid,
) -> Result<Step, CommandError> {
    let (step, number, reason, comment) = match &decision.verdict {
        Verdict::Accepted { registration_number, comment, .. } => {
            (Step::Confirm, Some(registration_number.as_str()), None, comment)
        }
        Verdict::Rejected { reason, comment } => (Step::Refuse, None, Some(reason.as_str()), comment),
    };
    let (identifiers, annotation) = match &decision.verdict {
        Verdict::Accepted { identifiers, amendment, .. } => (kept(identifiers)?, amendment.annotation.as_deref()),
        Verdict::Rejected { .. } => (None, None),
    };
    row.status = transition(row.status, None, step)?;
    row.awaiting_action_id = None;
    row.registration_number = number.map(str::to_owned);
    if let Verdict::Accepted { identifiers, amendment, .. } = &decision.verdict {
        let fields = amendment.declaration.as_deref();
        amend(conn, row, &Given { by: &decision.by, registration_number: number, identifiers, fields }).await?;
    }
    let (kind, status) = step.appends();
    let verdict = NewAction {
        id: action_id,
        record_id: row.id,
        transaction_id: &request.transaction_id,
        action: kind,
        status,
        requested_action_id: Some(request.id),
        version: row.version,
        record_status: row.status,
        registration_number: number,
        identifiers: identifiers.as_deref(),
        annotation,
        reason,
        comment: comment.as_deref(),
        created_by: &decision.by,
        scopes: &[],
    };
    action::append(conn, &[verdict]).await?;
    action::await_callback(conn, request.id, None).await?;
    record::update(conn, row).await.map_err(number_taken)?;
    Ok(step)
}

/// Identifiers are kept with the verdict, whether or not the declaration has a child to give them to.
fn kept(identifiers: &[(String, String)]) -> Result<Option<String>, CommandError> {
    if identifiers.is_empty() {
        return Ok(None);
    }
    let kept: Vec<_> = identifiers.iter().map(|(kind, value)| json!({ "type": kind, "value": value })).collect();
    Ok(Some(serde_json::to_string(&kept)?))
}

/// Two records confirmed with one number at the same moment: the unique index lets one through.
fn number_taken(error: sqlx::Error) -> CommandError {
    let constraint = error.as_database_error().and_then(|e| e.constraint());
    if constraint == Some("record_registration_number_key") {
        CommandError::NumberTaken
    } else {
        CommandError::Database(error)
    }
}

async fn send(
    conn: &mut PgConnection,
    decision: &Decision,
    request: &Requested,
    step: Step,
    action_id: Uuid,
) -> Result<Vec<Queued>, CommandError> {
    let owner = transactions::owner_beside(conn, &request.transaction_id, &request.created_by).await?;
    let origin = Origin {
        transaction_id: &request.transaction_id,
        record_id: request.record_id,
        initiator_id: &request.created_by,
        owner_id: owner.as_deref(),
        initiator_scopes: &request.scopes,
        traceparent: decision.traceparent.as_deref(),
    };
    Ok(enqueue::enqueue(conn, &effects::messages(origin, &[step], &[action_id])).await?)
}

/// What the answer to a delivery of a registration says about the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A verdict.
    Verdict(Verdict),
    /// "Later": the peer will call back.
    Later,
    /// Nothing: the exchange failed.
    Nothing,
}

/// What stands after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A verdict stands, or the request was superseded: the message has done its work.
    Decided,
    /// The peer promised to call back: the message has done its work.
    Awaited,
    /// Nothing: the exchange decides what becomes of the message.
    Open,
    /// The verdict names a number that another record has: an operator must look.
    NumberTaken,
}

/// Applies the answer to a delivery, record first. `deadline` is how long the first promised callback may take;
/// it doubles with each redelivery, up to a week.
pub async fn receive_answer(
    conn: &mut PgConnection,
    action_id: Uuid,
    destination: &str,
    answer: Answer,
    deadline: Duration,
) -> Result<Standing, CommandError> {
    let request = action::requested(conn, action_id).await?.ok_or(CommandError::NotFound)?;
    if let Answer::Verdict(verdict) = answer {
        let decision = Decision {
            record_id: request.record_id,
            action_id: Some(action_id),
            tracking_id: None,
            by: format!("destination/{destination}"),
            verdict,
            traceparent: None,
        };
        return match decide(conn, &decision).await {
            Ok(_) | Err(CommandError::AlreadyDecided | CommandError::Superseded) => Ok(Standing::Decided),
            Err(CommandError::NumberTaken) => Ok(Standing::NumberTaken),
            Err(other) => Err(other),
        };
    }
    let row = record::lock(conn, request.record_id).await?.ok_or(CommandError::NotFound)?;
    if row.awaiting_action_id != Some(action_id) || row.status != Status::WaitingValidation {
        return Ok(Standing::Decided);
    }
    if answer == Answer::Later {
        let due_in = callback_patience(deadline, request.redeliveries);
        action::await_callback(conn, action_id, Some(due_in.as_secs_f64())).await?;
        return Ok(Standing::Awaited);
    }
    Ok(Standing::Open)
}

/// How long a callback may take after so many redeliveries.
fn callback_patience(deadline: Duration, redeliveries: i32) -> Duration {
    let doublings = u32::try_from(redeliveries).unwrap_or_default().min(20);
    deadline.saturating_mul(1 << doublings).min(Duration::from_hours(24 * 7)).max(deadline)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callback_is_awaited_at_growing_intervals_up_to_a_week() {
        let hour = Duration::from_hours(1);
        assert_eq!(callback_patience(hour, 0), hour);
        assert_eq!(callback_patience(hour, 3), hour * 8);
        assert_eq!(callback_patience(hour, 60), hour * 24 * 7);
        assert_eq!(callback_patience(hour * 24 * 30, 1), hour * 24 * 30);
    }
}
