//! What the project asks of itself, and whether a run reached it.
//!
//! A ratio that is too low counts as reached if the best round's is not: the rounds' spread is what the machine's mood
//! makes of it, and the page says that it was so. Latencies, memory and WAL have no spread and no such grace. A figure
//! of another size than the floor's is not taken for it.

use super::figures::{Figure, number};

/// What is asked of one figure.
pub(super) struct Floor {
    /// What it is, for people.
    what: &'static str,
    scenario: &'static str,
    variant: &'static str,
    of: Of,
}

/// Which of its numbers has to be what.
enum Of {
    /// The value by its limit: at least.
    Ratio(f64),
    /// The value, below so many of its unit.
    Below(f64),
    /// The value: at most.
    Value(f64),
    /// The median, in milliseconds: at most.
    P50(f64),
    /// The 99th percentile, in milliseconds: at most.
    P99(f64),
    /// Bytes of WAL for an item: at most.
    Wal(f64),
    /// Ours, which is the limit, by the value of another queue, of several the best: at least. From `make bench-peers`.
    Peers(f64),
}

/// Whether it was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Met,
    WithinSpread,
    NotMet,
    NotMeasured,
}

impl Verdict {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::WithinSpread => "met, within the rounds' spread",
            Self::NotMet => "**not met**",
            Self::NotMeasured => "not measured",
        }
    }
}

/// A row of the table.
#[derive(Debug, PartialEq)]
pub(super) struct Outcome {
    pub(super) what: &'static str,
    pub(super) asked: String,
    pub(super) reached: String,
    pub(super) verdict: Verdict,
}

const fn floor(what: &'static str, scenario: &'static str, variant: &'static str, of: Of) -> Floor {
    Floor { what, scenario, variant, of }
}

pub(super) const PEERS: &str = "peers";
const PLAIN: &str = "to nowhere";
const NARROW: &str = "to nowhere, by the narrow limit";
const SIGNED: &str = "signed, 64 at a time";

/// All of them, in the order of the page.
pub(super) const FLOORS: [Floor; 24] = [
    floor("`submit`, 64 clients, by plain SQL statement by statement", "submit", "64 clients", Of::Ratio(2.0)),
    floor("`submit`, 8 clients, by the same", "submit", "8 clients", Of::Ratio(1.0)),
    floor("`submit`, by the best other queue, on rows of its own kind", PEERS, "W1: ", Of::Peers(3.0)),
    floor("`submit-batch`, 2 clients, by plain SQL", "submit-batch", "2 clients, 100 a request", Of::Ratio(0.6)),
    floor("`submit-batch`, 8 clients, by plain SQL", "submit-batch", "8 clients, 100 a request", Of::Ratio(0.6)),
    floor("`drain`, by claim and delete in plain SQL", "drain", PLAIN, Of::Ratio(0.9)),
    floor("`drain`, by graphile_worker (Rust)", PEERS, "W3: graphile_worker (Rust)", Of::Peers(1.5)),
    floor("`drain`, by narrow rows in plain SQL (a moonshot)", "drain", NARROW, Of::Ratio(1.0)),
    floor("`drain-http`, by a minimal loop in Rust", "drain-http", SIGNED, Of::Ratio(0.95)),
    floor("`drain-http`, by graphile_worker (Rust)", PEERS, "W4: graphile_worker (Rust)", Of::Peers(1.3)),
    floor(
        "`pickup` at 50 a second, from the client's answer: p50",
        "pickup",
        "50 a second, answer to arrival",
        Of::P50(1.0),
    ),
    floor("The same, from before the commit is flushed: p50", "pickup", "50 a second, commit to arrival", Of::P50(1.0)),
    floor("The same: p99", "pickup", "50 a second, commit to arrival", Of::P99(3.0)),
    floor(
        "`pickup` at 500 a second, from before the commit is flushed: p99",
        "pickup",
        "500 a second, commit to arrival",
        Of::P99(25.0),
    ),
    floor("`backlog`, by the drain without", "backlog", "150000 of 1000000, 2000000 finished", Of::Ratio(0.95)),
    floor("`horizon`, by the drain without", "horizon", "1000000, an old snapshot held", Of::Ratio(0.95)),
    floor("`blocked`, by the drain without", "blocked", "100000 beside 100000 blocked", Of::Ratio(0.95)),
    floor("`history`, by the drain without", "history", "100000 beside 10000000 finished", Of::Ratio(0.95)),
    floor("`idle`: CPU", "idle", "CPU", Of::Below(1.0)),
    floor("`idle`: memory", "idle", "memory", Of::Below(64.0)),
    floor("`idle`: transactions for a destination", "idle", "transactions, for a destination", Of::Value(2.0)),
    floor("WAL of a message that is delivered, with its history: `drain`", "drain", PLAIN, Of::Wal(3000.0)),
    floor("The same: `drain-http`", "drain-http", SIGNED, Of::Wal(3000.0)),
    floor("The same: `fanout`", "fanout", "5 destinations", Of::Wal(3000.0)),
];

impl Floor {
    /// Looks it up in a run. Of a figure that is there twice, the last counts; of other queues, the best.
    pub(super) fn outcome(&self, figures: &[Figure]) -> Outcome {
        let of_scenario = figures.iter().rev().filter(|f| f.scenario == self.scenario);
        let reached = |figure: &Figure| Some((self.of.reached(figure)?, self.of.verdict(figure)?));
        let reached = if matches!(self.of, Of::Peers(_)) {
            let others = of_scenario.filter(|f| f.variant.starts_with(self.variant) && f.limit.is_some());
            others.max_by(|a, b| a.value.total_cmp(&b.value)).and_then(reached)
        } else {
            of_scenario.filter(|f| f.variant == self.variant).find_map(reached)
        };
        let nothing = if matches!(self.of, Of::Peers(_)) { "another run: `make bench-peers`" } else { "–" };
        let (reached, verdict) = reached.unwrap_or_else(|| (nothing.to_owned(), Verdict::NotMeasured));
        Outcome { what: self.what, asked: self.of.asked(self.unit()), reached, verdict }
    }

    fn unit(&self) -> &'static str {
        match self.variant {
            "CPU" => "% of a core",
            "memory" => "MB",
            _ => "per second",
        }
    }
}

impl Of {
    fn asked(&self, unit: &str) -> String {
        match self {
            Self::Ratio(floor) | Self::Peers(floor) => format!("≥ {} ×", short(*floor)),
            Self::Below(ceiling) => format!("< {} {unit}", short(*ceiling)),
            Self::Value(ceiling) => format!("≤ {} {unit}", short(*ceiling)),
            Self::P50(ceiling) | Self::P99(ceiling) => format!("≤ {} ms", short(*ceiling)),
            Self::Wal(ceiling) => format!("≤ {} B", number(*ceiling)),
        }
    }

    /// `None`: the figure has no such number.
    fn reached(&self, figure: &Figure) -> Option<String> {
        Some(match self {
            Self::Ratio(_) | Self::Peers(_) => {
                let (ratio, spread) = self.ratio(figure)?;
                // Three decimals: one that is just too low must not look as if it were met.
                let spread = spread.map(|(low, high)| format!(" ({low:.3} to {high:.3})"));
                format!("{ratio:.3} ×{}", spread.unwrap_or_default())
            }
            Self::Below(_) | Self::Value(_) => format!("{} {}", number(figure.value), figure.unit),
            Self::P50(_) => format!("{} ms", number(figure.p50_ms?)),
            Self::P99(_) => format!("{} ms", number(figure.p99_ms?)),
            Self::Wal(_) => format!("{} B", number(figure.wal_bytes_per_item?)),
        })
    }

    /// The ratio that counts, and from what to what it was in the rounds.
    fn ratio(&self, figure: &Figure) -> Option<(f64, Option<(f64, f64)>)> {
        let (ratio, spread) = (figure.ratio?, figure.ratios());
        Some(match self {
            // Theirs by ours, turned around.
            Self::Peers(_) => (ratio.recip(), spread.map(|(low, high)| (high.recip(), low.recip()))),
            Self::Ratio(_) | Self::Below(_) | Self::Value(_) | Self::P50(_) | Self::P99(_) | Self::Wal(_) => {
                (ratio, spread)
            }
        })
    }

    fn verdict(&self, figure: &Figure) -> Option<Verdict> {
        let met = match self {
            Self::Ratio(floor) | Self::Peers(floor) => {
                let (ratio, spread) = self.ratio(figure)?;
                if ratio < *floor && spread.is_some_and(|(_, best)| best >= *floor) {
                    return Some(Verdict::WithinSpread);
                }
                ratio >= *floor
            }
            Self::Below(ceiling) => figure.value < *ceiling,
            Self::Value(ceiling) => figure.value <= *ceiling,
            Self::P50(ceiling) => figure.p50_ms? <= *ceiling,
            Self::P99(ceiling) => figure.p99_ms? <= *ceiling,
            Self::Wal(ceiling) => figure.wal_bytes_per_item? <= *ceiling,
        };
        Some(if met { Verdict::Met } else { Verdict::NotMet })
    }
}

/// As it is asked for: `2`, `0.95`.
fn short(value: f64) -> String {
    format!("{value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(what: &str, line: &str) -> (String, String, Verdict) {
        let floor = FLOORS.iter().find(|floor| floor.what.starts_with(what)).unwrap();
        let Outcome { asked, reached, verdict, .. } = floor.outcome(&Figure::read(line).unwrap());
        (asked, reached, verdict)
    }

    fn drain(low: f64, value: f64, high: f64) -> String {
        let ratio = value / 100.0;
        format!(
            r#"{{"scenario":"drain","variant":"to nowhere","value":{value},"unit":"messages/s","low":{low},"high":{high},"limit":100,"ratio":{ratio},"wal_bytes_per_item":3001,"cores":2}}"#
        )
    }

    #[test]
    fn a_ratio_is_met_or_not_or_within_the_spread_of_its_rounds() {
        let drained = |low, value, high| outcome("`drain`, by claim", &drain(low, value, high));
        let told = |reached: &str, verdict| ("≥ 0.9 ×".to_owned(), reached.to_owned(), verdict);
        assert_eq!(drained(80.0, 90.0, 95.0), told("0.900 × (0.800 to 0.950)", Verdict::Met));
        assert_eq!(drained(80.0, 85.0, 95.0), told("0.850 × (0.800 to 0.950)", Verdict::WithinSpread));
        assert_eq!(drained(80.0, 85.0, 89.0), told("0.850 × (0.800 to 0.890)", Verdict::NotMet));
    }

    #[test]
    fn what_is_not_in_the_file_is_not_measured() {
        let nothing = |asked: &str, reached: &str| (asked.to_owned(), reached.to_owned(), Verdict::NotMeasured);
        assert_eq!(outcome("The same: p99", ""), nothing("≤ 3 ms", "–"));
        let smaller = r#"{"scenario":"history","variant":"1 beside 100 finished","value":9,"unit":"messages/s","ratio":2,"cores":2}"#;
        assert_eq!(outcome("`history`", smaller), nothing("≥ 0.95 ×", "–"));
        let peers = outcome("`drain`, by graphile", &drain(1000.0, 1000.0, 1000.0));
        assert_eq!(peers, nothing("≥ 1.5 ×", "another run: `make bench-peers`"));
    }

    #[test]
    fn the_best_of_the_others_counts() {
        let of = |name: &str, value: f64| {
            let ratio = value / 100.0;
            format!(
                r#"{{"scenario":"peers","variant":"W1: {name}","value":{value},"unit":"/s","low":{value},"high":{},"limit":100,"ratio":{ratio},"cores":2}}"#,
                value + 10.0
            )
        };
        let ours = r#"{"scenario":"peers","variant":"W1: crvs-outbox","value":100,"unit":"/s","cores":2}"#;
        let best =
            |queues: &[String]| outcome("`submit`, by the best", &[&[ours.to_owned()], queues].concat().join("\n"));
        let told = |reached: &str, verdict| ("≥ 3 ×".to_owned(), reached.to_owned(), verdict);
        let (slow, fast) = (of("slow", 25.0), of("fast", 40.0));
        assert_eq!(best(std::slice::from_ref(&slow)), told("4.000 × (2.857 to 4.000)", Verdict::Met));
        assert_eq!(best(&[slow.clone(), fast.clone()]), told("2.500 × (2.000 to 2.500)", Verdict::NotMet));
        assert_eq!(best(&[fast, slow]), told("2.500 × (2.000 to 2.500)", Verdict::NotMet));
        assert_eq!(outcome("`drain`, by graphile", ours).2, Verdict::NotMeasured);
    }

    #[test]
    fn ceilings_know_no_grace() {
        let wal = outcome("WAL", &drain(80.0, 90.0, 95.0));
        assert_eq!(wal, ("≤ 3,000 B".to_owned(), "3,001 B".to_owned(), Verdict::NotMet));
        let idle = |value: f64| {
            let line = r#"{"scenario":"idle","variant":"CPU","value":V,"unit":"% of a core","cores":2}"#;
            outcome("`idle`: CPU", &line.replace('V', &value.to_string()))
        };
        let told = |reached: &str, verdict| ("< 1 % of a core".to_owned(), reached.to_owned(), verdict);
        assert_eq!(idle(0.5), told("0.50 % of a core", Verdict::Met));
        assert_eq!(idle(1.0), told("1.00 % of a core", Verdict::NotMet));
    }
}
