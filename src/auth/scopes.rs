//! What a token grants, in the several spellings that `OpenCRVS` has used.
//!
//! A scope names a right by a plain word (`register`) or a dotted name (`record.register`), and a
//! dotted name may be narrowed to kinds of event. A scope that is not understood grants nothing.

use std::collections::HashSet;

use serde::{Deserialize, Deserializer};

use super::right::Right;

/// Grants the confirmation of a registration by the country's own system.
pub const CONFIRM_REGISTRATION: &str = "record.confirm-registration";
/// Grants the rejection of a registration by the country's own system.
pub const REJECT_REGISTRATION: &str = "record.reject-registration";

/// The scopes of a token as they were granted: in order, without repetitions. `Debug` shows their
/// number only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Scopes(Vec<String>);

/// How far a caller may bring a declaration in one step; a later one includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flow {
    /// To the state of a declaration that waits for review.
    Declare,
    /// To the state of a validated declaration.
    Validate,
    /// To registration.
    Register,
}

impl Scopes {
    /// Scopes as granted; empty and repeated ones are left out, and what holds a space, which is no scope (RFC 6749 §3.3)
    /// and would be two once it is written down.
    pub fn new(granted: impl IntoIterator<Item = String>) -> Self {
        let mut seen = HashSet::new();
        let granted = granted.into_iter().filter(|scope| !scope.is_empty() && !scope.contains(char::is_whitespace));
        Self(granted.filter(|scope| seen.insert(scope.clone())).collect())
    }

    /// The scopes as granted, in order.
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }

    /// Whether this very scope was granted, letter for letter.
    pub fn has_exact(&self, scope: &str) -> bool {
        self.0.iter().any(|granted| granted == scope)
    }

    /// Whether the scopes grant `right` on records of the kind `event` (`birth`, `death`, …; upper
    /// and lower case are the same).
    ///
    /// A right implies the smaller ones: register, validate, declare, notify, in this order. The
    /// plain words `validate` and `register` imply rejecting and marking as not a duplicate too,
    /// and `register` archiving: they are roles rather than single actions.
    pub fn allows(&self, right: Right, event: &str) -> bool {
        let named = self.0.iter().any(|scope| right.is_named_by(scope, event));
        named
            || match right {
                Right::Notify => self.allows(Right::Declare, event),
                Right::Declare => self.allows(Right::Validate, event),
                Right::Validate => self.allows(Right::Register, event),
                Right::Reject | Right::MarkNotDuplicate => self.has_exact("validate") || self.has_exact("register"),
                Right::Archive => self.has_exact("register"),
                Right::Register | Right::Read | Right::ConfirmRegistration | Right::RejectRegistration => false,
            }
    }

    /// The furthest step that the scopes allow for a new declaration of the kind `event`.
    pub fn strongest_flow(&self, event: &str) -> Option<Flow> {
        [(Right::Register, Flow::Register), (Right::Validate, Flow::Validate), (Right::Declare, Flow::Declare)]
            .into_iter()
            .find_map(|(right, flow)| self.allows(right, event).then_some(flow))
    }
}

impl std::fmt::Debug for Scopes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Scopes({})", self.0.len())
    }
}

impl<'de> Deserialize<'de> for Scopes {
    /// From a list of strings (`OpenCRVS`) or one string with spaces (RFC 8693 section 4.2).
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Claim {
            List(Vec<String>),
            Words(String),
        }
        Ok(match Claim::deserialize(deserializer)? {
            Claim::List(list) => Self::new(list),
            Claim::Words(words) => Self::new(words.split(' ').map(str::to_owned)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(granted: &[&str]) -> Scopes {
        Scopes::new(granted.iter().map(|scope| (*scope).to_owned()))
    }

    fn rights(scope: &str, event: &str) -> Vec<Right> {
        let granted = scopes(&[scope]);
        let all = Right::ALL.into_iter();
        all.filter(|right| granted.allows(*right, event)).collect()
    }

    #[test]
    fn each_name_grants_its_right_and_the_smaller_ones() {
        use Right::{
            Archive, ConfirmRegistration, Declare, MarkNotDuplicate, Notify, Read, Register, Reject,
            RejectRegistration, Validate,
        };
        let table: [(&str, &[Right]); 24] = [
            ("declare", &[Notify, Declare]),
            ("validate", &[Notify, Declare, Validate, Reject, MarkNotDuplicate]),
            ("register", &[Notify, Declare, Validate, Register, Reject, MarkNotDuplicate, Archive]),
            ("record.notify", &[Notify]),
            ("record.submit-incomplete", &[Notify]),
            ("record.declare", &[Notify, Declare]),
            ("record.validate", &[Notify, Declare, Validate]),
            ("record.submit-for-approval", &[Notify, Declare, Validate]),
            ("record.declared.validate", &[Notify, Declare, Validate]),
            ("record.register", &[Notify, Declare, Validate, Register]),
            ("record.reject", &[Reject]),
            ("record.declaration-reject", &[Reject]),
            ("record.submit-for-updates", &[Reject]),
            ("record.declared.reject", &[Reject]),
            ("record.review-duplicates", &[MarkNotDuplicate]),
            ("record.declaration-review", &[MarkNotDuplicate]),
            ("record.declared.review-duplicates", &[MarkNotDuplicate]),
            ("record.archive", &[Archive]),
            ("record.declaration-archive", &[Archive]),
            ("record.declared.archive", &[Archive]),
            ("record.read", &[Read]),
            ("record.read[event=birth]", &[Read]),
            (CONFIRM_REGISTRATION, &[ConfirmRegistration]),
            (REJECT_REGISTRATION, &[RejectRegistration]),
        ];
        for (scope, expected) in table {
            assert_eq!(rights(scope, "birth"), expected, "{scope}");
        }
    }

    #[test]
    fn a_narrowed_scope_grants_its_kinds_of_event_only() {
        for (scope, kinds) in [
            ("record.declare-birth", &["birth"] as &[&str]),
            ("record.declare[event=birth|death]", &["birth", "death"]),
            ("record.declare[event=birth,death]", &["birth", "death"]),
            ("record.declare[event=birth,access=all]", &["birth"]),
            ("type=record.declare&event=birth,death", &["birth", "death"]),
            ("type=record.declare", &["birth", "death", "marriage"]),
            ("type=record.declare&event=death&placeOfEvent=all", &["death"]),
            ("record.declare[event=]", &[]),
        ] {
            for event in ["birth", "death", "marriage"] {
                let expected = kinds.contains(&event);
                let granted = scopes(&[scope]);
                assert_eq!(granted.allows(Right::Declare, event), expected, "{scope}");
                assert_eq!(granted.allows(Right::Notify, event), expected, "{scope}");
                let upper = event.to_uppercase();
                assert_eq!(granted.allows(Right::Declare, &upper), expected, "{scope}");
            }
        }
    }

    #[test]
    fn a_scope_that_is_not_understood_grants_nothing() {
        for scope in [
            "record.registered.print-certified-copies",
            "record.registered.correct[event=birth]",
            "record.declared.edit",
            "record.create",
            "record.read.everything",
            "record.registering",
            "record.",
            "record.Register",
            "registers",
            "Register",
            "certify",
            "reject",
            "archive",
            "notification-api",
            "register[event=birth]",
            "type=register&event=birth",
            "record.register[event=birth",
            "record.register]",
            "record.register[place=here]",
            "record.register[event=birth,place=here]",
            "type=record.register&event=birth&placeOfEvent=administrativeArea",
            "search[event=birth,access=all]",
            "type=",
            "[]",
        ] {
            assert_eq!(rights(scope, "birth"), [], "{scope}");
        }
    }

    #[test]
    fn rejecting_a_registration_is_not_rejecting_records_of_that_kind() {
        let granted = scopes(&[REJECT_REGISTRATION]);
        assert!(!granted.allows(Right::Reject, "registration"));
    }

    #[test]
    fn the_strongest_flow_is_the_furthest_step_for_the_kind_of_event() {
        let granted = scopes(&["record.register-birth", "record.declare", "record.read"]);
        assert_eq!(granted.strongest_flow("birth"), Some(Flow::Register));
        assert_eq!(granted.strongest_flow("death"), Some(Flow::Declare));
        assert_eq!(scopes(&["record.read"]).strongest_flow("birth"), None);
        let validate = scopes(&["declare", "validate"]);
        assert_eq!(validate.strongest_flow("death"), Some(Flow::Validate));
        assert!(Flow::Declare < Flow::Validate && Flow::Validate < Flow::Register);
    }

    #[test]
    fn scopes_keep_their_order_without_repetitions() {
        let granted = scopes(&["b", "a", "", "b"]);
        assert_eq!(granted.as_slice(), ["b", "a"]);
        assert!(granted.has_exact("a") && !granted.has_exact("A"));
        assert_eq!(format!("{granted:?}"), "Scopes(2)");
    }
}
