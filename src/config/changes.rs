//! `[changes]`: those who wait to hear what became of their transactions.

use std::time::Duration;

use serde::Deserialize;

use crate::waiting;

/// Those who wait, and how long what moved is kept for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Changes {
    /// Whole days that what moved is kept, and a cursor is good for.
    pub days: u16,
    /// How many may wait at once in one process; more get 503.
    pub max_waiting: usize,
}

impl Default for Changes {
    fn default() -> Self {
        Self { days: 14, max_waiting: 15_000 }
    }
}

impl Changes {
    /// What is wrong with it.
    pub(super) fn wrong(self) -> impl Iterator<Item = String> {
        let rules = [
            ((1..=3650).contains(&self.days), "changes.days: 1 to 3650"),
            ((1..=1_000_000).contains(&self.max_waiting), "changes.max_waiting: 1 to 1000000"),
        ];
        rules.into_iter().filter(|(holds, _)| !holds).map(|(_, text)| text.to_owned())
    }

    /// What those who wait are told by.
    pub(super) fn settings(self) -> waiting::Settings {
        waiting::Settings {
            max_waiting: self.max_waiting,
            kept: Duration::from_hours(24) * u32::from(self.days),
            poll: Duration::from_secs(1),
        }
    }
}
