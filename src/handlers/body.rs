//! Bodies: read within a limit, walked once strictly, then typed. All the work that needs no database.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use aws_lc_rs::digest::{Context, SHA256};
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::edge;
use super::problem::{Fault, Kind, Problem};
use crate::json;
use crate::records::attachments::Attachment;
use crate::records::fhir::{Declaration, DeclarationError};
use crate::transactions::Fingerprint;

/// Bodies over this many bytes are worked on outside the async threads.
const LARGE: usize = 256 * 1024;

/// Reads a JSON body of at most `max` bytes.
pub(super) async fn read(headers: &HeaderMap, body: Body, max: usize) -> Result<Bytes, Problem> {
    check_content_type(headers)?;
    let too_large = || Problem::new(Kind::TooLarge).detail(format!("at most {max} bytes are accepted"));
    let announced =
        headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    if announced.is_some_and(|n| usize::try_from(n).is_ok_and(|n| n > max)) {
        return Err(too_large());
    }
    match Limited::new(body, max).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(error) => Err(unreadable(&*error)),
    }
}

/// Why a body could not be read to its end.
pub(super) fn unreadable(error: &(dyn std::error::Error + 'static)) -> Problem {
    Problem::new(if edge::too_slow(error) { Kind::BodyTooSlow } else { Kind::BodyUnreadable })
}

/// `application/json`, any `+json`, or nothing. Country configs send the header twice: the first counts.
fn check_content_type(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Ok(());
    };
    let text = value.to_str().unwrap_or_default().split([';', ',']).next().unwrap_or_default().trim();
    let text = text.to_ascii_lowercase();
    if text == "application/json" || text.ends_with("+json") {
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

/// An attachment beside the declaration.
#[derive(Debug, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(as = Attachment)]
pub(super) struct AttachmentBody<'t> {
    /// What it proves.
    #[serde(rename = "type")]
    #[schema(pattern = r"^[^\x00]*$")]
    kind: Option<String>,
    /// What its bytes are; they are looked at.
    #[schema(pattern = r"^[^\x00]*$", examples("image/png"))]
    content_type: Option<String>,
    /// Base64 (RFC 4648 §4) of an image (PNG, JPEG, GIF, WebP, TIFF, HEIF) or a PDF, or a `data:` URL of it.
    #[schema(value_type = String, min_length = 1, pattern = r"^[^\x00]*$", content_encoding = "base64")]
    #[serde(borrow)]
    data: Cow<'t, str>,
}

/// Checks a declaration and decodes its attachments: those inside the bundle first, then those beside it. Says all that
/// is wrong with them.
pub(super) fn declaration(
    declaration: &RawValue,
    beside: &[Object<AttachmentBody<'_>>],
) -> Result<(String, Vec<Attachment>), Vec<Fault>> {
    let text = declaration.get();
    let mut faults = Vec::new();
    let mut attachments = Vec::new();
    let mut decode =
        |place: String, kind: &Option<String>, content_type: Option<&str>, data: &str| match Attachment::decode(
            kind.clone(),
            content_type,
            data,
        ) {
            Ok(attachment) => attachments.push(attachment),
            Err(e) => faults.push(Fault::new(Kind::InvalidAttachment, place, e.to_string())),
        };
    match Declaration::parse(text) {
        Ok(parsed) => {
            for inside in parsed.inline() {
                decode("/declaration".to_owned(), &inside.kind, inside.content_type.as_deref(), &inside.data);
            }
        }
        Err(e) => return Err(vec![Fault::new(Kind::InvalidDeclaration, place_of(&e), e.to_string())]),
    }
    for (at, Object(a)) in beside.iter().enumerate() {
        decode(format!("/attachments/{at}"), &a.kind, a.content_type.as_deref(), &a.data);
    }
    if faults.is_empty() { Ok((text.to_owned(), attachments)) } else { Err(faults) }
}

fn place_of(error: &DeclarationError) -> String {
    let inside = if let DeclarationError::Malformed { path, .. } = error { path.as_str() } else { "" };
    format!("/declaration{inside}")
}
