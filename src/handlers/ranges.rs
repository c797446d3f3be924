//! Byte ranges (RFC 9110 §14): one range, or everything.

use std::ops::Range;

use axum::http::{HeaderMap, header};

/// What of a representation is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// All of it. Also if several ranges are asked for, or in a way that is not understood: that is to be ignored.
    All,
    /// These bytes.
    Part(Range<u64>),
    /// None that it has.
    Unsatisfiable,
}

/// What is asked of so many bytes with this strong validator.
pub(super) fn asked(headers: &HeaderMap, size: u64, etag: &str) -> Asked {
    let mut values = headers.get_all(header::RANGE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Asked::All;
    };
    // A date is no strong validator of ours.
    if headers.get(header::IF_RANGE).is_some_and(|tag| tag.as_bytes() != etag.as_bytes()) {
        return Asked::All;
    }
    value.to_str().ok().and_then(|text| parsed(text, size)).unwrap_or(Asked::All)
}

fn parsed(text: &str, size: u64) -> Option<Asked> {
    let (unit, range) = text.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = range.trim().split_once('-')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let range = if first.is_empty() {
        size.saturating_sub(number(last)?)..size
    } else {
        let first = number(first)?;
        let last = if last.is_empty() { u64::MAX } else { number(last)? };
        if last < first {
            return None;
        }
        first..last.saturating_add(1).min(size)
    };
    Some(if range.is_empty() { Asked::Unsatisfiable } else { Asked::Part(range) })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn of_ten(range: &'static str) -> Asked {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_static(range));
        asked(&headers, 10, "\"a\"")
    }

    #[test]
    fn a_range_is_one_that_is_understood_or_everything() {
        for (text, range) in [
            ("bytes=0-0", 0..1),
            ("bytes=2-5", 2..6),
            ("Bytes=7-", 7..10),
            ("bytes=7-99", 7..10),
            ("bytes=-3", 7..10),
            ("bytes=-30", 0..10),
            ("bytes=0-99999999999999999999999", 0..10),
        ] {
            assert_eq!(of_ten(text), Asked::Part(range), "{text}");
        }
        for text in ["bytes=10-", "bytes=10-12", "bytes=-0"] {
            assert_eq!(of_ten(text), Asked::Unsatisfiable, "{text}");
        }
        for text in ["bytes=0-1,3-4", "bytes=5-2", "bytes=a-b", "bytes=-", "lines=1-2", "bytes"] {
            assert_eq!(of_ten(text), Asked::All, "{text}");
        }
    }

    #[test]
    fn a_range_of_something_else_is_all_of_this() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_static("bytes=0-0"));
        for (tag, all) in
            [("\"a\"", false), ("W/\"a\"", true), ("\"b\"", true), ("Tue, 24 Nov 2026 08:00:00 GMT", true)]
        {
            headers.insert(header::IF_RANGE, HeaderValue::from_str(tag).unwrap());
            assert_eq!(asked(&headers, 10, "\"a\"") == Asked::All, all, "{tag}");
        }
    }
}
