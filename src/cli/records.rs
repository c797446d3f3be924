//! `records`: what became of a record, without its content.

use clap::{Args, Subcommand};
use serde::Serialize;
use sqlx::PgPool;

use super::CliError;
use super::database::Database;
use super::output::{Output, moment, or_dash, table};
use super::session::with_database;
use crate::records::timeline::{self, Entry, RecordLine};

#[derive(Debug, Args)]
pub(super) struct Records {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show a record, what was done to it and what was sent because of it
    Show(Show),
    /// List records that await the country's verdict, the longest first
    Waiting(Waiting),
}

#[derive(Debug, Args)]
struct Show {
    #[command(flatten)]
    database: Database,
    #[command(flatten)]
    output: Output,
    /// The record's id, its tracking id, a transaction id, or a message's Idempotency-Key
    record: String,
}

#[derive(Debug, Args)]
struct Waiting {
    #[command(flatten)]
    database: Database,
    #[command(flatten)]
    output: Output,
    /// Only those whose promised callback did not come in time
    #[arg(long)]
    overdue: bool,
    /// No more than so many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

pub(super) fn run(records: &Records) -> Result<(), CliError> {
    match &records.command {
        Command::Show(args) => with_database(&args.database, |db| show(db, args)),
        Command::Waiting(args) => with_database(&args.database, |db| waiting(db, args)),
    }
}

#[derive(Serialize)]
struct Story {
    record: RecordLine,
    timeline: Vec<Entry>,
}

async fn show(db: PgPool, args: &Show) -> Result<(), CliError> {
    let mut conn = db.acquire().await?;
    let Some(record) = timeline::find(&mut conn, &args.record).await? else {
        return Err(CliError::Nothing(format!("no record has the id, tracking id or transaction {}", args.record)));
    };
    let timeline = timeline::of_record(&mut conn, record.record_id).await?;
    args.output.show(&Story { record, timeline }, in_words)
}

fn in_words(story: &Story) -> String {
    let r = &story.record;
    let held = r.held_action.as_ref().map(|a| format!(", {a} is held back")).unwrap_or_default();
    let line = format!(
        "{} {} ({}) is {}{held}; accepted {} from {}, version {}",
        r.event,
        r.tracking_id,
        r.record_id,
        r.status,
        moment(r.created_at),
        r.created_by,
        r.version
    );
    let rows = story.timeline.iter().map(row);
    let rows = table(["at", "message", "what", "to", "is", "attempts", "because", "then", "transaction"], rows, "");
    format!("{line}\n\n{rows}")
}

fn row(e: &Entry) -> [String; 9] {
    let then = e.record_status.as_ref().map(|s| format!("record {s}"));
    let then = then.or_else(|| e.finished_at.map(|at| format!("{} {}", e.is, moment(at))));
    let due = e.callback_due_at.map(|at| format!("callback due {}", moment(at)));
    [
        moment(e.at),
        or_dash(e.message_id),
        e.what.clone(),
        or_dash(e.to.as_ref()),
        e.is.clone(),
        or_dash(e.attempts),
        or_dash(e.because.as_ref().or(due.as_ref())),
        or_dash(then),
        e.transaction_id.clone(),
    ]
}

async fn waiting(db: PgPool, args: &Waiting) -> Result<(), CliError> {
    let mut conn = db.acquire().await?;
    let waiting = timeline::waiting(&mut conn, args.overdue, i64::from(args.limit)).await?;
    args.output.show(&waiting, |waiting| {
        let rows = waiting.iter().map(|w| {
            [
                w.tracking_id.clone(),
                w.event.clone(),
                moment(w.since),
                w.waits_because.clone(),
                or_dash(w.callback_due_at.map(moment)),
                w.redeliveries.to_string(),
                w.record_id.to_string(),
            ]
        });
        table(
            ["tracking id", "event", "since", "because", "callback due", "sent again", "record"],
            rows,
            "no record waits",
        )
    })
}
