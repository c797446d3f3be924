//! What must have happened once a registration is confirmed: written out by hand, and computed from the submissions
//! alone, so that the demo does not believe the service's own tables.

use std::collections::BTreeSet;

use crate::sandbox::Effect;

/// (destination, kind, the action's word in the transaction id).
const OF_A_REGISTRATION: [(&str, &str, &str); 9] = [
    ("metrics", "sent-notification-for-review", "register"),
    ("audit", "DECLARED", "register"),
    ("audit", "REGISTERED", "register"),
    ("metrics", "waiting-external-validation", "register"),
    ("search", "index", "register"),
    ("country-config", "event-registration", "register"),
    ("search", "index", "confirm"),
    ("metrics", "registered", "confirm"),
    ("notification", "registered", "confirm"),
];

/// The effects of registrations that were submitted under these transaction ids.
pub(super) fn effects<'a>(transaction_ids: impl Iterator<Item = &'a str>) -> BTreeSet<Effect> {
    transaction_ids
        .flat_map(|id| {
            OF_A_REGISTRATION.iter().map(move |(destination, kind, action)| Effect {
                destination: (*destination).to_owned(),
                transaction_id: format!("{kind}__{action}_{id}"),
            })
        })
        .collect()
}
