//! What a list of submissions leaves, in two statements whatever its length: the tables `record` and `record_match`, and once
//! it is known how far each goes, `record_version`, `record_action`, `outbox_message`, `change` and the replies in
//! `client_transaction`. A statement per table would be a round trip per table, and most of what a submission costs.
//!
//! The records are new: nothing of theirs is there that could be in the way, and nobody else knows of them yet.

use sqlx::PgConnection;
use time::Date;
use uuid::Uuid;

use super::action::NewAction;
use super::record::NewRecord;
use super::record_match::numbers;
use crate::outbox::MessageState;
use crate::outbox::enqueue::{Placed, Subscription};
use crate::records::duplicates::{Bits, Keys, Rules};
use crate::records::model::{ActionKind, ActionStatus, Status};
use crate::transactions::Saved;

/// What is there before it is known how far each submission goes.
#[derive(Debug)]
pub(crate) struct Begun {
    /// Records whose tracking id was free; the others are to be tried again with another.
    pub inserted: Vec<Uuid>,
    /// How records are compared.
    pub rules: Rules,
    /// Who gets which messages.
    pub subscriptions: Vec<Subscription>,
}

/// Inserts new records at version 1, and what they are compared by.
#[expect(clippy::too_many_lines, reason = "it is one statement, and is read as one")]
pub(crate) async fn begin(conn: &mut PgConnection, records: &[(NewRecord<'_>, &Keys)]) -> sqlx::Result<Begun> {
    let ids: Vec<Uuid> = records.iter().map(|(r, _)| r.id).collect();
    let events: Vec<&str> = records.iter().map(|(r, _)| r.event).collect();
    let statuses: Vec<&str> = records.iter().map(|(r, _)| r.status.as_str()).collect();
    let tracking_ids: Vec<&str> = records.iter().map(|(r, _)| r.tracking_id).collect();
    let awaiting: Vec<Option<Uuid>> = records.iter().map(|(r, _)| r.awaiting_action_id).collect();
    let creators: Vec<&str> = records.iter().map(|(r, _)| r.created_by).collect();
    let days: Vec<Option<Date>> = records.iter().map(|(_, k)| k.face.day).collect();
    let subjects: Vec<Option<String>> = records.iter().map(|(_, k)| k.face.subject.map(Bits::hex)).collect();
    let mothers: Vec<Option<String>> = records.iter().map(|(_, k)| k.face.mother.map(Bits::hex)).collect();
    // An array per row cannot go through unnest; neither an identifier nor a number holds a space.
    let identifiers: Vec<String> = records.iter().map(|(_, k)| k.face.identifiers.join(" ")).collect();
    let names: Vec<&str> = records.iter().map(|(_, k)| k.names.as_str()).collect();
    let trigrams: Vec<String> = records.iter().map(|(_, k)| numbers(&k.trigrams)).collect();
    let begun = sqlx::query!(
        r#"
        with given as materialized (
            select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::text[],
                                 $7::date[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[])
                as r (id, event, status, tracking_id, awaiting_action_id, created_by, day, subject, mother, identifiers, names, trigrams)
        ), fresh as (
            insert into record (id, event, status, tracking_id, version, awaiting_action_id, created_by)
            select id, event, status::record_status, tracking_id, 1, awaiting_action_id, created_by
            from given
            order by tracking_id
            on conflict (tracking_id) do nothing
            returning id
        ), compared as (
            insert into record_match (record_id, event, day, subject, mother, identifiers, names, trigrams)
            select id, event, day, ('x' || subject)::bit(256), ('x' || mother)::bit(256), string_to_array(identifiers, ' '), names,
                   string_to_array(trigrams, ' ')::integer[]
            from given
            where id = any (array(select id from fresh))
        )
        select array(select id from fresh) as "inserted!", r.enabled, r.days, r.name_similarity, r.threshold, r.max_candidates,
               array(select d.name from destination d where d.enabled order by d.name) as "destinations!",
               array(select array_to_string(d.effects, ' ') from destination d where d.enabled order by d.name) as "effects!"
        from duplicate_rules r
        "#,
        &ids,
        &events as &[&str],
        &statuses as &[&str],
        &tracking_ids as &[&str],
        &awaiting as &[Option<Uuid>],
        &creators as &[&str],
        &days as &[Option<Date>],
        &subjects as &[Option<String>],
        &mothers as &[Option<String>],
        &identifiers,
        &names as &[&str],
        &trigrams,
    )
    .fetch_one(conn)
    .await?;
    let rules = Rules {
        enabled: begun.enabled,
        days: begun.days,
        name_similarity: begun.name_similarity,
        threshold: begun.threshold,
        max_candidates: begun.max_candidates,
    };
    let subscriptions = begun.destinations.into_iter().zip(begun.effects);
    let subscriptions = subscriptions.map(|(destination, effects)| Subscription::new(destination, &effects)).collect();
    Ok(Begun { inserted: begun.inserted, rules, subscriptions })
}

/// A submission as it ends.
#[derive(Debug)]
pub(crate) struct Ended<'a> {
    /// The declaration of the first version, as JSON text.
    pub declaration: &'a str,
    pub created_by: &'a str,
    /// Its reply, its record and its last action.
    pub saved: Saved<'a>,
}

/// Writes the rest: the first versions, the actions in the order given, each with the seconds after which it is looked at again
/// if it is, the messages in theirs, that the transactions moved, and the replies.
#[expect(clippy::too_many_lines, reason = "it is one statement, and is read as one")]
pub(crate) async fn end(
    conn: &mut PgConnection,
    submissions: &[Ended<'_>],
    actions: &[NewAction<'_>],
    due_in: &[Option<f64>],
    messages: &[Placed<'_>],
) -> sqlx::Result<()> {
    let records: Vec<Uuid> = submissions.iter().map(|s| s.saved.record_id).collect();
    let declarations: Vec<&str> = submissions.iter().map(|s| s.declaration).collect();
    let creators: Vec<&str> = submissions.iter().map(|s| s.created_by).collect();
    let transactions: Vec<&str> = submissions.iter().map(|s| s.saved.transaction_id).collect();
    let statuses: Vec<i16> =
        submissions.iter().map(|s| i16::try_from(s.saved.reply.status).unwrap_or_default()).collect();
    let bodies: Vec<&str> = submissions.iter().map(|s| s.saved.reply.body.as_str()).collect();
    let last_actions: Vec<Uuid> = submissions.iter().map(|s| s.saved.action_id).collect();
    let rows = Rows::of(actions, messages);
    sqlx::query!(
        r#"
        with versions as (
            insert into record_version (record_id, version, declaration, created_by)
            select v.record_id, 1, v.declaration::json, v.created_by
            from unnest($1::uuid[], $2::text[], $3::text[]) as v (record_id, declaration, created_by)
        ), actions as (
            insert into record_action (id, record_id, transaction_id, action, status, version, record_status, comment, created_by, scopes,
                                       callback_due_at)
            select a.id, a.record_id, a.transaction_id, a.action, a.status, 1, a.record_status, a.comment, a.created_by,
                   string_to_array(a.scopes, ' '), now() + make_interval(secs => a.due_in)
            from unnest($8::uuid[], $9::uuid[], $10::text[], $11::record_action_kind[], $12::record_action_status[],
                        $13::record_status[], $14::text[], $15::text[], $16::text[], $26::float8[])
                 with ordinality as a (id, record_id, transaction_id, action, status, record_status, comment, created_by, scopes,
                                       due_in, ordinal)
            order by a.ordinal
        ), messages as (
            insert into outbox_message (state, destination, kind, transaction_id, record_id, action_id,
                                        initiator_id, initiator_scopes, traceparent)
            select m.state, m.destination, m.kind, m.transaction_id, m.record_id, m.action_id,
                   m.initiator_id, string_to_array(m.scopes, ' '), m.traceparent
            from unnest($17::message_state[], $18::text[], $19::text[], $20::text[], $21::uuid[], $22::uuid[],
                        $23::text[], $24::text[], $25::text[])
                 with ordinality as m (state, destination, kind, transaction_id, record_id, action_id,
                                       initiator_id, scopes, traceparent, ordinal)
            order by m.ordinal
        ), moved as (
            insert into change (principal_id, record_id, action_id)
            select * from unnest($3::text[], $1::uuid[], $7::uuid[])
        )
        update client_transaction c
        set reply_status = s.status, reply_body = s.body, record_id = s.record_id, action_id = s.action_id
        from unnest($4::text[], $5::smallint[], $6::text[], $1::uuid[], $7::uuid[])
             as s (transaction_id, status, body, record_id, action_id)
        where c.transaction_id = s.transaction_id
        "#,
        &records,
        &declarations as &[&str],
        &creators as &[&str],
        &transactions as &[&str],
        &statuses,
        &bodies as &[&str],
        &last_actions,
        &rows.action_ids,
        &rows.action_records,
        &rows.action_transactions as &[&str],
        &rows.action_kinds as &[ActionKind],
        &rows.action_statuses as &[ActionStatus],
        &rows.record_statuses as &[Status],
        &rows.comments as &[Option<&str>],
        &rows.action_creators as &[&str],
        &rows.action_scopes,
        &rows.states as &[MessageState],
        &rows.destinations as &[&str],
        &rows.kinds as &[&str],
        &rows.transactions as &[&str],
        &rows.records,
        &rows.actions,
        &rows.initiators as &[&str],
        &rows.scopes,
        &rows.traces as &[Option<&str>],
        due_in as &[Option<f64>],
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Actions and messages, column by column.
struct Rows<'a> {
    action_ids: Vec<Uuid>,
    action_records: Vec<Uuid>,
    action_transactions: Vec<&'a str>,
    action_kinds: Vec<ActionKind>,
    action_statuses: Vec<ActionStatus>,
    record_statuses: Vec<Status>,
    comments: Vec<Option<&'a str>>,
    action_creators: Vec<&'a str>,
    action_scopes: Vec<String>,
    states: Vec<MessageState>,
    destinations: Vec<&'a str>,
    kinds: Vec<&'a str>,
    transactions: Vec<&'a str>,
    records: Vec<Uuid>,
    actions: Vec<Uuid>,
    initiators: Vec<&'a str>,
    scopes: Vec<String>,
    traces: Vec<Option<&'a str>>,
}

impl<'a> Rows<'a> {
    fn of(actions: &'a [NewAction<'a>], messages: &'a [Placed<'a>]) -> Self {
        Self {
            action_ids: actions.iter().map(|a| a.id).collect(),
            action_records: actions.iter().map(|a| a.record_id).collect(),
            action_transactions: actions.iter().map(|a| a.transaction_id).collect(),
            action_kinds: actions.iter().map(|a| a.action).collect(),
            action_statuses: actions.iter().map(|a| a.status).collect(),
            record_statuses: actions.iter().map(|a| a.record_status).collect(),
            comments: actions.iter().map(|a| a.comment).collect(),
            action_creators: actions.iter().map(|a| a.created_by).collect(),
            // An array per row cannot go through unnest; a scope holds no space (RFC 6749 §3.3).
            action_scopes: actions.iter().map(|a| a.scopes.join(" ")).collect(),
            states: messages.iter().map(|m| m.state).collect(),
            destinations: messages.iter().map(|m| m.destination).collect(),
            kinds: messages.iter().map(|m| m.message.kind).collect(),
            transactions: messages.iter().map(|m| m.message.transaction_id.as_str()).collect(),
            records: messages.iter().map(|m| m.message.record_id).collect(),
            actions: messages.iter().map(|m| m.message.action_id).collect(),
            initiators: messages.iter().map(|m| m.message.initiator_id.as_str()).collect(),
            scopes: messages.iter().map(|m| m.message.initiator_scopes.join(" ")).collect(),
            traces: messages.iter().map(|m| m.message.traceparent.as_deref()).collect(),
        }
    }
}
