//! What a country config's answer means. Pure.
//!
//! | answer to an `event-registration` (OpenCRVS 1.6 to 1.8) | meaning |
//! |---|---|
//! | 200 with a string `registrationNumber` | accepted |
//! | any other 2xx | later: it will call back |
//! | 400 with a string `reason` | rejected |
//! | any other | nothing: the exchange is judged like any other |
//!
//! A 400 without a reason rejects nothing: the stock country config says 400 to malformed JSON, a proxy says it to
//! what it likes, and neither may reject a birth.
//!
//! | answer to a trigger (1.9) | of a registration | of another action |
//! |---|---|---|
//! | 200 | accepted, with a string `registrationNumber`; without one it is asked again | it stands, perhaps amended |
//! | 202 | later: it will call back | it stands, until a callback says otherwise |
//! | 400 with a JSON object or nothing | rejected, with its `reason` if it has one | the same |
//! | any other 2xx | asked again | it stands |
//! | any other | nothing: the exchange is judged like any other | the same |
//!
//! There a 400 is how a country says no, and its stock code gives a reason only if the country wrote one. What is not JSON
//! comes from something in between.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::records::commands::{Amendment, Answer, NO_REASON, Opinion, Verdict, is_reason, is_registration_number};

/// Everything optional is taken as it comes: nothing beside the verdict may cost the verdict.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body<'t> {
    #[serde(borrow)]
    registration_number: Option<&'t RawValue>,
    #[serde(borrow)]
    reason: Option<&'t RawValue>,
    #[serde(borrow)]
    comment: Option<&'t RawValue>,
    #[serde(borrow)]
    declaration: Option<&'t RawValue>,
    #[serde(borrow)]
    annotation: Option<&'t RawValue>,
}

/// What a country config says in its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Of a registration that waits for it.
    Registration(Answer),
    /// Of another action.
    Action(Opinion),
}

/// Reads the answer to an `event-registration`.
pub fn read(status: u16, body: &[u8]) -> Answer {
    let parsed = parsed(body);
    match status {
        200 => parsed.and_then(accepted).map_or(Answer::Later, Answer::Verdict),
        201..=299 => Answer::Later,
        400 => parsed.and_then(rejected).map_or(Answer::Nothing, Answer::Verdict),
        _ => Answer::Nothing,
    }
}

/// Reads the answer to the trigger of a registration.
pub fn read_trigger(status: u16, body: &[u8]) -> Answer {
    match status {
        200 => parsed(body).and_then(accepted).map_or(Answer::Nothing, Answer::Verdict),
        202 => Answer::Later,
        400 => refusal(body)
            .map_or(Answer::Nothing, |(reason, comment)| Answer::Verdict(Verdict::Rejected { reason, comment })),
        _ => Answer::Nothing,
    }
}

/// Reads the answer to the trigger of another action; `None` if it says nothing of it.
pub fn read_opinion(status: u16, body: &[u8]) -> Option<Opinion> {
    match status {
        200 => {
            let body = parsed(body)?;
            let amendment = Amendment::new(body.declaration, body.annotation);
            (!amendment.is_empty()).then_some(Opinion::Accepted(amendment))
        }
        400 => refusal(body).map(|(reason, comment)| Opinion::Rejected { reason, comment }),
        _ => None,
    }
}

fn parsed(body: &[u8]) -> Option<Body<'_>> {
    // Some servers begin with a byte order mark (RFC 8259 §8.1 lets a reader pass over it).
    serde_json::from_slice(body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)).ok()
}

fn accepted(body: Body<'_>) -> Option<Verdict> {
    let registration_number = text(body.registration_number).filter(|t| is_registration_number(t))?;
    let amendment = Amendment::new(body.declaration, body.annotation);
    Some(Verdict::Accepted { registration_number, identifiers: Vec::new(), amendment, comment: comment(body.comment) })
}

fn rejected(body: Body<'_>) -> Option<Verdict> {
    let reason = text(body.reason).filter(|t| is_reason(t))?;
    Some(Verdict::Rejected { reason, comment: comment(body.comment) })
}

fn refusal(body: &[u8]) -> Option<(String, Option<String>)> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Some((NO_REASON.to_owned(), None));
    }
    let body = parsed(body)?;
    let reason = text(body.reason).filter(|t| is_reason(t)).unwrap_or_else(|| NO_REASON.to_owned());
    Some((reason, comment(body.comment)))
}

fn text(value: Option<&RawValue>) -> Option<String> {
    serde_json::from_str(value?.get()).ok()
}

/// Only what PostgreSQL can store.
fn comment(value: Option<&RawValue>) -> Option<String> {
    text(value).filter(|t| is_reason(t))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(number: &str) -> Answer {
        Answer::Verdict(Verdict::Accepted {
            registration_number: number.to_owned(),
            identifiers: Vec::new(),
            amendment: Amendment::default(),
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
            (200, r#"{"registrationNumber":"2026B1","comment":"\ud800"}"#, accepts("2026B1")),
            (200, "\u{feff}{\"registrationNumber\":\"2026B1\"}", accepts("2026B1")),
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

    #[test]
    fn the_table_of_answers_to_a_registrations_trigger_is_kept() {
        let table = [
            (200, r#"{"registrationNumber":"9M2X"}"#, accepts("9M2X")),
            (200, "", Answer::Nothing),
            (200, r#"{"registrationNumber":""}"#, Answer::Nothing),
            (202, "", Answer::Later),
            (202, r#"{"registrationNumber":"9M2X"}"#, Answer::Later),
            (204, "", Answer::Nothing),
            (400, r#"{"reason":"no such village"}"#, rejects("no such village")),
            (400, "", rejects(NO_REASON)),
            (400, r#"{"statusCode":400,"error":"Bad Request"}"#, rejects(NO_REASON)),
            (400, "<html>400 Bad Request</html>", Answer::Nothing),
            (500, r#"{"registrationNumber":"9M2X"}"#, Answer::Nothing),
        ];
        for (status, body, expected) in table {
            assert_eq!(read_trigger(status, body.as_bytes()), expected, "{status} {body}");
        }
    }

    #[test]
    fn an_acceptance_brings_what_it_amends_and_is_not_lost_by_what_it_cannot() {
        let amended = |body: &str| match read_trigger(200, body.as_bytes()) {
            Answer::Verdict(Verdict::Accepted { amendment, .. }) => amendment,
            other @ (Answer::Verdict(_) | Answer::Later | Answer::Nothing) => panic!("{other:?}"),
        };
        let both = amended(r#"{"registrationNumber":"9M2X","declaration":{"a": 1.50},"annotation":{"b":2}}"#);
        assert_eq!(both.declaration.as_deref(), Some(r#"{"a": 1.50}"#));
        assert_eq!(both.annotation.as_deref(), Some(r#"{"b":2}"#));
        assert!(amended(r#"{"registrationNumber":"9M2X","declaration":[1],"annotation":{}}"#).is_empty());
    }

    #[test]
    fn the_table_of_answers_to_another_actions_trigger_is_kept() {
        let refused = |reason: &str| Some(Opinion::Rejected { reason: reason.to_owned(), comment: None });
        assert_eq!(read_opinion(400, br#"{"reason":"no such village"}"#), refused("no such village"));
        assert_eq!(read_opinion(400, b""), refused(NO_REASON));
        let amendment = Amendment { declaration: Some(r#"{"a":1}"#.to_owned()), annotation: None };
        assert_eq!(read_opinion(200, br#"{"declaration":{"a":1}}"#), Some(Opinion::Accepted(amendment)));
        for (status, body) in [(200, ""), (200, "{}"), (200, "ok"), (202, "{}"), (204, ""), (400, "<p>"), (503, "{}")] {
            assert_eq!(read_opinion(status, body.as_bytes()), None, "{status} {body}");
        }
    }
}
