//! The public keys of the tokens that this service mints and of the deliveries that it signs.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::AppState;

const FIVE_MINUTES: (header::HeaderName, &str) = (header::CACHE_CONTROL, "public, max-age=300");

/// `GET /.well-known/jwks.json` (RFC 7517).
pub(super) async fn jwks(State(state): State<AppState>) -> impl IntoResponse {
    ([FIVE_MINUTES], Json(state.keys.jwks().clone()))
}

/// `GET /.well-known`: the key of the tokens in PEM, as OpenCRVS's auth service has it.
pub(super) async fn pem(State(state): State<AppState>) -> impl IntoResponse {
    let headers = [FIVE_MINUTES, (header::CONTENT_TYPE, "application/x-pem-file")];
    (headers, state.keys.pem().to_owned())
}
