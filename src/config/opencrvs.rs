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
