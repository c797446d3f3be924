//! `GET /attachments/{sha256}`: the URL that takes the place of base64 in a stored bundle.

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_util::stream;

use super::AppState;
use super::extract::Caller;
use super::openapi::problems::ReadProblems;
use super::openapi::shapes::DigestPath;
use super::openapi::tags;
use super::problem::{Kind, Problem};
use crate::records::attachments::{self, Stored};

/// Read an attachment
///
/// Its bytes, for those who may read a record that has it.
#[utoipa::path(
    get, path = "/attachments/{sha256}", operation_id = "readAttachment", tag = tags::ATTACHMENTS,
    params(DigestPath, Caller),
    responses(
        (status = 200, description = "The bytes", body = Vec<u8>, content_type = "*/*"),
        ReadProblems,
    ),
    security(("bearer" = []), ("bearer" = ["record.read"])),
)]
// Streamed chunk by chunk, each with a query of its own, so that a slow reader holds no connection.
pub(super) async fn read(
    State(state): State<AppState>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let invalid = || Problem::new(Kind::InvalidId).detail("an attachment's id is its SHA-256 in hexadecimal");
    let digest = path.ok().and_then(|Path(sha256)| attachments::unhex(&sha256)).ok_or_else(invalid)?;
    let mut conn = state.db.acquire().await?;
    let stored = attachments::stored(&mut conn, &digest).await?;
    drop(conn);
    let readable = |s: &Stored| s.records.iter().any(|r| caller.may_read(r.record_id, &r.event, &r.created_by));
    let stored = stored.filter(readable).ok_or_else(|| Problem::new(Kind::NotFound))?;
    let chunks = stream::try_unfold(0, move |ordinal| {
        let db = state.db.clone();
        async move {
            let mut conn = db.acquire().await?;
            let chunk = attachments::chunk(&mut conn, &digest, ordinal).await?;
            Ok::<_, sqlx::Error>(chunk.map(|bytes| (bytes, ordinal + 1)))
        }
    });
    let mut response = Response::new(Body::from_stream(chunks));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(stored.size));
    if let Ok(media_type) = HeaderValue::from_str(&stored.media_type) {
        headers.insert(header::CONTENT_TYPE, media_type);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=31536000, immutable"));
    Ok(response)
}
