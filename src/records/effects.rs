//! Which consequences a step has: the table of the pull request that this service grew from.
//!
//! | step | metrics | audit | others |
//! |---|---|---|---|
//! | notify | sent-notification | `IN_PROGRESS` | search, notification |
//! | declare | sent-notification-for-review | `DECLARED` | search, notification |
//! | validate | sent-for-approval | `VALIDATED` | search, notification |
//! | register | waiting-external-validation | `REGISTERED` | search, validation |
//! | confirm | registered | | search, notification, webhook |
//! | refuse, reject | rejected | `REJECTED` | search, notification |
//! | not duplicate | | `MARKED_AS_NOT_DUPLICATE` | search |
//! | archive | archived | `ARCHIVED` | search |
//!
//! Country configs of OpenCRVS 1.9 are also told of each step that a person takes (`trigger`), of a registration by asking
//! for its verdict.
//!
//! A submission that goes further than `declare` implies the metrics and the audit of `declare`; search and
//! notification are sent once, for the last step: see [`of_flow`].

use uuid::Uuid;

use super::model::{ActionKind, Step};
use crate::outbox::{Effect, NewMessage};

/// The kind of the message that asks the country for its verdict.
pub const EVENT_REGISTRATION: &str = "event-registration";

/// The consequences of one step.
pub fn of_step(step: Step) -> &'static [(Effect, &'static str)] {
    use Effect::{Audit, Metrics, Notification, Search, Trigger, Validation, Webhook};
    match step {
        Step::Notify => &[
            (Metrics, "sent-notification"),
            (Audit, "IN_PROGRESS"),
            (Search, "index"),
            (Notification, "sent-notification"),
            (Trigger, "trigger-notify"),
        ],
        Step::Declare => &[
            (Metrics, "sent-notification-for-review"),
            (Audit, "DECLARED"),
            (Search, "index"),
            (Notification, "sent-notification-for-review"),
            (Trigger, "trigger-declare"),
        ],
        Step::Validate => &[
            (Metrics, "sent-for-approval"),
            (Audit, "VALIDATED"),
            (Search, "index"),
            (Notification, "sent-for-approval"),
            (Trigger, "trigger-validate"),
        ],
        Step::Register => &[
            (Audit, "REGISTERED"),
            (Metrics, "waiting-external-validation"),
            (Search, "index"),
            (Validation, EVENT_REGISTRATION),
        ],
        Step::Confirm => {
            &[(Search, "index"), (Metrics, "registered"), (Notification, "registered"), (Webhook, "registered")]
        }
        Step::Refuse => &[(Search, "index"), (Metrics, "rejected"), (Audit, "REJECTED"), (Notification, "rejected")],
        Step::Reject => &[
            (Search, "index"),
            (Metrics, "rejected"),
            (Audit, "REJECTED"),
            (Notification, "rejected"),
            (Trigger, "trigger-reject"),
        ],
        Step::MarkNotDuplicate => &[(Audit, "MARKED_AS_NOT_DUPLICATE"), (Search, "index")],
        Step::Archive => &[(Search, "index"), (Metrics, "archived"), (Audit, "ARCHIVED"), (Trigger, "trigger-archive")],
    }
}

/// The kind of the message that tells the country of an action, other than of a registration.
pub fn trigger(action: ActionKind) -> Option<&'static str> {
    let step = match action {
        ActionKind::Notify => Step::Notify,
        ActionKind::Declare => Step::Declare,
        ActionKind::Validate => Step::Validate,
        ActionKind::Reject => Step::Reject,
        ActionKind::Archive => Step::Archive,
        ActionKind::Register | ActionKind::MarkNotDuplicate => return None,
    };
    of_step(step).iter().find(|(effect, _)| *effect == Effect::Trigger).map(|(_, kind)| *kind)
}

/// The consequences of steps that one transaction takes one after the other, each with the index of its step.
/// What people or the search index get is sent once, for the last step.
pub fn of_flow(steps: &[Step]) -> Vec<(usize, Effect, &'static str)> {
    let last = steps.len().saturating_sub(1);
    steps
        .iter()
        .enumerate()
        .flat_map(|(at, step)| of_step(*step).iter().map(move |(effect, kind)| (at, *effect, *kind)))
        .filter(|(at, effect, _)| *at == last || !matches!(effect, Effect::Search | Effect::Notification))
        .collect()
}

/// The action's word in the transaction id of an effect.
pub fn word(step: Step) -> &'static str {
    match step {
        Step::Notify => "notify",
        Step::Declare => "declare",
        Step::Validate => "validate",
        Step::Register => "register",
        Step::Confirm => "confirm",
        Step::Refuse | Step::Reject => "reject",
        Step::MarkNotDuplicate => "not-duplicate",
        Step::Archive => "archive",
    }
}

/// Who and what the messages of one flow have in common.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The client's transaction id.
    pub transaction_id: &'a str,
    /// The record.
    pub record_id: Uuid,
    /// On whose behalf.
    pub initiator_id: &'a str,
    /// Whose transaction it is, if not theirs.
    pub owner_id: Option<&'a str>,
    /// Their scopes.
    pub initiator_scopes: &'a [String],
    /// W3C trace context.
    pub traceparent: Option<&'a str>,
}

/// The consequence of a declaration that the country amended when it was told of an action: it is indexed anew.
pub fn of_amendment(origin: Origin<'_>, amended: Step, action_id: Uuid) -> NewMessage {
    NewMessage {
        effect: Effect::Search,
        kind: "index",
        transaction_id: format!("index__amend-{}_{}", word(amended), origin.transaction_id),
        record_id: origin.record_id,
        action_id,
        initiator_id: origin.initiator_id.to_owned(),
        owner_id: origin.owner_id.map(str::to_owned),
        initiator_scopes: origin.initiator_scopes.to_vec(),
        traceparent: origin.traceparent.map(str::to_owned),
        redelivery: 0,
    }
}

/// The messages of a flow; `actions[i]` is the action that `steps[i]` appended.
pub fn messages(origin: Origin<'_>, steps: &[Step], actions: &[Uuid]) -> Vec<NewMessage> {
    let Some(last) = steps.last() else {
        return Vec::new();
    };
    of_flow(steps)
        .into_iter()
        .filter_map(|(at, effect, kind)| {
            Some(NewMessage {
                effect,
                kind,
                transaction_id: format!("{kind}__{}_{}", word(*last), origin.transaction_id),
                record_id: origin.record_id,
                action_id: *actions.get(at)?,
                initiator_id: origin.initiator_id.to_owned(),
                owner_id: origin.owner_id.map(str::to_owned),
                initiator_scopes: origin.initiator_scopes.to_vec(),
                traceparent: origin.traceparent.map(str::to_owned),
                redelivery: 0,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration_implies_the_declaration_and_is_indexed_once() {
        let flow = of_flow(&[Step::Declare, Step::Register]);
        let kinds: Vec<_> = flow.iter().map(|(at, effect, kind)| (*at, effect.as_str(), *kind)).collect();
        assert_eq!(
            kinds,
            [
                (0, "metrics", "sent-notification-for-review"),
                (0, "audit", "DECLARED"),
                (0, "trigger", "trigger-declare"),
                (1, "audit", "REGISTERED"),
                (1, "metrics", "waiting-external-validation"),
                (1, "search", "index"),
                (1, "validation", "event-registration"),
            ]
        );
    }

    #[test]
    fn a_validation_notifies_once() {
        let flow = of_flow(&[Step::Declare, Step::Validate]);
        assert_eq!(flow.iter().filter(|(_, effect, _)| *effect == Effect::Notification).count(), 1);
        assert_eq!(flow.iter().filter(|(_, effect, _)| *effect == Effect::Search).count(), 1);
        assert_eq!(flow.iter().filter(|(_, effect, _)| *effect == Effect::Metrics).count(), 2);
    }
}
