//! `POST /records`, `GET /records/{id}`, `GET /records/{id}/history`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::attachments::prepare;
use super::body::{self, AttachmentBody, Object};
use super::extract::{Caller, RecordId, transaction_id};
use super::openapi::bodies::AnyAttachment;
use super::openapi::problems::{ReadProblems, SubmitProblems};
use super::openapi::shapes::{Accepted, Event, IdempotencyKey, action};
use super::openapi::{Declaration, tags};
use super::problem::{Fault, Kind, Problem};
use super::{AppState, Settings, transact};
use crate::auth::{Flow, Right};
use crate::records::attachments::Attachment;
use crate::records::commands::{Outcome, Submission};
use crate::records::model::Step;
use crate::records::queries::{self, FullRecord, HistoryEntry, Known};

/// A declaration of an event that has no record yet.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(as = Submission)]
struct SubmissionBody<'t> {
    /// The transaction id, if it is not in the header.
    #[schema(pattern = "^[A-Za-z0-9._:-]{8,128}$")]
    transaction_id: Option<String>,
    #[schema(value_type = Event)]
    event: String,
    #[schema(schema_with = action)]
    action: Option<String>,
    #[schema(value_type = Declaration)]
    #[serde(borrow)]
    declaration: &'t RawValue,
    /// Attachments beside those in the declaration.
    #[schema(value_type = Vec<AnyAttachment>, max_items = 200)]
    #[serde(borrow, default)]
    attachments: Vec<Object<AttachmentBody<'t>>>,
    /// Free text, kept with the action.
    #[schema(pattern = r"^[^\x00]*$")]
    comment: Option<String>,
}

/// Declare an event
///
/// Accepted with 202 after the commit: the record, its action and everything that follows from it are kept. `action` may
/// choose a smaller step than the scopes allow.
#[utoipa::path(
    post, path = "/records", operation_id = "submitRecord", tag = tags::RECORDS,
    params(IdempotencyKey, Caller), request_body = SubmissionBody<'static>,
    responses(Accepted, SubmitProblems),
    security(("bearer" = ["declare"]), ("bearer" = ["validate"]), ("bearer" = ["register"])),
)]
pub(super) async fn submit(
    State(state): State<AppState>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let bytes = body::read(&parts, body, state.settings.body_max).await?;
    let (settings, asking, size) = (Arc::clone(&state.settings), caller.clone(), bytes.len());
    let read = move || read_submission(&asking, &bytes, &settings, |in_body| transaction_id(&parts.headers, in_body));
    let mut submission = body::off_thread(size, read).await?;
    let id = submission.transaction_id.clone();
    transact::admit(&state, &id).await?;
    prepare(&state, &caller, &mut submission.attachments, None).await?;
    Ok(accepted(&id, transact::submit(&state, submission).await?))
}

/// A submission by itself or as an item of a batch: the same intention, told apart by where its transaction id is only.
pub(super) fn read_submission(
    caller: &Caller,
    bytes: &[u8],
    settings: &Settings,
    transaction_id: impl FnOnce(Option<&str>) -> Result<String, Problem>,
) -> Result<Submission, Problem> {
    let fingerprint = body::fingerprint("POST /records", bytes)?;
    let body: SubmissionBody<'_> = body::typed(bytes)?;
    let transaction_id = transaction_id(body.transaction_id.as_deref())?;
    let (declaration, attachments) = content(&body, settings)?;
    let goal = goal(caller, body.action.as_deref(), &body.event)?;
    Ok(Submission {
        transaction_id,
        fingerprint,
        initiator: caller.initiator(),
        traceparent: caller.traceparent.clone(),
        event: body.event,
        goal,
        declaration,
        attachments,
        comment: body.comment,
    })
}

/// What is wrong in a submission is said all at once.
fn content(body: &SubmissionBody<'_>, settings: &Settings) -> Result<(String, Vec<Attachment>), Problem> {
    let mut faults = Vec::new();
    let events = &settings.events;
    if !events.contains(&body.event) {
        let detail = format!("known events: {}", events.join(", "));
        faults.push(Fault::new(Kind::UnknownEvent, "/event", detail));
    }
    if body.action.as_deref().is_some_and(|action| flow(action).is_none()) {
        faults.push(Fault::new(Kind::BadRequest, "/action", FLOWS));
    }
    match body::declaration(body.declaration, &body.attachments, &settings.attachments.types) {
        Ok(content) if faults.is_empty() => return Ok(content),
        Ok(_) => {}
        Err(more) => faults.extend(more),
    }
    Err(Problem::faults(faults))
}

const FLOWS: &str = "action is one of notify, declare, validate, register";

fn flow(action: &str) -> Option<(Step, Right, &'static str)> {
    Some(match action {
        "notify" => (Step::Notify, Right::Notify, "declare"),
        "declare" => (Step::Declare, Right::Declare, "declare"),
        "validate" => (Step::Validate, Right::Validate, "validate"),
        "register" => (Step::Register, Right::Register, "register"),
        _ => return None,
    })
}

/// The flow that was asked for, if the scopes allow it; else the furthest that they allow.
pub(super) fn goal(caller: &Caller, asked: Option<&str>, event: &str) -> Result<Step, Problem> {
    let scopes = &caller.principal.scopes;
    let Some(action) = asked else {
        return match scopes.strongest_flow(event) {
            Some(Flow::Register) => Ok(Step::Register),
            Some(Flow::Validate) => Ok(Step::Validate),
            Some(Flow::Declare) => Ok(Step::Declare),
            None => Err(Problem::insufficient("declare")),
        };
    };
    let unknown = || Problem::fault(Kind::BadRequest, "/action", FLOWS);
    let (step, right, scope) = flow(action).ok_or_else(unknown)?;
    if scopes.allows(right, event) { Ok(step) } else { Err(Problem::insufficient(scope)) }
}

/// The reply to a write: what was saved, byte for byte.
pub(super) fn accepted(transaction_id: &str, outcome: Outcome) -> Response {
    let (reply, replayed) = match outcome {
        Outcome::Done(reply) => (reply, false),
        Outcome::Replayed(reply) => (reply, true),
        Outcome::Reused => return Problem::new(Kind::KeyReused).into_response(),
    };
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::ACCEPTED);
    let mut response = (status, reply.body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(location) = HeaderValue::from_str(&format!("/transactions/{transaction_id}")) {
        headers.insert(header::LOCATION, location);
    }
    if replayed {
        headers.insert("idempotency-replayed", HeaderValue::from_static("true"));
    }
    response
}

/// Read a record
///
/// With its current declaration and the list of its attachments; for the submitter, who may read records, or the record's
/// own token.
#[utoipa::path(
    get, path = "/records/{id}", operation_id = "readRecord", tag = tags::RECORDS,
    params(RecordId, Caller),
    responses(
        (status = 200, description = "The record", body = FullRecord, links(
            ("readAttachment" = (
                operation_id = "readAttachment", parameters(("sha256" = "$response.body#/attachments/0/sha256")),
            )),
        )),
        ReadProblems,
    ),
    security(("bearer" = []), ("bearer" = ["record.read"])),
)]
pub(super) async fn read(
    State(state): State<AppState>,
    caller: Caller,
    RecordId(id): RecordId,
) -> Result<Json<FullRecord>, Problem> {
    let mut conn = state.db.acquire().await?;
    let known = readable(&caller, queries::record(&mut conn, id).await?)?;
    Ok(Json(queries::full(&mut conn, known).await?))
}

/// Read what was done to a record
///
/// Its actions in order, each with its deliveries; for those who may read the record.
#[utoipa::path(
    get, path = "/records/{id}/history", operation_id = "readHistory", tag = tags::RECORDS,
    params(RecordId, Caller),
    responses((status = 200, description = "The actions", body = Vec<HistoryEntry>), ReadProblems),
    security(("bearer" = []), ("bearer" = ["record.read"])),
)]
pub(super) async fn history(
    State(state): State<AppState>,
    caller: Caller,
    RecordId(id): RecordId,
) -> Result<Json<Vec<HistoryEntry>>, Problem> {
    let mut conn = state.db.acquire().await?;
    readable(&caller, queries::record(&mut conn, id).await?)?;
    Ok(Json(queries::record_history(&mut conn, id).await?))
}

fn readable(caller: &Caller, known: Option<Known>) -> Result<Known, Problem> {
    known
        .filter(|k| caller.may_read(k.view.id, &k.view.event, &k.created_by))
        .ok_or_else(|| Problem::new(Kind::NotFound))
}
