//! How alike two names are: the trigrams that they share.
//!
//! Each word of a [folded](super::fold) name is framed by two spaces before and one behind, and cut into its trigrams;
//! each trigram is hashed to one of 256 bits. Names are compared by the share of their bits that both have. So the order
//! of a name's words does not matter, a letter more or less matters little, and all that the database has to do is
//! to count bits, which it can do from an index alone. No extension is needed, and no locale has a say: `pg_trgm` sees
//! no letters but ASCII in a database with the locale C.
//!
//! A chance bit may be shared by different trigrams: two names that have nothing in common come out at a few hundredths.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// The trigrams of a name.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub struct Bits([u64; 4]);

impl Bits {
    /// The bits of a folded name; `None` if it has no letter.
    pub(super) fn of(folded: &str) -> Option<Self> {
        let mut bits = [0; 4];
        for hash in hashes(folded, " ") {
            bits[(hash as usize >> 6) & 3] |= 1 << (hash & 63);
        }
        (bits != [0; 4]).then_some(Self(bits))
    }

    /// Reads what the database says: 256 of `0` and `1`, the first bit first.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let mut bits = [0; 4];
        for (at, c) in text.bytes().enumerate() {
            bits[at / 64] = bits.get(at / 64)? << 1 | u64::from(c == b'1');
        }
        (bits != [0; 4]).then_some(Self(bits))
    }

    /// As hexadecimal digits, the first bit first.
    pub(crate) fn hex(self) -> String {
        self.0.iter().fold(String::with_capacity(64), |mut text, word| {
            write!(text, "{word:016x}").unwrap_or_default();
            text
        })
    }

    /// Bits that both have, and bits that one of them has.
    pub(super) fn common(self, other: Self) -> (u32, u32) {
        let pairs = || self.0.iter().zip(other.0);
        (pairs().map(|(a, b)| (a & b).count_ones()).sum(), pairs().map(|(a, b)| (a | b).count_ones()).sum())
    }

    /// 1 if they are the same, 0 if they share nothing.
    pub(super) fn similarity(self, other: Self) -> f64 {
        let (both, either) = self.common(other);
        f64::from(both) / f64::from(either.max(1))
    }
}

/// The trigrams of folded names, as they are indexed for the search by name.
pub(super) fn indexed(folded: &str) -> Vec<i32> {
    sorted(hashes(folded, " "))
}

/// The trigrams that a name has to have for a search to find it: the beginnings of words count as well.
pub(super) fn searched(folded: &str) -> Vec<i32> {
    sorted(hashes(folded, ""))
}

fn sorted(hashes: impl Iterator<Item = u32>) -> Vec<i32> {
    let distinct: BTreeSet<i32> = hashes.map(u32::cast_signed).collect();
    distinct.into_iter().collect()
}

fn hashes(folded: &str, end: &str) -> impl Iterator<Item = u32> {
    folded.split_whitespace().flat_map(move |word| {
        let framed: Vec<char> = format!("  {word}{end}").chars().collect();
        framed.windows(3).map(hash).collect::<Vec<_>>()
    })
}

/// FNV-1a with the last mixing steps of `MurmurHash3`. Rows hold what it returns: it must never change.
fn hash(trigram: &[char]) -> u32 {
    let mut hash = 0x811c_9dc5_u32;
    for c in trigram {
        for byte in u32::from(*c).to_le_bytes() {
            hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        }
    }
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fold::fold;
    use super::*;

    fn alike(one: &str, other: &str) -> f64 {
        Bits::of(&fold(one)).unwrap().similarity(Bits::of(&fold(other)).unwrap())
    }

    #[test]
    fn names_are_as_alike_as_they_look_in_any_script() {
        for (one, other) in [
            ("Liseli Wanjala", "Wanjala, Liseli"),
            ("Liseli Wanjala", "Lisely Wanjala"),
            ("রহিমা বেগম", "রহিমা বেগমা"),
            ("محمد احمد", "أحمد محمد"),
        ] {
            assert!(alike(one, other) > 0.6, "{one}, {other}: {}", alike(one, other));
        }
        for (one, other) in [
            ("Liseli Wanjala", "Baraka Okonda"),
            ("Liseli Wanjala", "Thabo Wanjala"),
            ("রহিমা বেগম", "করিম উদ্দিন"),
            ("محمد احمد", "فاطمة علي"),
            ("Rahima", "রহিমা"),
        ] {
            assert!(alike(one, other) < 0.5, "{one}, {other}: {}", alike(one, other));
        }
    }

    #[test]
    fn what_rows_hold_stays_comparable_with_what_is_computed_today() {
        assert_eq!(hash(&['a', 'b', 'c']), HASH_OF_ABC);
        assert!(Bits::of("").is_none());
    }

    /// Written down once: see [`hash`].
    const HASH_OF_ABC: u32 = 1_266_282;

    #[test]
    fn a_search_finds_whole_words_and_their_beginnings() {
        let indexed: BTreeSet<i32> = indexed(&fold("Liseli Wanjala")).into_iter().collect();
        let finds = |text: &str| searched(&fold(text)).iter().all(|t| indexed.contains(t));
        for text in ["Liseli", "wanjala liseli", "wan", "L", "LISELÍ"] {
            assert!(finds(text), "{text}");
        }
        for text in ["njala", "Liselotte", "Wanjalo"] {
            assert!(!finds(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn similarity_is_symmetric_between_0_and_1_and_1_for_the_same(one in "\\PC{1,40}", other in "\\PC{1,40}") {
            if let (Some(a), Some(b)) = (Bits::of(&fold(&one)), Bits::of(&fold(&other))) {
                prop_assert_eq!(a.similarity(b).to_bits(), b.similarity(a).to_bits());
                prop_assert!((0.0..=1.0).contains(&a.similarity(b)));
                prop_assert!(a.similarity(a) >= 1.0);
            }
        }

        #[test]
        fn bits_come_back_from_the_database_as_they_went(name in "[a-z ]{1,40}") {
            if let Some(bits) = Bits::of(&name) {
                let four = |c: char| (0..4).rev().map(move |at| if c.to_digit(16).unwrap() >> at & 1 == 1 { '1' } else { '0' });
                let digits: String = bits.hex().chars().flat_map(four).collect();
                prop_assert!(Bits::read(&digits) == Some(bits));
            }
        }
    }
}
