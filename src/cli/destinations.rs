//! `destinations`: where messages go, and whether they flow.

use clap::{Args, Subcommand};
use sqlx::PgPool;

use super::CliError;
use super::check::{self, Check};
use super::database::Database;
use super::output::{Output, moment, or_dash, table};
use super::session::{Operator, with_database};
use crate::outbox::inspect::{self, DestinationLine};
use crate::outbox::operate;

#[derive(Debug, Args)]
pub(super) struct Destinations {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List destinations, whether messages flow, and what is unfinished
    List(List),
    /// Probe a destination as it is configured: DNS, TLS, and what it answers
    Check(Check),
    /// Send nothing more to a destination, from any instance, until it is resumed
    Pause(Pause),
    /// End a pause
    Resume(Resume),
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    database: Database,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
struct Pause {
    #[command(flatten)]
    database: Database,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    operator: Operator,
    /// The destination
    name: String,
    /// Why
    #[arg(long)]
    why: String,
}

#[derive(Debug, Args)]
struct Resume {
    #[command(flatten)]
    database: Database,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    operator: Operator,
    /// The destination
    name: String,
    /// Why
    #[arg(long)]
    why: Option<String>,
}

pub(super) fn run(destinations: Destinations) -> Result<(), CliError> {
    match destinations.command {
        Command::List(args) => with_database(&args.database, |db| list(db, args.output)),
        Command::Check(args) => check::check(&args),
        Command::Pause(args) => with_database(&args.database, |db| pause(db, &args)),
        Command::Resume(args) => with_database(&args.database, |db| resume(db, &args)),
    }
}

async fn list(db: PgPool, output: Output) -> Result<(), CliError> {
    let mut conn = db.acquire().await?;
    let lines = inspect::destinations(&mut conn).await?;
    output.show(&lines, |lines| {
        let head = ["destination", "flows", "oldest due", "queued", "blocked", "delivering", "retrying", "dead", "url"];
        table(head, lines.iter().map(row), "there is no destination; apply a configuration with them")
    })
}

fn row(d: &DestinationLine) -> [String; 9] {
    [
        d.name.clone(),
        flows(d),
        or_dash(d.oldest_due_seconds.map(|s| format!("{s:.0} s"))),
        d.queued.to_string(),
        d.blocked.to_string(),
        d.delivering.to_string(),
        d.retrying.to_string(),
        d.dead.to_string(),
        d.url.clone(),
    ]
}

fn flows(d: &DestinationLine) -> String {
    if !d.enabled {
        return "no: not in the configuration".to_owned();
    }
    if let Some(at) = d.paused_at {
        let (by, why) = (or_dash(d.paused_by.as_ref()), or_dash(d.paused_why.as_ref()));
        return format!("no: paused {} by {by}: {why}", moment(at));
    }
    match d.circuit_probe_at {
        Some(at) => format!("no: circuit {}, probe {}", d.circuit, moment(at)),
        None => "yes".to_owned(),
    }
}

async fn pause(db: PgPool, args: &Pause) -> Result<(), CliError> {
    let mut tx = args.operator.begin(&db).await?;
    let change = operate::pause(&mut tx, &args.name, &args.why).await?;
    tx.commit().await?;
    args.output.show(&change, |c| format!("{}: {}", c.destination, c.note))
}

async fn resume(db: PgPool, args: &Resume) -> Result<(), CliError> {
    let mut tx = args.operator.begin(&db).await?;
    let change = operate::resume(&mut tx, &args.name, args.why.as_deref()).await?;
    tx.commit().await?;
    args.output.show(&change, |c| format!("{}: {}", c.destination, c.note))
}
