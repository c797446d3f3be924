//! A problem as a GraphQL error: the sentence as its message, and a code of Apollo's in its extensions.

use async_graphql::{Error, ErrorExtensions as _};
use axum::http::StatusCode;
use serde_json::Value;

use crate::handlers::problem::Problem;

/// The code of an id that was used for something else.
pub(super) const CONFLICT: &str = "CONFLICT";

/// An error with a code.
pub(super) fn coded(message: &str, code: &str) -> Error {
    Error::new(message).extend_with(|_, extensions| extensions.set("code", code))
}

/// What a problem is to a GraphQL client. It says no more than the problem does, which holds no value of the request.
pub(super) fn refused(problem: &Problem) -> Error {
    let document = problem.document();
    let said = ["detail", "title"].into_iter().find_map(|name| document.get(name).and_then(Value::as_str));
    let errors =
        document.get("errors").map(|errors| async_graphql::Value::from_json(errors.clone()).unwrap_or_default());
    let passing = problem.retry_after().is_some();
    let code = if passing { "SERVICE_UNAVAILABLE" } else { code(problem.status()) };
    coded(said.unwrap_or("refused"), code).extend_with(|_, extensions| {
        if let Some(errors) = errors.clone() {
            extensions.set("errors", errors);
        }
        if let Some(seconds) = problem.retry_after() {
            extensions.set("retryAfter", seconds);
        }
    })
}

fn code(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "UNAUTHENTICATED",
        403 => "FORBIDDEN",
        404 => "NOT_FOUND",
        409 | 422 => CONFLICT,
        400..=499 => "BAD_USER_INPUT",
        _ => "INTERNAL_SERVER_ERROR",
    }
}
