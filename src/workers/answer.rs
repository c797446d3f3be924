//! What a country config's answer to an `event-registration` means. Pure.
//!
//! | answer | meaning |
//! |---|---|
//! | 200 with a string `registrationNumber` | accepted |
//! | any other 2xx | later: it will call back |
//! | 400 with a string `reason` | rejected |
//! | any other | nothing: the exchange is judged like any other |
//!
//! A 400 without a reason rejects nothing: the stock country config says 400 to malformed JSON, a proxy says it to
//! what it likes, and neither may reject a birth.

use serde::Deserialize;
use serde_json::Value;

use crate::records::commands::{Answer, Verdict, is_reason, is_registration_number};

/// Everything optional is taken as it comes: nothing beside the verdict may cost the verdict.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    registration_number: Option<Value>,
    reason: Option<Value>,
    comment: Option<Value>,
}

/// Reads an answer.
pub fn read(status: u16, body: &[u8]) -> Answer {
    let parsed: Option<Body> = serde_json::from_slice(body).ok();
    match status {
        200 => parsed.and_then(accepted).map_or(Answer::Later, Answer::Verdict),
        201..=299 => Answer::Later,
        400 => parsed.and_then(rejected).map_or(Answer::Nothing, Answer::Verdict),
        _ => Answer::Nothing,
    }
}

fn accepted(body: Body) -> Option<Verdict> {
    let registration_number = text(body.registration_number).filter(|t| is_registration_number(t))?;
    Some(Verdict::Accepted { registration_number, identifiers: Vec::new(), comment: comment(body.comment) })
}

fn rejected(body: Body) -> Option<Verdict> {
    let reason = text(body.reason).filter(|t| is_reason(t))?;
    Some(Verdict::Rejected { reason, comment: comment(body.comment) })
}

fn text(value: Option<Value>) -> Option<String> {
    if let Value::String(text) = value? { Some(text) } else { None }
}

/// Only what PostgreSQL can store.
fn comment(value: Option<Value>) -> Option<String> {
    text(value).filter(|t| is_reason(t))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(number: &str) -> Answer {
        Answer::Verdict(Verdict::Accepted {
            registration_number: number.to_owned(),
            identifiers: Vec::new(),
            comment: None,
        })
    }

    fn rejects(reason: &str) -> Answer {
        Answer::Verdict(Verdict::Rejected { reason: reason.to_owned(), comment: None })
    }

    #[test]
    fn the_table_of_answers_is_kept() {
        let table = [
            (200, r#"{"registrationNumber":"2026B1"}"#, accepts("2026B1")),
            (200, r#"{"registrationNumber":""}"#, Answer::Later),
            (200, r#"{"registrationNumber":"2026B1","comment":5}"#, accepts("2026B1")),
            (200, r#"{"registrationNumber":" 2026B1"}"#, Answer::Later),
            (200, "{\"registrationNumber\":\"\\u202e1\"}", Answer::Later),
            (200, r#"{"registrationNumber":7}"#, Answer::Later),
            (200, r#"{"registrationNumber":"\u0000"}"#, Answer::Later),
            (200, "", Answer::Later),
            (200, "ok", Answer::Later),
            (201, r#"{"registrationNumber":"2026B1"}"#, Answer::Later),
            (202, "", Answer::Later),
            (204, "", Answer::Later),
            (400, r#"{"reason":"no such village"}"#, rejects("no such village")),
            (
                400,
                r#"{"statusCode":400,"error":"Bad Request","message":"Invalid request payload JSON format"}"#,
                Answer::Nothing,
            ),
            (400, r#"{"reason":["x"]}"#, Answer::Nothing),
            (400, "<html>400 Bad Request</html>", Answer::Nothing),
            (403, r#"{"reason":"x"}"#, Answer::Nothing),
            (409, "", Answer::Nothing),
            (500, r#"{"registrationNumber":"2026B1"}"#, Answer::Nothing),
        ];
        for (status, body, expected) in table {
            assert_eq!(read(status, body.as_bytes()), expected, "{status} {body}");
        }
    }
}
