//! Tracking ids: seven characters that a citizen can read over the phone.

use rand::RngExt as _;

/// One of each pair of look-alikes: no 0 O 1 I L; 2 but no Z, 5 but no S, 8 but no B, U but no V.
const ALPHABET: &[u8] = b"23456789ACDEFGHJKMNPQRTUWXY";

/// A random tracking id for an event: its letter and six characters. Not unique by itself: the table's index decides.
pub(super) fn random(event: &str) -> String {
    let mut rng = rand::rng();
    let letter = event.chars().next().unwrap_or('X').to_ascii_uppercase();
    let rest = (0..6).filter_map(|_| ALPHABET.get(rng.random_range(0..ALPHABET.len()))).map(|b| char::from(*b));
    std::iter::once(letter).chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tracking_id_is_the_events_letter_and_six_readable_characters() {
        for (event, letter) in [("birth", 'B'), ("death", 'D'), ("marriage", 'M')] {
            let id = random(event);
            assert_eq!(id.len(), 7);
            assert!(id.starts_with(letter));
            assert!(id.bytes().skip(1).all(|b| ALPHABET.contains(&b)));
        }
    }
}
