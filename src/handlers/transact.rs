//! Where handlers open their transactions, and nowhere else: begin, command, commit, wake-up.
//!
//! What was begun is finished, whether or not whoever asked still listens: a transaction whose future is dropped while it
//! begins would stay open on its connection, for whoever is given that next.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::{Connection as _, PgConnection, Postgres, Transaction};
use tracing::Instrument as _;

use super::AppState;
use super::problem::Problem;
use crate::coalescer::{Spoilt, Writer, Written};
use crate::db;
use crate::metrics;
use crate::records::commands::{self, Act, CommandError, Decision, Judgement, Outcome, Submission};
use crate::transactions;

/// How long a list is worked on before the rest of it is given up.
const LIST_PATIENCE: Duration = Duration::from_secs(10);

/// How long a transaction is worked on before it is given up: longer than any of its waits takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// Tries of one command that met a deadlock or a twin that gave up; a lock that is not granted in time is not retried.
const TRIES: usize = 3;

/// One command of the domain.
enum Command {
    Submit([Submission; 1]),
    Act(Act),
    Decide(Decision),
    Judge(Judgement),
}

impl Command {
    async fn run(&self, conn: &mut PgConnection) -> Result<Outcome, CommandError> {
        match self {
            Self::Submit(list) => Ok(commands::submit(conn, list).await?.pop().unwrap_or(Outcome::Reused)),
            Self::Act(act) => commands::act(conn, act).await,
            Self::Decide(decision) => commands::decide(conn, decision).await,
            Self::Judge(judgement) => commands::judge(conn, judgement).await,
        }
    }
}

/// A look at what is, by keys, with [pinned plans](db::BEGIN_PINNED): thousands who come in one moment pay for no planning.
/// Over when it is dropped.
pub(super) async fn look(state: &AppState) -> sqlx::Result<Transaction<'static, Postgres>> {
    state.db.begin_with(db::BEGIN_PINNED).await
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

/// Accepts one submission, in one transaction with others that came at the same time.
pub async fn submit(state: &AppState, submission: Submission) -> Result<Outcome, CommandError> {
    match state.coalescer.write(state, submission).await {
        Written::Done(outcome) => Ok(outcome),
        Written::NotTried => Err(CommandError::NotTried),
        Written::Alone(submission) => alone(state, Command::Submit([*submission])).await,
    }
}

/// Accepts submissions of whoever it may be in one transaction, or none of them. Waits for nobody's lock for more than a
/// moment, and for nothing for more than ten seconds.
impl Writer for AppState {
    type Item = Submission;
    type Done = Outcome;
    type Held = Held;

    fn size(submission: &Submission) -> usize {
        submission.size()
    }

    fn spoilt() {
        metrics::list_spoilt();
    }

    async fn write(&self, held: &mut Held, list: &[Submission]) -> Result<Vec<Outcome>, Spoilt> {
        metrics::submitted_together(list.len());
        let written = tokio::time::timeout(LIST_PATIENCE, together(self, held, list, Locks::Shortly)).await;
        let error = match written.unwrap_or(Err(CommandError::NotTried)) {
            Ok(outcomes) => return Ok(outcomes),
            Err(error) => error,
        };
        if matches!(error, CommandError::Database(sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed)) {
            return Err(Spoilt::NoConnection);
        }
        if matches!(error, CommandError::NotTried) {
            return Err(Spoilt::NotTried);
        }
        tracing::info!(code = error.code().as_deref(), "submissions go one by one");
        Err(Spoilt::ByOne)
    }
}

/// Lets work go on though whoever asked for it may go; `None` if it was given up.
async fn to_its_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Option<T> {
    match tokio::spawn(tokio::time::timeout(PATIENCE, work).in_current_span()).await {
        Ok(done) => done.ok(),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_cancelled) => None,
        },
    }
}

/// Which of these may go on while too much is waiting: those that were accepted before.
pub(super) async fn admit_list(state: &AppState, ids: &[&str]) -> Result<Admitted, Problem> {
    if !state.pressure.is_on() {
        return Ok(Admitted::All);
    }
    let mut conn = state.db.acquire().await?;
    let known = transactions::finished(&mut conn, ids).await?;
    ids.iter().filter(|id| !known.contains(**id)).for_each(|_| metrics::submission("overloaded"));
    Ok(Admitted::Only(known))
}

/// What back-pressure lets pass.
pub(super) enum Admitted {
    /// Everything.
    All,
    /// These transaction ids.
    Only(HashSet<String>),
}

impl Admitted {
    pub(super) fn passes(&self, id: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(known) => known.contains(id),
        }
    }
}

/// Accepts a list of submissions in one transaction; if something spoils it, in halves, and so on down to the item that
/// does: one of 500 costs its siblings some twenty transactions rather than 500. An outcome per submission, in their
/// order.
///
/// The whole list waits for somebody else's lock as long as one submission does, since a copy of the list is most likely
/// what holds it; its parts wait shortly. What is not done after ten seconds, or when the database is gone, is
/// [`CommandError::NotTried`].
pub async fn submit_list(state: &AppState, list: &Arc<Vec<Submission>>) -> Vec<Result<Outcome, CommandError>> {
    let (state, all) = (state.clone(), Arc::clone(list));
    let written = to_its_end(async move { in_parts(&state, &all).await }).await;
    written.unwrap_or_else(|| list.iter().map(|_| Err(CommandError::NotTried)).collect())
}

async fn in_parts(state: &AppState, list: &[Submission]) -> Vec<Result<Outcome, CommandError>> {
    let mut outcomes = Vec::with_capacity(list.len());
    let started = Instant::now();
    let mut given_up = false;
    let mut parts = vec![list];
    while let Some(part) = parts.pop().filter(|part| !part.is_empty()) {
        if given_up || started.elapsed() > LIST_PATIENCE {
            outcomes.extend(part.iter().map(|_| Err(CommandError::NotTried)));
            continue;
        }
        match together(state, &mut None, part, if part.len() == list.len() { Locks::AsOne } else { Locks::Shortly })
            .await
        {
            Ok(done) => outcomes.extend(done.into_iter().map(Ok)),
            Err(error) if part.len() == 1 || error.is_outage() => {
                given_up = error.is_outage();
                outcomes.push(Err(error));
                outcomes.extend(part.iter().skip(1).map(|_| Err(CommandError::NotTried)));
            }
            Err(_) => {
                let (left, right) = part.split_at(part.len() / 2);
                parts.extend([right, left]);
            }
        }
    }
    outcomes
}

/// How long somebody else's lock is waited for.
#[derive(Clone, Copy, Debug)]
enum Locks {
    /// As long as one submission waits.
    AsOne,
    /// Shortly, since others wait too.
    Shortly,
}

/// One part of a list, in one transaction; tried again as one submission is.
async fn together(
    state: &AppState,
    held: &mut Held,
    list: &[Submission],
    locks: Locks,
) -> Result<Vec<Outcome>, CommandError> {
    let mut tries = 0;
    loop {
        tries += 1;
        match attempt_list(state, held, list, locks).await {
            Ok(outcomes) => {
                state.wakeup.wake();
                outcomes.iter().for_each(count);
                return Ok(outcomes);
            }
            Err(error) if tries < TRIES && may_pass(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

/// A connection that its last list left clean: it is not to be asked again whether it is there.
type Held = Option<PoolConnection<Postgres>>;

async fn attempt_list(
    state: &AppState,
    held: &mut Held,
    list: &[Submission],
    locks: Locks,
) -> Result<Vec<Outcome>, CommandError> {
    let mut conn = match held.take() {
        Some(conn) => conn,
        None => state.db.acquire().await?,
    };
    let mut tx = match locks {
        Locks::AsOne => conn.begin().await?,
        Locks::Shortly => conn.begin_with(db::BEGIN_PINNED).await?,
    };
    let outcomes = commands::submit(&mut tx, list).await?;
    tx.commit().await?;
    *held = Some(conn);
    Ok(outcomes)
}

/// Does one action.
pub async fn act(state: &AppState, act: Act) -> Result<Outcome, CommandError> {
    alone(state, Command::Act(act)).await
}

/// Applies one verdict.
pub async fn decide(state: &AppState, decision: Decision) -> Result<Outcome, CommandError> {
    alone(state, Command::Decide(decision)).await
}

/// Applies one opinion of the country on an action that does not wait for it.
pub async fn judge(state: &AppState, judgement: Judgement) -> Result<Outcome, CommandError> {
    alone(state, Command::Judge(judgement)).await
}

async fn alone(state: &AppState, command: Command) -> Result<Outcome, CommandError> {
    let state = state.clone();
    to_its_end(async move { once(&state, command).await }).await.unwrap_or(Err(CommandError::NotTried))
}

async fn once(state: &AppState, command: Command) -> Result<Outcome, CommandError> {
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

async fn attempt(state: &AppState, command: &Command) -> Result<Outcome, CommandError> {
    let mut tx = state.db.begin().await?;
    let outcome = command.run(&mut tx).await?;
    tx.commit().await?;
    Ok(outcome)
}

/// A deadlock was broken, the twin that we waited for took its claim back, or the connection went: was it in the middle
/// of the commit, the next try finds what was written, and replays it.
fn may_pass(error: &CommandError) -> bool {
    let CommandError::Database(sqlx::Error::Database(e)) = error else {
        return matches!(error, CommandError::Database(sqlx::Error::RowNotFound | sqlx::Error::Io(_)));
    };
    matches!(e.code().as_deref(), Some("40P01" | "40001" | "57P01" | "57P02"))
}

fn count(outcome: &Outcome) {
    metrics::submission(match outcome {
        Outcome::Done(_) => "accepted",
        Outcome::Replayed(_) => "replayed",
        Outcome::Reused => "reused",
    });
}
