//! The public keys of the tokens that this service mints and of the deliveries that it signs.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::AppState;
use super::openapi::problems::OpenProblems;
use super::openapi::tags;

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

/// The public key of the tokens
///
/// In PEM, as OpenCRVS's auth service has it.
#[utoipa::path(
    get, path = "/.well-known", operation_id = "readTokenKey", tag = tags::SERVICE,
    responses((status = 200, description = "The key", body = String, content_type = "application/x-pem-file"), OpenProblems),
)]
pub(super) async fn pem(State(state): State<AppState>) -> impl IntoResponse {
    let headers = [FIVE_MINUTES, (header::CONTENT_TYPE, "application/x-pem-file")];
    (headers, state.keys.pem().to_owned())
}
