//! Durations: seconds, or ISO 8601 of weeks, days, hours, minutes and seconds. Years and months have no length.

/// The longest, a thousand years: the database's time ends somewhere.
const MAX: f64 = 1000.0 * 366.0 * 86_400.0;

/// `3600`, `PT1H`, `P2DT12H`, `P1W`, as seconds.
pub(super) fn seconds(text: &str) -> Option<f64> {
    let seconds = text.strip_prefix('P').map_or_else(|| number(text), designated)?;
    (seconds <= MAX).then_some(seconds)
}

fn number(text: &str) -> Option<f64> {
    let digits = !text.is_empty() && text.len() <= 12 && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// What stands behind the `P`: each designator once, the larger first.
fn designated(text: &str) -> Option<f64> {
    let (date, time) = text.split_once('T').map_or((text, None), |(date, time)| (date, Some(time)));
    if (date.is_empty() && time.is_none()) || time == Some("") {
        return None;
    }
    let date = sum(date, &[('W', 604_800.0), ('D', 86_400.0)])?;
    let time = sum(time.unwrap_or_default(), &[('H', 3600.0), ('M', 60.0), ('S', 1.0)])?;
    Some(date + time)
}

fn sum(mut text: &str, units: &[(char, f64)]) -> Option<f64> {
    let mut total = 0.0;
    for (designator, seconds) in units {
        if let Some((count, rest)) = text.split_once(*designator) {
            total += number(count)? * seconds;
            text = rest;
        }
    }
    text.is_empty().then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_iso_8601_are_understood() {
        for (text, expected) in [
            ("0", 0.0),
            ("90", 90.0),
            ("PT1H", 3600.0),
            ("P2D", 172_800.0),
            ("P1W", 604_800.0),
            ("P1DT1H1M1S", 90_061.0),
        ] {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
        for text in [
            "",
            "P",
            "PT",
            "P1DT",
            "P1M",
            "P1Y",
            "PT1S1H",
            "PT1H1H",
            "-1",
            "1.5",
            "1e3",
            "P-1D",
            "pt1h",
            "PTH",
            "9999999999999",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
