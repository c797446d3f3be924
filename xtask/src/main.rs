//! Chores of this repository that need more than a command line.
//!
//! ```text
//! cargo xtask sqlx-data              describe every query again and write sqlx-data.json
//! cargo xtask sqlx-data --check      the same, but only compare
//! cargo xtask instructions           count what some functions cost and write benches/instructions.json
//! cargo xtask instructions --check   the same, but only compare
//! cargo xtask performance FROM TO    write a page of the figures that `crvs-outbox bench --json` printed
//! cargo xtask performance --release FROM TO   the same; their program was built for release
//! cargo xtask performance --release --peers PEERS FROM TO   the same, with those that `make bench-peers` wrote, if it did
//! ```
//!
//! It has no part in the service, and must build before `sqlx-data.json` exists.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for the terminal")]

mod instructions;
mod migrations;
mod pack;
mod performance;
mod sqlx_data;

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What the chores fail with: a text for the person at the terminal.
type Failure = Box<dyn Error>;

fn main() -> ExitCode {
    match run() {
        Ok(done) => {
            println!("{done}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<String, Failure> {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["sqlx-data"] => sqlx_data::write(),
        ["sqlx-data", "--check"] => sqlx_data::check(),
        ["instructions"] => instructions::write(),
        ["instructions", "--check"] => instructions::check(),
        ["performance", "--release", from, to] => performance::write(Path::new(from), None, Path::new(to), true),
        ["performance", "--release", "--peers", peers, from, to] => {
            performance::write(Path::new(from), Some(Path::new(peers)), Path::new(to), true)
        }
        ["performance", from, to] => performance::write(Path::new(from), None, Path::new(to), false),
        _ => {
            Err("usage: cargo xtask sqlx-data|instructions [--check] | performance [--release [--peers PEERS]] FROM TO"
                .into())
        }
    }
}

/// The repository.
fn root() -> Result<PathBuf, Failure> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(own.parent().ok_or("xtask lies in no workspace")?.to_owned())
}
