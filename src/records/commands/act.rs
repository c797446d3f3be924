//! Actions on a record that exists.

use sqlx::PgConnection;
use uuid::Uuid;

use super::redeliver::ask_later;
use super::{CommandError, Initiator, Outcome, reply};
use crate::outbox::{complete, enqueue};
use crate::records::attachments::{self, Attachment, Owner};
use crate::records::changes;
use crate::records::effects::{self, EVENT_REGISTRATION, Origin};
use crate::records::fhir::{Declaration, Stamp};
use crate::records::model::{ActionKind, ActionStatus, Status, Step, transition};
use crate::records::store::action::{self, NewAction};
use crate::records::store::record::{self, Row};
use crate::records::store::version::{self, NewVersion};
use crate::transactions::{self, Claim, Claimed, Fingerprint, Saved};

/// Whose records may be acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody's.
    Any,
    /// Only those that the initiator submitted; others do not exist for them.
    Own,
}

/// An action on a record, other than the country's verdict.
#[derive(Clone, Debug)]
pub struct Act {
    /// The client's transaction id.
    pub transaction_id: String,
    /// What is asked.
    pub fingerprint: Fingerprint,
    /// Who asks.
    pub initiator: Initiator,
    /// Whose records they may act on.
    pub access: Access,
    /// W3C trace context of the request.
    pub traceparent: Option<String>,
    /// The record.
    pub record_id: Uuid,
    /// What to do.
    pub step: Step,
    /// The corrected declaration (notify and declare only).
    pub declaration: Option<String>,
    /// The attachments of the corrected declaration: those of the bundle first.
    pub attachments: Vec<Attachment>,
    /// Why (reject and archive).
    pub reason: Option<String>,
    /// Free text of who acts.
    pub comment: Option<String>,
}

/// Does the action, once: claims the transaction id, locks the record, asks the table of transitions, appends.
pub async fn act(conn: &mut PgConnection, act: &Act) -> Result<Outcome, CommandError> {
    let claim =
        Claim { transaction_id: &act.transaction_id, principal_id: &act.initiator.id, fingerprint: &act.fingerprint };
    match transactions::claim(conn, &[claim]).await?.pop() {
        Some(Claimed::Fresh) => {}
        Some(Claimed::Done(reply)) => return Ok(Outcome::Replayed(reply)),
        Some(Claimed::Reused) | None => return Ok(Outcome::Reused),
    }
    let row = record::lock(conn, act.record_id).await?.ok_or(CommandError::NotFound)?;
    if act.access == Access::Own && row.created_by != act.initiator.id {
        return Err(CommandError::NotFound);
    }
    let held = row.held_action.map(step_of);
    transition(row.status, held, act.step)?;
    // A possible duplicate that is none resumes what was held back.
    let mut steps = vec![act.step];
    if let (Step::MarkNotDuplicate, Some(resumed @ (Step::Validate | Step::Register))) = (act.step, held) {
        steps.push(resumed);
    }
    let actions: Vec<Uuid> = steps.iter().map(|_| Uuid::now_v7()).collect();
    let row = advance(conn, act, row, &steps, &actions).await?;
    let queued = send(conn, act, &row, &steps, &actions).await?;
    if !queued.iter().any(|q| q.kind == EVENT_REGISTRATION) {
        ask_later(conn, row.awaiting_action_id.as_slice()).await?;
    }
    changes::record_moved(conn, row.id).await?;
    let reply = reply::accepted(&act.transaction_id, &row, queued)?;
    let action_id = actions.last().copied().unwrap_or_default();
    let saved = Saved { transaction_id: &act.transaction_id, reply: &reply, record_id: row.id, action_id };
    transactions::save(conn, &[saved]).await?;
    Ok(Outcome::Done(reply))
}

fn step_of(kind: ActionKind) -> Step {
    match kind {
        ActionKind::Notify => Step::Notify,
        ActionKind::Declare => Step::Declare,
        ActionKind::Validate => Step::Validate,
        ActionKind::Register => Step::Register,
        ActionKind::Reject => Step::Reject,
        ActionKind::MarkNotDuplicate => Step::MarkNotDuplicate,
        ActionKind::Archive => Step::Archive,
    }
}

/// Moves the record through the steps, with its new version if there is one, and appends the actions.
async fn advance(
    conn: &mut PgConnection,
    act: &Act,
    mut row: Row,
    steps: &[Step],
    actions: &[Uuid],
) -> Result<Row, CommandError> {
    if act.declaration.is_some() {
        row.version += 1;
    }
    // Whatever moves the record also ends the wait for the verdict on an earlier request.
    if let Some(superseded) = row.awaiting_action_id.take() {
        action::await_callback(conn, superseded, None).await?;
        // Its question is void: left in the queue, a dead one would hold up the corrected record for ever.
        enqueue::hold_predecessors(conn, row.id).await?;
        complete::finish_unleased(conn, superseded, EVENT_REGISTRATION).await?;
    }
    let mut appended = Vec::with_capacity(steps.len());
    for (step, id) in steps.iter().zip(actions) {
        row.status = transition_through(row.status, row.held_action.map(step_of), *step, steps)?;
        // A correction does not answer the question whether it is a duplicate.
        if *step != Step::Declare {
            row.held_action = None;
        }
        row.awaiting_action_id = (row.status == Status::WaitingValidation).then_some(*id);
        appended.push(new_action(act, &row, *step, *id));
    }
    if let Some(declaration) = &act.declaration {
        let stamped = stamped(declaration, &row, &act.attachments)?;
        let new = NewVersion {
            record_id: row.id,
            version: row.version,
            declaration: &stamped,
            created_by: &act.initiator.id,
        };
        version::insert(conn, &[new]).await?;
        let owner = Owner { record_id: row.id, version: row.version, attachments: &act.attachments };
        attachments::store(conn, &[owner]).await?;
    }
    action::append(conn, &appended).await?;
    record::update(conn, &row).await?;
    Ok(row)
}

/// `mark_not_duplicate` itself leaves the record declared where the step that it resumes follows in the same flow.
fn transition_through(status: Status, held: Option<Step>, step: Step, flow: &[Step]) -> Result<Status, CommandError> {
    if step == Step::MarkNotDuplicate && flow.len() > 1 {
        return Ok(status);
    }
    Ok(transition(status, held, step)?)
}

fn new_action<'a>(act: &'a Act, row: &Row, step: Step, id: Uuid) -> NewAction<'a> {
    let (action, status): (ActionKind, ActionStatus) = step.appends();
    NewAction {
        id,
        record_id: row.id,
        transaction_id: &act.transaction_id,
        action,
        status,
        requested_action_id: None,
        version: row.version,
        record_status: row.status,
        registration_number: None,
        identifiers: None,
        reason: act.reason.as_deref(),
        comment: act.comment.as_deref(),
        created_by: &act.initiator.id,
        scopes: &act.initiator.scopes,
    }
}

fn stamped(text: &str, row: &Row, attachments: &[Attachment]) -> Result<String, CommandError> {
    let declaration = Declaration::parse(text)?;
    let urls: Vec<String> = attachments.iter().take(declaration.inline().len()).map(Attachment::url).collect();
    let stamp = Stamp {
        record_id: row.id,
        event: &row.event,
        tracking_id: &row.tracking_id,
        status: row.status.reg_status(),
        registration_number: None,
        identifiers: &[],
    };
    Ok(declaration.stamped(&stamp, &urls)?)
}

async fn send(
    conn: &mut PgConnection,
    act: &Act,
    row: &Row,
    steps: &[Step],
    actions: &[Uuid],
) -> Result<Vec<crate::outbox::Queued>, CommandError> {
    let origin = Origin {
        transaction_id: &act.transaction_id,
        record_id: row.id,
        initiator_id: &act.initiator.id,
        initiator_scopes: &act.initiator.scopes,
        traceparent: act.traceparent.as_deref(),
    };
    enqueue::hold_predecessors(conn, row.id).await?;
    Ok(enqueue::enqueue(conn, &effects::messages(origin, steps, actions)).await?)
}
