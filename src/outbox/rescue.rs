//! Leases: taking messages back from the dead. Claims of dead workers are found in `outbox_claim`, and their messages by
//! their ids: nothing is indexed that each claim would have to write.

use sqlx::PgConnection;
use uuid::Uuid;

use super::MessageState;
use super::promote::{Freed, promote};

/// What a rescue found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rescued {
    /// Given back to be tried again at once.
    pub retrying: usize,
    /// Over the limit: a message that kills its worker must not kill them all.
    pub dead: usize,
}

/// Whether there is a lost claim: its hard end has passed or its worker's heartbeat is older than two intervals.
pub async fn is_any_lost(conn: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        select exists (
            select from outbox_claim c
            where c.lease_until <= now()
               or not exists (select from worker w where w.id = c.worker_id and w.heartbeat_at > now() - 2 * w.interval)
        ) as "lost!"
        "#
    )
    .fetch_one(conn)
    .await
}

/// Takes back every lease whose hard end has passed or whose worker's heartbeat is older than two intervals, in the
/// caller's transaction. A message that was rescued `max_rescues` times already becomes `dead`.
pub async fn rescue(conn: &mut PgConnection, max_rescues: i32) -> sqlx::Result<Rescued> {
    let aside = hold_front(&mut *conn, max_rescues).await?;
    let rows = sqlx::query_as!(
        Row,
        r#"
        with lost as materialized (
            select c.lease, c.worker_id, i.id
            from outbox_claim c
            left join worker w on w.id = c.worker_id
            cross join lateral unnest(c.message_ids) as i (id)
            where c.lease_until <= now() or w.id is null or w.heartbeat_at <= now() - 2 * w.interval
            order by i.id
        ), held as materialized (
            select m.id, lost.worker_id
            from lost
            cross join lateral (
                select m.id from outbox_message m
                -- the fence: one that was settled, and perhaps claimed anew since, has another number or none
                where m.id = lost.id and m.lease = lost.lease and m.state = 'delivering'
                  -- one that is to be set aside while somebody adds behind it is left to the next turn
                  and (m.rescues < $1 or m.id = any ($2)
                       or coalesce((select d.on_dead from destination d where d.name = m.destination), 'hold') = 'hold')
                for no key update skip locked
            ) m
        ), freed as (
            update outbox_message m
            set state = case when m.rescues >= $1 then 'dead' else 'retrying' end::message_state,
                skipped = m.id = any ($2),
                rescues = m.rescues + 1, available_at = now(), last_status = null, last_error = 'lease-expired',
                lease_holder = null, lease_until = null
            from held
            where m.id = any (array[held.id])
            returning m.id, m.attempt, m.destination, m.record_id, m.lease, held.worker_id, m.state, m.skipped,
                      m.initiator_id, m.owner_id, m.action_id
        ), told_of as (
            insert into change (principal_id, record_id, action_id)
            select distinct coalesce(owner_id, initiator_id), record_id, action_id from freed where state = 'dead'
        ), logged as (
            insert into outbox_attempt (message_id, attempt, outcome, destination, error, lease, worker_id)
            select id, attempt, 'lease_expired', destination, 'lease-expired', lease, worker_id from freed
        )
        select destination as "destination!", record_id as "record_id!", state as "state!: MessageState", skipped as "skipped!"
        from freed
        "#,
        max_rescues,
        &aside,
    )
    .fetch_all(&mut *conn)
    .await?;
    let dead = rows.iter().filter(|r| r.state == MessageState::Dead).count();
    let rescued = Rescued { retrying: rows.len() - dead, dead };
    let aside: Vec<Freed> = rows.into_iter().filter(|r| r.skipped).map(Freed::from).collect();
    promote(conn, &aside).await?;
    forget_lost(conn).await?;
    Ok(rescued)
}

/// Forgets lost claims of which nothing is held any more. Messages that somebody had locked keep theirs for the next turn.
async fn forget_lost(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        delete from outbox_claim where lease = any (array(
            select c.lease
            from outbox_claim c
            where (c.lease_until <= now()
                   or not exists (select from worker w where w.id = c.worker_id and w.heartbeat_at > now() - 2 * w.interval))
              and (select m.id from outbox_message m
                   where m.id = any (c.message_ids) and m.lease = c.lease and m.state = 'delivering'
                   limit 1) is null
            -- one that its worker forgets at this moment needs nobody else
            for update skip locked
        ))
        "#
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Writes down claims of which nothing is written, so that they can be found when they are lost: those of releases before
/// there was `outbox_claim`, which may still run beside this one. Reads all messages; returns how many claims it found.
pub async fn find_unwritten(conn: &mut PgConnection) -> sqlx::Result<u64> {
    sqlx::query!(
        r#"
        insert into outbox_claim (lease, worker_id, destination, lease_until, message_ids)
        select m.lease, m.lease_holder, m.destination, m.lease_until, array_agg(m.id)
        from outbox_message m
        where m.state = 'delivering' and not exists (select from outbox_claim c where c.lease = m.lease)
        group by m.lease, m.lease_holder, m.destination, m.lease_until
        on conflict (lease) do nothing
        "#
    )
    .execute(conn)
    .await
    .map(|done| done.rows_affected())
}

/// Holds what is about to be set aside, unless somebody is adding a message behind it at this moment: it lets the next of
/// its record go, and could not see that one.
async fn hold_front(conn: &mut PgConnection, max_rescues: i32) -> sqlx::Result<Vec<i64>> {
    sqlx::query_scalar!(
        r#"
        with lost as materialized (
            select c.lease, i.id
            from outbox_claim c
            join destination d on d.name = c.destination and d.on_dead = 'skip'
            left join worker w on w.id = c.worker_id
            cross join lateral unnest(c.message_ids) as i (id)
            where c.lease_until <= now() or w.id is null or w.heartbeat_at <= now() - 2 * w.interval
            order by i.id
        )
        select m.id
        from lost
        cross join lateral (
            select m.id from outbox_message m
            where m.id = lost.id and m.lease = lost.lease and m.state = 'delivering' and m.rescues >= $1
            for update skip locked
        ) m
        "#,
        max_rescues
    )
    .fetch_all(conn)
    .await
}

struct Row {
    destination: String,
    record_id: Uuid,
    state: MessageState,
    skipped: bool,
}

impl From<Row> for Freed {
    fn from(row: Row) -> Self {
        Self { record_id: row.record_id, destination: row.destination }
    }
}
