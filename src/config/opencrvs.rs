//! `[opencrvs]`: the endpoints that country configs and clients of OpenCRVS call.

use serde::Deserialize;

use crate::handlers::OpenCrvsSettings;

/// How much of `OpenCRVS` is there.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OpenCrvs {
    /// Whether the GraphQL schema may be asked for: a help while developing, and of no use to anybody else.
    pub introspection: bool,
}

impl OpenCrvs {
    /// What the handlers need.
    pub(super) fn settings(&self, _wrong: &mut Vec<String>) -> OpenCrvsSettings {
        OpenCrvsSettings { introspection: self.introspection }
    }
}
