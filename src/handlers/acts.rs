//! What `POST /records/{id}/{notify|declare|validate|register|not-duplicate|archive}` ([`super::steps`]) and a registrar's
//! `reject` have in common.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::attachments::prepare;
use super::body::{self, AttachmentBody, Object};
use super::extract::{Caller, RecordId, transaction_id};
use super::problem::{Kind, Problem};
use super::records::accepted;
use super::{AppState, transact};
use crate::auth::{Principal, Right};
use crate::records::commands::{Access, Act, is_reason};
use crate::records::effects;
use crate::records::model::Step;
use crate::records::queries;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ActBody<'t> {
    transaction_id: Option<String>,
    #[serde(borrow)]
    declaration: Option<&'t RawValue>,
    #[serde(borrow, default)]
    attachments: Vec<Object<AttachmentBody<'t>>>,
    reason: Option<String>,
    comment: Option<String>,
}

/// Does `step` to a record: 202 and the transaction resource, after the commit.
pub(super) async fn act(
    step: Step,
    State(state): State<AppState>,
    (caller, RecordId(id)): (Caller, RecordId),
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let bytes = body::read(&parts, body, state.settings.body_max).await?;
    run(step, &state, caller, id, (parts.headers, bytes)).await
}

/// The same, once the body has been read.
pub(super) async fn run(
    step: Step,
    state: &AppState,
    caller: Caller,
    record_id: Uuid,
    (headers, bytes): (HeaderMap, Bytes),
) -> Result<Response, Problem> {
    let access = access(state, &caller, step, record_id).await?;
    let (settings, asking, size) = (Arc::clone(&state.settings), caller.clone(), bytes.len());
    let read = move || read_act(step, &asking, access, record_id, (&headers, &bytes), &settings.attachments.types);
    let mut act = body::off_thread(size, read).await?;
    transact::admit(state, &act.transaction_id).await?;
    prepare(state, &caller, &mut act.attachments, Some(record_id)).await?;
    let id = act.transaction_id.clone();
    Ok(accepted(&id, transact::act(state, act).await?))
}

/// Who may do it, and to whose records. A right may be narrowed to an event, so the record is looked up first; one
/// that does not exist is told apart only to those who have the right for some event.
async fn access(state: &AppState, caller: &Caller, step: Step, record_id: Uuid) -> Result<Access, Problem> {
    let (right, scope) = right(step);
    let mut conn = state.db.acquire().await?;
    let Some(known) = queries::record(&mut conn, record_id).await? else {
        let any = state.settings.events.iter().any(|event| caller.principal.scopes.allows(right, event));
        return Err(if any { Problem::new(Kind::NotFound) } else { Problem::insufficient(scope) });
    };
    if !caller.principal.scopes.allows(right, &known.view.event) {
        return Err(Problem::insufficient(scope));
    }
    let only_own = declares(step) && !reviews(&caller.principal, &known.view.event);
    // Before anything else is judged: what is wrong with an act may say something of the record.
    if only_own && known.created_by != caller.principal.id {
        return Err(Problem::new(Kind::NotFound));
    }
    Ok(if only_own { Access::Own } else { Access::Any })
}

/// Who reviews corrects everybody's declarations; who only declares, their own.
fn reviews(principal: &Principal, event: &str) -> bool {
    [Right::Validate, Right::Register].into_iter().any(|right| principal.scopes.allows(right, event))
}

/// The right that a step needs, and the scope that is named to who lacks it.
pub(super) fn right(step: Step) -> (Right, &'static str) {
    match step {
        Step::Notify => (Right::Notify, "declare"),
        Step::Declare => (Right::Declare, "declare"),
        Step::Validate => (Right::Validate, "validate"),
        Step::Register => (Right::Register, "register"),
        Step::Confirm => (Right::ConfirmRegistration, "record.confirm-registration"),
        Step::Refuse => (Right::RejectRegistration, "record.reject-registration"),
        Step::Reject => (Right::Reject, "validate"),
        Step::MarkNotDuplicate => (Right::MarkNotDuplicate, "validate"),
        Step::Archive => (Right::Archive, "register"),
    }
}

fn read_act(
    step: Step,
    caller: &Caller,
    access: Access,
    record_id: Uuid,
    (headers, bytes): (&HeaderMap, &Bytes),
    types: &[String],
) -> Result<Act, Problem> {
    // The steps that say nothing more than themselves need no body.
    let bytes: &[u8] = if bytes.is_empty() && !declares(step) && step != Step::Reject { b"{}" } else { bytes };
    let fingerprint = body::fingerprint(&format!("POST /records/{record_id}/{}", effects::word(step)), bytes)?;
    let body: ActBody<'_> = body::typed(bytes)?;
    let transaction_id = transaction_id(headers, body.transaction_id.as_deref())?;
    check_members(step, &body)?;
    let (declaration, attachments) = match body.declaration {
        Some(declaration) => {
            let (text, attachments) =
                body::declaration(declaration, &body.attachments, types).map_err(Problem::faults)?;
            (Some(text), attachments)
        }
        None => (None, Vec::new()),
    };
    Ok(Act {
        transaction_id,
        fingerprint,
        initiator: caller.initiator(),
        access,
        traceparent: caller.traceparent.clone(),
        record_id,
        step,
        declaration,
        attachments,
        reason: body.reason,
        comment: body.comment,
    })
}

fn declares(step: Step) -> bool {
    matches!(step, Step::Notify | Step::Declare)
}

/// What an action must and must not bring.
fn check_members(step: Step, body: &ActBody<'_>) -> Result<(), Problem> {
    let wrong = |detail: &str| Err(Problem::new(Kind::BadRequest).detail(detail));
    let declares = declares(step);
    let explains = matches!(step, Step::Reject | Step::Archive);
    if declares && body.declaration.is_none() {
        return wrong("missing field `declaration`");
    }
    if !declares && (body.declaration.is_some() || !body.attachments.is_empty()) {
        return wrong("this action takes no declaration and no attachments");
    }
    if step == Step::Reject && !body.reason.as_deref().is_some_and(is_reason) {
        return wrong("a rejection needs a reason of 1 to 10000 characters");
    }
    if !explains && body.reason.is_some() {
        return wrong("this action takes no reason");
    }
    Ok(())
}
