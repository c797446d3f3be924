//! A point between database transactions, as `pg_current_snapshot` tells it: which of them were over.

use std::fmt;
use std::str::FromStr;

/// Which database transactions were over: those below `xmin`, and those below `xmax` that are not in `open`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub(super) xmin: u64,
    pub(super) xmax: u64,
    /// In ascending order, each from `xmin` up and below `xmax`.
    pub(super) open: Vec<u64>,
}

/// A text or a token that is no snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no snapshot")]
pub struct NoSnapshot;

impl Snapshot {
    /// Checked, so that the database takes it.
    pub(super) fn new(xmin: u64, xmax: u64, open: Vec<u64>) -> Result<Self, NoSnapshot> {
        // Numbers have to fit a bigint: some are compared as such.
        let sane = xmin > 0 && xmin <= xmax && xmax <= i64::MAX.unsigned_abs();
        // PostgreSQL skips them: their 32 bits of an xid are none.
        let sane = sane && [xmin, xmax].iter().all(|x| x.trailing_zeros() < 32);
        let within = open.iter().all(|x| (xmin..xmax).contains(x));
        let ascending = open.windows(2).all(|pair| pair.first() < pair.last());
        if sane && within && ascending { Ok(Self { xmin, xmax, open }) } else { Err(NoSnapshot) }
    }

    /// Whether it says of a database transaction that has not begun that it is over. The database was put back to an
    /// earlier time then, and what is new cannot be told any more.
    pub fn is_ahead_of(&self, now: &Self) -> bool {
        self.xmax > now.xmax
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.xmin, self.xmax)?;
        for (at, xid) in self.open.iter().enumerate() {
            write!(f, "{}{xid}", if at == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl FromStr for Snapshot {
    type Err = NoSnapshot;

    fn from_str(text: &str) -> Result<Self, NoSnapshot> {
        let number = |text: &str| text.parse::<u64>().map_err(|_not_a_number: std::num::ParseIntError| NoSnapshot);
        let (xmin, rest) = text.split_once(':').ok_or(NoSnapshot)?;
        let (xmax, open) = rest.split_once(':').ok_or(NoSnapshot)?;
        let open = open.split(',').filter(|x| !x.is_empty()).map(number).collect::<Result<_, _>>()?;
        Self::new(number(xmin)?, number(xmax)?, open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_read_and_written_as_postgresql_does() {
        for text in ["10:10:", "10:20:10,14,15", "748:748:"] {
            assert_eq!(text.parse::<Snapshot>().unwrap().to_string(), text);
        }
        for bad in [
            "",
            "10",
            "10:20",
            "0:1:",
            "20:10:",
            "10:20:9",
            "10:20:20",
            "10:20:15,14",
            "10:20:14,14",
            "a:b:c",
            "4294967296:4294967297:",
            "10:4611686018427387904:",
        ] {
            assert_eq!(bad.parse::<Snapshot>(), Err(NoSnapshot), "{bad}");
        }
    }
}
