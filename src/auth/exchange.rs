//! Token exchange (RFC 8693): what a token for one record may be made from another token. Pure.
//!
//! An integration that is to decide a registration later asks for a token that is good for that record alone, and keeps
//! it instead of its own. An exchange narrows and never widens:
//!
//! - the subject's token must itself grant what the new one grants, on that kind of event: `record.confirm-registration`,
//!   `record.reject-registration`, or both. A registrar's `register` grants neither: nobody gets a token here to confirm
//!   what they registered themselves;
//! - a token for one record gives tokens for that record only; if it is for one action, for that action only;
//! - a token for one record gives none that outlives it. Any other gives one that lives as long as a country config's
//!   (`record_days`): to outlive a short-lived login is what it is for.
//!
//! Whether there is such a record, and such an action, is the caller's to look up.

use std::time::Duration;

use uuid::Uuid;

use super::principal::{Principal, RecordGrant};
use super::right::Right;
use super::scopes::{CONFIRM_REGISTRATION, REJECT_REGISTRATION};

/// What may be granted by an exchange, and the scopes that grant it.
const GRANTS: [(Right, &str); 2] =
    [(Right::ConfirmRegistration, CONFIRM_REGISTRATION), (Right::RejectRegistration, REJECT_REGISTRATION)];

/// The record that a token is asked for, in one of the two ways in which OpenCRVS names it in a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Up to 1.8: the record.
    Record(Uuid),
    /// Since 1.9: the record, there called an event, and the requested action.
    Action {
        /// The record.
        event_id: Uuid,
        /// The action.
        action_id: Uuid,
    },
}

impl Target {
    /// The record.
    pub fn record_id(self) -> Uuid {
        match self {
            Self::Record(id) => id,
            Self::Action { event_id, .. } => event_id,
        }
    }

    /// The action, if one is named.
    pub fn action_id(self) -> Option<Uuid> {
        match self {
            Self::Record(_) => None,
            Self::Action { action_id, .. } => Some(action_id),
        }
    }
}

/// Why there is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The subject's token is for another record or action, or grants neither of the two on such a record. To whoever asked,
    /// the same as a record that there is not.
    #[error("the subject token may not decide the record")]
    NotTheirs,
    /// It grants none of the scopes that were asked for.
    #[error("the subject token does not hold the scopes that were asked for")]
    Scope,
}

/// What the new token says. Made by [`narrowed`] only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    pub(super) subject: String,
    pub(super) target: Target,
    /// The action that the subject's token is for, or that was asked for.
    pub(super) action_id: Option<Uuid>,
    pub(super) scopes: Vec<&'static str>,
    /// What the new token may not outlive, in seconds since 1970.
    pub(super) until: Option<u64>,
}

/// A token that was made in exchange for another.
#[derive(Clone)]
pub struct Exchanged {
    /// The token.
    pub token: String,
    /// How long it lives.
    pub expires_in: Duration,
    /// Its scopes.
    pub scopes: Vec<&'static str>,
}

impl std::fmt::Debug for Exchanged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchanged").field("expires_in", &self.expires_in).finish_non_exhaustive()
    }
}

/// What a subject's token may be exchanged for, on a record of the kind `event`.
pub fn narrowed(subject: &Principal, target: Target, event: &str, asked: Option<&str>) -> Result<Exchange, Refusal> {
    let (action_id, until) = match subject.record {
        None => (target.action_id(), None),
        Some(grant) => (within(grant, target)?, Some(subject.expires_at)),
    };
    let held = GRANTS.iter().filter(|(right, _)| subject.scopes.allows(*right, event));
    let mut scopes: Vec<&'static str> = held.map(|(_, scope)| *scope).collect();
    if scopes.is_empty() {
        return Err(Refusal::NotTheirs);
    }
    if let Some(asked) = asked {
        scopes.retain(|scope| asked.split(' ').any(|word| word == *scope));
    }
    if scopes.is_empty() {
        return Err(Refusal::Scope);
    }
    Ok(Exchange { subject: subject.id.clone(), target, action_id, scopes, until })
}

/// The action that the new token is for, when the subject's is for one record.
fn within(grant: RecordGrant, target: Target) -> Result<Option<Uuid>, Refusal> {
    if grant.record_id != target.record_id() {
        return Err(Refusal::NotTheirs);
    }
    match (grant.action_id, target.action_id()) {
        (Some(held), Some(asked)) if held != asked => Err(Refusal::NotTheirs),
        (held, asked) => Ok(held.or(asked)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::scopes::Scopes;
    use super::*;

    const RECORD: Uuid = Uuid::from_u128(1);
    const ACTION: Uuid = Uuid::from_u128(2);
    const OTHER: Uuid = Uuid::from_u128(3);

    fn subject(scopes: &[&str], record: Option<RecordGrant>) -> Principal {
        let scopes = Scopes::new(scopes.iter().map(|scope| (*scope).to_owned()));
        Principal { id: "integration".to_owned(), issuer: "i".to_owned(), scopes, record, expires_at: 1000 }
    }

    fn of_record(action_id: Option<Uuid>) -> Principal {
        subject(&[CONFIRM_REGISTRATION, REJECT_REGISTRATION], Some(RecordGrant { record_id: RECORD, action_id }))
    }

    #[test]
    fn the_new_token_grants_what_the_subject_holds_of_the_two_and_nothing_else() {
        let of = |scopes: &[&str], event| {
            narrowed(&subject(scopes, None), Target::Record(RECORD), event, None).map(|exchange| exchange.scopes)
        };
        assert_eq!(of(&[CONFIRM_REGISTRATION, "record.read"], "birth"), Ok(vec![CONFIRM_REGISTRATION]));
        let both = [REJECT_REGISTRATION, CONFIRM_REGISTRATION];
        assert_eq!(of(&both, "birth"), Ok(vec![CONFIRM_REGISTRATION, REJECT_REGISTRATION]));
        let births = ["record.confirm-registration[event=birth]"];
        assert_eq!(of(&births, "birth"), Ok(vec![CONFIRM_REGISTRATION]));
        assert_eq!(of(&births, "death"), Err(Refusal::NotTheirs));
        for others in [&["register"] as &[&str], &["validate", "record.register", "record.reject", "record.read"], &[]]
        {
            assert_eq!(of(others, "birth"), Err(Refusal::NotTheirs), "{others:?}");
        }
    }

    #[test]
    fn what_was_asked_for_narrows_further() {
        let both = subject(&[CONFIRM_REGISTRATION, REJECT_REGISTRATION], None);
        let asked = |scope| narrowed(&both, Target::Record(RECORD), "birth", Some(scope)).map(|e| e.scopes);
        assert_eq!(asked(REJECT_REGISTRATION), Ok(vec![REJECT_REGISTRATION]));
        assert_eq!(asked("register record.reject-registration"), Ok(vec![REJECT_REGISTRATION]));
        assert_eq!(asked("register"), Err(Refusal::Scope));
    }

    #[test]
    fn the_token_of_a_record_gives_none_for_another_record_or_action_and_none_that_outlives_it() {
        let action = |event_id, action_id| Target::Action { event_id, action_id };
        let exchange = |subject: &Principal, target| {
            narrowed(subject, target, "birth", None).map(|exchange| (exchange.action_id, exchange.until))
        };
        let (wide, narrow) = (of_record(None), of_record(Some(ACTION)));
        assert_eq!(exchange(&wide, Target::Record(RECORD)), Ok((None, Some(1000))));
        assert_eq!(exchange(&wide, action(RECORD, OTHER)), Ok((Some(OTHER), Some(1000))));
        assert_eq!(exchange(&narrow, Target::Record(RECORD)), Ok((Some(ACTION), Some(1000))));
        assert_eq!(exchange(&narrow, action(RECORD, ACTION)), Ok((Some(ACTION), Some(1000))));
        for (subject, target) in
            [(&wide, Target::Record(OTHER)), (&narrow, action(RECORD, OTHER)), (&narrow, action(OTHER, ACTION))]
        {
            assert_eq!(exchange(subject, target), Err(Refusal::NotTheirs));
        }
        let client = subject(&[CONFIRM_REGISTRATION], None);
        assert_eq!(exchange(&client, action(RECORD, ACTION)), Ok((Some(ACTION), None)));
    }
}
