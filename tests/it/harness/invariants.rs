//! What holds at any moment.

use sqlx::PgPool;

/// What holds at any moment, whatever happened before.
pub(crate) async fn assert_invariants(db: &PgPool) {
    let broken: Vec<(String, i64)> = sqlx::query_as(
        "
        select 'P2: a transaction without its reply', count(*) from client_transaction where reply_body is null
        union all
        select 'P2: a consequence twice', count(*) from (
            select destination, transaction_id, redelivery from (
                select destination, transaction_id, redelivery from outbox_message
                union all select destination, transaction_id, redelivery from outbox_history) m
            group by 1, 2, 3 having count(*) > 1) twice
        union all
        select 'P3: an action without any message', count(*) from record_action a
        where not exists (select from outbox_message m where m.action_id = a.id)
          and not exists (select from outbox_history h where h.action_id = a.id)
          -- what the country says of an action that does not wait for it may have no consequence
          and (a.action = 'register' or a.requested_action_id is null)
        union all
        select 'P5: the first unfinished message of a record and destination is blocked', count(*) from (
            select distinct on (record_id, destination) state from outbox_message where not skipped order by record_id, destination, id) f
        where f.state = 'blocked'
        union all
        select 'P5: a later message overtook an earlier one', count(*) from outbox_message m
        join outbox_history h on h.record_id = m.record_id and h.destination = m.destination and h.id > m.id and h.duration is not null
        where not m.skipped
        union all
        select 'a registered record without exactly one accepted registration', count(*) from record r
        where (r.status = 'registered') <> (select count(*) = 1 from record_action a
              where a.record_id = r.id and a.action = 'register' and a.status = 'accepted')
        union all
        select 'a record whose newest action says another status', count(*) from record r
        where r.status <> (select a.record_status from record_action a where a.record_id = r.id order by a.ordinal desc limit 1)
        union all
        select 'a record without its current version', count(*) from record r
        where not exists (select from record_version v where v.record_id = r.id and v.version = r.version)
        ",
    )
    .fetch_all(db)
    .await
    .unwrap();
    for (what, rows) in broken {
        assert_eq!(rows, 0, "{what}");
    }
}
