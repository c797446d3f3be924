//! `PUT /attachments/{sha256}`: bytes by themselves, as many as the configuration allows, without holding them.
//!
//! A chunk is collected, looked at, digested and written, then the next one is read; no connection is held meanwhile, and
//! no more than a chunk. What breaks off is sent again from its beginning. Who has the attachment already is told so at
//! once; who does not sends all of it, whether it is stored or not, because that is the proof of having it.

use aws_lc_rs::digest::{Context, SHA256};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, Version, header};
use axum::response::{IntoResponse as _, Response};
use http_body_util::BodyExt as _;
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use super::attachments::{digest, etag, has, look_up};
use super::blobs::Writer;
use super::body::{announced, unreadable};
use super::extract::Caller;
use super::openapi::problems::UploadProblems;
use super::openapi::shapes::{Binary, DigestPath};
use super::openapi::tags;
use super::problem::{Kind, Problem};
use crate::auth::Right;
use crate::records::attachments::{self, CHUNK, hex};
use crate::records::uploads::{self, Whole};

/// What may be uploaded.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Largest attachment, in bytes.
    pub max: u64,
    /// The media types that are accepted, inline ones too.
    pub types: Vec<String>,
}

/// An attachment that is there.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Uploaded {
    /// SHA-256 in hexadecimal.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    sha256: String,
    /// Bytes.
    #[schema(minimum = 1)]
    size: i64,
    /// What its bytes are.
    content_type: String,
}

/// Upload an attachment
///
/// The bytes as they are, whose SHA-256 the path says. Records that are submitted or corrected later name it by
/// `{"type", "sha256"}` or, in a bundle, by `"url": "/attachments/{sha256}"`. If the connection breaks, send it again. With
/// `Expect: 100-continue` nothing is sent that is here already.
#[utoipa::path(
    put, path = "/attachments/{sha256}", operation_id = "uploadAttachment", tag = tags::ATTACHMENTS,
    params(DigestPath, Caller),
    request_body(content = inline(Binary), content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "It was here already", body = Uploaded, headers(
            ("ETag" = String, description = "Its SHA-256, quoted."),
            ("Location" = String, description = "Where it is read."),
        )),
        (status = 201, description = "It is stored", body = Uploaded, headers(
            ("ETag" = String, description = "Its SHA-256, quoted."),
            ("Location" = String, description = "Where it is read."),
        )),
        UploadProblems,
    ),
    security(("bearer" = ["declare"]), ("bearer" = ["validate"]), ("bearer" = ["register"])),
)]
pub(super) async fn upload(
    State(state): State<AppState>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let digest = digest(path)?;
    let allows = |event: &String| caller.principal.scopes.allows(Right::Notify, event);
    if caller.principal.record.is_some() || !state.settings.events.iter().any(allows) {
        return Err(Problem::insufficient("declare"));
    }
    let (parts, body) = request.into_parts();
    let max = state.settings.attachments.max;
    if announced(&parts.headers).is_some_and(|n| n > max) {
        return Err(too_large(max));
    }
    let known = look_up(&state, &caller, digest).await?;
    let mut incoming = Incoming::new(body, &parts, &state.settings.attachments);
    if let Some(stored) = known {
        if !has(&caller, &stored) {
            while incoming.chunk().await?.is_some() {}
            incoming.whole(&digest)?;
        }
        // An answer that overtakes the body would be lost by who sends it without asking.
        else if !asks_first(&parts) {
            incoming.drain().await?;
        }
        let mut conn = state.db.acquire().await?;
        let there = uploads::remember(&mut conn, &digest, &caller.principal.id).await?;
        // Collected in this very moment.
        let gone = || Problem::retry(Kind::Unavailable, 1);
        return there.then(|| answer(StatusCode::OK, &digest, stored.size, &stored.media_type)).ok_or_else(gone);
    }
    let (kept, size, media_type) = store(&state, &caller, &digest, incoming).await?;
    Ok(answer(if kept { StatusCode::CREATED } else { StatusCode::OK }, &digest, size, media_type))
}

/// Whether the client waits to be told before it sends the body, or can be told while it does (RFC 9113 §8.1).
fn asks_first(parts: &Parts) -> bool {
    parts.version >= Version::HTTP_2 || parts.headers.contains_key(header::EXPECT)
}

fn too_large(max: u64) -> Problem {
    Problem::new(Kind::TooLarge).detail(format!("an attachment has at most {max} bytes"))
}

fn answer(status: StatusCode, digest: &[u8; 32], size: i64, media_type: &str) -> Response {
    let sha256 = hex(digest);
    let location = format!("/attachments/{sha256}");
    let mut response = (status, Json(Uploaded { sha256, size, content_type: media_type.to_owned() })).into_response();
    for (name, value) in [(header::ETAG, etag(digest)), (header::LOCATION, location)] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// Stores what comes. False if another copy was first; that one stays.
async fn store(
    state: &AppState,
    caller: &Caller,
    digest: &[u8; 32],
    mut incoming: Incoming<'_>,
) -> Result<(bool, i64, &'static str), Problem> {
    let Some(first) = incoming.chunk().await? else {
        return Err(invalid(attachments::AttachmentError::Empty));
    };
    let mut writer = Writer::begin(state, digest).await?;
    let stored = async {
        let mut next = Some(first);
        while let Some(chunk) = next {
            writer.add(chunk).await?;
            next = incoming.chunk().await?;
        }
        let (size, media_type) = incoming.whole(digest)?;
        writer.finish().await?;
        let whole = Whole { sha256: digest, media_type, size };
        let mut conn = state.db.acquire().await?;
        let kept = uploads::finish(&mut conn, whole, writer.blob.id, &caller.principal.id).await?;
        Ok((kept, size, media_type))
    };
    let stored = stored.await;
    if !matches!(stored, Ok((true, ..))) {
        writer.abandon().await?;
    }
    stored
}

fn invalid(error: attachments::AttachmentError) -> Problem {
    Problem::new(Kind::InvalidAttachment).detail(error.to_string())
}

/// A body on its way in.
struct Incoming<'s> {
    body: Body,
    settings: &'s Settings,
    declared: Option<String>,
    arrived: Vec<u8>,
    hash: Context,
    size: u64,
    media_type: Option<&'static str>,
}

impl<'s> Incoming<'s> {
    fn new(body: Body, parts: &Parts, settings: &'s Settings) -> Self {
        let declared = parts.headers.get(header::CONTENT_TYPE).map(|v| v.to_str().unwrap_or("?").to_owned());
        let says_nothing = |text: &String| text.trim().is_empty() || text.starts_with("application/octet-stream");
        let declared = declared.filter(|text| !says_nothing(text));
        let hash = Context::new(&SHA256);
        Self { body, settings, declared, arrived: Vec::new(), hash, size: 0, media_type: None }
    }

    /// The next chunk, digested: [`CHUNK`] bytes, or the last ones. Of the first one it is said what it is.
    async fn chunk(&mut self) -> Result<Option<Bytes>, Problem> {
        let mut chunk = std::mem::take(&mut self.arrived);
        chunk.reserve_exact(CHUNK.saturating_sub(chunk.len()));
        while chunk.len() < CHUNK {
            let Some(data) = self.data().await? else { break };
            chunk.extend_from_slice(&data);
        }
        if chunk.is_empty() {
            return Ok(None);
        }
        if chunk.len() > CHUNK {
            self.arrived = chunk.split_off(CHUNK);
        }
        if self.media_type.is_none() {
            let media_type = attachments::sniff(&chunk, self.declared.as_deref(), &self.settings.types);
            self.media_type = Some(media_type.map_err(invalid)?);
        }
        self.hash.update(&chunk);
        Ok(Some(chunk.into()))
    }

    async fn data(&mut self) -> Result<Option<Bytes>, Problem> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|error| unreadable(&error))?;
            if let Ok(data) = frame.into_data() {
                self.size += u64::try_from(data.len()).unwrap_or(u64::MAX);
                return if self.size > self.settings.max { Err(too_large(self.settings.max)) } else { Ok(Some(data)) };
            }
        }
        Ok(None)
    }

    /// Reads the rest without looking at it.
    async fn drain(&mut self) -> Result<(), Problem> {
        while self.data().await?.is_some() {}
        Ok(())
    }

    /// What has come whole: its size and what it is, if its digest is the one that was announced.
    fn whole(self, digest: &[u8; 32]) -> Result<(i64, &'static str), Problem> {
        let media_type = self.media_type.ok_or_else(|| invalid(attachments::AttachmentError::Empty))?;
        if self.hash.finish().as_ref() != digest {
            return Err(Problem::new(Kind::DigestMismatch));
        }
        Ok((i64::try_from(self.size).unwrap_or(i64::MAX), media_type))
    }
}
