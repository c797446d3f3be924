//! Attachments: decoded and checked when they come in, stored once per digest, in chunks.

use std::borrow::Cow;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sqlx::PgConnection;
use uuid::Uuid;

use super::store::attachment::{self, CHUNK, Link};

pub use super::store::attachment::Holder;

/// A checked attachment.
#[derive(Clone, PartialEq, Eq)]
pub struct Attachment {
    /// What kind of document the client says it is.
    pub kind: Option<String>,
    /// What the bytes are.
    pub media_type: &'static str,
    /// SHA-256 of the bytes.
    pub sha256: [u8; 32],
    /// The bytes.
    pub bytes: Vec<u8>,
}

// The bytes are personal data: they never reach a log.
impl std::fmt::Debug for Attachment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attachment")
            .field("media_type", &self.media_type)
            .field("size", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// Why an attachment is not accepted. The texts hold nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttachmentError {
    /// Not base64.
    #[error("the data is not base64 (RFC 4648 §4)")]
    NotBase64,
    /// A data: URL without `;base64,`.
    #[error("the data: URL is not base64")]
    NotABase64DataUrl,
    /// No bytes.
    #[error("the attachment is empty")]
    Empty,
    /// Bytes that are neither an image nor a PDF.
    #[error("the bytes are neither an image (PNG, JPEG, GIF, WebP, TIFF, HEIF) nor a PDF")]
    NotAllowed,
    /// Bytes that are something else than declared.
    #[error("the bytes are {0}, not what contentType says")]
    NotItsContentType(&'static str),
}

const ALLOWED: [&str; 8] =
    ["image/png", "image/jpeg", "image/gif", "image/webp", "image/tiff", "image/heif", "image/avif", "application/pdf"];

impl Attachment {
    /// Decodes base64 or a `data:` URL (RFC 2397) and checks the bytes against the declared content type.
    pub fn decode(kind: Option<String>, content_type: Option<&str>, data: &str) -> Result<Self, AttachmentError> {
        let (url_type, encoded) = split_data_url(data)?;
        let bytes = STANDARD
            .decode(without_line_breaks(encoded).as_bytes())
            .map_err(|_not_base64: base64::DecodeError| AttachmentError::NotBase64)?;
        if bytes.is_empty() {
            return Err(AttachmentError::Empty);
        }
        let media_type = infer::get(&bytes).map(|t| t.mime_type()).ok_or(AttachmentError::NotAllowed)?;
        if !ALLOWED.contains(&media_type) {
            return Err(AttachmentError::NotAllowed);
        }
        for declared in [content_type, url_type].into_iter().flatten() {
            if !same_type(declared, media_type) {
                return Err(AttachmentError::NotItsContentType(media_type));
            }
        }
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(digest(&SHA256, &bytes).as_ref());
        Ok(Self { kind, media_type, sha256, bytes })
    }

    /// Where it can be read.
    pub fn url(&self) -> String {
        format!("/attachments/{}", hex(&self.sha256))
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, b| {
        // Writing to a String cannot fail.
        write!(text, "{b:02x}").unwrap_or_default();
        text
    })
}

/// A SHA-256 in hexadecimal.
pub fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in digest.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(digest)
}

/// A stored attachment and the records that have it.
#[derive(Clone, Debug)]
pub struct Stored {
    /// What the bytes are.
    pub media_type: String,
    /// Bytes.
    pub size: i64,
    /// Who may read one of these may read it.
    pub records: Vec<Holder>,
}

/// Looks an attachment up.
pub async fn stored(conn: &mut PgConnection, sha256: &[u8; 32]) -> sqlx::Result<Option<Stored>> {
    let Some((media_type, size)) = attachment::header(conn, sha256).await? else {
        return Ok(None);
    };
    let records = attachment::holders(conn, sha256).await?;
    Ok(Some(Stored { media_type, size, records }))
}

/// One chunk of its bytes, from 0; `None` past the end.
pub async fn chunk(conn: &mut PgConnection, sha256: &[u8; 32], ordinal: i32) -> sqlx::Result<Option<Vec<u8>>> {
    attachment::chunk(conn, sha256, ordinal).await
}

fn split_data_url(data: &str) -> Result<(Option<&str>, &str), AttachmentError> {
    let Some(rest) = data.strip_prefix("data:") else {
        return Ok((None, data));
    };
    let (head, encoded) = rest.split_once(',').ok_or(AttachmentError::NotABase64DataUrl)?;
    let media_type = head.strip_suffix(";base64").ok_or(AttachmentError::NotABase64DataUrl)?;
    Ok((Some(media_type).filter(|t| !t.is_empty()), encoded))
}

/// MIME encoders break lines (RFC 2045 §6.8); nothing else is forgiven.
fn without_line_breaks(encoded: &str) -> Cow<'_, str> {
    if encoded.contains(['\r', '\n']) { Cow::Owned(encoded.replace(['\r', '\n'], "")) } else { Cow::Borrowed(encoded) }
}

/// Parameters and case do not matter; `image/jpg` is what many write for `image/jpeg`.
fn same_type(declared: &str, actual: &str) -> bool {
    let bare = declared.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    bare == actual || (bare == "image/jpg" && actual == "image/jpeg")
}

/// The attachments of one version of a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner<'a> {
    pub record_id: Uuid,
    pub version: i32,
    pub attachments: &'a [Attachment],
}

/// Bytes of chunks that one statement carries.
const STATEMENT_BYTES: usize = 4 * 1024 * 1024;

/// Stores what is not stored yet and links it to its owners.
pub(super) async fn store(conn: &mut PgConnection, owners: &[Owner<'_>]) -> sqlx::Result<()> {
    let all: Vec<&Attachment> = owners.iter().flat_map(|o| o.attachments).collect();
    if all.is_empty() {
        return Ok(());
    }
    let digests: Vec<&[u8]> = all.iter().map(|a| a.sha256.as_slice()).collect();
    let types: Vec<&str> = all.iter().map(|a| a.media_type).collect();
    let sizes: Vec<i64> = all.iter().map(|a| i64::try_from(a.bytes.len()).unwrap_or(i64::MAX)).collect();
    let mut new = attachment::insert_headers(conn, &digests, &types, &sizes).await?;
    new.sort_unstable();
    for digest in &new {
        if let Some(a) = all.iter().find(|a| a.sha256.as_slice() == digest.as_slice()) {
            store_chunks(conn, a).await?;
        }
    }
    let links: Vec<Link<'_>> = owners.iter().flat_map(links).collect();
    attachment::link(conn, &links).await
}

async fn store_chunks(conn: &mut PgConnection, a: &Attachment) -> sqlx::Result<()> {
    let mut first = 0;
    for part in a.bytes.chunks(STATEMENT_BYTES) {
        let chunks: Vec<&[u8]> = part.chunks(CHUNK).collect();
        attachment::insert_chunks(conn, &a.sha256, first, &chunks).await?;
        first += i32::try_from(chunks.len()).unwrap_or(i32::MAX);
    }
    Ok(())
}

fn links<'a>(owner: &Owner<'a>) -> Vec<Link<'a>> {
    (0..)
        .zip(owner.attachments)
        .map(|(ordinal, a)| Link {
            record_id: owner.record_id,
            version: owner.version,
            ordinal,
            sha256: &a.sha256,
            kind: a.kind.as_deref(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &str =
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";

    #[test]
    fn base64_and_data_urls_are_the_same_attachment() {
        let plain = Attachment::decode(None, Some("image/png"), PNG).unwrap();
        let url = Attachment::decode(None, None, &format!("data:image/png;base64,{PNG}")).unwrap();
        let (head, tail) = PNG.split_at(40);
        let folded = Attachment::decode(None, Some("image/PNG; q=1"), &format!("{head}\r\n{tail}")).unwrap();
        assert_eq!(plain, url);
        assert_eq!(plain, folded);
        assert_eq!(plain.url().len(), "/attachments/".len() + 64);
    }

    #[test]
    fn what_is_not_its_content_type_is_refused() {
        let decode = |content_type, data: &str| Attachment::decode(None, content_type, data).unwrap_err();
        assert_eq!(decode(Some("image/png"), "%%%"), AttachmentError::NotBase64);
        assert_eq!(decode(Some("image/png"), ""), AttachmentError::Empty);
        assert_eq!(decode(Some("image/png"), "data:image/png,abc"), AttachmentError::NotABase64DataUrl);
        assert_eq!(decode(Some("application/pdf"), PNG), AttachmentError::NotItsContentType("image/png"));
        assert_eq!(decode(Some("image/png"), &STANDARD.encode("#!/bin/sh")), AttachmentError::NotAllowed);
        assert_eq!(decode(None, &STANDARD.encode("<svg onload='x'/>")), AttachmentError::NotAllowed);
    }
}
