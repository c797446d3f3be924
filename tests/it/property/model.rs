//! What must be true, kept without looking at the tables.

use std::collections::{BTreeSet, HashMap};

use uuid::Uuid;

/// A verdict that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stands {
    Accepted(String),
    Rejected,
}

/// A record of the model.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) id: Uuid,
    /// The requested registration that awaits its verdict, and its transaction id.
    pub(super) awaiting: Option<(Uuid, String)>,
    /// Every request there was.
    pub(super) requests: Vec<(Uuid, String)>,
    pub(super) registered: Option<String>,
}

/// Everything that must be true.
#[derive(Debug, Default)]
pub(super) struct Model {
    /// Transaction id → the one answer.
    pub(super) answers: HashMap<String, String>,
    /// Declaration → record.
    pub(super) records: HashMap<u8, Record>,
    /// Requested action → verdict.
    pub(super) verdicts: HashMap<Uuid, Stands>,
    /// Message → the lease that is good.
    pub(super) leases: HashMap<i64, i64>,
    /// Messages that were settled for good.
    pub(super) finished: BTreeSet<i64>,
    /// (destination, transaction id) that must have been delivered in the end.
    pub(super) effects: BTreeSet<(String, String)>,
}

/// The effects of one flow, by hand: destination, kind.
const REGISTRATION: [(&str, &str); 6] = [
    ("metrics", "sent-notification-for-review"),
    ("audit", "DECLARED"),
    ("audit", "REGISTERED"),
    ("metrics", "waiting-external-validation"),
    ("search", "index"),
    ("country-config", "event-registration"),
];
const REQUEST: [(&str, &str); 4] = [
    ("audit", "REGISTERED"),
    ("metrics", "waiting-external-validation"),
    ("search", "index"),
    ("country-config", "event-registration"),
];
const CORRECTION: [(&str, &str); 4] = [
    ("metrics", "sent-notification-for-review"),
    ("audit", "DECLARED"),
    ("search", "index"),
    ("notification", "sent-notification-for-review"),
];
const ACCEPTANCE: [(&str, &str); 3] = [("search", "index"), ("metrics", "registered"), ("notification", "registered")];
const REJECTION: [(&str, &str); 4] =
    [("search", "index"), ("metrics", "rejected"), ("audit", "REJECTED"), ("notification", "rejected")];

impl Model {
    fn expect(&mut self, flow: &[(&str, &str)], word: &str, transaction_id: &str) {
        for (destination, kind) in flow {
            self.effects.insert(((*destination).to_owned(), format!("{kind}__{word}_{transaction_id}")));
        }
    }

    pub(super) fn submitted(&mut self, n: u8, transaction_id: &str, record_id: Uuid, action_id: Uuid) {
        let request = (action_id, transaction_id.to_owned());
        let record =
            Record { id: record_id, awaiting: Some(request.clone()), requests: vec![request], registered: None };
        self.records.insert(n, record);
        self.expect(&REGISTRATION, "register", transaction_id);
    }

    pub(super) fn corrected(&mut self, n: u8, transaction_id: &str) {
        if let Some(record) = self.records.get_mut(&n) {
            record.awaiting = None;
        }
        self.expect(&CORRECTION, "declare", transaction_id);
    }

    pub(super) fn requested(&mut self, n: u8, transaction_id: &str, action_id: Uuid) {
        if let Some(record) = self.records.get_mut(&n) {
            record.awaiting = Some((action_id, transaction_id.to_owned()));
            record.requests.push((action_id, transaction_id.to_owned()));
        }
        self.expect(&REQUEST, "register", transaction_id);
    }

    /// Applies a verdict if it is the first one and not superseded; true if it was applied.
    pub(super) fn decided(&mut self, action_id: Uuid, verdict: Stands) -> bool {
        let Some(record) = self.records.values_mut().find(|r| r.requests.iter().any(|(a, _)| *a == action_id)) else {
            return false;
        };
        if record.awaiting.as_ref().is_none_or(|(a, _)| *a != action_id) {
            return false;
        }
        let Some((_, transaction_id)) = record.awaiting.take() else { return false };
        if let Stands::Accepted(number) = &verdict {
            record.registered = Some(number.clone());
        }
        match &verdict {
            Stands::Accepted(_) => self.expect(&ACCEPTANCE, "confirm", &transaction_id),
            Stands::Rejected => self.expect(&REJECTION, "reject", &transaction_id),
        }
        self.verdicts.insert(action_id, verdict);
        true
    }
}
