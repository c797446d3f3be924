//! What an answer of tRPC looks like to a client with superjson.
//!
//! An error is `{"message","code","data":{"code","httpStatus","path"}}`: the numbers are those of tRPC 11, which are
//! JSON-RPC's where that has one. The answer's status is that of its results, 207 if they have several.

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::Asked;
use super::actions::Procedure;
use crate::handlers::problem::{Kind, Problem};

/// One call of a request.
#[derive(Clone, Debug)]
pub(super) struct Call {
    name: String,
    /// What it names, if there is such a thing.
    pub(super) procedure: Option<Procedure>,
}

impl Call {
    pub(super) fn of(name: &str) -> Self {
        Self { name: name.to_owned(), procedure: Procedure::named(name) }
    }

    fn result(&self, outcome: &Result<Value, Problem>) -> Value {
        match outcome {
            Ok(data) => json!({ "result": { "data": { "json": data } } }),
            Err(problem) => {
                let (code, number) = code(problem);
                let status = problem.status().as_u16();
                let data = json!({ "code": code, "httpStatus": status, "path": self.name });
                json!({ "error": { "json": { "message": problem.message(), "code": number, "data": data } } })
            }
        }
    }
}

/// There is no such procedure.
pub(super) fn no_such_procedure() -> Problem {
    Problem::new(Kind::NotFound).detail("there is no such procedure")
}

/// The answer if nothing was done.
pub(super) fn refused(asked: &Asked, problem: &Problem) -> Response {
    answered(asked, asked.calls.iter().map(|_| Err(problem.clone())).collect())
}

/// The answer with the outcome of each call.
pub(super) fn answered(asked: &Asked, outcomes: Vec<Result<Value, Problem>>) -> Response {
    let results = asked.calls.iter().zip(&outcomes).map(|(call, outcome)| call.result(outcome));
    let body: Value = if asked.is_batch { results.collect() } else { results.take(1).collect::<Vec<_>>().remove(0) };
    let status = |outcome: &Result<Value, Problem>| outcome.as_ref().map_or_else(Problem::status, |_| StatusCode::OK);
    let one = outcomes.first().map_or(StatusCode::OK, status);
    if outcomes.iter().any(|outcome| status(outcome) != one) {
        return (StatusCode::MULTI_STATUS, axum::Json(body)).into_response();
    }
    match outcomes.into_iter().next() {
        Some(Err(problem)) => problem.told_as(body.to_string()),
        Some(Ok(_)) | None => axum::Json(body).into_response(),
    }
}

/// The name and the number that tRPC has for a status.
fn code(problem: &Problem) -> (&'static str, i32) {
    match problem.status().as_u16() {
        400 if problem.slug() == Kind::NotJson.parts().1 => ("PARSE_ERROR", -32700),
        401 => ("UNAUTHORIZED", -32001),
        403 => ("FORBIDDEN", -32003),
        404 => ("NOT_FOUND", -32004),
        405 => ("METHOD_NOT_SUPPORTED", -32005),
        408 => ("TIMEOUT", -32008),
        409 => ("CONFLICT", -32009),
        413 => ("PAYLOAD_TOO_LARGE", -32013),
        415 => ("UNSUPPORTED_MEDIA_TYPE", -32015),
        422 => ("UNPROCESSABLE_CONTENT", -32022),
        429 => ("TOO_MANY_REQUESTS", -32029),
        503 => ("SERVICE_UNAVAILABLE", -32603),
        400..500 => ("BAD_REQUEST", -32600),
        _ => ("INTERNAL_SERVER_ERROR", -32603),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(names: &[&str], is_batch: bool) -> Asked {
        Asked { calls: names.iter().copied().map(Call::of).collect(), is_batch }
    }

    #[test]
    fn a_batch_has_the_status_of_its_results_or_207() {
        let conflict = || Err(Problem::new(Kind::Conflict));
        let two = asked(&["a", "b"], true);
        assert_eq!(answered(&two, vec![Ok(json!(1)), Ok(json!(2))]).status(), 200);
        assert_eq!(answered(&two, vec![conflict(), conflict()]).status(), 409);
        assert_eq!(answered(&two, vec![Ok(json!(1)), conflict()]).status(), 207);
        assert_eq!(answered(&two, vec![Err(Problem::new(Kind::NotFound)), conflict()]).status(), 207);
        assert_eq!(refused(&asked(&["a"], false), &Problem::no_token()).headers()["www-authenticate"], "Bearer");
    }

    #[test]
    fn an_error_has_the_shape_that_clients_transform() {
        let problem = Problem::new(Kind::BadRequest).detail("Action has already been rejected.");
        let expected = json!({ "error": { "json": {
            "message": "Action has already been rejected.",
            "code": -32600,
            "data": { "code": "BAD_REQUEST", "httpStatus": 400, "path": "event.actions.register.accept" },
        } } });
        assert_eq!(Call::of("event.actions.register.accept").result(&Err(problem)), expected);
    }
}
