//! Leases: taking messages to deliver.
//!
//! One statement, so nothing stays locked. A claim has one fencing number for all that it takes and one row in
//! `outbox_claim`, by which the rescuer finds it; its messages change in place, without a write to any index. Whether a
//! destination may be sent to at all – its pause, its circuit, its rate limit – is decided inside it.

use std::time::Duration;

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::Claimed;

/// What a lane asks for.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The destination.
    pub destination: &'a str,
    /// Who takes the leases.
    pub worker: Uuid,
    /// Messages at most.
    pub limit: u16,
    /// How many of them may be retries. They take half of the room at most while fresh ones wait; where there is room for
    /// one, fresh and old take turns by chance.
    pub retries: u16,
    /// The hard end of the leases.
    pub lease: Duration,
    /// Where to begin to look.
    pub from: Floor,
    /// Earlier claims of which every message is settled: they are forgotten.
    pub over: &'a [i64],
}

/// Where a claim begins to look: behind it lies what was taken already.
///
/// A hint. What was accepted by a slow transaction, or given back with an early date, can lie behind a floor: look from
/// the start ([`Floor::default`]) now and then. Without a floor each claim would walk over all entries of taken messages
/// that a long transaction elsewhere keeps from being cleaned up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floor {
    /// Fresh messages: positions above this.
    pub position: i64,
    /// Retries: due after this.
    pub due_after: OffsetDateTime,
}

impl Default for Floor {
    fn default() -> Self {
        Self { position: 0, due_after: OffsetDateTime::UNIX_EPOCH }
    }
}

/// Places behind the last one taken that are looked at again: more than what a transaction of shared submissions takes
/// before it commits.
const POSITION_SLACK: i64 = 1000;
/// The same for retries, in the time that a settlement may take to commit.
const DUE_SLACK: Duration = Duration::from_secs(30);

/// Messages taken, and what the destination's state is.
#[derive(Debug)]
pub struct Batch {
    /// The messages, in order of acceptance.
    pub messages: Vec<Claimed>,
    /// Whether the circuit is closed and nothing has failed lately.
    pub clean: bool,
    /// Whether there may be more, that a limit left behind.
    pub full: bool,
    /// When the destination may be asked again, if it may not be sent to now: its circuit is open or its rate is spent.
    pub wait: Option<Duration>,
    /// Where the next claim should begin.
    pub next: Floor,
}

/// Leases up to `limit` messages: due retries first, but no more than allowed, then fresh ones in order of their
/// positions. Nothing of a paused destination; one message, the probe, where an open circuit's time has come; no more
/// than the rate limit leaves.
#[expect(clippy::too_many_lines, reason = "it is one statement, and is read as one")]
pub async fn claim(conn: &mut PgConnection, ask: &Ask<'_>) -> sqlx::Result<Batch> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        with locked as materialized (
            -- only where the claim has to write down what it takes: others read without waiting
            select d.name, d.paused_at, d.circuit, d.circuit_failures, d.circuit_probe_at, d.rate_limit,
                   least(greatest(d.rate_limit, 1), d.rate_tokens + d.rate_limit
                       * greatest(extract(epoch from clock_timestamp() - d.rate_at), 0)::float8) as tokens
            from destination d
            where d.name = $1 and (d.rate_limit is not null or d.circuit <> 'closed')
            for no key update
        ), state as materialized (
            select * from locked
            union all
            select d.name, d.paused_at, d.circuit, d.circuit_failures, d.circuit_probe_at, null, null
            from destination d
            where d.name = $1 and not exists (select from locked)
        ), gate as materialized (
            select s.*, case when s.paused_at is not null then 0
                             when s.tokens < 1 then 0
                             when s.circuit = 'closed' then least(coalesce(floor(s.tokens)::int, $3::int), $3::int)
                             when s.circuit_probe_at <= clock_timestamp() then 1
                             else 0 end as room
            from state s
        ), coin as materialized (
            select (select room from gate) = 1 and random() < 0.5 as fresh_first
        ), due as materialized (
            select id from outbox_message
            where destination = $1 and base_state = 'retrying' and state = 'retrying' and available_at > $6 and available_at <= now()
              and (select room from gate) > 0
            order by available_at, id
            limit $4::int
            for no key update skip locked
        ), numbered as materialized (
            -- half of the room is for fresh messages, if there are any
            select id, row_number() over () <= ((select room from gate) + 1) / 2 and not (select fresh_first from coin) as first
            from due
        ), fresh as materialized (
            select id from outbox_message
            where destination = $1 and base_state = 'queued' and state = 'queued' and position > $7
              and (select room from gate) > 0
            order by position
            limit $3::int
            for no key update skip locked
        ), picked as materialized (
            select id, true as old from numbered where first
            union all
            select id, false from fresh
            union all
            select id, true from numbered where not first
            limit (select room from gate)
        ), number as materialized (
            select nextval('outbox_lease') as lease, now() + make_interval(secs => $5) as until where exists (select from picked)
        ), taken as (
            update outbox_message m
            set state = 'delivering', attempt = attempt + 1, lease = number.lease, lease_holder = $2, lease_until = number.until
            from picked, number
            where m.id = any (array[picked.id])
            returning m.id, m.position, m.available_at, m.lease, m.kind, m.transaction_id, m.record_id, m.action_id, m.attempt,
                      m.rescues, m.redelivery,
                      extract(epoch from now() - m.refused_since)::float8 as refused_for,
                      m.initiator_id, m.initiator_scopes, m.traceparent, picked.old
        ), held as (
            insert into outbox_claim (lease, worker_id, destination, lease_until, message_ids)
            select number.lease, $2, $1, number.until, array(select id from taken)
            from number
            where exists (select from taken)
        ), over as (
            delete from outbox_claim where lease = any ($8)
        ), noted as (
            update destination d
            set rate_tokens = case when g.tokens is null then d.rate_tokens else g.tokens - (select count(*) from picked) end,
                rate_at = case when g.tokens is null then d.rate_at else clock_timestamp() end,
                circuit = case when d.circuit = 'closed' then d.circuit else 'half_open' end,
                circuit_since = case when d.circuit = 'open' then clock_timestamp() else d.circuit_since end,
                circuit_probe_at = case when d.circuit <> 'closed' then clock_timestamp() + make_interval(secs => $5) end
            from gate g
            where d.name = g.name and (g.tokens is not null or g.circuit <> 'closed') and exists (select from picked)
        )
        select g.circuit = 'closed' and g.circuit_failures = 0 as "clean!", g.circuit <> 'closed' as "probe!", now() as "now!", g.room as "room!",
               case when g.paused_at is not null then null
                    when g.circuit <> 'closed' then extract(epoch from g.circuit_probe_at - clock_timestamp())
                    when g.tokens < 1 then (1 - g.tokens) / g.rate_limit end::float8 as wait,
               t.id as "id?", t.position as "position?", t.available_at as "available_at?", t.lease as "lease?", t.kind as "kind?",
               t.transaction_id as "transaction_id?", t.record_id as "record_id?", t.action_id as "action_id?",
               t.attempt as "attempt?", t.rescues as "rescues?", t.redelivery as "redelivery?", t.refused_for as "refused_for?",
               t.initiator_id as "initiator_id?", t.initiator_scopes as "initiator_scopes?", t.traceparent as "traceparent?",
               t.old as "old?"
        from gate g left join taken t on true
        "#,
        ask.destination,
        ask.worker,
        i32::from(ask.limit),
        i32::from(ask.retries.min(ask.limit)),
        ask.lease.as_secs_f64(),
        ask.from.due_after,
        ask.from.position,
        ask.over,
    )
    .fetch_all(conn)
    .await?;
    Ok(batch(ask, rows))
}

/// Forgets claims of which every message is settled.
pub async fn forget(conn: &mut PgConnection, over: &[i64]) -> sqlx::Result<()> {
    sqlx::query!("delete from outbox_claim where lease = any ($1)", over).execute(conn).await.map(drop)
}

fn batch(ask: &Ask<'_>, rows: Vec<Row>) -> Batch {
    let clean = rows.first().is_none_or(|r| r.clean);
    let (now, room) = (rows.first().map(|r| r.now), rows.first().map_or(0, |r| usize::try_from(r.room).unwrap_or(0)));
    let wait = rows.first().and_then(|r| r.wait).map(|s| Duration::from_secs_f64(s.max(0.0)));
    let mut messages: Vec<Claimed> = rows.into_iter().filter_map(Row::message).collect();
    messages.sort_unstable_by_key(|c| c.id);
    let mut next = ask.from;
    if let Some(last) = messages.iter().filter(|m| !m.old).map(|m| m.position).max() {
        next.position = next.position.max(last - POSITION_SLACK);
    }
    // All that was due is taken if no limit cut it short: neither that of retries, nor the room, nor their half of it.
    let old = messages.iter().filter(|m| m.old).count();
    let all_due = old < usize::from(ask.retries) && (messages.len() < room || (room > 1 && old < room.div_ceil(2)));
    if let Some(now) = now.filter(|_| all_due) {
        next.due_after = next.due_after.max(now - DUE_SLACK);
    }
    let wait = wait.filter(|_| messages.is_empty());
    let full = messages.len() >= room || old >= usize::from(ask.retries);
    Batch { messages, clean, full, wait, next }
}

/// The gate's state, and a claimed row if there is one, with the server's intervals still in seconds.
struct Row {
    clean: bool,
    probe: bool,
    now: OffsetDateTime,
    room: i32,
    wait: Option<f64>,
    id: Option<i64>,
    position: Option<i64>,
    available_at: Option<OffsetDateTime>,
    lease: Option<i64>,
    kind: Option<String>,
    transaction_id: Option<String>,
    record_id: Option<Uuid>,
    action_id: Option<Uuid>,
    attempt: Option<i32>,
    rescues: Option<i32>,
    redelivery: Option<i32>,
    refused_for: Option<f64>,
    initiator_id: Option<String>,
    initiator_scopes: Option<Vec<String>>,
    traceparent: Option<String>,
    old: Option<bool>,
}

impl Row {
    /// `None` if the row tells of the gate only.
    fn message(self) -> Option<Claimed> {
        Some(Claimed {
            id: self.id?,
            position: self.position?,
            due_at: self.available_at?,
            lease: self.lease?,
            kind: self.kind?,
            transaction_id: self.transaction_id?,
            record_id: self.record_id?,
            action_id: self.action_id?,
            attempt: self.attempt?,
            rescues: self.rescues?,
            redelivery: self.redelivery?,
            refused_for: self.refused_for.map(|s| Duration::from_secs_f64(s.max(0.0))),
            initiator_id: self.initiator_id?,
            initiator_scopes: self.initiator_scopes?,
            traceparent: self.traceparent,
            old: self.old?,
            probe: self.probe,
        })
    }
}
