//! Where a reader of changes is, as an opaque token: no personal data, nothing secret, good for any caller.
//!
//! ```text
//! base64url( 1 · since, at · 0 )                               caught up: all that `since` does not show is new
//! base64url( 1 · since, at · 1 · until, at · xid · action id )  in the middle of what is between `since` and `until`
//! ```
//! Numbers are variable-length, those of a snapshot as differences.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use super::snapshot::Snapshot;

/// A snapshot and when it was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// What was over then.
    pub snapshot: Snapshot,
    /// Seconds since 1970, by the database's clock.
    pub at: u64,
}

/// A place within a cut page: the last one that was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rest {
    pub until: Moment,
    pub xid: u64,
    pub action_id: Uuid,
}

/// Where a reader is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub(crate) since: Moment,
    pub(crate) rest: Option<Rest>,
}

/// A token that is none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no cursor")]
pub struct NoCursor;

const VERSION: u8 = 1;

/// A server has no more writers at once than this.
const MOST_OPEN: u64 = 100_000;

impl Cursor {
    /// Caught up with a moment.
    pub fn at(since: Moment) -> Self {
        Self { since, rest: None }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![VERSION];
        write_moment(&mut bytes, &self.since);
        match &self.rest {
            None => bytes.push(0),
            Some(rest) => {
                bytes.push(1);
                write_moment(&mut bytes, &rest.until);
                write_number(&mut bytes, rest.xid);
                bytes.extend_from_slice(rest.action_id.as_bytes());
            }
        }
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for Cursor {
    type Err = NoCursor;

    fn from_str(token: &str) -> Result<Self, NoCursor> {
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_not_base64: base64::DecodeError| NoCursor)?;
        let mut read = Reader(&bytes);
        if read.byte()? != VERSION {
            return Err(NoCursor);
        }
        let since = read.moment()?;
        let rest = match read.byte()? {
            0 => None,
            1 => Some(Rest { until: read.moment()?, xid: read.xid()?, action_id: read.uuid()? }),
            _ => return Err(NoCursor),
        };
        if read.0.is_empty() { Ok(Self { since, rest }) } else { Err(NoCursor) }
    }
}

fn write_moment(bytes: &mut Vec<u8>, moment: &Moment) {
    let Snapshot { xmin, xmax, open } = &moment.snapshot;
    write_number(bytes, *xmin);
    write_number(bytes, xmax - xmin);
    write_number(bytes, open.len() as u64);
    let mut before = *xmin;
    for xid in open {
        write_number(bytes, xid - before);
        before = *xid;
    }
    write_number(bytes, moment.at);
}

/// Seven bits a byte, the lowest first; the eighth says that more follow.
fn write_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

struct Reader<'t>(&'t [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, NoCursor> {
        let (first, rest) = self.0.split_first().ok_or(NoCursor)?;
        self.0 = rest;
        Ok(*first)
    }

    /// At most 63 bits.
    fn number(&mut self) -> Result<u64, NoCursor> {
        let mut number = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(NoCursor)
    }

    fn xid(&mut self) -> Result<u64, NoCursor> {
        self.number().and_then(|xid| if xid > 0 { Ok(xid) } else { Err(NoCursor) })
    }

    fn uuid(&mut self) -> Result<Uuid, NoCursor> {
        let (bytes, rest) = self.0.split_first_chunk::<16>().ok_or(NoCursor)?;
        self.0 = rest;
        Ok(Uuid::from_bytes(*bytes))
    }

    fn moment(&mut self) -> Result<Moment, NoCursor> {
        let xmin = self.number()?;
        let xmax = xmin.checked_add(self.number()?).ok_or(NoCursor)?;
        let count = self.number()?;
        if count > MOST_OPEN {
            return Err(NoCursor);
        }
        let (mut open, mut before) = (Vec::new(), xmin);
        for _ in 0..count {
            before = before.checked_add(self.number()?).ok_or(NoCursor)?;
            open.push(before);
        }
        let snapshot = Snapshot::new(xmin, xmax, open).map_err(|_no_snapshot| NoCursor)?;
        Ok(Moment { snapshot, at: self.number()? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn moments() -> impl Strategy<Value = Moment> {
        (1..1_u64 << 40, proptest::collection::btree_set(0..5000_u64, 0..200), 0..10_000_u64, 0..1_u64 << 40).prop_map(
            |(xmin, open, more, at)| {
                let open: Vec<u64> = open.into_iter().map(|x| xmin + x).collect();
                let xmax = open.last().map_or(xmin, |x| x + 1) + more;
                Moment { snapshot: Snapshot::new(xmin, xmax, open).unwrap(), at }
            },
        )
    }

    proptest! {
        #[test]
        fn a_cursor_survives_its_token(since in moments(), until in moments(), cut: bool, xid in 1..1_u64 << 40, id: u128) {
            let rest = cut.then(|| Rest { until, xid, action_id: Uuid::from_u128(id) });
            let cursor = Cursor { since, rest };
            prop_assert_eq!(cursor.to_string().parse::<Cursor>(), Ok(cursor));
        }

        #[test]
        fn whatever_else_is_refused_without_a_panic(bytes: Vec<u8>, text: String) {
            drop(text.parse::<Cursor>());
            let mut token = vec![VERSION];
            token.extend(bytes);
            if let Ok(cursor) = URL_SAFE_NO_PAD.encode(token).parse::<Cursor>() {
                prop_assert!(cursor.since.snapshot.to_string().parse::<Snapshot>().is_ok());
            }
        }
    }

    #[test]
    fn a_cursor_with_a_hundred_open_writers_fits_a_header() {
        let open: Vec<u64> = (0..100).map(|x| 1_000_000_000 + x * 7).collect();
        let snapshot = Snapshot::new(1_000_000_000, 1_000_001_000, open).unwrap();
        assert!(Cursor::at(Moment { snapshot, at: 1_800_000_000 }).to_string().len() < 200);
    }
}
