//! The token exchange as clients see it: its form, its answer and its errors. [`super::super::exchange`] reads and writes
//! them.

#![expect(dead_code, reason = "these types describe, others read and write")]

use utoipa::{IntoResponses, ToSchema};

/// What is asked for, with the record named in one of two ways.
#[derive(ToSchema)]
#[serde(untagged)]
#[schema(as = TokenExchange)]
pub(in crate::handlers) enum ExchangeForm {
    ForRecord(ForRecord),
    ForAction(ForAction),
}

/// A token for a record, as up to OpenCRVS 1.8.
#[derive(ToSchema)]
#[schema(as = RecordTokenExchange)]
pub(in crate::handlers) struct ForRecord {
    grant_type: GrantType,
    /// The token that is offered.
    #[schema(min_length = 1)]
    subject_token: String,
    subject_token_type: SubjectTokenType,
    requested_token_type: RequestedTokenType,
    /// The record.
    record_id: uuid::Uuid,
    /// What of the two the new token is to grant, if not what the subject token holds of them.
    #[schema(
        required = false,
        pattern = r"^record\.(confirm|reject)-registration( record\.(confirm|reject)-registration)?$"
    )]
    scope: String,
}

/// A token for a requested action on a record, as since OpenCRVS 1.9.
#[derive(ToSchema)]
#[schema(as = ActionTokenExchange)]
pub(in crate::handlers) struct ForAction {
    grant_type: GrantType,
    /// The token that is offered.
    #[schema(min_length = 1)]
    subject_token: String,
    subject_token_type: SubjectTokenType,
    requested_token_type: RequestedTokenType,
    /// The record.
    event_id: uuid::Uuid,
    /// The requested action.
    action_id: uuid::Uuid,
    /// What of the two the new token is to grant, if not what the subject token holds of them.
    #[schema(
        required = false,
        pattern = r"^record\.(confirm|reject)-registration( record\.(confirm|reject)-registration)?$"
    )]
    scope: String,
}

/// As OpenCRVS names it, and as RFC 8693 does.
#[derive(ToSchema)]
pub(in crate::handlers) enum GrantType {
    #[serde(rename = "urn:opencrvs:oauth:grant-type:token-exchange")]
    Opencrvs,
    #[serde(rename = "urn:ietf:params:oauth:grant-type:token-exchange")]
    Ietf,
}

/// What is offered.
#[derive(ToSchema)]
pub(in crate::handlers) enum SubjectTokenType {
    #[serde(rename = "urn:ietf:params:oauth:token-type:access_token")]
    AccessToken,
}

/// What is asked for.
#[derive(ToSchema)]
pub(in crate::handlers) enum RequestedTokenType {
    #[serde(rename = "urn:opencrvs:oauth:token-type:single_record_token")]
    RecordToken,
}

/// The token (RFC 8693 section 2.2.1). `Cache-Control: no-store`.
#[derive(ToSchema, IntoResponses)]
#[response(status = 200)]
#[schema(as = ExchangedToken)]
pub(in crate::handlers) struct RecordToken {
    access_token: String,
    issued_token_type: RequestedTokenType,
    #[schema(pattern = "^Bearer$")]
    token_type: String,
    /// Seconds that it lives.
    #[schema(minimum = 1)]
    expires_in: u64,
    /// What it grants.
    #[schema(pattern = r"^record\.(confirm|reject)-registration( record\.(confirm|reject)-registration)?$")]
    scope: String,
}

/// Why there is no token.
#[derive(IntoResponses)]
pub(in crate::handlers) enum OAuthErrors {
    /// What was asked for is not understood, not known, or not granted
    #[response(status = 400)]
    Refused(#[to_schema] ExchangeError),
    /// The subject token does not count here
    #[response(status = 401, headers(("WWW-Authenticate", description = "What token is asked for (RFC 6750).")))]
    Subject(#[to_schema] ExchangeError),
}

/// An error of OAuth (RFC 6749 section 5.2).
#[derive(ToSchema)]
#[schema(as = OAuthError)]
pub(in crate::handlers) struct ExchangeError {
    error: ErrorCode,
    error_description: String,
}

/// What kind of error it is.
#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = OAuthErrorCode)]
pub(in crate::handlers) enum ErrorCode {
    InvalidRequest,
    UnsupportedGrantType,
    InvalidTarget,
    InvalidScope,
    UnauthorizedClient,
}
