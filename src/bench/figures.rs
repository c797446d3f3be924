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
    /// The lowest of the rounds whose median the value is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low: Option<f64>,
    /// The highest of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub high: Option<f64>,
    /// What the same work came to in plain SQL (or another named limit), in rounds between these; in the same unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// The value by the limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// WAL that the cluster wrote meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wal_bytes_per_item: Option<f64>,
    /// Time of cores that client, service, receiver and database took together, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_us_per_item: Option<f64>,
    /// Cores that client, service, receiver and database shared.
    pub cores: usize,
}

impl Figure {
    /// A plain value.
    pub(super) fn value(scenario: &'static str, variant: impl Into<String>, value: f64, unit: &'static str) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let variant = variant.into();
        Self {
            scenario,
            variant,
            value,
            unit,
            p50_ms: None,
            p95_ms: None,
            p99_ms: None,
            low: None,
            high: None,
            limit: None,
            ratio: None,
            wal_bytes_per_item: None,
            cpu_us_per_item: None,
            cores,
        }
    }

    /// The distribution of some durations; its value is how many there are.
    pub(super) fn latency(scenario: &'static str, variant: impl Into<String>, of: Vec<Duration>) -> Self {
        Self::value(scenario, variant, count(of.len()), "samples").with_latencies(of)
    }

    /// The same beside a limit.
    #[must_use]
    pub(super) fn beside(self, limit: f64) -> Self {
        let ratio = (limit > 0.0).then(|| self.value / limit);
        Self { limit: Some(limit), ratio, ..self }
    }

    /// The same with the distribution of some durations.
    #[must_use]
    pub(super) fn with_latencies(self, mut of: Vec<Duration>) -> Self {
        of.sort_unstable();
        Self { p50_ms: percentile(&of, 50), p95_ms: percentile(&of, 95), p99_ms: percentile(&of, 99), ..self }
    }

    /// A line for people.
    pub fn line(&self) -> String {
        let Self { scenario, variant, value, unit, cores, .. } = self;
        let mut line = format!("{scenario:<12} {variant:<44} {value:>10.1} {unit}");
        let rounds = self.low.zip(self.high).map(|(low, high)| format!("  ({low:.1} to {high:.1})"));
        let ratio = self.limit.zip(self.ratio).map(|(limit, ratio)| format!("  {ratio:.2} of {limit:.1}"));
        line.extend([rounds, ratio].into_iter().flatten());
        for (name, ms) in [("p50", self.p50_ms), ("p95", self.p95_ms), ("p99", self.p99_ms)] {
            line += &ms.map(|ms| format!("  {name} {ms:.1} ms")).unwrap_or_default();
        }
        line += &self.wal_bytes_per_item.map(|bytes| format!("  {bytes:.0} B of WAL")).unwrap_or_default();
        line += &self.cpu_us_per_item.map(|us| format!("  {us:.1} us of CPU")).unwrap_or_default();
        format!("{line}  ({cores} cores)")
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
