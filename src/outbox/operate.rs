//! Steering by operators: one function per SQL function of the same name, which are the interface for psql as well.
//!
//! Each refuses a message that a worker holds, returns what it changed, and leaves who, when and why in
//! `operator_action` (P10), in the caller's transaction. Waking the lanes is theirs too: a NOTIFY with the commit.

use serde::Serialize;
use sqlx::PgConnection;
use sqlx::postgres::PgDatabaseError;
use time::OffsetDateTime;
use uuid::Uuid;

use super::MessageState;

/// What a function did, or would do, to a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// The message.
    pub id: i64,
    /// Its destination.
    pub destination: String,
    /// The consequence.
    pub kind: String,
    /// Its state before.
    pub state_before: MessageState,
    /// Its state after.
    pub state_after: MessageState,
    /// False if there was nothing to do, or it was a dry run.
    pub changed: bool,
    /// In words.
    pub note: String,
    /// Its id for the receiver.
    pub transaction_id: String,
    /// The record it is about.
    pub record_id: Uuid,
}

/// What a function did to a destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DestinationChange {
    /// The destination.
    pub destination: String,
    /// Whether it is paused now.
    pub paused: bool,
    /// False if it was so before.
    pub changed: bool,
    /// In words.
    pub note: String,
}

/// A reason why a message is not moving.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reason {
    /// A stable word: finished, unknown, behind, paused, circuit-open, rate-limited, leased, lease-lost, retrying, dead,
    /// no-worker, not-configured, ready.
    pub reason: String,
    /// What it is in this case.
    pub detail: String,
    /// What to do.
    pub what_to_do: String,
}

/// Which messages to retry: those that fit everything that is given.
#[derive(Clone, Debug, Default)]
pub struct Filter<'a> {
    /// Of this destination.
    pub destination: Option<&'a str>,
    /// Whose last failure fits this pattern of SQL's `like`, for example `http-5%`.
    pub error_like: Option<&'a str>,
    /// Accepted since then.
    pub since: Option<OffsetDateTime>,
    /// Only `Dead` or only `Retrying` ones.
    pub state: Option<MessageState>,
    /// No more than so many, the oldest first.
    pub at_most: Option<i32>,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    /// The function refused, or the user may not call it; it says why.
    #[error("{0}")]
    Refused(String),
    /// The database failed.
    #[error("the database failed")]
    Database(#[source] sqlx::Error),
}

/// SQLSTATEs that the functions raise themselves, those of arguments that cannot be read, and that of a missing right.
const REFUSALS: [&str; 8] = ["P0002", "55006", "55000", "55P03", "22023", "22007", "22008", "42501"];

impl From<sqlx::Error> for OperateError {
    fn from(error: sqlx::Error) -> Self {
        let told = error.as_database_error().and_then(|e| e.try_downcast_ref::<PgDatabaseError>());
        match told {
            Some(e) if REFUSALS.contains(&e.code()) => {
                let hint = e.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
                Self::Refused(format!("{}{hint}", e.message()))
            }
            Some(_) | None => Self::Database(error),
        }
    }
}

/// Says who acts, for the rest of the caller's transaction: a person's name beside that of the database user.
pub async fn act_as(conn: &mut PgConnection, name: &str) -> sqlx::Result<()> {
    sqlx::query!(r#"select set_config('crvs_outbox.operator', $1, true) as "set!""#, name)
        .fetch_one(conn)
        .await
        .map(drop)
}

/// Tries a message again: a dead one with all its attempts anew, a waiting one now.
pub async fn retry(conn: &mut PgConnection, id: i64, why: Option<&str>) -> Result<Vec<Change>, OperateError> {
    let changes = sqlx::query_as!(
        Change,
        r#"
        select id as "id!", destination as "destination!", kind as "kind!", state_before as "state_before!: MessageState",
               state_after as "state_after!: MessageState", changed as "changed!", note as "note!",
               transaction_id as "transaction_id!", record_id as "record_id!"
        from outbox_retry($1, $2)
        "#,
        id,
        why,
    );
    Ok(changes.fetch_all(conn).await?)
}

/// Tries all messages again that fit; a dry run shows what it would do.
pub async fn retry_where(
    conn: &mut PgConnection,
    filter: &Filter<'_>,
    why: Option<&str>,
    dry_run: bool,
) -> Result<Vec<Change>, OperateError> {
    let changes = sqlx::query_as!(
        Change,
        r#"
        select id as "id!", destination as "destination!", kind as "kind!", state_before as "state_before!: MessageState",
               state_after as "state_after!: MessageState", changed as "changed!", note as "note!",
               transaction_id as "transaction_id!", record_id as "record_id!"
        from outbox_retry_where(destination => $1, error_like => $2, since => $3, dry_run => $4, state => $5, at_most => $6, why => $7)
        "#,
        filter.destination,
        filter.error_like,
        filter.since,
        dry_run,
        filter.state as Option<MessageState>,
        filter.at_most,
        why,
    );
    Ok(changes.fetch_all(conn).await?)
}

/// Takes a message out for good. The second change, if there is one, is the next message of its record that may go now.
pub async fn cancel(conn: &mut PgConnection, id: i64, why: &str) -> Result<Vec<Change>, OperateError> {
    let changes = sqlx::query_as!(
        Change,
        r#"
        select id as "id!", destination as "destination!", kind as "kind!", state_before as "state_before!: MessageState",
               state_after as "state_after!: MessageState", changed as "changed!", note as "note!",
               transaction_id as "transaction_id!", record_id as "record_id!"
        from outbox_cancel($1, $2)
        "#,
        id,
        why,
    );
    Ok(changes.fetch_all(conn).await?)
}

/// Stops deliveries to a destination from the next claim on.
pub async fn pause(conn: &mut PgConnection, destination: &str, why: &str) -> Result<DestinationChange, OperateError> {
    let change = sqlx::query_as!(
        DestinationChange,
        r#"
        select destination as "destination!", paused as "paused!", changed as "changed!", note as "note!"
        from outbox_pause($1, $2)
        "#,
        destination,
        why,
    );
    Ok(change.fetch_one(conn).await?)
}

/// Ends a pause.
pub async fn resume(
    conn: &mut PgConnection,
    destination: &str,
    why: Option<&str>,
) -> Result<DestinationChange, OperateError> {
    let change = sqlx::query_as!(
        DestinationChange,
        r#"
        select destination as "destination!", paused as "paused!", changed as "changed!", note as "note!"
        from outbox_resume($1, $2)
        "#,
        destination,
        why,
    );
    Ok(change.fetch_one(conn).await?)
}

/// Why a message is not moving, and what to do.
pub async fn explain(conn: &mut PgConnection, id: i64) -> Result<Vec<Reason>, OperateError> {
    let reasons = sqlx::query_as!(
        Reason,
        r#"select reason as "reason!", detail as "detail!", what_to_do as "what_to_do!" from outbox_explain($1)"#,
        id
    );
    Ok(reasons.fetch_all(conn).await?)
}

/// Reads a point in time as an operator writes it: a date and time as PostgreSQL understands it, or how long ago it was,
/// such as `90m`, `12h` or `3d`. By the database's clock.
pub async fn point_in_time(conn: &mut PgConnection, text: &str) -> Result<OffsetDateTime, OperateError> {
    let point = sqlx::query_scalar!(
        r#"select case when $1 ~ '^\d+ ?[smhd]$' then now() - $1::text::interval else $1::text::timestamptz end as "point!""#,
        text
    );
    Ok(point.fetch_one(conn).await?)
}
