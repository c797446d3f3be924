//! What operators may see of a record: its line, what was done to it and what was sent because of it. No declaration, no
//! reason, no number: only the views that the role `crvs_outbox_reader` may read.

use serde::Serialize;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

/// A record without its content.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordLine {
    /// The record.
    pub record_id: Uuid,
    /// birth, death, marriage, ...
    pub event: String,
    /// Where it stands.
    pub status: String,
    /// What the citizen was given.
    pub tracking_id: String,
    /// Its current version.
    pub version: i32,
    /// What is held back until somebody says that it is no duplicate.
    pub held_action: Option<String>,
    /// Who submitted it.
    pub created_by: String,
    /// When it was accepted.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it last changed.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}

/// Something that was done to a record, or a message that was sent because of it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// When it was done or accepted.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// `action` or `message`.
    pub entry: String,
    /// The action, or the consequence.
    pub what: String,
    /// The action's status, or the message's state.
    pub is: String,
    /// The message's destination.
    pub to: Option<String>,
    /// The message's exchanges.
    pub attempts: Option<i32>,
    /// The last answer or failure.
    pub because: Option<String>,
    /// The record's status after the action.
    pub record_status: Option<String>,
    /// Who acted, or on whose behalf it is sent.
    pub by: String,
    /// The client's transaction, or the message's id for its receiver.
    pub transaction_id: String,
    /// The message.
    pub message_id: Option<i64>,
    /// When the message was delivered or cancelled.
    #[serde(with = "time::serde::rfc3339::option")]
    pub finished_at: Option<OffsetDateTime>,
    /// Until when the country promised to call back.
    #[serde(with = "time::serde::rfc3339::option")]
    pub callback_due_at: Option<OffsetDateTime>,
}

/// Finds the record that a text names: its id, its tracking id, a client's transaction id, or the id that one of its
/// messages has for its receiver.
pub async fn find(conn: &mut PgConnection, text: &str) -> sqlx::Result<Option<RecordLine>> {
    let id = match text.parse::<Uuid>() {
        Ok(id) if exists(&mut *conn, id).await? => Some(id),
        Ok(_) | Err(_) => match by_tracking_id(&mut *conn, text).await? {
            Some(id) => Some(id),
            None => by_transaction(&mut *conn, text, client_transaction(text)).await?,
        },
    };
    match id {
        Some(id) => line(conn, id).await,
        None => Ok(None),
    }
}

async fn exists(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<bool> {
    sqlx::query_scalar!(r#"select exists (select from records where record_id = $1) as "exists!""#, id)
        .fetch_one(conn)
        .await
}

async fn by_tracking_id(conn: &mut PgConnection, text: &str) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar!(r#"select record_id as "id!" from records where tracking_id = upper($1)"#, text)
        .fetch_optional(conn)
        .await
}

async fn by_transaction(conn: &mut PgConnection, id: &str, or: &str) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar!(
        r#"
        select record_id as "id!" from record_timeline
        where entry = 'action' and transaction_id in ($1, $2)
        order by transaction_id <> $1
        limit 1
        "#,
        id,
        or,
    )
    .fetch_optional(conn)
    .await
}

/// The client's transaction in a message's id, `{kind}__{action}_{client transaction}`; any other text as it is.
fn client_transaction(text: &str) -> &str {
    text.split_once("__").and_then(|(_, rest)| rest.split_once('_')).map_or(text, |(_, id)| id)
}

async fn line(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<Option<RecordLine>> {
    sqlx::query_as!(
        RecordLine,
        r#"
        select record_id as "record_id!", event as "event!", status::text as "status!", tracking_id as "tracking_id!",
               version as "version!", held_action::text as held_action, created_by as "created_by!", created_at as "created_at!",
               updated_at as "updated_at!"
        from records where record_id = $1
        "#,
        id
    )
    .fetch_optional(conn)
    .await
}

/// What happened to a record, in order.
pub async fn of_record(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<Vec<Entry>> {
    sqlx::query_as!(
        Entry,
        r#"
        select at as "at!", entry as "entry!", what as "what!", "is" as "is!", "to", attempts, because,
               record_status::text as record_status, by as "by!", transaction_id as "transaction_id!", message_id, finished_at,
               callback_due_at
        from record_timeline where record_id = $1
        order by at, message_id nulls first, ordinal
        "#,
        id
    )
    .fetch_all(conn)
    .await
}

/// A record whose registration awaits the country's verdict.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// The record.
    pub record_id: Uuid,
    /// birth, death, marriage, ...
    pub event: String,
    /// What the citizen was given.
    pub tracking_id: String,
    /// The client's transaction.
    pub transaction_id: String,
    /// Since when.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// What it waits for.
    pub waits_because: String,
    /// Until when the country promised to call back.
    #[serde(with = "time::serde::rfc3339::option")]
    pub callback_due_at: Option<OffsetDateTime>,
    /// How many times it was sent again.
    pub redeliveries: i32,
    /// Whether a promised callback did not come in time.
    pub overdue: bool,
}

/// Records that wait for a verdict, the longest first.
pub async fn waiting(conn: &mut PgConnection, overdue_only: bool, limit: i64) -> sqlx::Result<Vec<Waiting>> {
    sqlx::query_as!(
        Waiting,
        r#"
        select record_id as "record_id!", event as "event!", tracking_id as "tracking_id!", transaction_id as "transaction_id!",
               since as "since!", waits_because as "waits_because!", callback_due_at, redeliveries as "redeliveries!",
               overdue as "overdue!"
        from records_waiting
        where overdue or not $1
        order by since
        limit $2
        "#,
        overdue_only,
        limit,
    )
    .fetch_all(conn)
    .await
}

#[cfg(test)]
mod tests {
    use super::client_transaction;

    #[test]
    fn a_messages_id_leads_to_its_clients_transaction() {
        assert_eq!(client_transaction("index__register_field-app_0042"), "field-app_0042");
        assert_eq!(client_transaction("MARKED_AS_NOT_DUPLICATE__not-duplicate_abcdefgh"), "abcdefgh");
        assert_eq!(client_transaction("field-app_0042"), "field-app_0042");
    }
}
