//! `jobs`: messages, as operators see and steer them.

use clap::{Args, Subcommand};
use serde::Serialize;
use sqlx::PgPool;

use super::CliError;
use super::database::Database;
use super::output::{Output, moment, or_dash, table};
use super::retry::{self, Retry, changes_in_words};
use super::session::{Operator, with_database};
use crate::outbox::MessageState;
use crate::outbox::inspect::{self, Action, Attempt, Filter, Job};
use crate::outbox::operate;

#[derive(Debug, Args)]
pub(super) struct Jobs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List unfinished messages, the oldest first; finished ones if you ask for their state
    List(List),
    /// Show a message, its attempts and what operators did to it
    Show(One),
    /// Try messages again: those you name, or all that fit (without --yes only says which)
    Retry(Retry),
    /// Take a message out for good
    Cancel(Cancel),
    /// Say why a message is not moving, and what to do
    Explain(One),
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    database: Database,
    #[command(flatten)]
    output: Output,
    /// Only of this destination
    #[arg(long, value_name = "NAME")]
    destination: Option<String>,
    /// Only in this state: queued, blocked, delivering, retrying, dead, delivered, cancelled; may be given more than once
    #[arg(long, value_parser = state, value_name = "STATE")]
    state: Vec<MessageState>,
    /// Only with this last answer or failure; % stands for anything, as in 'http-5%'
    #[arg(long, value_name = "PATTERN")]
    error: Option<String>,
    /// No more than so many of each, live and finished
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

#[derive(Debug, Args)]
struct One {
    #[command(flatten)]
    database: Database,
    #[command(flatten)]
    output: Output,
    /// The message
    id: i64,
}

#[derive(Debug, Args)]
struct Cancel {
    #[command(flatten)]
    database: Database,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    operator: Operator,
    /// The message
    id: i64,
    /// Why; no personal data, please
    #[arg(long)]
    why: String,
}

/// The states and their words, as in the database.
const STATES: [(&str, MessageState); 7] = [
    ("queued", MessageState::Queued),
    ("blocked", MessageState::Blocked),
    ("delivering", MessageState::Delivering),
    ("retrying", MessageState::Retrying),
    ("dead", MessageState::Dead),
    ("delivered", MessageState::Delivered),
    ("cancelled", MessageState::Cancelled),
];

pub(super) fn state(text: &str) -> Result<MessageState, String> {
    let named = STATES.iter().find(|(word, _)| *word == text);
    named
        .map(|(_, state)| *state)
        .ok_or_else(|| format!("a state is one of {}", STATES.map(|(word, _)| word).join(", ")))
}

pub(super) fn word(state: MessageState) -> &'static str {
    STATES.iter().find(|(_, s)| *s == state).map_or("", |(word, _)| word)
}

fn is_final(state: MessageState) -> bool {
    matches!(state, MessageState::Delivered | MessageState::Cancelled)
}

pub(super) fn run(jobs: Jobs) -> Result<(), CliError> {
    match jobs.command {
        Command::List(args) => with_database(&args.database, |db| list(db, &args)),
        Command::Show(args) => with_database(&args.database, |db| show(db, &args)),
        Command::Retry(args) => retry::run(&args),
        Command::Cancel(args) => with_database(&args.database, |db| cancel(db, &args)),
        Command::Explain(args) => with_database(&args.database, |db| explain(db, &args)),
    }
}

async fn list(db: PgPool, args: &List) -> Result<(), CliError> {
    let mut conn = db.acquire().await?;
    let (finished, live): (Vec<MessageState>, Vec<MessageState>) = args.state.iter().partition(|s| is_final(**s));
    let of = |states| Filter {
        destination: args.destination.as_deref(),
        states,
        error_like: args.error.as_deref(),
        limit: i64::from(args.limit),
    };
    let mut jobs = Vec::new();
    if args.state.is_empty() || !live.is_empty() {
        jobs.extend(inspect::live(&mut conn, &of(live.as_slice())).await?);
    }
    if !finished.is_empty() {
        jobs.extend(inspect::finished(&mut conn, &of(finished.as_slice())).await?);
    }
    args.output.show(&jobs, |jobs| {
        let head = ["id", "destination", "kind", "state", "attempts", "because", "until", "accepted", "record"];
        table(head, jobs.iter().map(row), "no message fits")
    })
}

fn row(job: &Job) -> [String; 9] {
    let aside = if job.skipped { " (set aside)" } else { "" };
    [
        job.id.to_string(),
        job.destination.clone(),
        job.kind.clone(),
        format!("{}{aside}", word(job.state)),
        job.attempts.to_string(),
        or_dash(job.because.as_ref()),
        or_dash(job.finished_at.or(job.until).map(moment)),
        moment(job.since),
        job.record_id.to_string(),
    ]
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Whole {
    #[serde(flatten)]
    job: Job,
    exchanges: Vec<Attempt>,
    operator_actions: Vec<Action>,
}

async fn show(db: PgPool, args: &One) -> Result<(), CliError> {
    let mut conn = db.acquire().await?;
    let Some(job) = inspect::one(&mut conn, args.id).await? else {
        return Err(nobody(args.id));
    };
    let whole = Whole {
        job,
        exchanges: inspect::attempts(&mut conn, args.id).await?,
        operator_actions: inspect::actions(&mut conn, args.id).await?,
    };
    args.output.show(&whole, in_words)
}

fn nobody(id: i64) -> CliError {
    CliError::Nothing(format!("there is no message {id}, or it was finished so long ago that its history is dropped"))
}

fn in_words(whole: &Whole) -> String {
    let job = &whole.job;
    let aside = if job.skipped { ", set aside" } else { "" };
    let facts = [
        ["message", &format!("{} {} to {}", job.id, job.kind, job.destination)],
        ["state", &format!("{}{aside}", word(job.state))],
        ["attempts", &job.attempts.to_string()],
        ["because", &or_dash(job.because.as_ref())],
        ["until", &or_dash(job.until.map(moment))],
        ["accepted", &moment(job.since)],
        ["finished", &or_dash(job.finished_at.map(moment))],
        ["transaction", &job.transaction_id],
        ["record", &job.record_id.to_string()],
    ];
    let facts = table(["", ""], facts.map(|fact| fact.map(str::to_owned)), "");
    let attempts = whole.exchanges.iter().map(|a| {
        let answer = a.status.map(|s| format!("http-{s}")).or_else(|| a.error.clone());
        let seconds = a.seconds.map(|s| format!("{s:.3}"));
        [a.attempt.to_string(), a.outcome.clone(), or_dash(answer), or_dash(seconds), moment(a.finished_at)]
    });
    let attempts = table(["attempt", "outcome", "answer", "seconds", "ended"], attempts, "no exchange has ended yet");
    let actions = whole.operator_actions.iter().map(|a| {
        let who = a.by_name.as_ref().map_or_else(|| a.by_user.clone(), |name| format!("{name} ({})", a.by_user));
        [moment(a.at), who, a.action.clone(), or_dash(a.why.as_ref())]
    });
    let actions = table(["at", "operator", "action", "why"], actions, "no operator has touched it");
    format!("{}\n\n{attempts}\n\n{actions}", facts.trim_start())
}

async fn cancel(db: PgPool, args: &Cancel) -> Result<(), CliError> {
    let mut tx = args.operator.begin(&db).await?;
    let changes = operate::cancel(&mut tx, args.id, &args.why).await?;
    tx.commit().await?;
    args.output.show(&changes, |changes| changes_in_words(changes))
}

async fn explain(db: PgPool, args: &One) -> Result<(), CliError> {
    let mut conn = db.acquire().await?;
    let reasons = operate::explain(&mut conn, args.id).await?;
    if reasons.iter().any(|r| r.reason == "unknown") {
        return Err(nobody(args.id));
    }
    args.output.show(&reasons, |reasons| {
        let lines = reasons.iter().map(|r| format!("{}: {}\n    → {}", r.reason, r.detail, r.what_to_do));
        lines.collect::<Vec<_>>().join("\n")
    })
}
