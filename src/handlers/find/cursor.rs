//! Cursors of pages: opaque, not secret, good for the query they came from. They hold a record's place in the order and
//! who made one up sees no more than by asking without.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::handlers::problem::{Kind, Problem};
use crate::records::find::Position;

const VERSION: u8 = 1;

/// Version, 8 bytes of the query's digest, microseconds since 1970, record id.
const LENGTH: usize = 1 + 8 + 8 + 16;

/// A cursor after `position` of the query that is described.
pub(super) fn write((at, id): Position, query: &str) -> String {
    let micros = i64::try_from(at.unix_timestamp_nanos() / 1000).unwrap_or(i64::MAX);
    let mut bytes = Vec::with_capacity(LENGTH);
    bytes.push(VERSION);
    bytes.extend(bound_to(query));
    bytes.extend(micros.to_be_bytes());
    bytes.extend(id.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Where the next page of this query starts.
pub(super) fn read(text: &str, query: &str) -> Result<Position, Problem> {
    let parsed = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| {
        let (version, rest) = bytes.split_first()?;
        let (bound, rest) = rest.split_first_chunk::<8>()?;
        let (micros, id) = rest.split_first_chunk::<8>()?;
        let nanos = i128::from(i64::from_be_bytes(*micros)) * 1000;
        let at = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()?;
        let id = Uuid::from_slice(id).ok()?;
        // PostgreSQL's time begins in 4713 BC, and nobody was registered before our era.
        (*version == VERSION && (1..=9999).contains(&at.year())).then_some((*bound, (at, id)))
    });
    let (bound, position) = parsed.ok_or_else(|| Problem::new(Kind::CursorInvalid))?;
    if bound == bound_to(query) {
        Ok(position)
    } else {
        Err(Problem::new(Kind::CursorInvalid).detail("the cursor belongs to another query"))
    }
}

fn bound_to(query: &str) -> [u8; 8] {
    let mut bound = [0; 8];
    bound.iter_mut().zip(digest(&SHA256, query.as_bytes()).as_ref()).for_each(|(to, from)| *to = *from);
    bound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_was_and_for_its_query_only() {
        let at = OffsetDateTime::from_unix_timestamp_nanos(1_793_000_000_123_456_000).unwrap();
        let position = (at, Uuid::now_v7());
        let text = write(position, "one");
        assert_eq!(read(&text, "one").unwrap(), position);
        assert!(read(&text, "another").is_err());
        for bad in ["", "x", "%%%", &text[1..], &format!("{text}AAAA")] {
            assert!(read(bad, "one").is_err(), "{bad}");
        }
    }
}
