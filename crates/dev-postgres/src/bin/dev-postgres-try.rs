//! Runs a cluster in the folder given until end of input: to try the library by hand, for the tests, which kill it,
//! and for `bench-peers`. Prints the server's pid, a URL and a `psql` command line.

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use dev_postgres::{Cluster, Options};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without a standard error there is only the exit code to tell it.
            writeln!(io::stderr(), "dev-postgres-try: {error}").unwrap_or_default();
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut args = env::args_os().skip(1);
    let usage = "usage: dev-postgres-try <folder> [throwaway] [<setting>=<value> ...]";
    let mut options = Options::default();
    let dir = args.next().map(PathBuf::from).ok_or(usage)?;
    for arg in args {
        let word = arg.to_str().ok_or(usage)?;
        match word.split_once('=') {
            Some((name, value)) => options.settings.push((name.to_owned(), value.to_owned())),
            None if word == "throwaway" => options.throwaway = true,
            None => return Err(usage.into()),
        }
    }
    let cluster = Cluster::start_with(&dir, &options)?;
    let mut out = io::stdout();
    writeln!(out, "{}\n{}\n{}", cluster.pid(), cluster.url(), cluster.psql_command())?;
    if let Some(note) = cluster.note() {
        writeln!(out, "{note}")?;
    }
    out.flush()?;
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(cluster.stop()?)
}
