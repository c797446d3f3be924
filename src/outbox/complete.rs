//! The end of a lease: every way a delivery can end, fenced by the number it was claimed with (P6).
//!
//! Whatever finishes or dies leaves a hint in `change` for who caused it, each time and not only the last: two that
//! finish the last two of a transaction at once do not see each other.

use std::time::Duration;

use sqlx::PgConnection;
use uuid::Uuid;

use super::Claimed;
use super::promote::{Freed, promote};

/// How a delivery ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The destination took it, or its verdict stands.
    Delivered,
    /// To be tried again after so long.
    Retry(Duration),
    /// Not to be tried again until an operator says so.
    Dead,
    /// Cut short by ourselves (shutdown, no token, no database): counts for nothing, to be tried again after so long.
    Released(Duration),
}

/// What is written about a delivery.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The message.
    pub id: i64,
    /// The fencing number it was claimed with.
    pub lease: i64,
    /// How it ended.
    pub outcome: Outcome,
    /// HTTP status of the answer, if there was one.
    pub status: Option<u16>,
    /// Class of the failure, if it failed.
    pub error: Option<&'static str>,
    /// Whether the answer was a refusal that may pass (401, 409): starts or continues its clock.
    pub refused: bool,
    /// How long the exchange took; `None` if there was none.
    pub duration: Option<Duration>,
}

impl Settlement {
    /// A settlement of `message` without an exchange.
    pub fn without_exchange(message: &Claimed, outcome: Outcome) -> Self {
        Self {
            id: message.id,
            lease: message.lease,
            outcome,
            status: None,
            error: None,
            refused: false,
            duration: None,
        }
    }
}

/// Settles deliveries, in the caller's transaction; returns the ids that were settled. One that is missing
/// lost its lease: somebody else owns it now and nothing of it was written. Two statements, whatever there is to settle: the
/// second one promotes, which has to see what was added while the first one waited.
pub async fn complete(conn: &mut PgConnection, worker: Uuid, settlements: &[Settlement]) -> sqlx::Result<Vec<i64>> {
    let mut settlements: Vec<&Settlement> = settlements.iter().collect();
    // Rows are locked one after the other, in the order given: that of ids, here as everywhere.
    settlements.sort_unstable_by_key(|s| s.id);
    if settlements.is_empty() {
        return Ok(Vec::new());
    }
    let settled = if settlements.iter().all(|s| s.outcome == Outcome::Delivered) {
        finish(conn, worker, &settlements).await?
    } else {
        settle(conn, worker, &settlements).await?
    };
    let ids = settled.iter().map(|s| s.id).collect();
    let freed: Vec<Freed> = settled.into_iter().filter(|s| s.frees).map(Freed::from).collect();
    promote(conn, &freed).await?;
    Ok(ids)
}

/// Finishes the unleased messages of an action as `delivered` without an exchange: their purpose is fulfilled,
/// for example because the verdict they ask for stands. Leased ones are left to their worker.
pub async fn finish_unleased(conn: &mut PgConnection, action_id: Uuid, kind: &str) -> sqlx::Result<usize> {
    let done = sqlx::query_as!(
        Settled,
        r#"
        with mine as materialized (
            select id from outbox_message
            where action_id = $1 and kind = $2 and state <> 'delivering'
            order by id
            for update
        ), gone as (
            delete from outbox_message m using mine where m.id = any (array[mine.id]) and m.state <> 'delivering' returning m.*
        ), kept as (
            insert into outbox_history (id, state, destination, kind, transaction_id, record_id, action_id, attempt, rescues,
                                        redelivery, last_status, last_error, lease, initiator_id, created_at)
            select id, 'delivered', destination, kind, transaction_id, record_id, action_id, attempt, rescues,
                   redelivery, last_status, last_error, lease, initiator_id, created_at
            from gone
        ), told_of as (
            insert into change (principal_id, record_id, action_id)
            select distinct coalesce(owner_id, initiator_id), record_id, action_id from gone
        )
        select id as "id!", destination as "destination!", record_id as "record_id!", true as "frees!" from gone
        "#,
        action_id,
        kind,
    )
    .fetch_all(&mut *conn)
    .await?;
    let count = done.len();
    let freed: Vec<Freed> = done.into_iter().map(Freed::from).collect();
    promote(conn, &freed).await?;
    Ok(count)
}

struct Settled {
    id: i64,
    destination: String,
    record_id: Uuid,
    /// Whether the next of its record may go: it is finished, or set aside.
    frees: bool,
}

impl From<Settled> for Freed {
    fn from(settled: Settled) -> Self {
        Self { record_id: settled.record_id, destination: settled.destination }
    }
}

/// Moves messages to the history, one after the other in the order given, each found by [its id alone](super): on connections
/// whose plans are pinned, as workers' are.
async fn finish(conn: &mut PgConnection, worker: Uuid, done: &[&Settlement]) -> sqlx::Result<Vec<Settled>> {
    let ids: Vec<i64> = done.iter().map(|s| s.id).collect();
    let leases: Vec<i64> = done.iter().map(|s| s.lease).collect();
    let statuses: Vec<Option<i16>> = done.iter().map(|s| small(s.status)).collect();
    let errors: Vec<Option<&str>> = done.iter().map(|s| s.error).collect();
    let durations: Vec<Option<f64>> = done.iter().map(|s| s.duration.map(|d| d.as_secs_f64())).collect();
    sqlx::query_as!(
        Settled,
        r#"
        with gone as (
            delete from outbox_message m
            using unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::text[], $5::float8[]) as told (id, lease, status, error, duration)
            where m.id = any (array[told.id]) and m.lease = told.lease and m.state = 'delivering'
            returning m.*, told.status as now_status, told.error as now_error, told.duration as now_duration
        ), kept as (
            insert into outbox_history (id, state, destination, kind, transaction_id, record_id, action_id, attempt, rescues,
                                        redelivery, last_status, last_error, duration, lease, worker_id, initiator_id, created_at)
            -- what was never sent burns no attempt
            select id, 'delivered', destination, kind, transaction_id, record_id, action_id,
                   attempt - (now_duration is null)::int, rescues, redelivery, now_status, now_error, make_interval(secs => now_duration), lease, $6, initiator_id, created_at
            from gone
        ), told_of as (
            insert into change (principal_id, record_id, action_id)
            select distinct coalesce(owner_id, initiator_id), record_id, action_id from gone
        )
        select id as "id!", destination as "destination!", record_id as "record_id!", true as "frees!" from gone
        "#,
        &ids,
        &leases,
        &statuses as &[Option<i16>],
        &errors as &[Option<&str>],
        &durations as &[Option<f64>],
        worker,
    )
    .fetch_all(conn)
    .await
}

/// Settles what ended in different ways: moves messages to the history, gives others back to the queue with the attempt that
/// failed, lays others to rest; those where the dead are set aside, aside.
///
/// All are held first, in the order of ids. What leaves the front – is delivered, or set aside – is held so that it waits
/// for whoever adds one behind it, who is then seen by the promotion.
#[expect(clippy::too_many_lines, reason = "it is one statement, and is read as one")]
async fn settle(conn: &mut PgConnection, worker: Uuid, all: &[&Settlement]) -> sqlx::Result<Vec<Settled>> {
    let ids: Vec<i64> = all.iter().map(|s| s.id).collect();
    let leases: Vec<i64> = all.iter().map(|s| s.lease).collect();
    let outcomes: Vec<&str> = all.iter().map(|s| word(&s.outcome)).collect();
    let delays: Vec<f64> = all.iter().map(|s| delay(&s.outcome)).collect();
    let statuses: Vec<Option<i16>> = all.iter().map(|s| small(s.status)).collect();
    let errors: Vec<Option<&str>> = all.iter().map(|s| s.error).collect();
    let refused: Vec<bool> = all.iter().map(|s| s.refused).collect();
    let durations: Vec<Option<f64>> = all.iter().map(|s| s.duration.map(|d| d.as_secs_f64())).collect();
    sqlx::query_as!(
        Settled,
        r#"
        with told as materialized (
            select m.id, m.aside, t.outcome, t.delay, t.status, t.error, t.refused, t.duration
            from unnest($1::bigint[], $2::bigint[], $3::text[], $4::float8[], $5::smallint[], $6::text[], $7::bool[], $8::float8[])
                 as t (id, lease, outcome, delay, status, error, refused, duration)
            cross join lateral (
                select * from (
                    select m.id, t.outcome = 'dead' as aside from outbox_message m
                    where m.id = t.id and m.lease = t.lease and m.state = 'delivering'
                      and (t.outcome = 'delivered'
                           or (t.outcome = 'dead' and (select d.on_dead from destination d where d.name = m.destination) = 'skip'))
                    for update
                ) leaving
                union all
                select * from (
                    select m.id, false as aside from outbox_message m
                    where m.id = t.id and m.lease = t.lease and m.state = 'delivering'
                      and (t.outcome in ('retry', 'released')
                           or (t.outcome = 'dead' and (select d.on_dead from destination d where d.name = m.destination) is distinct from 'skip'))
                    for no key update
                ) staying
            ) m
        ), gone as (
            delete from outbox_message m using told
            where m.id = any (array[told.id]) and told.outcome = 'delivered'
            returning m.*, told.status as now_status, told.error as now_error, told.duration as now_duration
        ), kept as (
            insert into outbox_history (id, state, destination, kind, transaction_id, record_id, action_id, attempt, rescues,
                                        redelivery, last_status, last_error, duration, lease, worker_id, initiator_id, created_at)
            select id, 'delivered', destination, kind, transaction_id, record_id, action_id,
                   attempt - (now_duration is null)::int, rescues, redelivery, now_status, now_error, make_interval(secs => now_duration), lease, $9, initiator_id, created_at
            from gone
        ), back as (
            update outbox_message m
            set state = case when told.outcome = 'dead' then 'dead' else 'retrying' end::message_state,
                skipped = told.aside,
                -- what was never sent burns no attempt, whatever becomes of it
                attempt = m.attempt - (told.outcome = 'released' or (told.outcome = 'dead' and told.duration is null))::int,
                available_at = now() + make_interval(secs => told.delay),
                refused_since = case when told.outcome = 'released' then m.refused_since
                                     when told.refused then coalesce(m.refused_since, now()) end,
                last_status = case when told.outcome = 'released' then coalesce(told.status, m.last_status) else told.status end,
                last_error = case when told.outcome = 'released' then coalesce(told.error, m.last_error) else told.error end,
                lease_holder = null, lease_until = null
            from told
            where m.id = any (array[told.id]) and told.outcome <> 'delivered'
            returning m.id, m.lease, m.destination, m.record_id, m.skipped, m.attempt + (told.outcome = 'released' or (told.outcome = 'dead' and told.duration is null))::int as attempt,
                      told.outcome, told.status, told.error, told.duration, m.initiator_id, m.owner_id, m.action_id
        ), logged as (
            insert into outbox_attempt (message_id, attempt, outcome, destination, status, error, duration, lease, worker_id)
            select id, attempt, outcome::attempt_outcome, destination, status, error, make_interval(secs => duration), lease, $9
            from back
        ), told_of as (
            insert into change (principal_id, record_id, action_id)
            select coalesce(owner_id, initiator_id), record_id, action_id from gone
            union
            select coalesce(owner_id, initiator_id), record_id, action_id from back where outcome = 'dead'
        )
        select id as "id!", destination as "destination!", record_id as "record_id!", true as "frees!" from gone
        union all
        select id, destination, record_id, skipped from back
        "#,
        &ids,
        &leases,
        &outcomes as &[&str],
        &delays,
        &statuses as &[Option<i16>],
        &errors as &[Option<&str>],
        &refused,
        &durations as &[Option<f64>],
        worker,
    )
    .fetch_all(conn)
    .await
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Delivered => "delivered",
        Outcome::Retry(_) => "retry",
        Outcome::Dead => "dead",
        Outcome::Released(_) => "released",
    }
}

fn delay(outcome: &Outcome) -> f64 {
    match outcome {
        Outcome::Retry(after) | Outcome::Released(after) => after.as_secs_f64(),
        Outcome::Delivered | Outcome::Dead => 0.0,
    }
}

fn small(status: Option<u16>) -> Option<i16> {
    status.and_then(|s| i16::try_from(s).ok())
}
