//! `[opencrvs]`: the endpoints that country configs and clients of OpenCRVS call.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::handlers::{Location, OpenCrvsSettings};

/// How much of `OpenCRVS` is there.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OpenCrvs {
    /// Whether the GraphQL schema may be asked for: a help while developing, and of no use to anybody else.
    pub introspection: bool,
    /// A JSON file with the list of [`Location`]s that country configs may ask for; none if not given.
    pub locations_file: Option<PathBuf>,
}

impl OpenCrvs {
    /// What the handlers need.
    pub(super) fn settings(&self, wrong: &mut Vec<String>) -> OpenCrvsSettings {
        let locations = self.locations_file.as_deref().map(locations).transpose();
        let locations = locations.unwrap_or_else(|text| {
            wrong.push(format!("opencrvs.locations_file: {text}"));
            None
        });
        OpenCrvsSettings { introspection: self.introspection, locations: locations.unwrap_or_default() }
    }
}

fn locations(file: &Path) -> Result<Vec<Location>, String> {
    let text = std::fs::read(file).map_err(|error| format!("it cannot be read: {error}"))?;
    serde_json::from_slice(&text).map_err(|error| format!("it is no list of locations: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The locations that a file gives, and what is wrong with it.
    fn read(text: Option<&str>) -> (Vec<Location>, Vec<String>) {
        let file = std::env::temp_dir().join(format!("crvs-outbox-locations-{}.json", uuid::Uuid::new_v4()));
        if let Some(text) = text {
            std::fs::write(&file, text).unwrap();
        }
        let (mut wrong, section) = (Vec::new(), OpenCrvs { locations_file: Some(file.clone()), ..OpenCrvs::default() });
        let settings = section.settings(&mut wrong);
        if text.is_some() {
            std::fs::remove_file(file).unwrap();
        }
        (settings.locations, wrong)
    }

    #[test]
    fn locations_are_read_at_start_and_what_is_wrong_with_them_is_said() {
        let office =
            r#"[{"id":"9e069dda-0d83-4f67-a4f2-9adbf5658e2e","name":"Windmill village","locationType":"CRVS_OFFICE"}]"#;
        let (locations, wrong) = read(Some(office));
        assert_eq!((locations.len(), wrong.len()), (1, 0), "{wrong:?}");
        for bad in [None, Some("{}"), Some(r#"[{"name":"without an id"}]"#), Some(r#"[{"id":1}]"#)] {
            let (locations, wrong) = read(bad);
            assert_eq!((locations.len(), wrong.len()), (0, 1), "{bad:?}");
        }
        let (mut wrong, none) = (Vec::new(), OpenCrvs::default());
        assert!(none.settings(&mut wrong).locations.is_empty() && wrong.is_empty());
    }
}
