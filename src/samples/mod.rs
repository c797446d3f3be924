//! A declaration of each event, to try the service with.
//!
//! FHIR R4 document bundles in the shape that OpenCRVS country configs expect of a new declaration:
//! each has a draft id and one small picture as its evidence, and neither a tracking id nor a status,
//! which are the service's to give. The people and places are invented, and the texts are what a
//! client would send, byte for byte. They do not promise to be complete by any country's rules.

/// A birth.
pub const BIRTH: &str = include_str!("birth.json");

/// A death.
pub const DEATH: &str = include_str!("death.json");

/// A marriage.
pub const MARRIAGE: &str = include_str!("marriage.json");

/// Each event with its declaration.
pub const ALL: [(&str, &str); 3] = [("birth", BIRTH), ("death", DEATH), ("marriage", MARRIAGE)];

/// What identifies the people of the samples: names and numbers.
const NAMES: [&str; 12] =
    ["Liseli", "Thandeka", "Rose", "Kofi", "Wanjala", "Baraka", "Elias", "Nuru", "Okonda", "Désiré", "Makori", "Imani"];
const NUMBERS: [&str; 4] = ["4190073312", "4175520986", "1042280075", "1063914420"];

/// The same declaration of other people, who resemble nobody: other ones for each number.
pub fn of_somebody_else(bundle: &str, number: u64) -> String {
    let mut text = bundle.to_owned();
    for (at, name) in (0..).zip(NAMES) {
        let other = invented(mixed(number.rotate_left(8) ^ at));
        text = text.replace(&format!("\"{name}\""), &format!("\"{other}\""));
    }
    for (at, id) in (100..).zip(NUMBERS) {
        text = text.replace(id, &format!("{:010}", mixed(number.rotate_left(8) ^ at) % 10_000_000_000));
    }
    text
}

/// splitmix64's last steps: numbers that differ a little become numbers that differ in everything.
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// A name of four syllables.
fn invented(number: u64) -> String {
    let bytes = number.to_be_bytes();
    let letter = |from: &str, byte: u8| from.as_bytes().get(usize::from(byte) % from.len()).copied().unwrap_or(b'a');
    let syllables = bytes.chunks(2).flat_map(|two| match two {
        [a, b] => [letter("bcdfghjklmnprstvwz", *a), letter("aeiou", *b)].map(char::from).to_vec(),
        _ => Vec::new(),
    });
    syllables.enumerate().map(|(at, c)| if at == 0 { c.to_ascii_uppercase() } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::fhir::{Declaration, Form};

    #[test]
    fn every_sample_is_a_bundle_with_one_picture_that_passes_the_strict_reader() {
        for (event, text) in ALL {
            assert!(crate::json::digest(text.as_bytes()).is_ok(), "{event}");
            let declaration = Declaration::parse(text).unwrap_or_else(|error| panic!("{event}: {error}"));
            assert_eq!(declaration.form(), Form::Bundle);
            let [picture] = declaration.inline() else { panic!("{event} has one attachment") };
            assert_eq!(picture.content_type.as_deref(), Some("image/png"));
            assert!(picture.data.starts_with("iVBORw0KGgo"), "{event}");
        }
    }

    #[test]
    fn somebody_else_is_another_person_in_the_same_declaration() {
        for (event, text) in ALL {
            let others: Vec<String> = (0..50).map(|n| of_somebody_else(text, n)).collect();
            let mut distinct = others.clone();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct.len(), others.len(), "{event}");
            assert!(others.iter().all(|text| Declaration::parse(text).is_ok_and(|d| d.inline().len() == 1)), "{event}");
        }
    }

    #[test]
    fn no_sample_says_what_is_the_services_to_say() {
        for (event, text) in ALL {
            assert!(text.contains(&format!("\"code\": \"{}\"", event.to_uppercase())));
            assert!(!text.contains("-tracking-id") && !text.contains("businessStatus"));
        }
    }
}
