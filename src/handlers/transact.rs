//! Where handlers open their transactions, and nowhere else: begin, command, commit, wake-up.

use std::time::Duration;

use sqlx::PgConnection;

use super::AppState;
use super::problem::Problem;
use crate::metrics;
use crate::records::commands::{self, Act, CommandError, Decision, Outcome, Submission};
use crate::transactions;

/// How long a list waits for somebody else's lock before its items are tried one by one.
const LIST_LOCK_TIMEOUT: Duration = Duration::from_millis(50);

/// Tries of one command that met a deadlock or a twin that gave up; a lock that is not granted in time is not retried.
const TRIES: usize = 3;

/// One command of the domain.
enum Command<'a> {
    Submit(&'a [Submission; 1]),
    Act(&'a Act),
    Decide(&'a Decision),
}

impl Command<'_> {
    async fn run(&self, conn: &mut PgConnection) -> Result<Outcome, CommandError> {
        match self {
            Self::Submit(list) => Ok(commands::submit(conn, *list).await?.pop().unwrap_or(Outcome::Reused)),
            Self::Act(act) => commands::act(conn, act).await,
            Self::Decide(decision) => commands::decide(conn, decision).await,
        }
    }
}

/// Refuses what is new while too much is waiting. What was accepted before is answered as ever.
pub(super) async fn admit(state: &AppState, transaction_id: &str) -> Result<(), Problem> {
    if !state.pressure.is_on() {
        return Ok(());
    }
    let mut conn = state.db.acquire().await?;
    if transactions::owner(&mut conn, transaction_id).await?.is_some() {
        return Ok(());
    }
    metrics::submission("overloaded");
    Err(Problem::overloaded())
}

/// Accepts one submission.
pub async fn submit(state: &AppState, submission: Submission) -> Result<Outcome, CommandError> {
    once(state, Command::Submit(&[submission])).await
}

/// Accepts a list of submissions in one transaction; if one of them spoils it, each in its own. An outcome per
/// submission, in their order.
pub async fn submit_list(state: &AppState, list: Vec<Submission>) -> Vec<Result<Outcome, CommandError>> {
    if list.len() > 1
        && let Ok(outcomes) = together(state, &list).await
    {
        return outcomes.into_iter().map(Ok).collect();
    }
    let mut outcomes = Vec::with_capacity(list.len());
    for submission in list {
        outcomes.push(submit(state, submission).await);
    }
    outcomes
}

async fn together(state: &AppState, list: &[Submission]) -> Result<Vec<Outcome>, CommandError> {
    let mut tx = state.db.begin().await?;
    let timeout = format!("{}ms", LIST_LOCK_TIMEOUT.as_millis());
    sqlx::query!("select set_config('lock_timeout', $1, true)", timeout).fetch_one(&mut *tx).await?;
    let outcomes = commands::submit(&mut tx, list).await?;
    tx.commit().await?;
    state.wakeup.wake();
    outcomes.iter().for_each(count);
    Ok(outcomes)
}

/// Does one action.
pub async fn act(state: &AppState, act: &Act) -> Result<Outcome, CommandError> {
    once(state, Command::Act(act)).await
}

/// Applies one verdict.
pub async fn decide(state: &AppState, decision: &Decision) -> Result<Outcome, CommandError> {
    once(state, Command::Decide(decision)).await
}

async fn once(state: &AppState, command: Command<'_>) -> Result<Outcome, CommandError> {
    let mut tries = 0;
    loop {
        tries += 1;
        match attempt(state, &command).await {
            Ok(outcome) => {
                state.wakeup.wake();
                count(&outcome);
                return Ok(outcome);
            }
            Err(error) if tries < TRIES && may_pass(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

async fn attempt(state: &AppState, command: &Command<'_>) -> Result<Outcome, CommandError> {
    let mut tx = state.db.begin().await?;
    let outcome = command.run(&mut tx).await?;
    tx.commit().await?;
    Ok(outcome)
}

/// A deadlock was broken, or the twin that we waited for took its claim back.
fn may_pass(error: &CommandError) -> bool {
    let CommandError::Database(sqlx::Error::Database(e)) = error else {
        return matches!(error, CommandError::Database(sqlx::Error::RowNotFound));
    };
    matches!(e.code().as_deref(), Some("40P01" | "40001"))
}

fn count(outcome: &Outcome) {
    metrics::submission(match outcome {
        Outcome::Done(_) => "accepted",
        Outcome::Replayed(_) => "replayed",
        Outcome::Reused => "reused",
    });
}
