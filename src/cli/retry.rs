//! `jobs retry`: by ids, each in a transaction of its own, or by a filter, all in one.

use clap::{ArgGroup, Args};
use sqlx::PgPool;

use super::CliError;
use super::database::Database;
use super::jobs::{state, word};
use super::output::{Output, table};
use super::session::{Operator, with_database};
use crate::outbox::MessageState;
use crate::outbox::operate::{self, Change, Filter, OperateError};

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("which").required(true).multiple(true).args(["ids", "destination", "error", "since", "state", "all"])))]
pub(super) struct Retry {
    #[command(flatten)]
    database: Database,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    operator: Operator,
    /// The messages
    #[arg(value_name = "ID", conflicts_with_all = ["destination", "error", "since", "state", "all", "at_most"])]
    ids: Vec<i64>,
    /// All of this destination
    #[arg(long, value_name = "NAME")]
    destination: Option<String>,
    /// All with this last answer or failure; % stands for anything, as in 'http-5%'
    #[arg(long, value_name = "PATTERN")]
    error: Option<String>,
    /// All accepted since then: a date and time, or how long ago, as in 90m, 12h, 3d
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only those that are dead, or only those that are retrying
    #[arg(long, value_parser = state, value_name = "STATE")]
    state: Option<MessageState>,
    /// All that are dead or wait for their next attempt
    #[arg(long)]
    all: bool,
    /// No more than so many, the oldest first
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(1..))]
    at_most: Option<i32>,
    /// Do it; without this a filter only says what it would do
    #[arg(long)]
    yes: bool,
    /// Why
    #[arg(long)]
    why: Option<String>,
}

pub(super) fn run(args: &Retry) -> Result<(), CliError> {
    with_database(&args.database, |db| async move {
        if args.ids.is_empty() { by_filter(db, args).await } else { by_id(db, args).await }
    })
}

async fn by_id(db: PgPool, args: &Retry) -> Result<(), CliError> {
    let mut changes = Vec::new();
    let mut refused = Vec::new();
    for id in &args.ids {
        let mut tx = args.operator.begin(&db).await?;
        match operate::retry(&mut tx, *id, args.why.as_deref()).await {
            Ok(done) => {
                tx.commit().await?;
                refused.extend(done.iter().filter(|c| !c.changed).map(|c| format!("message {}: {}", c.id, c.note)));
                changes.extend(done);
            }
            Err(OperateError::Refused(why)) => refused.push(why),
            Err(error @ OperateError::Database(_)) => return Err(error.into()),
        }
    }
    if !changes.is_empty() {
        args.output.show(&changes, |changes| changes_in_words(changes))?;
    }
    if refused.is_empty() { Ok(()) } else { Err(CliError::Nothing(refused.join("; "))) }
}

async fn by_filter(db: PgPool, args: &Retry) -> Result<(), CliError> {
    let mut tx = args.operator.begin(&db).await?;
    let since = match &args.since {
        Some(text) => Some(operate::point_in_time(&mut tx, text).await?),
        None => None,
    };
    let filter = Filter {
        destination: args.destination.as_deref(),
        error_like: args.error.as_deref(),
        since,
        state: args.state,
        at_most: args.at_most,
    };
    let changes = operate::retry_where(&mut tx, &filter, args.why.as_deref(), !args.yes).await?;
    tx.commit().await?;
    args.output.show(&changes, |changes| {
        let count = match (changes.len(), args.yes) {
            (0, _) => return "no message fits".to_owned(),
            (n, true) => format!("{n} retried"),
            (n, false) => format!("{n} would be retried; add --yes to do it"),
        };
        format!("{}\n{count}", changes_in_words(changes))
    })
}

/// Lines of a table that are enough to see what is meant.
const ENOUGH: usize = 20;

/// Changes as a table.
pub(super) fn changes_in_words(changes: &[Change]) -> String {
    let rows = changes.iter().take(ENOUGH).map(|c| {
        let states = format!("{} → {}", word(c.state_before), word(c.state_after));
        [c.id.to_string(), c.destination.clone(), c.kind.clone(), states, c.note.clone()]
    });
    let rows = table(["id", "destination", "kind", "state", "note"], rows, "nothing changed");
    match changes.len().checked_sub(ENOUGH).filter(|more| *more > 0) {
        Some(more) => format!("{rows}\n… and {more} more"),
        None => rows,
    }
}
