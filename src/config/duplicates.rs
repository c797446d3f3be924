//! The section `[duplicates]`.

use serde::Deserialize;

use crate::records::duplicates::Rules;

/// When records are possible duplicates of each other.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Duplicates {
    /// Whether records are compared at all.
    pub enabled: bool,
    /// How many days apart two births or deaths may be.
    pub days: i32,
    /// How alike names must be for two records to be compared, from 0 to 1.
    pub name_similarity: f64,
    /// From which score on they are possible duplicates, from 0 to 1.
    pub threshold: f64,
    /// How many possible duplicates of one record are reported at most.
    pub max_candidates: i32,
    /// How often records that were accepted at the same moment are compared.
    pub check_seconds: u64,
}

impl Default for Duplicates {
    fn default() -> Self {
        let Rules { enabled, days, name_similarity, threshold, max_candidates } = Rules::default();
        Self { enabled, days, name_similarity, threshold, max_candidates, check_seconds: 30 }
    }
}

impl Duplicates {
    pub(super) fn rules(self) -> Rules {
        let Self { enabled, days, name_similarity, threshold, max_candidates, check_seconds: _ } = self;
        Rules { enabled, days, name_similarity, threshold, max_candidates }
    }

    /// What makes no sense of it.
    pub(super) fn check(self, mut rule: impl FnMut(bool, &str)) {
        rule((0..=366).contains(&self.days), "duplicates.days: 0 to 366");
        rule((0.0..=1.0).contains(&self.name_similarity), "duplicates.name_similarity: 0 to 1");
        rule((0.0..=1.0).contains(&self.threshold), "duplicates.threshold: 0 to 1");
        rule((1..=200).contains(&self.max_candidates), "duplicates.max_candidates: 1 to 200");
        rule(self.check_seconds >= 1, "duplicates.check_seconds: at least 1");
    }
}
