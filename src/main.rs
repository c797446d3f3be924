//! Parses, logs, runs, and says what went wrong with its whole chain of causes.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use crvs_outbox::cli::{self, Cli};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = Cli::parse();
    log(cli.log_filter());
    match cli::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Logs go to standard error: as text to a person, as JSON to a machine. `RUST_LOG` chooses what.
fn log(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        builder.init();
    } else {
        builder.json().init();
    }
}

#[expect(clippy::print_stderr, reason = "the reason of a failed command is for whoever ran it")]
fn complain(error: &dyn std::error::Error) {
    let mut said = error.to_string();
    eprint!("error: {said}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Some libraries say their cause themselves.
        if !said.contains(&text) {
            eprint!(": {text}");
        }
        said = text;
        cause = error.source();
    }
    eprintln!();
}
