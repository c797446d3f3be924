//! `GET` and `HEAD /attachments/{sha256}`: the URL that takes the place of base64 in a stored bundle; and who has an
//! attachment, which decides who may refer to it ([`prepare`]).
//!
//! Streamed piece by piece, each with a query of its own, so that a slow reader holds no connection.

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use uuid::Uuid;

use super::extract::Caller;
use super::openapi::problems::ReadAttachmentProblems;
use super::openapi::shapes::{Binary, DigestPath};
use super::openapi::tags;
use super::openapi::waiting::PartOf;
use super::problem::{Fault, Kind, Problem};
use super::ranges::{self, Asked};
use super::validators::Known;
use super::{AppState, blobs};
use crate::records::attachments::{self, Attachment, Content, Stored, hex};

/// Read an attachment
///
/// Its bytes, or one range of them, for who may read a record that has it, and for who uploaded it.
#[utoipa::path(
    get, path = "/attachments/{sha256}", operation_id = "readAttachment", tag = tags::ATTACHMENTS,
    params(DigestPath, PartOf, Caller),
    responses(
        (status = 200, description = "The bytes", body = inline(Binary), content_type = "*/*", headers(
            ("ETag" = String, description = "Its SHA-256, quoted."),
            ("Accept-Ranges" = String, description = "`bytes`"),
        )),
        (status = 206, description = "The bytes of the `Range` that was asked for", body = inline(Binary), content_type = "*/*", headers(
            ("ETag" = String, description = "Its SHA-256, quoted."),
            ("Content-Range" = String, description = "Which bytes of how many (RFC 9110 §14.4)."),
        )),
        (status = 304, description = "`If-None-Match` names it", headers(("ETag" = String, description = "Its SHA-256, quoted."))),
        ReadAttachmentProblems,
    ),
    security(("bearer" = []), ("bearer" = ["record.read"])),
)]
pub(super) async fn read(
    State(state): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let (stored, size, etag) = readable(&state, &caller, path).await?;
    blobs::reachable(&state, &stored.blob)?;
    let (status, range) = match ranges::asked(&headers, size, &etag) {
        _ if Known::of(&headers).has(&etag) => (StatusCode::NOT_MODIFIED, 0..0),
        Asked::All => (StatusCode::OK, 0..size),
        Asked::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Asked::Unsatisfiable => {
            let mut response = Problem::new(Kind::RangeNotSatisfiable).into_response();
            content_range(response.headers_mut(), &format!("bytes */{size}"));
            return Ok(response);
        }
    };
    let mut response = described(status, &stored, &etag);
    let headers = response.headers_mut();
    if status == StatusCode::PARTIAL_CONTENT {
        content_range(headers, &format!("bytes {}-{}/{size}", range.start, range.end - 1));
    }
    if status != StatusCode::NOT_MODIFIED {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
        *response.body_mut() = blobs::stream(state, stored.blob, range);
    }
    Ok(response)
}

/// Ask for an attachment
///
/// What `GET` says of it without the bytes: whether it is there, for you.
#[utoipa::path(
    head, path = "/attachments/{sha256}", operation_id = "askForAttachment", tag = tags::ATTACHMENTS,
    params(DigestPath, PartOf, Caller),
    responses(
        (status = 200, description = "It is there", headers(
            ("ETag" = String, description = "Its SHA-256, quoted."),
            ("Accept-Ranges" = String, description = "`bytes`"),
        )),
        (status = 304, description = "`If-None-Match` names it", headers(("ETag" = String, description = "Its SHA-256, quoted."))),
        ReadAttachmentProblems,
    ),
    security(("bearer" = []), ("bearer" = ["record.read"])),
)]
pub(super) async fn head(
    State(state): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let (stored, size, etag) = readable(&state, &caller, path).await?;
    if Known::of(&headers).has(&etag) {
        return Ok(described(StatusCode::NOT_MODIFIED, &stored, &etag));
    }
    let mut response = described(StatusCode::OK, &stored, &etag);
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    Ok(response)
}

/// The digest in the path.
pub(super) fn digest(path: Result<Path<String>, PathRejection>) -> Result<[u8; 32], Problem> {
    let invalid = || Problem::new(Kind::InvalidId).detail("an attachment's id is its SHA-256 in hexadecimal");
    path.ok().and_then(|Path(sha256)| attachments::unhex(&sha256)).ok_or_else(invalid)
}

/// What is stored under a digest, and who has it.
pub(super) async fn look_up(state: &AppState, caller: &Caller, digest: [u8; 32]) -> Result<Option<Stored>, Problem> {
    let mut conn = state.db.acquire().await?;
    Ok(attachments::stored(&mut conn, &[digest], &caller.principal.id).await?.pop())
}

/// Whether the caller has it: uploaded it, or may read a record that has it. The token of a record reads that record
/// only, whoever's name is on it.
pub(super) fn has(caller: &Caller, stored: &Stored) -> bool {
    (stored.uploaded && caller.principal.record.is_none())
        || stored.records.iter().any(|r| caller.may_read(r.record_id, &r.event, &r.created_by))
}

async fn readable(
    state: &AppState,
    caller: &Caller,
    path: Result<Path<String>, PathRejection>,
) -> Result<(Stored, u64, String), Problem> {
    let stored = look_up(state, caller, digest(path)?).await?;
    let stored = stored.filter(|s| has(caller, s)).ok_or_else(|| Problem::new(Kind::NotFound))?;
    let (size, etag) = (u64::try_from(stored.size).unwrap_or_default(), etag(&stored.sha256));
    Ok((stored, size, etag))
}

/// The digest is a strong validator: other bytes have another one.
pub(super) fn etag(sha256: &[u8]) -> String {
    format!("\"{}\"", hex(sha256))
}

fn described(status: StatusCode, stored: &Stored, etag: &str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [(header::CONTENT_TYPE, stored.media_type.as_str()), (header::ETAG, etag)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=31536000, immutable"));
    response
}

fn content_range(headers: &mut HeaderMap, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(header::CONTENT_RANGE, value);
    }
}

/// Makes the attachments of a submission or a correction ready for its transaction: what it refers to is there and is the
/// caller's to refer to, and what goes into an object store is in it. Whatever opens such a transaction calls this first.
pub(super) async fn prepare(
    state: &AppState,
    caller: &Caller,
    list: &mut [Attachment],
    record: Option<Uuid>,
) -> Result<(), Problem> {
    check_references(state, caller, list, record).await?;
    blobs::write_inline(state, &caller.principal.id, list).await
}

/// Refuses references to what is not there, and to what the caller does not have: to know a digest is not to have the
/// bytes. What the record that is acted on has already may be referred to.
async fn check_references(
    state: &AppState,
    caller: &Caller,
    list: &[Attachment],
    record: Option<Uuid>,
) -> Result<(), Problem> {
    let stored = referred_to(state, caller, list).await?;
    check(caller, list, &stored, record)
}

fn references(list: &[Attachment]) -> impl Iterator<Item = (&Attachment, &String, &Option<String>)> {
    list.iter().filter_map(|a| match &a.content {
        Content::Reference { pointer, content_type } => Some((a, pointer, content_type)),
        Content::Bytes { .. } => None,
    })
}

/// What is stored of that which the attachments refer to, in one look.
pub(super) async fn referred_to<'a>(
    state: &AppState,
    caller: &Caller,
    list: impl IntoIterator<Item = &'a Attachment>,
) -> Result<Vec<Stored>, Problem> {
    let refers = |a: &&Attachment| matches!(a.content, Content::Reference { .. });
    let digests: Vec<[u8; 32]> = list.into_iter().filter(refers).map(|a| a.sha256).collect();
    if digests.is_empty() {
        return Ok(Vec::new());
    }
    let mut conn = state.db.acquire().await?;
    Ok(attachments::stored(&mut conn, &digests, &caller.principal.id).await?)
}

/// Whether all that is referred to is there, and for the caller.
pub(super) fn check(
    caller: &Caller,
    list: &[Attachment],
    stored: &[Stored],
    record: Option<Uuid>,
) -> Result<(), Problem> {
    let mut faults = Vec::new();
    for (a, pointer, content_type) in references(list) {
        let stored = stored.iter().find(|s| s.sha256 == a.sha256);
        let of_record = |s: &Stored| record.is_some_and(|id| s.records.iter().any(|r| r.record_id == id));
        match stored.filter(|s| has(caller, s) || of_record(s)) {
            None => faults.push(unknown(pointer)),
            Some(s) if content_type.as_deref().is_some_and(|declared| !s.is_a(declared)) => {
                let detail = "the stored bytes are not what contentType says";
                faults.push(Fault::new(Kind::InvalidAttachment, pointer, detail));
            }
            Some(_) => {}
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(Problem::faults(faults)) }
}

/// A reference to what is not there, or not for the caller.
pub(super) fn unknown(pointer: &str) -> Fault {
    Fault::new(Kind::UnknownAttachment, pointer, "no such attachment, or not for you: upload it first")
}
