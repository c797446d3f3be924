//! Who a verified token speaks for.

use serde::Deserialize;
use uuid::Uuid;

use super::error::AuthError;
use super::scopes::Scopes;

/// The longest subject, in characters.
const MAX_ID_CHARS: usize = 200;

/// The caller, as a verified token describes it. `Debug` shows the id only.
#[derive(Clone, PartialEq, Eq)]
pub struct Principal {
    /// The claim `sub` (RFC 7519 section 4.1.2): 1 to 200 characters, no control characters. It is
    /// unique within its issuer.
    pub id: String,
    /// The claim `iss`: one of the configured issuers.
    pub issuer: String,
    /// What the token grants (RFC 8693 section 4.2).
    pub scopes: Scopes,
    /// The one record that the token is bound to; `None` when it is bound to none.
    pub record: Option<RecordGrant>,
    /// The claim `exp`: when the token ends, in whole seconds since 1970, rounded down.
    pub expires_at: u64,
}

/// The record, and perhaps the one action on it, that a token is bound to.
///
/// It comes from the claims `recordId` (or `eventId`, as `OpenCRVS` 1.9 writes it) and `actionId`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RecordGrant {
    /// The record.
    pub record_id: Uuid,
    /// The action; `None` when the token covers each action on the record.
    pub action_id: Option<Uuid>,
}

impl std::fmt::Debug for Principal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Principal").field("id", &self.id).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for RecordGrant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordGrant").finish_non_exhaustive()
    }
}

/// The claims that describe the caller. Those on time, issuer and audience are checked elsewhere.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Claims {
    sub: Option<String>,
    scope: Option<Scopes>,
    record_id: Option<Uuid>,
    event_id: Option<Uuid>,
    action_id: Option<Uuid>,
    /// Checked elsewhere: here it may be anything.
    exp: Option<serde_json::Value>,
}

impl Claims {
    /// The principal these claims of a token of `issuer` describe.
    pub(super) fn into_principal(self, issuer: &str) -> Result<Principal, AuthError> {
        let record = self.record()?;
        let id = self.sub.ok_or(AuthError::MissingClaim("sub"))?;
        let fits = (1..=MAX_ID_CHARS).contains(&id.chars().count());
        if !fits || id.chars().any(char::is_control) {
            return Err(AuthError::Malformed);
        }
        let expires_at = self.exp.as_ref().map_or(0, whole_seconds);
        Ok(Principal { id, issuer: issuer.to_owned(), scopes: self.scope.unwrap_or_default(), record, expires_at })
    }

    /// A binding that makes no sense must not turn into none: that would widen the token.
    fn record(&self) -> Result<Option<RecordGrant>, AuthError> {
        let record_id = match (self.record_id, self.event_id) {
            (Some(record), Some(event)) if record != event => return Err(AuthError::Malformed),
            (record, event) => record.or(event),
        };
        match (record_id, self.action_id) {
            (Some(record_id), action_id) => Ok(Some(RecordGrant { record_id, action_id })),
            (None, Some(_)) => Err(AuthError::Malformed),
            (None, None) => Ok(None),
        }
    }
}

/// A `NumericDate` (RFC 7519 section 2) may have a fraction, and may lie beyond any time that can be counted.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` rounds towards zero and stays in range"
)]
fn whole_seconds(date: &serde_json::Value) -> u64 {
    date.as_u64().unwrap_or_else(|| date.as_f64().map_or(0, |seconds| seconds as u64))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const RECORD: &str = "0193f8a2-7d5c-7c11-9c38-0f6f5f1f0a01";
    const ACTION: &str = "0193f8a2-7d5c-7c11-9c38-0f6f5f1f0a02";

    fn principal(claims: Value) -> Result<Principal, AuthError> {
        serde_json::from_value::<Claims>(claims).unwrap().into_principal("issuer")
    }

    #[test]
    fn the_scope_may_be_a_list_or_words_in_one_string() {
        for scope in [json!(["declare", "register"]), json!("declare register")] {
            let caller = principal(json!({"sub": "u1", "scope": scope})).unwrap();
            assert_eq!(caller.scopes.as_slice(), ["declare", "register"]);
        }
        let none = principal(json!({"sub": "u1"})).unwrap();
        assert!(none.scopes.as_slice().is_empty());
        let wrong = json!({"sub": "u1", "scope": {"declare": true}});
        assert!(serde_json::from_value::<Claims>(wrong).is_err());
    }

    #[test]
    fn a_subject_is_1_to_200_characters_without_control_characters() {
        for good in ["a", &"é".repeat(200)] {
            assert_eq!(principal(json!({"sub": good})).unwrap().id, good);
        }
        for bad in ["", &"a".repeat(201), "a\nb", "a\u{0}"] {
            let refused = principal(json!({"sub": bad}));
            assert!(matches!(refused, Err(AuthError::Malformed)));
        }
        let missing = principal(json!({}));
        assert!(matches!(missing, Err(AuthError::MissingClaim("sub"))));
    }

    #[test]
    fn a_token_is_bound_to_a_record_and_perhaps_an_action() {
        let record_id = RECORD.parse().unwrap();
        let action_id = ACTION.parse().unwrap();
        for (claims, action_id) in [
            (json!({"sub": "u", "recordId": RECORD}), None),
            (json!({"sub": "u", "recordId": RECORD, "actionId": ACTION}), Some(action_id)),
            (json!({"sub": "u", "eventId": RECORD, "actionId": ACTION}), Some(action_id)),
        ] {
            let expected = RecordGrant { record_id, action_id };
            assert_eq!(principal(claims).unwrap().record, Some(expected));
        }
        assert_eq!(principal(json!({"sub": "u"})).unwrap().record, None);
    }

    #[test]
    fn a_binding_that_makes_no_sense_refuses_the_token() {
        for claims in
            [json!({"sub": "u", "actionId": ACTION}), json!({"sub": "u", "recordId": RECORD, "eventId": ACTION})]
        {
            assert!(matches!(principal(claims), Err(AuthError::Malformed)));
        }
        let text = json!({"sub": "u", "recordId": "no uuid"});
        assert!(serde_json::from_value::<Claims>(text).is_err());
    }

    #[test]
    fn the_end_of_a_token_is_rounded_down_to_a_second() {
        for (exp, expected) in [(json!(1000), 1000), (json!(1000.9), 1000), (json!(1e30), u64::MAX), (json!(-5), 0)] {
            assert_eq!(principal(json!({"sub": "u", "exp": exp})).unwrap().expires_at, expected);
        }
    }

    #[test]
    fn debug_output_shows_the_id_and_nothing_else() {
        let claims = json!({"sub": "u1", "scope": "secret-scope", "recordId": RECORD});
        let caller = principal(claims).unwrap();
        assert_eq!(format!("{caller:?}"), "Principal { id: \"u1\", .. }");
        let grant = caller.record.unwrap();
        assert_eq!(format!("{grant:?}"), "RecordGrant { .. }");
    }
}
