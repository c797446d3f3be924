//! The actions on a record, a route each: `POST /records/{id}/{notify|declare|validate|register|not-duplicate|archive}`.

use axum::extract::{Request, State};
use axum::response::Response;

use super::AppState;
use super::acts::act;
use super::extract::{Caller, RecordId};
use super::openapi::bodies::{Archival, Correction, Review};
use super::openapi::problems::{ActProblems, CorrectProblems};
use super::openapi::shapes::{Accepted, IdempotencyKey};
use super::openapi::tags;
use super::problem::Problem;
use crate::records::model::Step;

/// Correct an incomplete declaration
///
/// A new version of the record, which stays incomplete. Who only declares corrects their own records; others do not exist
/// for them.
#[utoipa::path(
    post, path = "/records/{id}/notify", operation_id = "notifyRecord", tag = tags::RECORDS,
    params(RecordId, IdempotencyKey, Caller), request_body = Correction,
    responses(Accepted, CorrectProblems), security(("bearer" = ["declare"])),
)]
pub(super) async fn notify(s: State<AppState>, of: (Caller, RecordId), r: Request) -> Result<Response, Problem> {
    act(Step::Notify, s, of, r).await
}

/// Declare, or correct a declaration
///
/// A new version of the record, complete and for review. Who only declares corrects their own records; others do not exist
/// for them. A registration that was asked for is superseded.
#[utoipa::path(
    post, path = "/records/{id}/declare", operation_id = "declareRecord", tag = tags::RECORDS,
    params(RecordId, IdempotencyKey, Caller), request_body = Correction,
    responses(Accepted, CorrectProblems), security(("bearer" = ["declare"])),
)]
pub(super) async fn declare(s: State<AppState>, of: (Caller, RecordId), r: Request) -> Result<Response, Problem> {
    act(Step::Declare, s, of, r).await
}

/// Say that a declaration was reviewed
///
/// From then on a registrar may register it.
#[utoipa::path(
    post, path = "/records/{id}/validate", operation_id = "validateRecord", tag = tags::REVIEW,
    params(RecordId, IdempotencyKey, Caller), request_body = Review,
    responses(Accepted, ActProblems), security(("bearer" = ["validate"])),
)]
pub(super) async fn validate(s: State<AppState>, of: (Caller, RecordId), r: Request) -> Result<Response, Problem> {
    act(Step::Validate, s, of, r).await
}

/// Ask for the registration
///
/// The country is asked, and answers with its verdict at once or later; until then the record waits.
#[utoipa::path(
    post, path = "/records/{id}/register", operation_id = "registerRecord", tag = tags::REVIEW,
    params(RecordId, IdempotencyKey, Caller), request_body = Review,
    responses(Accepted, ActProblems), security(("bearer" = ["register"])),
)]
pub(super) async fn register(s: State<AppState>, of: (Caller, RecordId), r: Request) -> Result<Response, Problem> {
    act(Step::Register, s, of, r).await
}

/// Say that a record is no duplicate
///
/// Resumes what a possible duplicate held back.
#[utoipa::path(
    post, path = "/records/{id}/not-duplicate", operation_id = "markNotDuplicate", tag = tags::REVIEW,
    params(RecordId, IdempotencyKey, Caller), request_body = Review,
    responses(Accepted, ActProblems), security(("bearer" = ["validate"])),
)]
pub(super) async fn not_duplicate(s: State<AppState>, of: (Caller, RecordId), r: Request) -> Result<Response, Problem> {
    act(Step::MarkNotDuplicate, s, of, r).await
}

/// Put a record away
///
/// For good: an archived record does not change any more.
#[utoipa::path(
    post, path = "/records/{id}/archive", operation_id = "archiveRecord", tag = tags::REVIEW,
    params(RecordId, IdempotencyKey, Caller), request_body = Archival,
    responses(Accepted, ActProblems), security(("bearer" = ["register"])),
)]
pub(super) async fn archive(s: State<AppState>, of: (Caller, RecordId), r: Request) -> Result<Response, Problem> {
    act(Step::Archive, s, of, r).await
}
