//! The country calls back: `POST /records/{id}/confirm` and `/reject`.
//!
//! A verdict needs a token with that scope for that record. `/reject` with a user's token is a registrar's own action.
//! The key of a verdict's dedupe is the request it decides, so an `Idempotency-Key` is not asked for here: peers send
//! ours back.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::body::Object;
use super::extract::{Caller, RecordId};
use super::openapi::bodies::Rejection;
use super::openapi::problems::{ActProblems, VerdictProblems};
use super::openapi::shapes::{Accepted, IdempotencyKey};
use super::openapi::tags;
use super::problem::{Kind, Problem};
use super::records::accepted;
use super::{AppState, acts, body, transact};
use crate::auth::RecordGrant;
use crate::records::commands::{
    Amendment, Decision, NUMBER_MAX, Outcome, REASON_MAX, Verdict, is_reason, is_registration_number,
};
use crate::records::model::Step;
use crate::transactions::Reply;

/// The country registers the event.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(as = Confirmation)]
// The pattern of the number is what `is_registration_number` takes.
struct ConfirmBody {
    /// Unique across records; printable, and without space around it.
    #[schema(
        min_length = 1,
        max_length = 100,
        pattern = r"^[^\x00-\x20\x7f-\xa0\u1680\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff]([^\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]*[^\x00-\x20\x7f-\xa0\u1680\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff])?$",
        examples("2026B00000017")
    )]
    registration_number: String,
    /// If it is there, it is that of the record.
    #[schema(pattern = r"^[^\x00]*$", examples("B2X3ACD"))]
    tracking_id: Option<String>,
    /// Identifiers to give to the child of the declaration.
    #[schema(value_type = Vec<IdentifierBody>)]
    #[serde(default)]
    child_identifiers: Vec<Object<IdentifierBody>>,
    /// Free text, kept with the verdict.
    #[schema(pattern = r"^[^\x00]*$")]
    comment: Option<String>,
}

/// An identifier of a person.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Identifier)]
struct IdentifierBody {
    /// Its code.
    #[serde(rename = "type")]
    #[schema(pattern = r"^[^\x00]*$", examples("NATIONAL_ID"))]
    kind: String,
    /// Itself.
    #[schema(pattern = r"^[^\x00]*$")]
    value: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RejectBody {
    reason: String,
    comment: Option<String>,
}

/// Confirm a registration
///
/// The country's verdict, with the token that it was given for the record. The first verdict stands: the same again is
/// answered as before, another one with 409.
#[utoipa::path(
    post, path = "/records/{id}/confirm", operation_id = "confirmRegistration", tag = tags::COUNTRY,
    params(RecordId, Caller), request_body = ConfirmBody,
    responses(Accepted, VerdictProblems), security(("bearer" = ["record.confirm-registration"])),
)]
pub(super) async fn confirm(
    State(state): State<AppState>,
    caller: Caller,
    RecordId(id): RecordId,
    request: Request,
) -> Result<Response, Problem> {
    let grant = grant(&caller, id, Step::Confirm)?;
    let (parts, body) = request.into_parts();
    let bytes = body::read(&parts, body, state.settings.body_max).await?;
    let body: ConfirmBody = body::walked(&bytes)?;
    check_number(&body.registration_number)?;
    let verdict = Verdict::Accepted {
        registration_number: body.registration_number,
        identifiers: body.child_identifiers.into_iter().map(|Object(i)| (i.kind, i.value)).collect(),
        amendment: Amendment::default(),
        comment: body.comment,
    };
    decide(&state, &caller, grant, body.tracking_id, verdict).await
}

/// Reject a registration, or send a record back
///
/// With the record's token, the country's verdict; with a user's, a registrar's own action, which has a transaction id
/// like any other.
#[utoipa::path(
    post, path = "/records/{id}/reject", operation_id = "rejectRecord", tag = tags::REVIEW,
    params(RecordId, IdempotencyKey, Caller), request_body = Rejection,
    responses(Accepted, ActProblems),
    security(("bearer" = ["validate"]), ("bearer" = ["record.reject-registration"])),
)]
pub(super) async fn reject(
    State(state): State<AppState>,
    caller: Caller,
    RecordId(id): RecordId,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    if caller.principal.record.is_none() {
        let bytes = body::read(&parts, body, state.settings.body_max).await?;
        return acts::run(Step::Reject, &state, caller, id, (parts.headers, bytes)).await;
    }
    let grant = grant(&caller, id, Step::Refuse)?;
    let bytes = body::read(&parts, body, state.settings.body_max).await?;
    let body: RejectBody = body::walked(&bytes)?;
    check_reason(&body.reason)?;
    let verdict = Verdict::Rejected { reason: body.reason, comment: body.comment };
    decide(&state, &caller, grant, None, verdict).await
}

/// Whether a text can be a registration number.
pub(super) fn check_number(number: &str) -> Result<(), Problem> {
    if is_registration_number(number) {
        return Ok(());
    }
    let detail = format!("a registration number is 1 to {NUMBER_MAX} printable characters, without space around them");
    Err(Problem::new(Kind::BadRequest).detail(detail))
}

/// Whether a text can be the reason of a rejection.
pub(super) fn check_reason(reason: &str) -> Result<(), Problem> {
    if is_reason(reason) {
        return Ok(());
    }
    Err(Problem::new(Kind::BadRequest).detail(format!("a reason is 1 to {REASON_MAX} characters")))
}

/// What lets the caller give a verdict on a record. Both the scope and the record have to fit.
pub(super) fn grant(caller: &Caller, id: Uuid, verdict: Step) -> Result<RecordGrant, Problem> {
    let (right, scope) = acts::right(verdict);
    let principal = &caller.principal;
    let grant = principal.record.filter(|g| g.record_id == id);
    // A verdict's scopes are not narrowed to an event: the record is named already.
    match grant {
        Some(grant) if principal.scopes.allows(right, "") => Ok(grant),
        Some(_) => Err(Problem::insufficient(scope)),
        None => Err(Problem::insufficient(scope).detail("the token is not for this record")),
    }
}

/// A verdict on what the token is for.
pub(super) fn decision(caller: &Caller, grant: RecordGrant, tracking_id: Option<String>, verdict: Verdict) -> Decision {
    Decision {
        record_id: grant.record_id,
        action_id: grant.action_id,
        tracking_id,
        by: caller.principal.id.clone(),
        verdict,
        traceparent: caller.traceparent.clone(),
    }
}

async fn decide(
    state: &AppState,
    caller: &Caller,
    grant: RecordGrant,
    tracking_id: Option<String>,
    verdict: Verdict,
) -> Result<Response, Problem> {
    let outcome = transact::decide(state, decision(caller, grant, tracking_id, verdict)).await?;
    let id = transaction_of(&outcome).ok_or_else(|| Problem::new(Kind::Internal))?;
    Ok(accepted(&id, outcome).into_response())
}

/// The transaction that a verdict belongs to, as its reply names it.
fn transaction_of(outcome: &Outcome) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Named {
        transaction_id: String,
    }
    let (Outcome::Done(Reply { body, .. }) | Outcome::Replayed(Reply { body, .. })) = outcome else {
        return None;
    };
    serde_json::from_str::<Named>(body).ok().map(|named| named.transaction_id)
}
