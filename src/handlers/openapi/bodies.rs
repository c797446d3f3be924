//! The bodies of actions as clients see them. One type reads them all (`acts::ActBody`, and `acts::check_members` says
//! what each action takes); here is one for each.

#![expect(dead_code, reason = "these types describe, others read")]

use utoipa::ToSchema;

use super::Declaration;

/// An attachment beside the declaration: its bytes, or what was uploaded before.
#[derive(ToSchema)]
#[serde(untagged)]
#[schema(as = Attachment)]
pub(in crate::handlers) enum AnyAttachment {
    Inline(InlineAttachment),
    Uploaded(UploadedAttachment),
}

/// An attachment whose bytes come with the request.
#[derive(ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::handlers) struct InlineAttachment {
    /// What it proves.
    #[schema(rename = "type", pattern = r"^[^\x00]*$")]
    kind: Option<String>,
    /// What its bytes are; they are looked at.
    #[schema(pattern = r"^[^\x00]*$", examples("image/png"))]
    content_type: Option<String>,
    /// Base64 (RFC 4648 §4) of an image (PNG, JPEG, GIF, WebP, TIFF, HEIF) or a PDF, or a `data:` URL of it.
    #[schema(min_length = 1, pattern = r"^[^\x00]*$", content_encoding = "base64")]
    data: String,
}

/// An attachment that the caller uploaded before, or may read.
#[derive(ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::handlers) struct UploadedAttachment {
    /// What it proves.
    #[schema(rename = "type", pattern = r"^[^\x00]*$")]
    kind: Option<String>,
    /// What its bytes are.
    #[schema(pattern = r"^[^\x00]*$", examples("image/png"))]
    content_type: Option<String>,
    /// SHA-256 of its bytes, in hexadecimal.
    #[schema(pattern = "^[0-9A-Fa-f]{64}$")]
    sha256: String,
}

/// A corrected declaration: a new version of the record.
#[derive(ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::handlers) struct Correction {
    /// The transaction id, if it is not in the header.
    #[schema(pattern = "^[A-Za-z0-9._:-]{8,128}$")]
    transaction_id: Option<String>,
    declaration: Declaration,
    /// Attachments beside those in the declaration.
    #[schema(required = false, max_items = 200)]
    attachments: Vec<AnyAttachment>,
    /// Free text, kept with the action.
    #[schema(pattern = r"^[^\x00]*$")]
    comment: Option<String>,
}

/// An action that needs no more than to be named; the body may be left out.
#[derive(ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::handlers) struct Review {
    /// The transaction id, if it is not in the header.
    #[schema(pattern = "^[A-Za-z0-9._:-]{8,128}$")]
    transaction_id: Option<String>,
    /// Free text, kept with the action.
    #[schema(pattern = r"^[^\x00]*$")]
    comment: Option<String>,
}

/// Putting a record away; the body may be left out.
#[derive(ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::handlers) struct Archival {
    /// The transaction id, if it is not in the header.
    #[schema(pattern = "^[A-Za-z0-9._:-]{8,128}$")]
    transaction_id: Option<String>,
    /// Why.
    #[schema(pattern = r"^[^\x00]*$")]
    reason: Option<String>,
    /// Free text, kept with the action.
    #[schema(pattern = r"^[^\x00]*$")]
    comment: Option<String>,
}

/// Sending a record back.
#[derive(ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::handlers) struct Rejection {
    /// The transaction id, if it is not in the header. A verdict needs none and takes none: the request it decides is its key.
    #[schema(pattern = "^[A-Za-z0-9._:-]{8,128}$")]
    transaction_id: Option<String>,
    /// Why; not only white space.
    #[schema(
        min_length = 1,
        max_length = 10_000,
        pattern = r"^[^\x00]*[^\x00\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000][^\x00]*$"
    )]
    reason: String,
    /// Free text, kept with the action.
    #[schema(pattern = r"^[^\x00]*$")]
    comment: Option<String>,
}
