//! Transactions with what belongs to them, read across tables: each function is one statement, so that what it says is of
//! one moment. Subqueries, not joins, where a join would tempt the planner to read a whole table for a long list.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::record;
use crate::outbox::MessageState;
use crate::records::commands::{DeliveryView, RecordView};
use crate::records::model::{ActionKind, Status};
use crate::records::progress::ChangeView;

/// Transactions in a few words.
pub(crate) async fn states(conn: &mut PgConnection, ids: &[&str]) -> sqlx::Result<Vec<ChangeView>> {
    sqlx::query_as!(
        ChangeView,
        r#"
        select t.transaction_id, t.principal_id, r.id as record_id, r.tracking_id, r.event, r.status as "status: Status",
               r.registration_number, r.version,
               r.status <> 'waiting_validation' and (
                   select m.id from record_action a join outbox_message m on m.action_id = any (array[a.id])
                   where a.transaction_id = t.transaction_id limit 1
               ) is null as "settled!"
        from client_transaction t
        join record r on r.id = t.record_id
        where t.transaction_id = any ($1)
        "#,
        ids as &[&str],
    )
    .fetch_all(conn)
    .await
}

/// A transaction, its record, and one of its deliveries if it has any.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub transaction_id: String,
    principal_id: String,
    id: Uuid,
    event: String,
    status: Status,
    tracking_id: String,
    registration_number: Option<String>,
    version: i32,
    awaiting_action_id: Option<Uuid>,
    held_action: Option<ActionKind>,
    created_by: String,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
    destination: Option<String>,
    kind: Option<String>,
    state: Option<MessageState>,
}

impl Row {
    /// Who sent it, its record without what it resembles, and the delivery.
    pub(crate) fn split(self) -> (String, RecordView, Option<DeliveryView>) {
        let row = record::Row {
            id: self.id,
            event: self.event,
            status: self.status,
            tracking_id: self.tracking_id,
            registration_number: self.registration_number,
            version: self.version,
            awaiting_action_id: self.awaiting_action_id,
            held_action: self.held_action,
            created_by: self.created_by,
            created_at: self.created_at,
            updated_at: self.updated_at,
        };
        let delivery = match (self.destination, self.kind, self.state) {
            (Some(destination), Some(kind), Some(state)) => Some(DeliveryView { destination, kind, state }),
            _ => None,
        };
        (self.principal_id, RecordView::of(&row, Vec::new()), delivery)
    }
}

/// Transactions with their deliveries, those of the verdict included, in order of acceptance.
pub(crate) async fn deliveries(conn: &mut PgConnection, ids: &[&str]) -> sqlx::Result<Vec<Row>> {
    // Finished no earlier than it was caused, and not in the future: so other days' partitions are not looked into.
    // `offset 0`: action by action, by index, whatever the planner believes of tables that have just begun to grow.
    sqlx::query_as!(
        Row,
        r#"
        select t.transaction_id, t.principal_id, r.id, r.event, r.status as "status: Status", r.tracking_id, r.registration_number,
               r.version, r.awaiting_action_id, r.held_action as "held_action: ActionKind", r.created_by, r.created_at, r.updated_at,
               d.destination as "destination?", d.kind as "kind?", d.state as "state?: MessageState"
        from client_transaction t
        join record r on r.id = t.record_id
        left join lateral (
            select m.id, m.destination, m.kind, m.state
            from record_action a cross join lateral (
                select id, destination, kind, state from outbox_message where action_id = a.id offset 0
            ) m
            where a.transaction_id = t.transaction_id
            union all
            select h.id, h.destination, h.kind, h.state
            from record_action a cross join lateral (
                select id, destination, kind, state from outbox_history
                where action_id = a.id
                  and finished_at >= a.created_at - interval '1 day' and finished_at < now() + interval '1 day'
                offset 0
            ) h
            where a.transaction_id = t.transaction_id
        ) d on true
        where t.transaction_id = any ($1)
        order by t.transaction_id, d.id
        "#,
        ids as &[&str],
    )
    .fetch_all(conn)
    .await
}
