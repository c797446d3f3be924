//! Leases: taking messages to deliver, and taking them back from the dead.

use std::time::Duration;

use sqlx::PgConnection;
use uuid::Uuid;

use super::Claimed;

/// Leases up to `limit` messages of a destination to `worker` for at most `lease`: due retries first, but
/// no more than half (of one: every other time), then fresh ones in order of acceptance. Nothing of a paused destination.
/// One statement, so nothing stays locked.
pub async fn claim(
    conn: &mut PgConnection,
    destination: &str,
    worker: Uuid,
    limit: u16,
    lease: Duration,
) -> sqlx::Result<Vec<Claimed>> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        with coin as materialized (
            select $2::int = 1 and random() < 0.5 as fresh_first
        ), due as materialized (
            select id from outbox_message
            where destination = $1 and state = 'retrying' and available_at <= now()
            order by available_at, id
            limit ($2::int + 1) / 2
            for no key update skip locked
        ), fresh as materialized (
            select id from outbox_message
            where destination = $1 and state = 'queued'
            order by id
            limit $2::int
            for no key update skip locked
        ), picked as materialized (
            select id from due where not (select fresh_first from coin)
            union all
            select id from fresh
            union all
            select id from due where (select fresh_first from coin)
            limit $2::int
        )
        update outbox_message m
        set state = 'delivering', attempt = attempt + 1, lease = nextval('outbox_lease'),
            lease_holder = $3, lease_until = now() + make_interval(secs => $4)
        from picked
        where m.id = picked.id
          and not exists (select from destination d where d.name = $1 and d.paused_at is not null)
        returning m.id, m.lease as "lease!", m.kind, m.transaction_id, m.record_id, m.action_id, m.attempt, m.redelivery,
                  extract(epoch from now() - m.refused_since)::float8 as refused_for,
                  m.initiator_id, m.initiator_scopes, m.traceparent
        "#,
        destination,
        i32::from(limit),
        worker,
        lease.as_secs_f64(),
    )
    .fetch_all(conn)
    .await?;
    let mut claimed: Vec<Claimed> = rows.into_iter().map(Claimed::from).collect();
    claimed.sort_unstable_by_key(|c| c.id);
    Ok(claimed)
}

/// A claimed row, with the server's intervals still in seconds.
struct Row {
    id: i64,
    lease: i64,
    kind: String,
    transaction_id: String,
    record_id: Uuid,
    action_id: Uuid,
    attempt: i32,
    redelivery: i32,
    refused_for: Option<f64>,
    initiator_id: String,
    initiator_scopes: Vec<String>,
    traceparent: Option<String>,
}

impl From<Row> for Claimed {
    fn from(r: Row) -> Self {
        Self {
            id: r.id,
            lease: r.lease,
            kind: r.kind,
            transaction_id: r.transaction_id,
            record_id: r.record_id,
            action_id: r.action_id,
            attempt: r.attempt,
            redelivery: r.redelivery,
            refused_for: r.refused_for.map(|s| Duration::from_secs_f64(s.max(0.0))),
            initiator_id: r.initiator_id,
            initiator_scopes: r.initiator_scopes,
            traceparent: r.traceparent,
        }
    }
}

/// What a rescue found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rescued {
    /// Given back to be tried again at once.
    pub retrying: usize,
    /// Over the limit: a message that kills its worker must not kill them all.
    pub dead: usize,
}

/// Takes back every lease whose hard end has passed or whose worker's heartbeat is older than two intervals.
/// A message that was rescued `max_rescues` times already becomes `dead`.
pub async fn rescue(conn: &mut PgConnection, max_rescues: i32) -> sqlx::Result<Rescued> {
    let states = sqlx::query_scalar!(
        r#"
        with lost as materialized (
            select m.id, m.lease_holder
            from outbox_message m
            left join worker w on w.id = m.lease_holder
            where m.state = 'delivering'
              and (m.lease_until <= now() or w.id is null or w.heartbeat_at <= now() - 2 * w.interval)
            order by m.id
            for no key update of m skip locked
        ), freed as (
            update outbox_message m
            set state = case when m.rescues >= $1 then 'dead' else 'retrying' end::message_state,
                rescues = m.rescues + 1, available_at = now(), last_status = null, last_error = 'lease-expired',
                lease_holder = null, lease_until = null
            from lost
            where m.id = lost.id
            returning m.id, m.attempt, m.destination, m.lease, lost.lease_holder as worker_id, m.state
        ), logged as (
            insert into outbox_attempt (message_id, attempt, outcome, destination, error, lease, worker_id)
            select id, attempt, 'lease_expired', destination, 'lease-expired', lease, worker_id from freed
        )
        select state::text as "state!" from freed
        "#,
        max_rescues
    )
    .fetch_all(conn)
    .await?;
    let dead = states.iter().filter(|s| *s == "dead").count();
    Ok(Rescued { retrying: states.len() - dead, dead })
}
