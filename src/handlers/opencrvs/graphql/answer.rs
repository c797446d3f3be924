//! What an answer of GraphQL looks like: its status, and errors that hold no value of the request.

use std::fmt;

use async_graphql::{ErrorExtensionValues, ServerError};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::super::super::problem::{Kind, Problem};

/// Why a field has no value.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    problem: Problem,
    is_told_by_status: bool,
}

impl Refusal {
    /// To a country config, which looks at the status alone.
    pub(super) fn to_country(problem: impl Into<Problem>) -> Self {
        Self { problem: problem.into(), is_told_by_status: true }
    }

    /// To a client, which looks at `errors`, and at the status only for whether its token is good.
    pub(super) fn to_client(problem: impl Into<Problem>) -> Self {
        let problem = problem.into();
        let is_told_by_status = problem.status() == StatusCode::UNAUTHORIZED;
        Self { problem, is_told_by_status }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.problem.message())
    }
}

/// The answer to a request that was not executed.
pub(super) fn refused(problem: &Problem) -> Response {
    let error = json!({ "message": problem.message(), "extensions": { "code": code(problem) } });
    problem.told_as(json!({ "errors": [error], "data": null }).to_string())
}

/// The answer to one that was.
pub(super) fn answered(mut response: async_graphql::Response) -> Response {
    let problem = worst(&response.errors);
    for error in &mut response.errors {
        tell(error);
    }
    match (serde_json::to_value(&response), problem) {
        (Ok(body), None) => json(&body),
        (Ok(body), Some(problem)) => problem.told_as(body.to_string()),
        (Err(_unwritable), _) => refused(&Problem::new(Kind::Internal)),
    }
}

fn json(body: &Value) -> Response {
    axum::Json(body).into_response()
}

/// What the status tells: of several refusals the one that is most worth another try, so that none is taken for final.
fn worst(errors: &[ServerError]) -> Option<Problem> {
    let of = |error: &ServerError| match error.source::<Refusal>() {
        Some(Refusal { problem, is_told_by_status: true }) => Some(problem.clone()),
        Some(_) => None,
        None => Some(Problem::new(Kind::BadRequest)),
    };
    errors.iter().filter_map(of).max_by_key(Problem::status)
}

/// Says in an error what may be said. A text of the library's own can quote the request.
fn tell(error: &mut ServerError) {
    let code = match error.source::<Refusal>() {
        Some(refusal) => code(&refusal.problem),
        None if error.path.is_empty() => {
            "the request is no GraphQL that this schema knows".clone_into(&mut error.message);
            "GRAPHQL_VALIDATION_FAILED".to_owned()
        }
        None => {
            "an argument is not acceptable".clone_into(&mut error.message);
            "BAD_USER_INPUT".to_owned()
        }
    };
    let mut extensions = ErrorExtensionValues::default();
    extensions.set("code", code);
    error.extensions = Some(extensions);
}

/// The codes that Apollo's server has, and ours for the rest.
fn code(problem: &Problem) -> String {
    match problem.status() {
        StatusCode::BAD_REQUEST => "BAD_USER_INPUT".to_owned(),
        StatusCode::UNAUTHORIZED => "UNAUTHENTICATED".to_owned(),
        StatusCode::INTERNAL_SERVER_ERROR => "INTERNAL_SERVER_ERROR".to_owned(),
        _ => problem.slug().to_ascii_uppercase().replace('-', "_"),
    }
}
