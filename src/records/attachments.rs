//! Attachments: decoded and checked when they come in, or referred to by digest; stored once per digest.
//!
//! Whoever refers to one has to have it ([`Stored`] says who does); a reference holds it from then on. Bytes that come by
//! themselves are in [`super::uploads`].

use std::borrow::Cow;
use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sqlx::PgConnection;
use uuid::Uuid;

use super::commands::CommandError;
use super::store::attachment::{self, Link, NewHeader};
use super::store::blob::{self, NewChunk};
use super::store::upload;

pub use super::store::attachment::Holder;
pub use super::store::blob::{Blob, CHUNK};

/// An attachment of a submission.
#[derive(Clone, PartialEq, Eq)]
pub struct Attachment {
    /// What kind of document the client says it is.
    pub kind: Option<String>,
    /// SHA-256 of the bytes.
    pub sha256: [u8; 32],
    /// Its bytes, or where they are named.
    pub content: Content,
}

/// What a submission brings of an attachment.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// The bytes, checked.
    Bytes {
        /// What they are.
        media_type: &'static str,
        /// The bytes.
        bytes: Vec<u8>,
        /// Where they were written already, if that is not PostgreSQL.
        blob: Option<Blob>,
    },
    /// The digest of what is stored.
    Reference {
        /// Where it stands: a JSON pointer into the request's body.
        pointer: String,
        /// What the client says the bytes are.
        content_type: Option<String>,
    },
}

// The bytes are personal data: they never reach a log.
impl std::fmt::Debug for Attachment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let size = self.bytes().map(<[u8]>::len);
        f.debug_struct("Attachment").field("size", &size).finish_non_exhaustive()
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
    /// Bytes of a type that is not accepted here.
    #[error(
        "the bytes are of no type that is accepted here: by default images (PNG, JPEG, GIF, WebP, TIFF, HEIF) and PDF"
    )]
    NotAllowed,
    /// Bytes that are something else than declared.
    #[error("the bytes are {0}, not what contentType says")]
    NotItsContentType(&'static str),
}

/// What is accepted by default.
pub const IMAGES_AND_PDF: [&str; 8] =
    ["image/png", "image/jpeg", "image/gif", "image/webp", "image/tiff", "image/heif", "image/avif", "application/pdf"];

/// What bytes are, by their beginning, if that is accepted and nobody said something else.
pub fn sniff<'c>(
    beginning: &[u8],
    declared: impl IntoIterator<Item = &'c str>,
    allowed: &[String],
) -> Result<&'static str, AttachmentError> {
    if beginning.is_empty() {
        return Err(AttachmentError::Empty);
    }
    let media_type = infer::get(beginning).map(|t| t.mime_type()).ok_or(AttachmentError::NotAllowed)?;
    if !allowed.iter().any(|a| a == media_type) {
        return Err(AttachmentError::NotAllowed);
    }
    if declared.into_iter().all(|declared| same_type(declared, media_type)) {
        Ok(media_type)
    } else {
        Err(AttachmentError::NotItsContentType(media_type))
    }
}

impl Attachment {
    /// Decodes base64 or a `data:` URL (RFC 2397) and checks the bytes against the declared content type.
    pub fn decode(
        kind: Option<String>,
        content_type: Option<&str>,
        data: &str,
        allowed: &[String],
    ) -> Result<Self, AttachmentError> {
        let (url_type, encoded) = split_data_url(data)?;
        let bytes = STANDARD
            .decode(without_line_breaks(encoded).as_bytes())
            .map_err(|_not_base64: base64::DecodeError| AttachmentError::NotBase64)?;
        let media_type = sniff(&bytes, [content_type, url_type].into_iter().flatten(), allowed)?;
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(digest(&SHA256, &bytes).as_ref());
        Ok(Self { kind, sha256, content: Content::Bytes { media_type, bytes, blob: None } })
    }

    /// The bytes, if they came with it.
    pub fn bytes(&self) -> Option<&[u8]> {
        match &self.content {
            Content::Bytes { bytes, .. } => Some(bytes),
            Content::Reference { .. } => None,
        }
    }

    /// Bytes that it brings; 0 if it only refers to some.
    pub fn size(&self) -> usize {
        self.bytes().map_or(0, <[u8]>::len)
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

/// The digest in the URL of an attachment of ours: `/attachments/{sha256}`, or an absolute one that ends so.
pub fn in_url(url: &str) -> Option<[u8; 32]> {
    let (host, digest) = url.rsplit_once("/attachments/")?;
    let here = host.is_empty() || host.starts_with("https://") || host.starts_with("http://");
    if here { unhex(digest) } else { None }
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

/// A stored attachment, and who has it.
#[derive(Clone, Debug)]
pub struct Stored {
    /// SHA-256 of the bytes.
    pub sha256: Vec<u8>,
    /// What the bytes are.
    pub media_type: String,
    /// Bytes.
    pub size: i64,
    /// Where they are.
    pub blob: Blob,
    /// Whether the principal that was asked about uploaded it.
    pub uploaded: bool,
    /// Who may read one of these may read it.
    pub records: Vec<Holder>,
}

impl Stored {
    /// Whether a media type that a client declares is that of the bytes.
    pub fn is_a(&self, declared: &str) -> bool {
        same_type(declared, &self.media_type)
    }
}

/// Looks attachments up, for somebody; those that are not there are left out.
pub async fn stored(conn: &mut PgConnection, digests: &[[u8; 32]], principal_id: &str) -> sqlx::Result<Vec<Stored>> {
    let digests: Vec<&[u8]> = digests.iter().map(<[u8; 32]>::as_slice).collect();
    let headers = attachment::headers(conn, &digests).await?;
    if headers.is_empty() {
        return Ok(Vec::new());
    }
    let uploaded = upload::uploaded(conn, &digests, principal_id).await?;
    let mut holders = attachment::holders(conn, &digests).await?;
    let stored = headers.into_iter().map(|h| {
        let (records, others) = holders.drain(..).partition(|r| r.sha256 == h.sha256);
        holders = others;
        let blob = Blob { id: h.blob_id, place: h.place, path: h.path };
        let uploaded = uploaded.contains(&h.sha256);
        Stored { sha256: h.sha256, media_type: h.media_type, size: h.size, blob, uploaded, records }
    });
    Ok(stored.collect())
}

/// One chunk of bytes in PostgreSQL, from 0; `None` past the end.
pub async fn chunk(conn: &mut PgConnection, blob_id: Uuid, ordinal: i32) -> sqlx::Result<Option<Vec<u8>>> {
    blob::chunk(conn, blob_id, ordinal).await
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

/// How often what was collected meanwhile is stored anew.
const TRIES: usize = 3;

/// Stores what is not stored yet, holds what is referred to, and links all of it to its owners.
pub(super) async fn store(conn: &mut PgConnection, owners: &[Owner<'_>]) -> Result<(), CommandError> {
    let all: BTreeMap<&[u8], &Attachment> =
        owners.iter().flat_map(|o| o.attachments).map(|a| (a.sha256.as_slice(), a)).collect();
    // One that comes with bytes and as a reference is there either way.
    let bytes: BTreeMap<&[u8], &Attachment> = owners
        .iter()
        .flat_map(|o| o.attachments)
        .filter(|a| a.bytes().is_some())
        .map(|a| (a.sha256.as_slice(), a))
        .collect();
    if all.is_empty() {
        return Ok(());
    }
    let digests: Vec<&[u8]> = all.keys().copied().collect();
    let mut held = Vec::new();
    for _ in 0..TRIES {
        store_bytes(conn, &bytes).await?;
        held = attachment::hold(conn, &digests).await?;
        if bytes.keys().all(|digest| held.iter().any(|h| h == digest)) {
            break;
        }
    }
    for (digest, a) in all {
        if !held.iter().any(|h| h == digest) {
            return Err(match &a.content {
                Content::Reference { pointer, .. } => CommandError::UnknownAttachment { pointer: pointer.clone() },
                // It was collected again and again between two statements.
                Content::Bytes { .. } => sqlx::Error::RowNotFound.into(),
            });
        }
    }
    let links: Vec<Link<'_>> = owners.iter().flat_map(links).collect();
    Ok(attachment::link(conn, &links).await?)
}

/// Stores the bytes of those that are not there: here, unless they were written elsewhere before.
async fn store_bytes(conn: &mut PgConnection, all: &BTreeMap<&[u8], &Attachment>) -> sqlx::Result<()> {
    let (mut here, mut elsewhere) = (Vec::new(), Vec::new());
    for (sha256, a) in all {
        if let Content::Bytes { media_type, bytes, blob } = &a.content {
            let size = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
            let (list, blob_id) = match blob {
                Some(blob) => (&mut elsewhere, blob.id),
                None => (&mut here, Uuid::now_v7()),
            };
            list.push(NewHeader { sha256, media_type, size, blob_id });
        }
    }
    if !elsewhere.is_empty() {
        attachment::insert_headers(conn, &elsewhere, true).await?;
    }
    if here.is_empty() {
        return Ok(());
    }
    let mut new = attachment::insert_headers(conn, &here, false).await?;
    new.sort_unstable();
    let new = here.iter().filter(|h| new.iter().any(|digest| digest == h.sha256));
    let blobs: Vec<_> = new.filter_map(|h| Some((h.blob_id, all.get(h.sha256)?.bytes()?))).collect();
    store_chunks(conn, &blobs).await
}

/// Writes the bytes of blobs, as many together as go into a statement.
async fn store_chunks(conn: &mut PgConnection, blobs: &[(Uuid, &[u8])]) -> sqlx::Result<()> {
    let (mut together, mut size) = (Vec::new(), 0);
    for (blob_id, bytes) in blobs {
        for (ordinal, data) in (0..).zip(bytes.chunks(CHUNK)) {
            if size + data.len() > STATEMENT_BYTES && !together.is_empty() {
                blob::insert_chunks(conn, &together).await?;
                together.clear();
                size = 0;
            }
            size += data.len();
            together.push(NewChunk { blob_id: *blob_id, ordinal, data });
        }
    }
    if together.is_empty() { Ok(()) } else { blob::insert_chunks(conn, &together).await }
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

    fn allowed() -> Vec<String> {
        IMAGES_AND_PDF.map(str::to_owned).to_vec()
    }

    #[test]
    fn an_attachment_of_ours_is_known_by_its_url() {
        let digest = "ab".repeat(32);
        assert_eq!(in_url(&format!("/attachments/{digest}")), Some([0xab; 32]));
        assert_eq!(in_url(&format!("https://crvs.example/api/attachments/{digest}")), Some([0xab; 32]));
        for other in
            ["/attachments/", "urn:uuid:x", "attachments", "/ocrvs/a.png", &format!("ftp://x/attachments/{digest}")]
        {
            assert_eq!(in_url(other), None, "{other}");
        }
    }

    #[test]
    fn base64_and_data_urls_are_the_same_attachment() {
        let allowed = allowed();
        let plain = Attachment::decode(None, Some("image/png"), PNG, &allowed).unwrap();
        let url = Attachment::decode(None, None, &format!("data:image/png;base64,{PNG}"), &allowed).unwrap();
        let (head, tail) = PNG.split_at(40);
        let folded = Attachment::decode(None, Some("image/PNG; q=1"), &format!("{head}\r\n{tail}"), &allowed);
        let folded = folded.unwrap();
        assert_eq!(plain, url);
        assert_eq!(plain, folded);
        assert_eq!(plain.url().len(), "/attachments/".len() + 64);
    }

    #[test]
    fn what_is_not_its_content_type_is_refused() {
        let decode = |content_type, data: &str| Attachment::decode(None, content_type, data, &allowed()).unwrap_err();
        assert_eq!(decode(Some("image/png"), "%%%"), AttachmentError::NotBase64);
        assert_eq!(decode(Some("image/png"), ""), AttachmentError::Empty);
        assert_eq!(decode(Some("image/png"), "data:image/png,abc"), AttachmentError::NotABase64DataUrl);
        assert_eq!(decode(Some("application/pdf"), PNG), AttachmentError::NotItsContentType("image/png"));
        assert_eq!(decode(Some("image/png"), &STANDARD.encode("#!/bin/sh")), AttachmentError::NotAllowed);
        assert_eq!(decode(None, &STANDARD.encode("<svg onload='x'/>")), AttachmentError::NotAllowed);
    }
}
