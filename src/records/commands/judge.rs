//! What the country says of an action that does not wait for it, as OpenCRVS 1.9 has it: of every action but a
//! registration. It may amend what was declared, or refuse: then the record is `rejected`, with its reason.
//!
//! First word wins, and is kept. It comes late by nature, and changes nothing of what others did meanwhile: fields are not
//! merged into a later declaration, and a refusal moves no record on which somebody has acted since, nor one that a refusal
//! cannot move.

use sqlx::PgConnection;
use uuid::Uuid;

use super::act::step_of;
use super::amend::{Amendment, Given, amend};
use super::{CommandError, Outcome, Standing, reply};
use crate::outbox::{Queued, complete, enqueue};
use crate::records::changes;
use crate::records::duplicates::{self, Resolution};
use crate::records::effects::{self, EVENT_REGISTRATION, Origin};
use crate::records::model::{ActionKind, ActionStatus, Status, Step, transition};
use crate::records::store::action::{self, NewAction, Told};
use crate::records::store::record::{self, Row};
use crate::transactions;

/// What the country says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opinion {
    /// It stands, perhaps amended.
    Accepted(Amendment),
    /// It does not.
    Rejected {
        /// Why.
        reason: String,
        /// Free text.
        comment: Option<String>,
    },
}

impl Opinion {
    fn status(&self) -> ActionStatus {
        match self {
            Self::Accepted(_) => ActionStatus::Accepted,
            Self::Rejected { .. } => ActionStatus::Rejected,
        }
    }
}

/// An opinion and who has it.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// The record.
    pub record_id: Uuid,
    /// The action.
    pub action_id: Uuid,
    /// Who says so.
    pub by: String,
    /// What they say.
    pub opinion: Opinion,
    /// W3C trace context.
    pub traceparent: Option<String>,
}

/// Applies an opinion, once; the same again is `Replayed`, the opposite [`CommandError::AlreadyDecided`]. An action that waits for its verdict is not found: see [`super::decide()`].
pub async fn judge(conn: &mut PgConnection, judgement: &Judgement) -> Result<Outcome, CommandError> {
    let mut row = record::lock(conn, judgement.record_id).await?.ok_or(CommandError::NotFound)?;
    let told = action::told(conn, judgement.action_id).await?;
    let told = told.filter(|told| told.record_id == row.id).ok_or(CommandError::NotFound)?;
    match told.verdict {
        Some(stands) if stands == judgement.opinion.status() => {
            return Ok(Outcome::Replayed(view(conn, &told, &row, Vec::new()).await?));
        }
        Some(_) => return Err(CommandError::AlreadyDecided),
        None => {}
    }
    let queued = match &judgement.opinion {
        Opinion::Accepted(amendment) => accept(conn, judgement, &told, &mut row, amendment).await?,
        Opinion::Rejected { reason, comment } => {
            reject(conn, judgement, &told, &mut row, (reason, comment.as_deref())).await?
        }
    };
    changes::record_moved(conn, row.id).await?;
    Ok(Outcome::Done(view(conn, &told, &row, queued).await?))
}

/// Applies an opinion that came in the answer to a delivery, record first. Whatever becomes of it, the message has done its
/// work: what came too late, or contradicts what stands, changes nothing.
pub async fn receive_opinion(
    conn: &mut PgConnection,
    action_id: Uuid,
    destination: &str,
    opinion: Opinion,
) -> Result<Standing, CommandError> {
    let told = action::told(conn, action_id).await?.ok_or(CommandError::NotFound)?;
    let by = format!("destination/{destination}");
    let judgement = Judgement { record_id: told.record_id, action_id, by, opinion, traceparent: None };
    match judge(conn, &judgement).await {
        Ok(_) | Err(CommandError::AlreadyDecided) => Ok(Standing::Decided),
        Err(other) => Err(other),
    }
}

async fn view(
    conn: &mut PgConnection,
    told: &Told,
    row: &Row,
    queued: Vec<Queued>,
) -> Result<transactions::Reply, CommandError> {
    let duplicates = duplicates::of_record(conn, row.id).await?;
    reply::accepted(&told.transaction_id, row, duplicates, queued)
}

async fn accept(
    conn: &mut PgConnection,
    judgement: &Judgement,
    told: &Told,
    row: &mut Row,
    amendment: &Amendment,
) -> Result<Vec<Queued>, CommandError> {
    let open = told.version == row.version && !matches!(row.status, Status::Registered | Status::Archived);
    let fields = amendment.declaration.as_deref().filter(|_| open);
    let before = row.version;
    let given = Given { by: &judgement.by, registration_number: None, identifiers: &[], fields };
    let found = amend(conn, row, &given).await?;
    if row.status == Status::Declared && row.held_action.is_none() && duplicates::holds(conn, &found).await? {
        row.held_action = Some(ActionKind::Declare);
    }
    let (id, annotation) = (Uuid::now_v7(), amendment.annotation.as_deref());
    action::append(conn, &[NewAction { annotation, ..said(judgement, told, row, id) }]).await?;
    record::update(conn, row).await?;
    if row.version == before {
        return Ok(Vec::new());
    }
    enqueue::hold_predecessors(conn, row.id).await?;
    let owner = transactions::owner_beside(conn, &told.transaction_id, &told.created_by).await?;
    let origin = origin(judgement, told, owner.as_deref());
    Ok(enqueue::enqueue(conn, &[effects::of_amendment(origin, step_of(told.action), id)]).await?)
}

fn origin<'a>(judgement: &'a Judgement, told: &'a Told, owner_id: Option<&'a str>) -> Origin<'a> {
    Origin {
        transaction_id: &told.transaction_id,
        record_id: told.record_id,
        initiator_id: &told.created_by,
        owner_id,
        initiator_scopes: &told.scopes,
        traceparent: judgement.traceparent.as_deref(),
    }
}

async fn reject(
    conn: &mut PgConnection,
    judgement: &Judgement,
    told: &Told,
    row: &mut Row,
    (reason, comment): (&str, Option<&str>),
) -> Result<Vec<Queued>, CommandError> {
    // A registrar's rejection asks the table the same question.
    let rejected = transition(row.status, None, Step::Reject).ok().filter(|_| !told.superseded);
    let id = Uuid::now_v7();
    let Some(rejected) = rejected else {
        let kept = NewAction { reason: Some(reason), comment, ..said(judgement, told, row, id) };
        action::append(conn, &[kept]).await?;
        return Ok(Vec::new());
    };
    row.status = rejected;
    row.held_action = None;
    let awaited = row.awaiting_action_id.take();
    duplicates::resolve(conn, row.id, Resolution::Rejected, &judgement.by).await?;
    if let Some(awaited) = awaited {
        action::await_callback(conn, awaited, None).await?;
    }
    let refusal = NewAction { reason: Some(reason), comment, ..said(judgement, told, row, id) };
    action::append(conn, &[refusal]).await?;
    record::update(conn, row).await?;
    enqueue::hold_predecessors(conn, row.id).await?;
    // What was to follow in the same transaction is not asked any more.
    if let Some(awaited) = awaited {
        complete::finish_unleased(conn, awaited, EVENT_REGISTRATION).await?;
    }
    for (later, kind) in action::told_after(conn, told.id).await? {
        if let Some(kind) = effects::trigger(kind) {
            complete::finish_unleased(conn, later, kind).await?;
        }
    }
    let owner = transactions::owner_beside(conn, &told.transaction_id, &told.created_by).await?;
    let origin = origin(judgement, told, owner.as_deref());
    Ok(enqueue::enqueue(conn, &effects::messages(origin, &[Step::Refuse], &[id])).await?)
}

fn said<'a>(judgement: &'a Judgement, told: &'a Told, row: &Row, id: Uuid) -> NewAction<'a> {
    NewAction {
        id,
        record_id: row.id,
        transaction_id: &told.transaction_id,
        action: told.action,
        status: judgement.opinion.status(),
        requested_action_id: Some(told.id),
        version: row.version,
        record_status: row.status,
        registration_number: None,
        identifiers: None,
        annotation: None,
        reason: None,
        comment: None,
        created_by: &judgement.by,
        scopes: &[],
    }
}
