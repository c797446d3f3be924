//! The contestants that are written in Rust, and the HTTP receiver that all of them post to.
//!
//! `bench-peers sink`, or `bench-peers graphile|pgmq|awa COMMAND`: the commands are those of every contestant, see
//! `../README.md`. A fault of any kind ends the process with a message: a broken round has no figure.

mod awa_queue;
mod commands;
mod graphile;
mod job;
mod kit;
mod pgmq_queue;
mod sink;

use std::env;
use std::future::Future;
use std::process::ExitCode;

use tokio::runtime::Builder;

use self::kit::Result;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        // One thread: the receiver must not take the second core from those it receives from.
        ["sink"] => Builder::new_current_thread().enable_all().build()?.block_on(sink::run()),
        ["graphile", command @ ..] => on_all_cores(commands::run::<graphile::Graphile>(command)),
        ["pgmq", command @ ..] => on_all_cores(commands::run::<pgmq_queue::Pgmq>(command)),
        ["awa", command @ ..] => on_all_cores(commands::run::<awa_queue::Awa>(command)),
        _ => Err("usage: bench-peers sink | graphile|pgmq|awa install|fill|submit|drain|watch|send ...".into()),
    }
}

fn on_all_cores(work: impl Future<Output = Result<()>>) -> Result<()> {
    Builder::new_multi_thread().enable_all().build()?.block_on(work)
}
