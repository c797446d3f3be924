//! Actions on a record that exists.

use sqlx::PgConnection;
use uuid::Uuid;

use super::redeliver::ask_later;
use super::{CommandError, Initiator, Outcome, reply};
use crate::outbox::{complete, enqueue};
use crate::records::attachments::{self, Attachment, Owner};
use crate::records::changes;
use crate::records::duplicates::{self, Keys, Resolution};
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
    let flow = Flow::of(conn, act, held).await?;
    let row = advance(conn, act, row, &flow).await?;
    let queued = send(conn, act, &row, &flow).await?;
    if !queued.iter().any(|q| q.kind == EVENT_REGISTRATION) {
        ask_later(conn, row.awaiting_action_id.as_slice()).await?;
    }
    changes::record_moved(conn, row.id).await?;
    let duplicates = duplicates::of_record(conn, row.id).await?;
    let reply = reply::accepted(&act.transaction_id, &row, duplicates, queued)?;
    let action_id = flow.actions.last().copied().unwrap_or_default();
    let saved = Saved { transaction_id: &act.transaction_id, reply: &reply, record_id: row.id, action_id };
    transactions::save(conn, &[saved]).await?;
    Ok(Outcome::Done(reply))
}

/// The steps that one act takes, each with the id of its action.
struct Flow {
    steps: Vec<Step>,
    actions: Vec<Uuid>,
    /// On whose behalf a step that was held back is resumed.
    resumed_for: Option<Initiator>,
}

impl Flow {
    /// A possible duplicate that is none resumes what was held back: as an act of whoever asked for it, who was allowed
    /// to, and not of who says that it is no duplicate, who need not be.
    async fn of(conn: &mut PgConnection, act: &Act, held: Option<Step>) -> Result<Self, CommandError> {
        let mut steps = vec![act.step];
        let mut resumed_for = None;
        if let (Step::MarkNotDuplicate, Some(resumed @ (Step::Validate | Step::Register))) = (act.step, held) {
            steps.push(resumed);
            resumed_for = action::beginner(conn, act.record_id).await?.map(|(id, scopes)| Initiator { id, scopes });
        }
        let actions = steps.iter().map(|_| Uuid::now_v7()).collect();
        Ok(Self { steps, actions, resumed_for })
    }

    fn initiator<'a>(&'a self, act: &'a Act, at: usize) -> &'a Initiator {
        self.resumed_for.as_ref().filter(|_| at > 0).unwrap_or(&act.initiator)
    }
}

pub(super) fn step_of(kind: ActionKind) -> Step {
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
async fn advance(conn: &mut PgConnection, act: &Act, mut row: Row, flow: &Flow) -> Result<Row, CommandError> {
    if act.declaration.is_some() {
        row.version += 1;
    }
    // Whatever moves the record also ends the wait for the verdict on an earlier request.
    let superseded = row.awaiting_action_id.take();
    let mut appended = Vec::with_capacity(flow.steps.len());
    for (at, (step, id)) in flow.steps.iter().zip(&flow.actions).enumerate() {
        row.status = transition_through(row.status, row.held_action.map(step_of), *step, &flow.steps)?;
        // A correction does not answer the question whether it is a duplicate.
        if *step != Step::Declare {
            row.held_action = None;
        }
        row.awaiting_action_id = (row.status == Status::WaitingValidation).then_some(*id);
        appended.push(new_action(act, flow.initiator(act, at), &row, (*step, *id)));
    }
    resolve_duplicates(conn, act, row.id).await?;
    if let Some(declaration) = &act.declaration {
        let declaration = Declaration::parse(declaration)?;
        compare_again(conn, act, &mut row, &declaration).await?;
        let stamped = stamped(&declaration, &row, &act.attachments)?;
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
    if let Some(superseded) = superseded {
        action::await_callback(conn, superseded, None).await?;
        // Its question is void: left in the queue, a dead one would hold up the corrected record for ever.
        enqueue::hold_predecessors(conn, row.id).await?;
        complete::finish_unleased(conn, superseded, EVENT_REGISTRATION).await?;
    }
    action::append(conn, &appended).await?;
    record::update(conn, &row).await?;
    Ok(row)
}

/// What is said of the whole record answers its open questions.
async fn resolve_duplicates(conn: &mut PgConnection, act: &Act, record_id: Uuid) -> Result<(), CommandError> {
    let resolution = match act.step {
        Step::MarkNotDuplicate => Resolution::NotDuplicate,
        Step::Reject | Step::Refuse => Resolution::Rejected,
        Step::Archive => Resolution::Archived,
        Step::Notify | Step::Declare | Step::Validate | Step::Register | Step::Confirm => return Ok(()),
    };
    Ok(duplicates::resolve(conn, record_id, resolution, &act.initiator.id).await?)
}

/// A correction is compared anew, and held if somebody has to look at it; one that was held stays so.
async fn compare_again(
    conn: &mut PgConnection,
    act: &Act,
    row: &mut Row,
    declaration: &Declaration<'_>,
) -> Result<(), CommandError> {
    let keys = Keys::of(&row.event, declaration);
    let found = duplicates::compare_again(conn, (row.id, &row.event, &keys), &act.initiator.id).await?;
    if row.status == Status::Declared && row.held_action.is_none() && duplicates::holds(conn, &found).await? {
        row.held_action = Some(ActionKind::Declare);
    }
    Ok(())
}

/// `mark_not_duplicate` itself leaves the record declared where the step that it resumes follows in the same flow.
fn transition_through(status: Status, held: Option<Step>, step: Step, flow: &[Step]) -> Result<Status, CommandError> {
    if step == Step::MarkNotDuplicate && flow.len() > 1 {
        return Ok(status);
    }
    Ok(transition(status, held, step)?)
}

fn new_action<'a>(act: &'a Act, by: &'a Initiator, row: &Row, (step, id): (Step, Uuid)) -> NewAction<'a> {
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
        annotation: None,
        reason: act.reason.as_deref(),
        comment: act.comment.as_deref(),
        created_by: &by.id,
        scopes: &by.scopes,
    }
}

fn stamped(declaration: &Declaration<'_>, row: &Row, attachments: &[Attachment]) -> Result<String, CommandError> {
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
    flow: &Flow,
) -> Result<Vec<crate::outbox::Queued>, CommandError> {
    let origin = Origin {
        transaction_id: &act.transaction_id,
        record_id: row.id,
        initiator_id: &act.initiator.id,
        owner_id: None,
        initiator_scopes: &act.initiator.scopes,
        traceparent: act.traceparent.as_deref(),
    };
    enqueue::hold_predecessors(conn, row.id).await?;
    let mut messages = effects::messages(origin, &flow.steps, &flow.actions);
    for message in &mut messages {
        let at = flow.actions.iter().position(|id| *id == message.action_id).unwrap_or_default();
        let initiator = flow.initiator(act, at);
        message.owner_id = (initiator.id != act.initiator.id).then(|| act.initiator.id.clone());
        message.initiator_id.clone_from(&initiator.id);
        message.initiator_scopes.clone_from(&initiator.scopes);
    }
    Ok(enqueue::enqueue(conn, &messages).await?)
}
