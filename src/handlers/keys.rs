//! The public keys of the tokens that this service mints.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::AppState;

const FIVE_MINUTES: (header::HeaderName, &str) = (header::CACHE_CONTROL, "public, max-age=300");

/// `GET /.well-known/jwks.json` (RFC 7517).
pub(super) async fn jwks(State(state): State<AppState>) -> impl IntoResponse {
    ([FIVE_MINUTES], Json(state.signer.jwks()))
}

/// `GET /.well-known`: PEM, as OpenCRVS's auth service has it.
pub(super) async fn pem(State(state): State<AppState>) -> impl IntoResponse {
    let headers = [FIVE_MINUTES, (header::CONTENT_TYPE, "application/x-pem-file")];
    (headers, state.signer.public_pem().to_owned())
}
