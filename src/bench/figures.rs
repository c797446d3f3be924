//! What is measured, as a line for people and as JSON for machines.

use std::time::Duration;

use serde::Serialize;

/// One figure. Members that mean nothing for it are left out of its JSON.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// Which scenario.
    pub scenario: &'static str,
    /// Which of its variants or values.
    pub variant: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// Median, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    /// 95th percentile, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p95_ms: Option<f64>,
    /// 99th percentile, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
    /// Cores that client, service, receiver and database shared.
    pub cores: usize,
}

impl Figure {
    /// A plain value.
    pub(super) fn value(scenario: &'static str, variant: impl Into<String>, value: f64, unit: &'static str) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let variant = variant.into();
        Self { scenario, variant, value, unit, p50_ms: None, p95_ms: None, p99_ms: None, cores }
    }

    /// The distribution of some durations; its value is how many there are.
    pub(super) fn latency(scenario: &'static str, variant: impl Into<String>, mut of: Vec<Duration>) -> Self {
        of.sort_unstable();
        Self {
            p50_ms: percentile(&of, 50),
            p95_ms: percentile(&of, 95),
            p99_ms: percentile(&of, 99),
            ..Self::value(scenario, variant, count(of.len()), "samples")
        }
    }

    /// A line for people.
    pub fn line(&self) -> String {
        let Self { scenario, variant, value, unit, cores, .. } = self;
        let ms = |name: &str, ms: Option<f64>| ms.map(|ms| format!("  {name} {ms:.1} ms")).unwrap_or_default();
        let (p50, p95, p99) = (ms("p50", self.p50_ms), ms("p95", self.p95_ms), ms("p99", self.p99_ms));
        format!("{scenario:<12} {variant:<44} {value:>10.1} {unit}{p50}{p95}{p99}  ({cores} cores)")
    }
}

/// Counts stay exact as floats up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "a figure is a float")]
pub(super) fn count(n: usize) -> f64 {
    n as f64
}

/// Bytes as MB (10^6).
pub(super) fn megabytes(bytes: u64) -> f64 {
    count(usize::try_from(bytes / 1000).unwrap_or(usize::MAX)) / 1000.0
}

/// Nearest rank; `sorted` is.
pub(super) fn percentile(sorted: &[Duration], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).map(|d| d.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let of: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(percentile(&of, 50), Some(50.0));
        assert_eq!(percentile(&of, 99), Some(99.0));
        assert_eq!(percentile(&of[..1], 50), Some(1.0));
        assert_eq!(percentile(&[], 50), None);
    }
}
