//! The table `record`.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::records::model::{ActionKind, Status};

/// A record to insert.
#[derive(Clone, Debug)]
pub(crate) struct NewRecord<'a> {
    pub id: Uuid,
    pub event: &'a str,
    pub status: Status,
    pub tracking_id: &'a str,
    pub awaiting_action_id: Option<Uuid>,
    pub created_by: &'a str,
}

/// A record as it stands.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub id: Uuid,
    pub event: String,
    pub status: Status,
    pub tracking_id: String,
    pub registration_number: Option<String>,
    pub version: i32,
    pub awaiting_action_id: Option<Uuid>,
    pub held_action: Option<ActionKind>,
    pub created_by: String,
    pub created_at: OffsetDateTime,
    pub updated_at: OffsetDateTime,
}

/// Reads a record and holds its row lock to the end of the transaction.
pub(crate) async fn lock(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<Option<Row>> {
    sqlx::query_as!(
        Row,
        r#"
        select id, event, status as "status: Status", tracking_id, registration_number, version, awaiting_action_id,
               held_action as "held_action: ActionKind", created_by, created_at, updated_at
        from record where id = $1 for no key update
        "#,
        id
    )
    .fetch_optional(conn)
    .await
}

/// Locks records in the order of their ids, and reads them.
pub(crate) async fn lock_all(conn: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<Vec<Row>> {
    sqlx::query_as!(
        Row,
        r#"
        select id, event, status as "status: Status", tracking_id, registration_number, version, awaiting_action_id,
               held_action as "held_action: ActionKind", created_by, created_at, updated_at
        from record where id = any ($1) order by id for no key update
        "#,
        ids
    )
    .fetch_all(conn)
    .await
}

/// Stops records at `declared`, each with the action that is held back. They are locked by the caller, or its own.
pub(crate) async fn hold(conn: &mut PgConnection, held: &[(Uuid, ActionKind)]) -> sqlx::Result<()> {
    let ids: Vec<Uuid> = held.iter().map(|(id, _)| *id).collect();
    let actions: Vec<ActionKind> = held.iter().map(|(_, action)| *action).collect();
    sqlx::query!(
        r#"
        update record r
        set status = 'declared', awaiting_action_id = null, held_action = h.action, updated_at = now()
        from unnest($1::uuid[], $2::record_action_kind[]) as h (id, action)
        where r.id = h.id
        "#,
        &ids,
        &actions as &[ActionKind],
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Whether one of these records is not held.
pub(crate) async fn any_not_held(conn: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from record where id = any ($1) and held_action is null) as "any!""#,
        ids
    )
    .fetch_one(conn)
    .await
}

/// Reads a record.
pub(crate) async fn read(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<Option<Row>> {
    sqlx::query_as!(
        Row,
        r#"
        select id, event, status as "status: Status", tracking_id, registration_number, version, awaiting_action_id,
               held_action as "held_action: ActionKind", created_by, created_at, updated_at
        from record where id = $1
        "#,
        id
    )
    .fetch_optional(conn)
    .await
}

/// Writes where a locked record stands now.
pub(crate) async fn update(conn: &mut PgConnection, row: &Row) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update record
        set status = $2, version = $3, registration_number = $4, awaiting_action_id = $5, held_action = $6, updated_at = now()
        where id = $1
        "#,
        row.id,
        row.status as Status,
        row.version,
        row.registration_number,
        row.awaiting_action_id,
        row.held_action as Option<ActionKind>,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Whether another record has this registration number.
pub(crate) async fn number_is_taken(conn: &mut PgConnection, number: &str, by_other_than: Uuid) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from record where registration_number = $1 and id <> $2) as "taken!""#,
        number,
        by_other_than
    )
    .fetch_one(conn)
    .await
}
