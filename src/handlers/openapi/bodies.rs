//! The bodies of actions as clients see them. One type reads them all (`acts::ActBody`, and `acts::check_members` says
//! what each action takes); here is one for each.

#![expect(dead_code, reason = "these types describe, others read")]

use utoipa::ToSchema;

use super::super::body::AttachmentBody;
use super::Declaration;

/// A corrected declaration: a new version of the record.
#[derive(ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::handlers) struct Correction {
    /// The transaction id, if it is not in the header.
    #[schema(pattern = "^[A-Za-z0-9._:-]{8,128}$")]
    transaction_id: Option<String>,
    declaration: Declaration,
    /// Attachments beside those in the declaration.
    #[schema(required = false)]
    attachments: Vec<AttachmentBody<'static>>,
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
