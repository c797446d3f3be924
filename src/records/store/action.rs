//! The table `record_action`.

use serde_json::value::RawValue;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::records::model::{ActionKind, ActionStatus, Status};

/// An action to append.
#[derive(Clone, Debug)]
pub(crate) struct NewAction<'a> {
    pub id: Uuid,
    pub record_id: Uuid,
    pub transaction_id: &'a str,
    pub action: ActionKind,
    pub status: ActionStatus,
    pub requested_action_id: Option<Uuid>,
    pub version: i32,
    pub record_status: Status,
    pub registration_number: Option<&'a str>,
    /// JSON text.
    pub identifiers: Option<&'a str>,
    /// JSON text.
    pub annotation: Option<&'a str>,
    pub reason: Option<&'a str>,
    pub comment: Option<&'a str>,
    pub created_by: &'a str,
    pub scopes: &'a [String],
}

/// Appends actions, in the order given.
pub(crate) async fn append(conn: &mut PgConnection, actions: &[NewAction<'_>]) -> sqlx::Result<()> {
    let ids: Vec<Uuid> = actions.iter().map(|a| a.id).collect();
    let records: Vec<Uuid> = actions.iter().map(|a| a.record_id).collect();
    let transactions: Vec<&str> = actions.iter().map(|a| a.transaction_id).collect();
    let kinds: Vec<ActionKind> = actions.iter().map(|a| a.action).collect();
    let statuses: Vec<ActionStatus> = actions.iter().map(|a| a.status).collect();
    let requests: Vec<Option<Uuid>> = actions.iter().map(|a| a.requested_action_id).collect();
    let versions: Vec<i32> = actions.iter().map(|a| a.version).collect();
    let record_statuses: Vec<Status> = actions.iter().map(|a| a.record_status).collect();
    let numbers: Vec<Option<&str>> = actions.iter().map(|a| a.registration_number).collect();
    let identifiers: Vec<Option<&str>> = actions.iter().map(|a| a.identifiers).collect();
    let annotations: Vec<Option<&str>> = actions.iter().map(|a| a.annotation).collect();
    let reasons: Vec<Option<&str>> = actions.iter().map(|a| a.reason).collect();
    let comments: Vec<Option<&str>> = actions.iter().map(|a| a.comment).collect();
    let creators: Vec<&str> = actions.iter().map(|a| a.created_by).collect();
    let scopes: Vec<String> = actions.iter().map(|a| a.scopes.join(" ")).collect();
    sqlx::query!(
        r#"
        insert into record_action (id, record_id, transaction_id, action, status, requested_action_id, version, record_status,
                                   registration_number, identifiers, annotation, reason, comment, created_by, scopes)
        select a.id, a.record_id, a.transaction_id, a.action, a.status, a.requested_action_id, a.version, a.record_status,
               a.registration_number, a.identifiers::json, a.annotation::json, a.reason, a.comment, a.created_by, string_to_array(a.scopes, ' ')
        from unnest($1::uuid[], $2::uuid[], $3::text[], $4::record_action_kind[], $5::record_action_status[], $6::uuid[], $7::int[],
                    $8::record_status[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[])
             with ordinality as a (id, record_id, transaction_id, action, status, requested_action_id, version, record_status,
                                   registration_number, identifiers, annotation, reason, comment, created_by, scopes, ordinal)
        order by a.ordinal
        "#,
        &ids,
        &records,
        &transactions as &[&str],
        &kinds as &[ActionKind],
        &statuses as &[ActionStatus],
        &requests as &[Option<Uuid>],
        &versions,
        &record_statuses as &[Status],
        &numbers as &[Option<&str>],
        &identifiers as &[Option<&str>],
        &annotations as &[Option<&str>],
        &reasons as &[Option<&str>],
        &comments as &[Option<&str>],
        &creators as &[&str],
        &scopes,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// A requested action, to be decided.
#[derive(Clone, Debug)]
pub(crate) struct Requested {
    pub id: Uuid,
    pub record_id: Uuid,
    pub transaction_id: String,
    pub created_by: String,
    pub scopes: Vec<String>,
    pub redeliveries: i32,
}

/// Reads a requested action.
pub(crate) async fn requested(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<Option<Requested>> {
    sqlx::query_as!(
        Requested,
        "select id, record_id, transaction_id, created_by, scopes, redeliveries from record_action where id = $1 and status = 'requested'",
        id
    )
    .fetch_optional(conn)
    .await
}

/// An action that the country is told of and that does not wait for it.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub id: Uuid,
    pub record_id: Uuid,
    pub transaction_id: String,
    pub action: ActionKind,
    pub created_by: String,
    pub scopes: Vec<String>,
    pub version: i32,
    /// What the country has said of it.
    pub verdict: Option<ActionStatus>,
    /// Whether another transaction has acted on the record since.
    pub superseded: bool,
}

/// Reads an action that does not wait for the country, under the record's lock.
pub(crate) async fn told(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<Option<Told>> {
    sqlx::query_as!(
        Told,
        r#"
        select a.id, a.record_id, a.transaction_id, a.action as "action: ActionKind", a.created_by, a.scopes, a.version,
               (select v.status from record_action v
                where v.requested_action_id = a.id and v.status in ('accepted', 'rejected')) as "verdict: ActionStatus",
               exists (select from record_action later
                       where later.record_id = a.record_id and later.ordinal > a.ordinal
                         and later.transaction_id <> a.transaction_id and later.requested_action_id is null) as "superseded!"
        from record_action a
        where a.id = $1 and a.status = 'accepted' and a.requested_action_id is null
        "#,
        id
    )
    .fetch_optional(conn)
    .await
}

/// An action of a record by its id, and what the country has said of it.
pub(crate) async fn verdict_on(
    conn: &mut PgConnection,
    record_id: Uuid,
    id: Uuid,
) -> sqlx::Result<Option<(ActionKind, Option<ActionStatus>)>> {
    let found = sqlx::query!(
        r#"
        select a.action as "action: ActionKind",
               (select v.status from record_action v
                where v.requested_action_id = a.id and v.status in ('accepted', 'rejected')) as "verdict: ActionStatus"
        from record_action a
        where a.id = $1 and a.record_id = $2 and a.requested_action_id is null
        "#,
        id,
        record_id
    );
    Ok(found.fetch_optional(conn).await?.map(|a| (a.action, a.verdict)))
}

/// The actions of the same transaction that came after this one and do not wait for the country.
pub(crate) async fn told_after(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<Vec<(Uuid, ActionKind)>> {
    let later = sqlx::query!(
        r#"
        select b.id, b.action as "action: ActionKind"
        from record_action a
        join record_action b on b.record_id = a.record_id and b.transaction_id = a.transaction_id and b.ordinal > a.ordinal
        where a.id = $1 and b.status = 'accepted' and b.requested_action_id is null
        order by b.ordinal
        "#,
        id
    );
    Ok(later.fetch_all(conn).await?.into_iter().map(|a| (a.id, a.action)).collect())
}

/// Who began a record, and the scopes that they had then.
pub(crate) async fn beginner(conn: &mut PgConnection, record_id: Uuid) -> sqlx::Result<Option<(String, Vec<String>)>> {
    let first = sqlx::query!(
        "select created_by, scopes from record_action where record_id = $1 order by ordinal limit 1",
        record_id
    );
    Ok(first.fetch_optional(conn).await?.map(|a| (a.created_by, a.scopes)))
}

/// The newest requested action of a record.
pub(crate) async fn newest_requested(conn: &mut PgConnection, record_id: Uuid) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar!(
        "select id from record_action where record_id = $1 and status = 'requested' order by ordinal desc limit 1",
        record_id
    )
    .fetch_optional(conn)
    .await
}

/// Starts (or, with `None`, ends) the wait for a callback: `due_in` seconds from now.
pub(crate) async fn await_callback(conn: &mut PgConnection, id: Uuid, due_in: Option<f64>) -> sqlx::Result<()> {
    sqlx::query!(
        "update record_action set callback_due_at = now() + make_interval(secs => $2) where id = $1",
        id,
        due_in
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Ends the wait of an overdue action and counts the redelivery.
pub(crate) async fn count_redelivery(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<()> {
    sqlx::query!("update record_action set callback_due_at = null, redeliveries = redeliveries + 1 where id = $1", id)
        .execute(conn)
        .await
        .map(drop)
}

/// Actions whose promised callback did not come in time, the longest overdue first.
pub(crate) async fn overdue(conn: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        "select id from record_action where callback_due_at <= now() order by callback_due_at limit $1",
        limit
    )
    .fetch_all(conn)
    .await
}

/// How many promised callbacks did not come in time, or had to be asked for again and are awaited still; looks at the
/// 10,000 that are due first.
pub(crate) async fn count_overdue(conn: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"
        select count(*) as "overdue!"
        from (select callback_due_at, redeliveries from record_action
              where callback_due_at is not null order by callback_due_at limit 10000) awaited
        where callback_due_at <= now() or redeliveries > 0
        "#
    )
    .fetch_one(conn)
    .await
}

/// Whether a promised callback is overdue; read again under the record's lock.
pub(crate) async fn is_overdue(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select coalesce(callback_due_at <= now(), false) as "overdue!" from record_action where id = $1"#,
        id
    )
    .fetch_optional(conn)
    .await
    .map(|found| found.unwrap_or(false))
}

/// An action as the record's readers see it.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub id: Uuid,
    pub transaction_id: String,
    pub action: ActionKind,
    pub status: ActionStatus,
    pub version: i32,
    pub record_status: Status,
    pub registration_number: Option<String>,
    pub reason: Option<String>,
    pub comment: Option<String>,
    pub created_by: String,
    pub created_at: OffsetDateTime,
    pub callback_due_at: Option<OffsetDateTime>,
}

/// The actions of a record, in order.
pub(crate) async fn of_record(conn: &mut PgConnection, record_id: Uuid) -> sqlx::Result<Vec<Row>> {
    sqlx::query_as!(
        Row,
        r#"
        select id, transaction_id, action as "action: ActionKind", status as "status: ActionStatus", version,
               record_status as "record_status: Status", registration_number, reason, comment, created_by, created_at, callback_due_at
        from record_action where record_id = $1 order by ordinal
        "#,
        record_id
    )
    .fetch_all(conn)
    .await
}

/// An action as an event document shows it.
#[derive(Debug)]
pub(crate) struct Documented {
    pub id: Uuid,
    pub transaction_id: String,
    pub action: ActionKind,
    pub status: ActionStatus,
    pub requested_action_id: Option<Uuid>,
    pub registration_number: Option<String>,
    /// There if this action changed it.
    pub declaration: Option<Box<RawValue>>,
    pub annotation: Option<Box<RawValue>>,
    pub reason: Option<String>,
    pub created_by: String,
    pub scopes: Vec<String>,
    pub created_at: OffsetDateTime,
}

/// The actions of a record in order, up to one of them if it is given.
pub(crate) async fn documented(
    conn: &mut PgConnection,
    record_id: Uuid,
    until: Option<Uuid>,
) -> sqlx::Result<Vec<Documented>> {
    let rows = sqlx::query!(
        r#"
        select a.id, a.transaction_id, a.action as "action: ActionKind", a.status as "status: ActionStatus", a.requested_action_id,
               a.registration_number, a.annotation::text, a.reason, a.created_by, a.scopes, a.created_at,
               case when lag(a.version) over (order by a.ordinal) is distinct from a.version then v.declaration::text end as declaration
        from record_action a
        left join record_version v on v.record_id = a.record_id and v.version = a.version
        where a.record_id = $1 and a.ordinal <= coalesce((select ordinal from record_action where id = $2), 9223372036854775807)
        order by a.ordinal
        "#,
        record_id,
        until
    );
    let raw =
        |text: Option<String>| text.map(RawValue::from_string).transpose().map_err(|e| sqlx::Error::Decode(e.into()));
    let read = rows.fetch_all(conn).await?.into_iter().map(|a| {
        Ok(Documented {
            id: a.id,
            transaction_id: a.transaction_id,
            action: a.action,
            status: a.status,
            requested_action_id: a.requested_action_id,
            registration_number: a.registration_number,
            declaration: raw(a.declaration)?,
            annotation: raw(a.annotation)?,
            reason: a.reason,
            created_by: a.created_by,
            scopes: a.scopes,
            created_at: a.created_at,
        })
    });
    read.collect()
}

/// What a message is rendered from: facts that never change, so that every attempt has the same bytes.
#[derive(Clone, Debug)]
pub struct Source {
    /// The action.
    pub action_id: Uuid,
    /// The record.
    pub record_id: Uuid,
    /// `birth`, `death`, …
    pub event: String,
    /// The record's tracking id.
    pub tracking_id: String,
    /// The client's transaction id.
    pub transaction_id: String,
    /// What was done.
    pub action: ActionKind,
    /// With what result.
    pub action_status: ActionStatus,
    /// The record's status after it.
    pub record_status: Status,
    /// The number given with it.
    pub registration_number: Option<String>,
    /// The record's version as of it.
    pub version: i32,
    /// Who did it.
    pub created_by: String,
    /// When.
    pub created_at: OffsetDateTime,
    /// Whether the record still awaits the verdict on this action. The only thing that changes; not rendered.
    pub awaited: bool,
    /// The declaration of that version, as the text that was stored, if it was asked for.
    pub declaration: Option<String>,
}

/// Reads the sources of messages, with their declarations or without.
pub(crate) async fn sources(
    conn: &mut PgConnection,
    actions: &[Uuid],
    with_declarations: bool,
) -> sqlx::Result<Vec<Source>> {
    sqlx::query_as!(
        Source,
        r#"
        select a.id as action_id, a.record_id, r.event, r.tracking_id, a.transaction_id, a.action as "action: ActionKind",
               a.status as "action_status: ActionStatus", a.record_status as "record_status: Status", a.registration_number,
               a.version, a.created_by, a.created_at, coalesce(r.awaiting_action_id = a.id, false) as "awaited!",
               case when $2 then (select v.declaration::text from record_version v
                                  where v.record_id = a.record_id and v.version = a.version) end as declaration
        from record_action a
        join record r on r.id = a.record_id
        where a.id = any ($1)
        "#,
        actions,
        with_declarations,
    )
    .fetch_all(conn)
    .await
}
