//! The end of a wait: the next message of a record and destination becomes ready.

use sqlx::PgConnection;
use uuid::Uuid;

/// A record and destination whose first message has just left the front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Freed {
    pub(super) record_id: Uuid,
    pub(super) destination: String,
}

/// Unblocks the next message of each. It takes a new place in the queue, behind those that are ready already. A statement
/// of its own, later than the one that freed the front: it must see what was added while that one waited for a row.
pub(super) async fn promote(conn: &mut PgConnection, freed: &[Freed]) -> sqlx::Result<()> {
    if freed.is_empty() {
        return Ok(());
    }
    let records: Vec<Uuid> = freed.iter().map(|f| f.record_id).collect();
    let destinations: Vec<&str> = freed.iter().map(|f| f.destination.as_str()).collect();
    sqlx::query!(
        r#"
        with next as materialized (
            select n.id
            from (select distinct * from unnest($1::uuid[], $2::text[]) as k (record_id, destination)) k
            cross join lateral (
                -- offset 0: those of the record, not all in the order of their ids until one is of it
                select m.id
                from (select id from outbox_message
                      where record_id = k.record_id and destination = k.destination and base_state = 'blocked'
                      offset 0) m
                order by m.id
                limit 1
            ) n
            -- one that was set aside can go while another of its record is on its way
            where (select a.id from outbox_message a
                   where a.record_id = k.record_id and a.destination = k.destination and a.base_state <> 'blocked' and not a.skipped
                   limit 1) is null
            order by n.id
        )
        update outbox_message m set state = 'queued', available_at = now(), position = nextval('outbox_position')
        from next
        where m.id = any (array[next.id]) and m.state = 'blocked'
        "#,
        &records,
        &destinations as &[&str],
    )
    .execute(conn)
    .await
    .map(drop)
}
