//! The command line: what can be asked for, and who does it.

mod bench;
mod check;
mod database;
mod demo;
mod destinations;
mod error;
mod files;
mod jobs;
mod openapi;
mod output;
mod records;
mod retry;
mod sandbox;
mod serve;
mod session;
mod signals;
mod token;

use clap::{Parser, Subcommand};

pub use error::CliError;

use bench::Bench;
use database::Database;
use demo::Demo;
use destinations::Destinations;
use jobs::Jobs;
use openapi::Openapi;
use records::Records;
use sandbox::SandboxArgs;
use serve::Serve;
use token::Token;

/// Accepts declarations of births, deaths and marriages in one PostgreSQL transaction and delivers every consequence
/// exactly once in effect.
#[derive(Debug, Parser)]
#[command(name = "crvs-outbox", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

impl Cli {
    /// What is logged unless `RUST_LOG` says otherwise. The demo speaks for itself.
    pub fn log_filter(&self) -> &'static str {
        match self.command {
            Command::Demo(_) => "error,crvs_outbox::workers=off",
            Command::Serve(_) | Command::Migrate(_) | Command::Sandbox(_) | Command::Token(_) => {
                "info,sqlx=warn,refinery_core=warn"
            }
            Command::Jobs(_) | Command::Destinations(_) | Command::Records(_) | Command::Openapi(_) => "warn",
            Command::Bench(_) => "warn,crvs_outbox::bench=info",
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service: the API and the workers
    Serve(Serve),
    /// Bring the schema up to date and end
    Migrate(Database),
    /// Show the whole path on this machine, with a database and a country config of its own
    Demo(Demo),
    /// Run a country config and receivers to play with
    Sandbox(SandboxArgs),
    /// Look at messages, retry them, cancel them
    Jobs(Jobs),
    /// Look at destinations, pause and resume them
    Destinations(Destinations),
    /// Follow a record, and see which wait for a verdict
    Records(Records),
    /// Measure how fast it is on this machine
    Bench(Bench),
    /// Print a token signed with the service's key, for trying things out
    Token(Token),
    /// Print the description of the REST API, for tools that read openapi.json
    Openapi(Openapi),
}

/// Does what was asked for.
pub fn run(cli: Cli) -> Result<(), CliError> {
    match cli.command {
        Command::Serve(args) => serve::serve(&args),
        Command::Migrate(database) => database::migrate(&database),
        Command::Demo(args) => demo::run_demo(args),
        Command::Sandbox(args) => sandbox::run_sandbox(args),
        Command::Jobs(args) => jobs::run(args),
        Command::Destinations(args) => destinations::run(args),
        Command::Records(args) => records::run(&args),
        Command::Token(args) => token::token(&args),
        Command::Openapi(args) => openapi::openapi(&args),
        Command::Bench(args) => bench::bench(args),
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=0.9).contains(&share) => Ok(share),
        _ => Err("a share is a number from 0 to 0.9".to_owned()),
    }
}
