//! What an answer of tRPC looks like to a client with superjson.
//!
//! An error is `{"message","code","data":{"code","httpStatus","path"}}`: the numbers are those of tRPC 11, which are
//! JSON-RPC's where that has one. The answer's status is that of its results, 207 if they have several.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use serde_json::value::RawValue;

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

    fn result<'a>(&'a self, outcome: &'a Outcome) -> Said<'a> {
        let problem = match outcome {
            Ok(data) => return Said::Result(Data { data: Envelope { json: data } }),
            Err(problem) => problem,
        };
        let (name, code) = code(problem);
        let data = About { code: name, http_status: problem.status().as_u16(), path: &self.name };
        Said::Error(Envelope { json: Wrong { message: problem.message(), code, data } })
    }
}

/// What became of a call: the data that it answers with.
pub(super) type Outcome = Result<Box<RawValue>, Problem>;

/// Data that have a form of their own.
pub(super) fn raw(data: &impl Serialize) -> Outcome {
    serde_json::value::to_raw_value(data).map_err(|_unwritable| Problem::new(Kind::Internal))
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Said<'a> {
    Result(Data<'a>),
    Error(Envelope<Wrong<'a>>),
}

#[derive(Serialize)]
struct Data<'a> {
    data: Envelope<&'a RawValue>,
}

#[derive(Serialize)]
struct Envelope<T> {
    json: T,
}

#[derive(Serialize)]
struct Wrong<'a> {
    message: &'a str,
    code: i32,
    data: About<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct About<'a> {
    code: &'static str,
    http_status: u16,
    path: &'a str,
}

/// There is no such procedure.
pub(super) fn no_such_procedure() -> Problem {
    Problem::new(Kind::NotFound).detail("there is no such procedure")
}

/// The answer if nothing was done.
pub(super) fn refused(asked: &Asked, problem: &Problem) -> Response {
    answered(asked, &asked.calls.iter().map(|_| Err(problem.clone())).collect::<Vec<_>>())
}

/// The answer with the outcome of each call.
pub(super) fn answered(asked: &Asked, outcomes: &[Outcome]) -> Response {
    let results: Vec<Said<'_>> = asked.calls.iter().zip(outcomes).map(|(call, outcome)| call.result(outcome)).collect();
    let body = if asked.is_batch { serde_json::to_string(&results) } else { serde_json::to_string(&results.first()) };
    let body = body.unwrap_or_default();
    let status = |outcome: &Outcome| outcome.as_ref().map_or_else(Problem::status, |_| StatusCode::OK);
    let one = outcomes.first().map_or(StatusCode::OK, status);
    let is_one = outcomes.iter().all(|outcome| status(outcome) == one);
    if let (Some(Err(problem)), true) = (outcomes.first(), is_one) {
        let mut response = problem.told_as(body);
        if one == StatusCode::METHOD_NOT_ALLOWED {
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(asked.elsewhere));
        }
        return response;
    }
    let status = if is_one { one } else { StatusCode::MULTI_STATUS };
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
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
    use serde_json::json;

    use super::*;

    fn asked(names: &[&str], is_batch: bool) -> Asked {
        Asked { calls: names.iter().copied().map(Call::of).collect(), is_batch, elsewhere: "POST" }
    }

    #[test]
    fn a_batch_has_the_status_of_its_results_or_207() {
        let (conflict, done) = (|| Err(Problem::new(Kind::Conflict)), |n: u8| raw(&n));
        let two = asked(&["a", "b"], true);
        assert_eq!(answered(&two, &[done(1), done(2)]).status(), 200);
        assert_eq!(answered(&two, &[conflict(), conflict()]).status(), 409);
        assert_eq!(answered(&two, &[done(1), conflict()]).status(), 207);
        assert_eq!(answered(&two, &[Err(Problem::new(Kind::NotFound)), conflict()]).status(), 207);
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
        let (call, outcome) = (Call::of("event.actions.register.accept"), Err(problem));
        assert_eq!(serde_json::to_value(call.result(&outcome)).unwrap(), expected);
    }
}
