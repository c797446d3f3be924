//! `[attachments]`: what may be uploaded, where it is kept, and how long if nothing refers to it.

use serde::Deserialize;

use crate::handlers::UploadSettings;
use crate::objects::Store;

/// Attachments.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Attachments {
    /// Largest upload, in bytes. Inline ones are limited by the body they are in.
    pub max_bytes: u64,
    /// Media types that are accepted, uploaded or inline. They are found in the bytes, so only what has a mark of its own
    /// can be named: no text, no XML.
    pub types: Vec<String>,
    /// Where bytes go: `postgres`, `file:///folder` or `s3://bucket/prefix` with credentials in the environment (`AWS_…`).
    pub store: String,
    /// Hours that what was uploaded is kept before something refers to it, and that an upload may take.
    pub unreferenced_hours: u16,
}

impl Default for Attachments {
    fn default() -> Self {
        Self {
            max_bytes: 100 * 1024 * 1024,
            types: crate::handlers::IMAGES_AND_PDF.map(str::to_owned).to_vec(),
            store: "postgres".to_owned(),
            unreferenced_hours: 24,
        }
    }
}

impl Attachments {
    pub(super) fn check(&self, wrong: &mut Vec<String>) {
        let mut rule = |holds: bool, text: &str| {
            if !holds {
                wrong.push(format!("attachments.{text}"));
            }
        };
        rule((1024..=1 << 40).contains(&self.max_bytes), "max_bytes: 1024 to 1099511627776");
        let media_type = |text: &String| {
            let part = |p: &str| {
                !p.is_empty() && p.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.+".contains(&b))
            };
            text.split_once('/').is_some_and(|(kind, subtype)| part(kind) && part(subtype))
        };
        rule(!self.types.is_empty() && self.types.iter().all(media_type), "types: media types in lower case");
        rule((1..=8760).contains(&self.unreferenced_hours), "unreferenced_hours: 1 to 8760");
    }

    /// The store, or what is wrong with it.
    pub(super) fn open(&self, wrong: &mut Vec<String>) -> Store {
        Store::open(&self.store).unwrap_or_else(|error| {
            wrong.push(format!("attachments.store: {error}"));
            Store::Postgres
        })
    }

    pub(super) fn uploads(&self) -> UploadSettings {
        UploadSettings { max: self.max_bytes, types: self.types.clone() }
    }
}
