//! Rounds: ours and its limit in turns, so that a machine whose mood changes treats both alike. Round 0 warms up and does not
//! count. What is said of several is their median, and the lowest and highest beside it.

use super::Figure;
use super::figures::count;
use super::meter::Sample;

/// The rounds of one contestant.
#[derive(Clone, Debug, Default)]
pub(super) struct Series {
    name: String,
    counted: Vec<Sample>,
}

impl Series {
    pub(super) fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), counted: Vec::new() }
    }

    /// Takes the sample of a round.
    pub(super) fn note(&mut self, round: u32, sample: Sample) {
        let rate = rate(&sample);
        tracing::info!(contestant = %self.name, round, items = sample.items, seconds = sample.seconds, rate);
        if round > 0 {
            self.counted.push(sample);
        }
    }

    /// Items a second: the median of the rounds.
    pub(super) fn rate(&self) -> f64 {
        median(self.counted.iter().map(rate))
    }

    /// Items a second, and what one took.
    pub(super) fn figure(&self, scenario: &'static str, unit: &'static str) -> Figure {
        let rates = || self.counted.iter().map(rate);
        let per_item = |of: fn(&Sample) -> f64| {
            let any = self.counted.iter().any(|s| s.items > 0);
            any.then(|| median(self.counted.iter().map(|s| of(s) / count(s.items.max(1)))))
        };
        let latencies = self.counted.iter().flat_map(|s| s.latencies.iter().copied()).collect();
        Figure {
            low: rates().reduce(f64::min),
            high: rates().reduce(f64::max),
            wal_bytes_per_item: per_item(|s| s.wal_bytes),
            cpu_us_per_item: per_item(|s| s.cpu_seconds * 1e6),
            ..Figure::value(scenario, self.name.clone(), self.rate(), unit)
        }
        .with_latencies(latencies)
    }
}

fn rate(sample: &Sample) -> f64 {
    if sample.seconds > 0.0 { count(sample.items) / sample.seconds } else { 0.0 }
}

/// The middle one; of two, what is between them.
pub(super) fn median(of: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = of.collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let (low, high) = (sorted.len().saturating_sub(1) / 2, sorted.len() / 2);
    sorted.get(low).zip(sorted.get(high)).map_or(0.0, |(low, high)| f64::midpoint(*low, *high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_and_the_warm_up_does_not_count() {
        assert!((median([3.0, 1.0, 2.0].into_iter()) - 2.0).abs() < 1e-9);
        assert!((median([4.0, 1.0].into_iter()) - 2.5).abs() < 1e-9);
        let mut series = Series::new("x");
        for (round, items) in [(0, 1000), (1, 10), (2, 30), (3, 20)] {
            series.note(round, Sample { items, seconds: 2.0, wal_bytes: 100.0, ..Sample::default() });
        }
        let figure = series.figure("drain", "messages/s").beside(20.0);
        assert_eq!((figure.value, figure.low, figure.high), (10.0, Some(5.0), Some(15.0)));
        assert_eq!((figure.ratio, figure.wal_bytes_per_item), (Some(0.5), Some(5.0)));
        assert_eq!(figure.p50_ms, None);
    }
}
