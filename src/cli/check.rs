//! `destinations check`: one real look at each, with the addresses, certificates and proxies of the configuration.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::output::{Output, or_dash, table};
use super::{CliError, runtime};
use crate::config::File;
use crate::workers::egress::probe::Address;
use crate::workers::egress::{Probe, probe};

#[derive(Debug, Args)]
pub(super) struct Check {
    /// The destinations to probe; all if none is named
    names: Vec<String>,
    /// Settings; see crvs-outbox.example.toml
    #[arg(long, env = "CRVS_OUTBOX_CONFIG", value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    output: Output,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    destination: String,
    #[serde(flatten)]
    probe: Probe,
}

/// Needs no database. Fails if one of them cannot be reached.
pub(super) fn check(args: &Check) -> Result<(), CliError> {
    let settings = File::read(&args.config)?.settings(String::new())?;
    let all = settings.workers.destinations;
    if let Some(unknown) = args.names.iter().find(|name| all.iter().all(|d| d.definition.name != **name)) {
        return Err(CliError::NoSuchDestination(unknown.clone()));
    }
    let chosen = all.into_iter().filter(|d| args.names.is_empty() || args.names.contains(&d.definition.name));
    let lines = runtime()?.block_on(async {
        let mut lines = Vec::new();
        for d in chosen {
            lines.push(Line { probe: probe(&d.client, &d.definition.url).await, destination: d.definition.name });
        }
        lines
    });
    args.output.show(&lines, |lines| {
        let head = ["destination", "origin", "addresses", "TLS", "answer", "took"];
        table(head, lines.iter().map(row), "there is no destination in the configuration")
    })?;
    if lines.iter().all(|line| line.probe.reached()) { Ok(()) } else { Err(CliError::Unreachable) }
}

fn row(line: &Line) -> [String; 6] {
    let probe = &line.probe;
    let address = |a: &Address| match (a.refused, a.allow) {
        (false, _) => a.address.to_string(),
        (true, Some(network)) => format!("{} refused ({}): add \"{network}\" to egress.allow", a.address, a.range),
        (true, None) => format!("{} refused ({}): never allowed", a.address, a.range),
    };
    let addresses: Vec<String> = probe.addresses.iter().map(address).collect();
    let answer = probe.status.map(|s| s.to_string()).or(probe.error.map(str::to_owned));
    [
        line.destination.clone(),
        or_dash(probe.origin.as_ref()),
        addresses.join("\n"),
        or_dash(probe.tls),
        or_dash(answer),
        format!("{} ms", probe.lookup_ms + probe.request_ms),
    ]
}
