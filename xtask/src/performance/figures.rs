//! The figures of a run, as `crvs-outbox bench --json` prints them: one object a line.
//!
//! A line that is none is an error with its number. Members that are not known here are passed over.

use serde::Deserialize;

use crate::Failure;

/// One figure; see `src/bench/figures.rs` for what its members mean.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Figure {
    pub(super) scenario: String,
    pub(super) variant: String,
    pub(super) value: f64,
    pub(super) unit: String,
    pub(super) low: Option<f64>,
    pub(super) high: Option<f64>,
    pub(super) limit: Option<f64>,
    pub(super) ratio: Option<f64>,
    pub(super) p50_ms: Option<f64>,
    pub(super) p95_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
    pub(super) wal_bytes_per_item: Option<f64>,
    pub(super) cpu_us_per_item: Option<f64>,
    pub(super) cores: u64,
    /// What else is to be known of it.
    pub(super) note: Option<String>,
}

impl Figure {
    /// Reads all of them. Empty lines are none.
    pub(super) fn read(text: &str) -> Result<Vec<Self>, Failure> {
        let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
        let figures = lines.map(|(line, number)| {
            serde_json::from_str(line).map_err(|error| format!("line {number} is no figure: {error}").into())
        });
        figures.collect()
    }

    /// Whether others are measured by it.
    pub(super) fn is_limit(&self) -> bool {
        self.variant.starts_with("limit:")
    }

    /// How often something is done by the second, in rounds: what has a lowest and a highest.
    pub(super) fn is_rate(&self) -> bool {
        self.low.is_some() && self.high.is_some()
    }

    /// The lowest and the highest ratio of the rounds, by the limit's median.
    pub(super) fn ratios(&self) -> Option<(f64, f64)> {
        let limit = self.limit.filter(|limit| *limit > 0.0)?;
        Some((self.low? / limit, self.high? / limit))
    }

    /// The percentiles that it has, with their names.
    pub(super) fn percentiles(&self) -> impl Iterator<Item = (&'static str, f64)> + use<> {
        let named = [("p50", self.p50_ms), ("p95", self.p95_ms), ("p99", self.p99_ms)];
        named.into_iter().filter_map(|(name, ms)| Some((name, ms?)))
    }
}

/// A number for people: about three digits, and commas between thousands.
pub(super) fn number(value: f64) -> String {
    let decimals = match value.abs() {
        0.0 => 0,
        size if size < 10.0 => 2,
        size if size < 100.0 => 1,
        _ => 0,
    };
    let text = format!("{:.decimals$}", value.abs());
    let (whole, fraction) = text.split_at(text.find('.').unwrap_or(text.len()));
    let digits = whole.chars().enumerate();
    let grouped = digits.flat_map(|(at, digit)| {
        let comma = at > 0 && (whole.len() - at).is_multiple_of(3);
        [comma.then_some(','), Some(digit)].into_iter().flatten()
    });
    let sign = if value < 0.0 { "-" } else { "" };
    format!("{sign}{}{fraction}", grouped.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn optional_members_may_be_left_out_and_unknown_ones_there() {
        let text = r#"
            {"scenario":"idle","variant":"memory","value":1.5,"unit":"MB","cores":2}
            {"scenario":"drain","variant":"to nowhere","value":10,"unit":"messages/s","low":8,"high":12,"limit":5,"ratio":2,"cores":2,"new":1}
        "#;
        let figures = Figure::read(text).unwrap();
        assert_eq!((figures[0].value, figures[0].ratio, figures[0].is_rate()), (1.5, None, false));
        assert_eq!((figures[1].ratios(), figures[1].is_rate()), (Some((1.6, 2.4)), true));
    }

    #[test]
    fn a_line_that_is_no_figure_is_named() {
        let text = "{\"scenario\":\"idle\",\"variant\":\"memory\",\"value\":1.5,\"unit\":\"MB\",\"cores\":2}\n\n{\"scenario\":";
        assert!(Figure::read(text).unwrap_err().to_string().starts_with("line 3 is no figure: "));
        let lacking = Figure::read(r#"{"scenario":"idle"}"#).unwrap_err().to_string();
        assert!(lacking.starts_with("line 1 is no figure: missing field `variant`"), "{lacking}");
    }

    #[test]
    fn numbers_are_short() {
        let texts = [0.0, 0.347, 9.5, 12.34, 100.0, 999.7, 1234.5, 1_234_567.0, -0.5, -100.0, -1234.0].map(number);
        let wanted = ["0", "0.35", "9.50", "12.3", "100", "1,000", "1,234", "1,234,567", "-0.50", "-100", "-1,234"];
        assert_eq!(texts, wanted);
    }
}
