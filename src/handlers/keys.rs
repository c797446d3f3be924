//! The public keys of the tokens that this service mints and of the deliveries that it signs; and whether a token counts.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::edge::Exchange;
use super::openapi::problems::{OpenProblems, VerifyProblems};
use super::openapi::tags;
use super::problem::Problem;
use super::{AppState, body};
use crate::auth::AuthError;

const FIVE_MINUTES: (header::HeaderName, &str) = (header::CACHE_CONTROL, "public, max-age=300");

/// The public keys
///
/// A JSON Web Key Set (RFC 7517): `RS256` for tokens, `EdDSA` for signed deliveries.
#[utoipa::path(
    get, path = "/.well-known/jwks.json", operation_id = "readKeys", tag = tags::SERVICE,
    responses((status = 200, description = "The keys", body = Object), OpenProblems),
)]
pub(super) async fn jwks(State(state): State<AppState>) -> impl IntoResponse {
    ([FIVE_MINUTES], Json(state.keys.jwks().clone()))
}

/// The public keys of the tokens
///
/// In PEM, as OpenCRVS's auth service has it: first the one that signs now. Node's `crypto` and `jsonwebtoken` read that one
/// and pass over the others.
#[utoipa::path(
    get, path = "/.well-known", operation_id = "readTokenKey", tag = tags::SERVICE,
    responses((status = 200, description = "The keys", body = String, content_type = "application/x-pem-file"), OpenProblems),
)]
pub(super) async fn pem(State(state): State<AppState>) -> impl IntoResponse {
    let headers = [FIVE_MINUTES, (header::CONTENT_TYPE, "application/x-pem-file")];
    (headers, state.keys.pem().to_owned())
}

/// Largest body of a check, in bytes: a token is 16 KiB at most.
const VERIFY_MAX: usize = 64 * 1024;

/// A token that may be none.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TokenToVerify)]
struct VerifyBody {
    /// The token itself, without `Bearer`.
    token: String,
}

/// Whether it counts.
#[derive(Serialize, ToSchema)]
#[schema(as = TokenVerified)]
struct Verified {
    /// Whether this service would take the token, whatever it grants.
    valid: bool,
}

/// Check a token
///
/// As OpenCRVS's auth service has it: whether a token counts, and nothing else of it, not even why not. There it says that
/// the token was not revoked, and its signature is for the caller to check; here it is checked whole: its issuer,
/// signature, audience and time.
#[utoipa::path(
    post, path = "/verifyToken", operation_id = "verifyToken", tag = tags::SERVICE, request_body = VerifyBody,
    responses((status = 200, description = "Whether it counts", body = Verified), VerifyProblems),
)]
pub(super) async fn verify(State(state): State<AppState>, request: Request) -> Result<impl IntoResponse, Problem> {
    let (parts, body) = request.into_parts();
    let bytes = body::read(&parts, body, VERIFY_MAX).await?;
    body::fingerprint("", &bytes)?;
    let VerifyBody { token } = body::typed(&bytes)?;
    let valid = match Box::pin(state.verifier.verify(&token)).await {
        Ok(principal) => {
            if let Some(exchange) = parts.extensions.get::<Exchange>() {
                exchange.admit(&principal)?;
            }
            true
        }
        Err(error @ AuthError::KeysUnavailable(_)) => return Err(error.into()),
        Err(
            AuthError::Malformed
            | AuthError::AlgorithmNotAllowed
            | AuthError::UnknownIssuer
            | AuthError::UnknownKey
            | AuthError::BadSignature
            | AuthError::Expired
            | AuthError::NotYetValid
            | AuthError::WrongAudience
            | AuthError::MissingClaim(_),
        ) => false,
    };
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(Verified { valid })))
}
