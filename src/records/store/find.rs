//! Pages of the table `record`, a statement per way that its indexes are walked.
//!
//! Each reads, for every pair of event and status asked for, the head of that pair's part of an index, and merges the
//! heads: a page costs at most pairs × its length, however many records there are. A bound that is not asked for is
//! infinite rather than optional, so that one plan is right for all; and the awaited action is looked up row by row, by a
//! scalar subquery, since `exists` would let a plan read all that ever waited.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::record::Row;
use crate::records::model::{ActionKind, Status};

/// As many records of one event and status as are counted.
pub const COUNTED: i64 = 10_000;

/// What a page is of, and where it starts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask<'a> {
    pub events: &'a [String],
    pub statuses: &'a [Status],
    pub created_by: Option<&'a str>,
    /// Seconds since the awaited registration was asked for.
    pub waiting: Option<f64>,
    /// The last record of the page before.
    pub after: Option<(OffsetDateTime, Uuid)>,
    pub limit: i64,
}

/// The newest first.
pub(crate) async fn newest(conn: &mut PgConnection, ask: &Ask<'_>) -> sqlx::Result<Vec<Row>> {
    let (at, id) = ask.after.unzip();
    sqlx::query_as!(
        Row,
        r#"
        select r.id as "id!", r.event as "event!", r.status as "status!: Status", r.tracking_id as "tracking_id!", r.registration_number,
               r.version as "version!", r.awaiting_action_id, r.held_action as "held_action: ActionKind", r.created_by as "created_by!",
               r.created_at as "created_at!", r.updated_at as "updated_at!"
        from unnest($1::text[]) as e (event) cross join unnest($2::record_status[]) as s (status)
        cross join lateral (
            select * from record q
            where q.event = e.event and q.status = s.status
              and (q.created_at, q.id) < (coalesce($3::timestamptz, 'infinity'), coalesce($4, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))
              and q.created_at <= coalesce(now() - make_interval(secs => $5), 'infinity')
              and ($5::float8 is null or (select a.created_at from record_action a where a.id = q.awaiting_action_id) <= now() - make_interval(secs => $5))
            order by q.created_at desc, q.id desc
            limit $6
        ) r
        order by r.created_at desc, r.id desc
        limit $6
        "#,
        ask.events,
        ask.statuses as &[Status],
        at,
        id,
        ask.waiting,
        ask.limit,
    )
    .fetch_all(conn)
    .await
}

/// The oldest first.
pub(crate) async fn oldest(conn: &mut PgConnection, ask: &Ask<'_>) -> sqlx::Result<Vec<Row>> {
    let (at, id) = ask.after.unzip();
    sqlx::query_as!(
        Row,
        r#"
        select r.id as "id!", r.event as "event!", r.status as "status!: Status", r.tracking_id as "tracking_id!", r.registration_number,
               r.version as "version!", r.awaiting_action_id, r.held_action as "held_action: ActionKind", r.created_by as "created_by!",
               r.created_at as "created_at!", r.updated_at as "updated_at!"
        from unnest($1::text[]) as e (event) cross join unnest($2::record_status[]) as s (status)
        cross join lateral (
            select * from record q
            where q.event = e.event and q.status = s.status
              and (q.created_at, q.id) > (coalesce($3::timestamptz, '-infinity'), coalesce($4, '00000000-0000-0000-0000-000000000000'::uuid))
              and q.created_at <= coalesce(now() - make_interval(secs => $5), 'infinity')
              and ($5::float8 is null or (select a.created_at from record_action a where a.id = q.awaiting_action_id) <= now() - make_interval(secs => $5))
            order by q.created_at, q.id
            limit $6
        ) r
        order by r.created_at, r.id
        limit $6
        "#,
        ask.events,
        ask.statuses as &[Status],
        at,
        id,
        ask.waiting,
        ask.limit,
    )
    .fetch_all(conn)
    .await
}

/// One submitter's, the newest first.
pub(crate) async fn newest_of(conn: &mut PgConnection, ask: &Ask<'_>) -> sqlx::Result<Vec<Row>> {
    let (at, id) = ask.after.unzip();
    sqlx::query_as!(
        Row,
        r#"
        select r.id as "id!", r.event as "event!", r.status as "status!: Status", r.tracking_id as "tracking_id!", r.registration_number,
               r.version as "version!", r.awaiting_action_id, r.held_action as "held_action: ActionKind", r.created_by as "created_by!",
               r.created_at as "created_at!", r.updated_at as "updated_at!"
        from unnest($1::text[]) as e (event) cross join unnest($2::record_status[]) as s (status)
        cross join lateral (
            select * from record q
            where q.created_by = $7 and q.event = e.event and q.status = s.status
              and (q.created_at, q.id) < (coalesce($3::timestamptz, 'infinity'), coalesce($4, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))
              and q.created_at <= coalesce(now() - make_interval(secs => $5), 'infinity')
              and ($5::float8 is null or (select a.created_at from record_action a where a.id = q.awaiting_action_id) <= now() - make_interval(secs => $5))
            order by q.created_at desc, q.id desc
            limit $6
        ) r
        order by r.created_at desc, r.id desc
        limit $6
        "#,
        ask.events,
        ask.statuses as &[Status],
        at,
        id,
        ask.waiting,
        ask.limit,
        ask.created_by,
    )
    .fetch_all(conn)
    .await
}

/// One submitter's, the oldest first.
pub(crate) async fn oldest_of(conn: &mut PgConnection, ask: &Ask<'_>) -> sqlx::Result<Vec<Row>> {
    let (at, id) = ask.after.unzip();
    sqlx::query_as!(
        Row,
        r#"
        select r.id as "id!", r.event as "event!", r.status as "status!: Status", r.tracking_id as "tracking_id!", r.registration_number,
               r.version as "version!", r.awaiting_action_id, r.held_action as "held_action: ActionKind", r.created_by as "created_by!",
               r.created_at as "created_at!", r.updated_at as "updated_at!"
        from unnest($1::text[]) as e (event) cross join unnest($2::record_status[]) as s (status)
        cross join lateral (
            select * from record q
            where q.created_by = $7 and q.event = e.event and q.status = s.status
              and (q.created_at, q.id) > (coalesce($3::timestamptz, '-infinity'), coalesce($4, '00000000-0000-0000-0000-000000000000'::uuid))
              and q.created_at <= coalesce(now() - make_interval(secs => $5), 'infinity')
              and ($5::float8 is null or (select a.created_at from record_action a where a.id = q.awaiting_action_id) <= now() - make_interval(secs => $5))
            order by q.created_at, q.id
            limit $6
        ) r
        order by r.created_at, r.id
        limit $6
        "#,
        ask.events,
        ask.statuses as &[Status],
        at,
        id,
        ask.waiting,
        ask.limit,
        ask.created_by,
    )
    .fetch_all(conn)
    .await
}

/// How many records a status has, each event of it counted to [`COUNTED`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count {
    pub status: Status,
    pub records: i64,
    /// Whether one of its events has more than were counted.
    pub more: bool,
}

/// Counts by status. What [`Ask`] says of pages does not matter here.
pub(crate) async fn counts(conn: &mut PgConnection, ask: &Ask<'_>) -> sqlx::Result<Vec<Count>> {
    sqlx::query_as!(
        Count,
        r#"
        select s.status as "status!: Status", sum(least(c.n, $4::bigint))::bigint as "records!", bool_or(c.n > $4) as "more!"
        from unnest($1::text[]) as e (event) cross join unnest($2::record_status[]) as s (status)
        cross join lateral (
            select count(*) as n from (
                select from record q
                where q.event = e.event and q.status = s.status
                  and q.created_at <= coalesce(now() - make_interval(secs => $3), 'infinity')
                  and ($3::float8 is null or (select a.created_at from record_action a where a.id = q.awaiting_action_id) <= now() - make_interval(secs => $3))
                limit $4::bigint + 1) x
        ) c
        group by s.status
        "#,
        ask.events,
        ask.statuses as &[Status],
        ask.waiting,
        COUNTED,
    )
    .fetch_all(conn)
    .await
}

/// One submitter's, counted by status.
pub(crate) async fn counts_of(conn: &mut PgConnection, ask: &Ask<'_>) -> sqlx::Result<Vec<Count>> {
    sqlx::query_as!(
        Count,
        r#"
        select s.status as "status!: Status", sum(least(c.n, $4::bigint))::bigint as "records!", bool_or(c.n > $4) as "more!"
        from unnest($1::text[]) as e (event) cross join unnest($2::record_status[]) as s (status)
        cross join lateral (
            select count(*) as n from (
                select from record q
                where q.created_by = $5 and q.event = e.event and q.status = s.status
                  and q.created_at <= coalesce(now() - make_interval(secs => $3), 'infinity')
                  and ($3::float8 is null or (select a.created_at from record_action a where a.id = q.awaiting_action_id) <= now() - make_interval(secs => $3))
                limit $4::bigint + 1) x
        ) c
        group by s.status
        "#,
        ask.events,
        ask.statuses as &[Status],
        ask.waiting,
        COUNTED,
        ask.created_by,
    )
    .fetch_all(conn)
    .await
}

/// The records of these names: no more than one each.
pub(crate) async fn named(
    conn: &mut PgConnection,
    tracking_id: Option<&str>,
    registration_number: Option<&str>,
    id: Option<Uuid>,
) -> sqlx::Result<Vec<Row>> {
    sqlx::query_as!(
        Row,
        r#"
        select id, event, status as "status: Status", tracking_id, registration_number, version, awaiting_action_id,
               held_action as "held_action: ActionKind", created_by, created_at, updated_at
        from record where tracking_id = $1 or registration_number = $2 or id = $3
        order by created_at, id
        "#,
        tracking_id,
        registration_number,
        id,
    )
    .fetch_all(conn)
    .await
}

/// The newest records whose people have all these trigrams in their names, at most `limit` of them.
pub(crate) async fn of_people(conn: &mut PgConnection, trigrams: &[i32], ask: &Ask<'_>) -> sqlx::Result<Vec<Row>> {
    sqlx::query_as!(
        Row,
        r#"
        select id, event, status as "status: Status", tracking_id, registration_number, version, awaiting_action_id,
               held_action as "held_action: ActionKind", created_by, created_at, updated_at
        from record
        where id in (select m.record_id from record_match m where m.trigrams @> $1)
          and event = any ($2) and status = any ($3) and ($4::text is null or created_by = $4)
        order by created_at desc, id desc
        limit $5
        "#,
        trigrams,
        ask.events,
        ask.statuses as &[Status],
        ask.created_by,
        ask.limit,
    )
    .fetch_all(conn)
    .await
}

/// Whether a requested registration has waited this many seconds.
pub(crate) async fn has_waited(conn: &mut PgConnection, action_id: Uuid, seconds: f64) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from record_action where id = $1 and created_at <= now() - make_interval(secs => $2)) as "waited!""#,
        action_id,
        seconds,
    )
    .fetch_one(conn)
    .await
}
