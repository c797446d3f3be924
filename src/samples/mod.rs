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
    fn no_sample_says_what_is_the_services_to_say() {
        for (event, text) in ALL {
            assert!(text.contains(&format!("\"code\": \"{}\"", event.to_uppercase())));
            assert!(!text.contains("-tracking-id") && !text.contains("businessStatus"));
        }
    }
}
