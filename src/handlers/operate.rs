//! For operators and their probes; on the internal address only.

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::AppState;
use super::problem::Problem;
use crate::metrics;

/// The process answers.
pub(super) async fn alive() -> &'static str {
    "alive\n"
}

/// The process can do its work: the database answers.
pub(super) async fn ready(State(state): State<AppState>) -> Result<&'static str, Problem> {
    sqlx::query!(r#"select 1 as "one!""#).fetch_one(&state.db).await?;
    Ok("ready\n")
}

/// Prometheus text.
pub(super) async fn metrics() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics::render())
}
