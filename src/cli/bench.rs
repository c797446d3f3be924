//! `bench`: figures of this machine.

use std::path::PathBuf;

use clap::Args;

use super::database::start_cluster_with;
use super::output::say;
use super::signals::listen_to_signals;
use super::{CliError, files, runtime};
use crate::bench::{self, Figure, Options, Scenario};

#[derive(Debug, Args)]
pub(super) struct Bench {
    /// What is measured
    scenario: Scenario,
    /// Print each figure as a line of JSON
    #[arg(long)]
    json: bool,
    /// Where its database and files are while it runs; a folder of its own below the temporary one by default
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The scenario's size: clients, uploads, records, messages; each has a usual one
    #[arg(long, value_name = "N")]
    size: Option<usize>,
    /// Rounds that count, where ours and its limit take turns
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Submissions a second, where there is a rate
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: Option<u32>,
    /// Seconds that are measured, of each round, where there is a duration
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: Option<u32>,
}

pub(super) fn bench(args: Bench) -> Result<(), CliError> {
    let dir =
        args.dir.unwrap_or_else(|| std::env::temp_dir().join(format!("crvs-outbox-bench-{}", std::process::id())));
    std::fs::create_dir_all(&dir)?;
    files::allow_many();
    let Bench { scenario, size, rounds, rate, seconds, .. } = args;
    let options = Options { scenario, size, rate, seconds, rounds };
    // Never one that an earlier run left: what it holds would be replayed.
    let folder = dir.join(format!("pg-{}", std::process::id()));
    let start = |compression| start_cluster_with(&folder, scenario.settings(compression));
    let cluster = start("lz4").or_else(|_may_be_unknown| start("on"))?;
    let data = cluster.dir().to_owned();
    let outcome = runtime()?.block_on(async {
        let told = listen_to_signals()?;
        let mut broken = None;
        let mut show = |figure: Figure| broken = show(args.json, &figure).err().or(broken.take());
        let outcome = tokio::select! {
            outcome = bench::run(&options, &cluster, &dir, &mut show) => outcome.map_err(CliError::from),
            () = told.stop.cancelled() => Err(CliError::Ended),
        };
        outcome.and_then(|()| broken.map_or(Ok(()), Err))
    });
    cluster.stop()?;
    if outcome.is_ok() {
        // After a failure the service's log is worth a look.
        std::fs::remove_dir_all(&data)?;
        std::fs::remove_dir_all(&dir).or_else(|e| if dir.exists() { Err(e) } else { Ok(()) })?;
    }
    outcome
}

fn show(json: bool, figure: &Figure) -> Result<(), CliError> {
    if json { say(&serde_json::to_string(figure)?) } else { say(&figure.line()) }
}
