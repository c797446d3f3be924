//! Puts messages into the queue, inside the caller's transaction.

use std::collections::HashSet;

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

/// An enabled destination and what it subscribes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    destination: String,
    effects: Vec<String>,
}

impl Subscription {
    /// Of effects with a space between two of them.
    pub fn new(destination: String, effects: &str) -> Self {
        Self { destination, effects: effects.split_ascii_whitespace().map(str::to_owned).collect() }
    }
}

/// A message and where it goes.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'a> {
    /// The message.
    pub message: &'a NewMessage,
    /// Its destination.
    pub destination: &'a str,
    /// `queued`, or `blocked` behind an earlier one of its record.
    pub state: MessageState,
}

/// What [`enqueue`] would make of the messages of new records, for whoever writes them together with those: the destinations
/// in the order given. A second one of the same id for a destination is left out (P2).
pub fn place<'a>(messages: &'a [NewMessage], subscriptions: &'a [Subscription]) -> Vec<Placed<'a>> {
    let (mut ids, mut ahead) = (HashSet::new(), HashSet::new());
    let mut placed = Vec::with_capacity(messages.len());
    for message in messages {
        let is_for = |s: &&Subscription| s.effects.iter().any(|effect| effect == message.effect.as_str());
        for destination in subscriptions.iter().filter(is_for).map(|s| s.destination.as_str()) {
            if ids.insert((destination, message.transaction_id.as_str())) {
                let is_first = ahead.insert((destination, message.record_id));
                let state = if is_first { MessageState::Queued } else { MessageState::Blocked };
                placed.push(Placed { message, destination, state });
            }
        }
    }
    placed
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::Effect;

    fn message(effect: Effect, kind: &'static str, record_id: Uuid) -> NewMessage {
        NewMessage {
            effect,
            kind,
            transaction_id: format!("{kind}__declare_{record_id}"),
            record_id,
            action_id: Uuid::now_v7(),
            initiator_id: "somebody".to_owned(),
            owner_id: None,
            initiator_scopes: Vec::new(),
            traceparent: None,
            redelivery: 0,
        }
    }

    fn subscriptions(all: &[(&str, &str)]) -> Vec<Subscription> {
        all.iter().map(|(destination, effects)| Subscription::new((*destination).to_owned(), effects)).collect()
    }

    fn told<'a>(placed: &[Placed<'a>]) -> Vec<(&'a str, &'a str, MessageState)> {
        placed.iter().map(|p| (p.destination, p.message.kind, p.state)).collect()
    }

    #[test]
    fn who_subscribes_to_two_effects_gets_one_message_of_an_id() {
        let record = Uuid::now_v7();
        let messages = [message(Effect::Metrics, "registered", record), message(Effect::Webhook, "registered", record)];
        let subscriptions = subscriptions(&[("both", "metrics webhook"), ("one", "webhook")]);
        let placed = place(&messages, &subscriptions);
        assert_eq!(
            told(&placed),
            [("both", "registered", MessageState::Queued), ("one", "registered", MessageState::Queued)]
        );
        assert_eq!(placed[0].message.effect, Effect::Metrics, "the first of them");
    }

    #[test]
    fn the_second_message_of_a_record_is_blocked_where_the_first_one_goes_too() {
        let (record, other) = (Uuid::now_v7(), Uuid::now_v7());
        let messages = [
            message(Effect::Audit, "DECLARED", record),
            message(Effect::Search, "index", record),
            message(Effect::Audit, "REGISTERED", record),
            message(Effect::Audit, "DECLARED", other),
        ];
        let subscriptions = subscriptions(&[("audit", "audit"), ("search", "search")]);
        assert_eq!(
            told(&place(&messages, &subscriptions)),
            [
                ("audit", "DECLARED", MessageState::Queued),
                ("search", "index", MessageState::Queued),
                ("audit", "REGISTERED", MessageState::Blocked),
                ("audit", "DECLARED", MessageState::Queued),
            ]
        );
    }

    #[test]
    fn what_is_left_out_blocks_nothing() {
        let (record, other) = (Uuid::now_v7(), Uuid::now_v7());
        let one = message(Effect::Search, "index", record);
        let messages = [one.clone(), NewMessage { record_id: other, ..one }, message(Effect::Search, "again", other)];
        let subscriptions = subscriptions(&[("search", "search")]);
        assert_eq!(
            told(&place(&messages, &subscriptions)),
            [("search", "index", MessageState::Queued), ("search", "again", MessageState::Queued)]
        );
    }

    #[test]
    fn the_order_is_that_of_the_messages_and_then_of_the_destinations() {
        let record = Uuid::now_v7();
        let messages = [message(Effect::Search, "index", record), message(Effect::Audit, "DECLARED", record)];
        // As they are given: the database sorts them, by its own rules.
        let subscriptions = subscriptions(&[("b", "audit search"), ("c", "search"), ("a", "audit")]);
        assert_eq!(
            told(&place(&messages, &subscriptions)),
            [
                ("b", "index", MessageState::Queued),
                ("c", "index", MessageState::Queued),
                ("b", "DECLARED", MessageState::Blocked),
                ("a", "DECLARED", MessageState::Queued),
            ]
        );
    }

    #[test]
    fn what_nobody_subscribes_to_goes_nowhere() {
        let messages = [message(Effect::Trigger, "trigger-declare", Uuid::now_v7())];
        assert_eq!(told(&place(&messages, &subscriptions(&[("search", "search"), ("none", "")]))), []);
        assert_eq!(told(&place(&messages, &[])), []);
        assert_eq!(told(&place(&[], &subscriptions(&[("search", "search")]))), []);
    }
}
