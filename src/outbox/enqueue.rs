//! Puts messages into the queue, inside the caller's transaction.

use std::collections::HashMap;

use sqlx::PgConnection;
use uuid::Uuid;

use super::{MessageState, NewMessage, Queued};

/// Queues each message for every enabled destination that subscribes to its effect, in the order given.
/// A message that is in the queue already is left alone (P2).
///
/// A message is `blocked` if an earlier one of its record and destination is unfinished, else `queued`.
/// For a record that existed before this transaction the caller must hold the record's row lock and
/// have called [`hold_predecessors`].
pub async fn enqueue(conn: &mut PgConnection, messages: &[NewMessage]) -> sqlx::Result<Vec<Queued>> {
    if messages.is_empty() {
        return Ok(Vec::new());
    }
    let effects: Vec<&str> = messages.iter().map(|m| m.effect.as_str()).collect();
    let kinds: Vec<&str> = messages.iter().map(|m| m.kind).collect();
    let transactions: Vec<&str> = messages.iter().map(|m| m.transaction_id.as_str()).collect();
    let records: Vec<Uuid> = messages.iter().map(|m| m.record_id).collect();
    let actions: Vec<Uuid> = messages.iter().map(|m| m.action_id).collect();
    let initiators: Vec<&str> = messages.iter().map(|m| m.initiator_id.as_str()).collect();
    // An array per row cannot go through unnest; a scope holds no space (RFC 6749 §3.3).
    let scopes: Vec<String> = messages.iter().map(|m| m.initiator_scopes.join(" ")).collect();
    let traces: Vec<Option<&str>> = messages.iter().map(|m| m.traceparent.as_deref()).collect();
    let redeliveries: Vec<i32> = messages.iter().map(|m| m.redelivery).collect();
    let owners: Vec<Option<&str>> = messages.iter().map(|m| m.owner_id.as_deref()).collect();
    let mut queued = sqlx::query_as!(
        Queued,
        r#"
        insert into outbox_message (state, destination, kind, transaction_id, record_id, action_id,
                                    initiator_id, initiator_scopes, traceparent, redelivery, owner_id)
        select case
                   when row_number() over (partition by d.name, e.record_id order by e.ordinal) > 1
                     or (select p.id from outbox_message p
                               where p.record_id = e.record_id and p.destination = d.name and not p.skipped limit 1) is not null
                   then 'blocked' else 'queued'
               end::message_state,
               d.name, e.kind, e.transaction_id, e.record_id, e.action_id,
               e.initiator_id, string_to_array(e.initiator_scopes, ' '), e.traceparent, e.redelivery, e.owner_id
        from unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::uuid[], $6::text[], $7::text[], $8::text[], $9::int[], $10::text[])
             with ordinality as e (effect, kind, transaction_id, record_id, action_id,
                                   initiator_id, initiator_scopes, traceparent, redelivery, owner_id, ordinal)
        join destination d on d.enabled and e.effect = any (d.effects)
        order by e.ordinal, d.name
        on conflict (destination, transaction_id) do nothing
        returning id, destination, kind, action_id, state as "state: MessageState"
        "#,
        &effects as &[&str],
        &kinds as &[&str],
        &transactions as &[&str],
        &records,
        &actions,
        &initiators as &[&str],
        &scopes,
        &traces as &[Option<&str>],
        &redeliveries,
        &owners as &[Option<&str>],
    )
    .fetch_all(conn)
    .await?;
    queued.sort_unstable_by_key(|q| q.id);
    Ok(queued)
}

/// Holds every unfinished message of the record, so that none can be finished between our look and our commit:
/// whoever completes one waits for us and then promotes what we added. The caller holds the record's row lock, so
/// none is added meanwhile.
///
/// All of them in one statement and in the order of ids, and before any of them is finished: whoever held a later one
/// and then waited for an earlier one would deadlock with the completion that promotes the later one.
pub async fn hold_predecessors(conn: &mut PgConnection, record_id: Uuid) -> sqlx::Result<()> {
    sqlx::query_scalar!("select id from outbox_message where record_id = $1 order by id for key share", record_id)
        .fetch_all(conn)
        .await
        .map(drop)
}

/// Groups what was queued by the action it is rendered from.
pub fn by_action(queued: Vec<Queued>) -> HashMap<Uuid, Vec<Queued>> {
    let mut groups: HashMap<Uuid, Vec<Queued>> = HashMap::new();
    for q in queued {
        groups.entry(q.action_id).or_default().push(q);
    }
    groups
}
