//! `demo`: the whole path on one machine.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::database::start_cluster;
use super::signals::listen_to_signals;
use super::{CliError, runtime, share};
use crate::demo;

#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Where the demo's database and key are
    #[arg(long, default_value = "data/demo", value_name = "DIR")]
    dir: PathBuf,
    /// How many declarations to submit
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9999))]
    records: u16,
    /// Share of requests that the receivers let fail, before or after their effect
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    fail_rate: f64,
    /// End after the summary; 0 only if all is registered and every effect happened exactly once
    #[arg(long)]
    exit: bool,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
    /// Where the API listens; another port is taken if it is busy
    #[arg(long, default_value = "127.0.0.1:7070", value_name = "ADDR")]
    listen: SocketAddr,
    /// Where operators' endpoints listen; another port is taken if it is busy
    #[arg(long, default_value = "127.0.0.1:7071", value_name = "ADDR")]
    internal_addr: SocketAddr,
}

pub(super) fn run_demo(args: Demo) -> Result<(), CliError> {
    let cluster = start_cluster(&args.dir.join("pg"))?;
    let options = demo::Options {
        dir: args.dir,
        records: usize::from(args.records),
        fail_rate: args.fail_rate,
        exit: args.exit,
        json: args.json,
        listen: args.listen,
        internal_addr: args.internal_addr,
    };
    runtime()?.block_on(async {
        let told = listen_to_signals()?;
        Ok(demo::run(options, &cluster, told.stop).await?)
    })
}
