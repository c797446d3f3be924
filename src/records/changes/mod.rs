//! The feed of changes: what moved for one caller since they last looked, and what it is now.
//!
//! A hint (a row of `change`) commits with what it tells of, and database transactions commit in any order. So a cursor
//! is no number but a snapshot: what is new are the rows of those database transactions that it shows as open or not
//! begun, and whose rows can be read now. The page and the snapshot of the next cursor are one statement. What commits
//! late is told late, and holds up nothing.
//!
//! Promises: read from cursor to cursor, no hint is skipped, each is told at least once, and only to the principal whose
//! transaction it is. Not promised: once only, or every state in between: a state is computed when it is told.

mod cursor;
mod snapshot;

use std::collections::HashSet;
use std::time::Duration;

use sqlx::PgConnection;
use uuid::Uuid;

use super::progress::{self, ChangeView};
use super::store::change::{self, Between, Tail};

pub(crate) use cursor::Rest;
pub use cursor::{Cursor, Moment, NoCursor};
pub use snapshot::{NoSnapshot, Snapshot};

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum ChangesError {
    /// What came after the cursor may be gone already, or the database was put back to an earlier time.
    #[error("the cursor is too old")]
    Expired,
    /// The database failed.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
}

/// What moved, in the order of database transactions.
#[derive(Clone, Debug)]
pub struct Page {
    /// The caller's transactions as they are now.
    pub changes: Vec<ChangeView>,
    /// Where the next page begins.
    pub cursor: Cursor,
    /// Whether the next page is there already.
    pub more: bool,
}

/// The cursor of now: what commits later is after it.
pub async fn now(conn: &mut PgConnection) -> sqlx::Result<Cursor> {
    moment(conn).await.map(Cursor::at)
}

/// Now, by the database.
pub async fn moment(conn: &mut PgConnection) -> sqlx::Result<Moment> {
    change::now(conn).await
}

/// What moved for a principal after a cursor: up to `limit` hints at a time. `kept` is how long hints are kept.
pub async fn page(
    conn: &mut PgConnection,
    principal_id: &str,
    cursor: &Cursor,
    limit: u16,
    kept: Duration,
) -> Result<Page, ChangesError> {
    let between = Between { since: &cursor.since.snapshot, rest: cursor.rest.as_ref() };
    let read = change::page(conn, principal_id, between, i64::from(limit) + 1).await?;
    if cursor.since.at + kept.as_secs() < read.now.at || cursor.since.snapshot.is_ahead_of(&read.now.snapshot) {
        return Err(ChangesError::Expired);
    }
    let until = cursor.rest.as_ref().map_or(&read.now, |rest| &rest.until).clone();
    let mut hints = read.hints;
    let more = hints.len() > usize::from(limit);
    hints.truncate(limit.into());
    let cursor = match hints.last() {
        Some(last) if more => {
            let rest = Rest { until, xid: last.xid, action_id: last.action_id };
            Cursor { since: cursor.since.clone(), rest: Some(rest) }
        }
        _ => Cursor::at(until),
    };
    let changes = present(conn, principal_id, &hints).await?;
    Ok(Page { changes, cursor, more })
}

/// What the hinted transactions are now, each once.
async fn present(conn: &mut PgConnection, principal_id: &str, hints: &[change::Hint]) -> sqlx::Result<Vec<ChangeView>> {
    if hints.is_empty() {
        return Ok(Vec::new());
    }
    let mut seen = HashSet::new();
    // Their last appearance counts: in the order in which they moved last.
    let mut ids: Vec<&str> =
        hints.iter().rev().filter_map(|h| h.transaction_id.as_deref()).filter(|id| seen.insert(*id)).collect();
    ids.reverse();
    let mut states = progress::states(conn, &ids).await?;
    let own = ids.iter().filter_map(|id| states.remove(*id));
    Ok(own.filter(|state| state.principal_id == principal_id).collect())
}

/// What moved for anybody.
#[derive(Clone, Debug)]
pub struct Moved {
    /// Until when.
    pub now: Moment,
    /// Principals and their transactions.
    pub transactions: Vec<(String, String)>,
    /// There was more than a turn takes, or the database was put back to an earlier time: anything may have moved.
    pub uncertain: bool,
}

/// Most hints that a turn of [`tail`] reads.
const TURN: u16 = 20_000;

/// What moved for anybody after a moment.
pub async fn tail(conn: &mut PgConnection, since: &Moment) -> sqlx::Result<Moved> {
    let Tail { now, transactions, cut } = change::tail(conn, &since.snapshot, i64::from(TURN)).await?;
    let uncertain = cut || since.snapshot.is_ahead_of(&now.snapshot);
    Ok(Moved { now, transactions, uncertain })
}

/// Says that all transactions on a record moved, to those who sent them: a step of one decides whether others are settled.
pub(super) async fn record_moved(conn: &mut PgConnection, record_id: Uuid) -> sqlx::Result<()> {
    change::append_of_record(conn, record_id).await
}
