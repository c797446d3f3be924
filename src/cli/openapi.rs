//! `openapi`: the description of the REST API.

use std::path::PathBuf;

use clap::Args;

use super::CliError;
use super::output::say;
use crate::config::File;
use crate::handlers;

#[derive(Debug, Args)]
pub(super) struct Openapi {
    /// Settings, for the events that are registered; without them, the usual ones
    #[arg(long, env = "CRVS_OUTBOX_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Needs no database.
pub(super) fn openapi(args: &Openapi) -> Result<(), CliError> {
    let file = args.config.as_deref().map_or_else(|| Ok(File::default()), File::read)?;
    say(&serde_json::to_string_pretty(&handlers::openapi::document(&file.events))?)
}
