//! Bodies: read within a limit, walked once strictly, then typed. All the work that needs no database.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use aws_lc_rs::digest::{Context, SHA256};
use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use http_body_util::BodyExt as _;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::edge;
use super::inline::Held;
use super::problem::{Fault, Kind, Problem};
use crate::json;
use crate::records::attachments::{Attachment, Content, in_url, unhex};
use crate::records::fhir::{Declaration, DeclarationError};
use crate::transactions::Fingerprint;

/// Bodies over this many bytes are worked on outside the async threads.
const LARGE: usize = 256 * 1024;

/// Reads a JSON body of at most `max` bytes, once there is room for it ([`super::inline`]).
pub(super) async fn read(parts: &Parts, body: Body, max: usize) -> Result<Bytes, Problem> {
    check_content_type(&parts.headers)?;
    whole(parts, body, max).await
}

/// The same, of whatever type it is.
pub(super) async fn whole(parts: &Parts, mut body: Body, max: usize) -> Result<Bytes, Problem> {
    let too_large = || Problem::new(Kind::TooLarge).detail(format!("at most {max} bytes are accepted"));
    let announced = announced(&parts.headers).map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    if announced.is_some_and(|n| n > max) {
        return Err(too_large());
    }
    let held = parts.extensions.get::<Held>();
    let mut room = announced.unwrap_or(FREE).min(FREE);
    let mut whole = Vec::with_capacity(room);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| unreadable(&error))?;
        let Ok(data) = frame.into_data() else { continue };
        let needed = whole.len() + data.len();
        if needed > max {
            return Err(too_large());
        }
        if needed > room {
            // All that was announced at once: two that wait for each other's room would both give up.
            let more = announced.unwrap_or(room * 2).max(needed).min(max);
            if let Some(held) = held {
                held.reserve(more - room).await?;
            }
            room = more;
            whole.reserve_exact(room - whole.len());
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.into())
}

/// Reserves room for what is made of a large body.
pub(super) async fn hold_more(parts: &Parts, bytes: usize) -> Result<(), Problem> {
    match parts.extensions.get::<Held>() {
        Some(held) if bytes > FREE => held.reserve(bytes).await,
        Some(_) | None => Ok(()),
    }
}

/// Bytes of a body that need no room, so that small requests never wait for large ones.
const FREE: usize = 64 * 1024;

/// What `Content-Length` says.
pub(super) fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok())
}

/// Why a body could not be read to its end.
pub(super) fn unreadable(error: &(dyn std::error::Error + 'static)) -> Problem {
    Problem::new(if edge::too_slow(error) { Kind::BodyTooSlow } else { Kind::BodyUnreadable })
}

/// `application/json`, any `+json`, or nothing. Country configs send the header twice, their own and a copy of ours: one
/// of them is enough.
fn check_content_type(headers: &HeaderMap) -> Result<(), Problem> {
    let is_json = |value: &HeaderValue| {
        let text = value.to_str().unwrap_or_default().split([';', ',']).next().unwrap_or_default().trim();
        let text = text.to_ascii_lowercase();
        text == "application/json" || text.ends_with("+json")
    };
    let mut values = headers.get_all(header::CONTENT_TYPE).iter().peekable();
    if values.peek().is_none() || values.any(is_json) {
        Ok(())
    } else {
        Err(Problem::new(Kind::UnsupportedType).detail("send Content-Type: application/json"))
    }
}

/// Runs `work` here if the body is small, else where it blocks nobody.
pub(super) async fn off_thread<T: Send + 'static>(
    size: usize,
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    if size <= LARGE {
        return work();
    }
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_panicked| Err(Problem::new(Kind::Internal)))
}

/// Walks a body strictly and digests it, together with what is asked of it and without the transaction id: by header or by
/// body, alone or in a batch, it is one intention.
pub(super) fn fingerprint(operation: &str, body: &[u8]) -> Result<Fingerprint, Problem> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(Problem::new(Kind::BodyMissing));
    }
    let (content, whole) = json::digest_without(body, Some("transactionId"))
        .map_err(|e| Problem::new(Kind::NotJson).detail(e.to_string()))?;
    let with_operation = |content: [u8; 32]| {
        let mut hash = Context::new(&SHA256);
        hash.update(operation.as_bytes());
        hash.update(b"\n");
        hash.update(&content);
        let mut digest = [0; 32];
        digest.copy_from_slice(hash.finish().as_ref());
        digest
    };
    Ok(Fingerprint::new(with_operation(content), whole.map(with_operation)))
}

/// Types a body that [`fingerprint`] has walked. The problem names members, never values.
pub(super) fn typed<'t, T: Deserialize<'t>>(body: &'t [u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map(|Object(typed)| typed).map_err(|error| {
        let text = error.to_string();
        let names_a_member = ["unknown field", "missing field", "duplicate field"].iter().any(|p| text.starts_with(p));
        let detail = if names_a_member {
            shortened(text)
        } else {
            format!("a member has another type than expected, at line {} column {}", error.line(), error.column())
        };
        Problem::fault(Kind::BadRequest, pointer_to_fault::<T>(body), detail)
    })
}

/// A body that is walked and typed, where no digest of it is needed.
pub(super) fn walked<'t, T: Deserialize<'t>>(body: &'t [u8]) -> Result<T, Problem> {
    fingerprint("", body)?;
    typed(body)
}

/// Where typing a body fails: the member, or the object that lacks one. Walked only once it is known to fail.
fn pointer_to_fault<'t, T: Deserialize<'t>>(body: &'t [u8]) -> String {
    use serde_path_to_error::Segment;
    let mut reader = serde_json::Deserializer::from_slice(body);
    let Err(error) = serde_path_to_error::deserialize::<_, Object<T>>(&mut reader) else {
        return String::new();
    };
    let mut pointer = String::new();
    for segment in error.path() {
        let step = match segment {
            Segment::Seq { index } => index.to_string(),
            Segment::Map { key } => key.replace('~', "~0").replace('/', "~1"),
            Segment::Enum { .. } | Segment::Unknown => continue,
        };
        pointer.push('/');
        pointer.push_str(&step);
    }
    shortened(pointer)
}

/// A member's name comes from outside and may be of any length.
fn shortened(text: String) -> String {
    const SHOWN: usize = 300;
    if text.chars().count() <= SHOWN { text } else { text.chars().take(SHOWN).chain(std::iter::once('…')).collect() }
}

/// A struct read from an object only: by itself serde also takes an array of the members' values, in their order.
#[derive(Debug)]
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = T;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(object))
            }
        }

        deserializer.deserialize_map(Members(PhantomData)).map(Self)
    }
}

/// Most attachments of one declaration, those of its bundle included.
const ATTACHMENTS: usize = 200;

/// An attachment beside the declaration: its bytes, or the digest of what was uploaded.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct AttachmentBody<'t> {
    #[serde(rename = "type")]
    kind: Option<String>,
    content_type: Option<String>,
    #[serde(borrow)]
    data: Option<Text<'t>>,
    sha256: Option<String>,
}

/// A string lent out of the body wherever that is possible.
#[derive(Debug, serde::Deserialize)]
struct Text<'t>(#[serde(borrow)] Cow<'t, str>);

impl AttachmentBody<'_> {
    fn read(&self, place: &str, allowed: &[String]) -> Result<Attachment, Fault> {
        let wrong = |place: String, detail: &str| Fault::new(Kind::InvalidAttachment, place, detail);
        match (&self.data, &self.sha256) {
            (Some(Text(data)), None) => {
                let decoded = Attachment::decode(self.kind.clone(), self.content_type.as_deref(), data, allowed);
                decoded.map_err(|e| wrong(place.to_owned(), &e.to_string()))
            }
            (None, Some(sha256)) => {
                let pointer = format!("{place}/sha256");
                let sha256 = unhex(sha256).ok_or_else(|| wrong(pointer.clone(), "no SHA-256 in hexadecimal"))?;
                let content = Content::Reference { pointer, content_type: self.content_type.clone() };
                Ok(Attachment { kind: self.kind.clone(), sha256, content })
            }
            _ => Err(wrong(place.to_owned(), "either data or sha256 is needed")),
        }
    }
}

/// Checks a declaration and decodes its attachments: those inside the bundle first, then those that it refers to, then
/// those beside it. The text that is returned has URLs in the place of their bytes. Says all that is wrong with them.
pub(super) fn declaration(
    declaration: &RawValue,
    beside: &[Object<AttachmentBody<'_>>],
    allowed: &[String],
) -> Result<(String, Vec<Attachment>), Vec<Fault>> {
    let invalid = |e: &DeclarationError| Fault::new(Kind::InvalidDeclaration, place_of(e), e.to_string());
    let parsed = Declaration::parse(declaration.get()).map_err(|e| vec![invalid(&e)])?;
    if parsed.inline().len() + parsed.elsewhere().len() + beside.len() > ATTACHMENTS {
        let detail = format!("at most {ATTACHMENTS} attachments are accepted");
        return Err(vec![Fault::new(Kind::BadRequest, "/attachments", detail)]);
    }
    let inside = parsed.inline().iter().map(|a| {
        let decoded = Attachment::decode(a.kind.clone(), a.content_type.as_deref(), &a.data, allowed);
        let place = format!("/declaration{}/data", a.path);
        decoded.map_err(|e| Fault::new(Kind::InvalidAttachment, place, e.to_string()))
    });
    let named = parsed.elsewhere().iter().filter_map(|a| {
        let sha256 = in_url(&a.url)?;
        let pointer = format!("/declaration{}", a.path);
        let content = Content::Reference { pointer, content_type: a.content_type.clone() };
        Some(Ok(Attachment { kind: a.kind.clone(), sha256, content }))
    });
    let beside = beside.iter().enumerate().map(|(at, Object(a))| a.read(&format!("/attachments/{at}"), allowed));
    let (mut attachments, mut faults) = (Vec::new(), Vec::new());
    for read in inside.chain(named).chain(beside) {
        match read {
            Ok(attachment) => attachments.push(attachment),
            Err(fault) => faults.push(fault),
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let urls: Vec<String> = attachments.iter().take(parsed.inline().len()).map(Attachment::url).collect();
    let text = parsed.detached(&urls).map_err(|e| vec![invalid(&e)])?;
    Ok((text, attachments))
}

fn place_of(error: &DeclarationError) -> String {
    let inside = if let DeclarationError::Malformed { path, .. } = error { path.as_str() } else { "" };
    format!("/declaration{inside}")
}
