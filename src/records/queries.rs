//! What may be read of records.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::PgConnection;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::attachments::hex;
use super::commands::{CommandError, RecordView};
use super::duplicates::{self, FoundDuplicate};
use super::model::{ActionKind, ActionStatus, Status};
use super::store::{action, attachment, record, version};
use crate::outbox::history::{self, Delivery};

pub use super::store::action::Source;

/// A record and who submitted it.
#[derive(Clone, Debug)]
pub struct Known {
    /// What is told.
    pub view: RecordView,
    /// Who may read it without a scope.
    pub created_by: String,
    /// When it was accepted.
    pub created_at: OffsetDateTime,
    /// When it last changed.
    pub updated_at: OffsetDateTime,
}

/// Reads a record.
pub async fn record(conn: &mut PgConnection, id: Uuid) -> Result<Option<Known>, CommandError> {
    let Some(row) = record::read(conn, id).await? else {
        return Ok(None);
    };
    let duplicates = duplicates::of_record(conn, id).await?;
    Ok(Some(Known {
        view: RecordView::of(&row, duplicates),
        created_by: row.created_by,
        created_at: row.created_at,
        updated_at: row.updated_at,
    }))
}

/// Whether an action asks, or asked, for a verdict on this record.
pub async fn is_requested(conn: &mut PgConnection, record_id: Uuid, action_id: Uuid) -> sqlx::Result<bool> {
    Ok(action::requested(conn, action_id).await?.is_some_and(|requested| requested.record_id == record_id))
}

/// An attachment of a record.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = StoredAttachment)]
pub struct AttachmentView {
    /// What kind of document it is.
    #[serde(rename = "type")]
    #[schema(required = true)]
    pub kind: Option<String>,
    /// What its bytes are.
    pub content_type: String,
    /// Bytes.
    #[schema(minimum = 1)]
    pub size: i64,
    /// SHA-256 in hexadecimal.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub sha256: String,
}

/// A record with its content.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FullRecord {
    /// The record.
    #[serde(flatten)]
    pub record: RecordView,
    /// When it was accepted.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it last changed.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
    /// The declaration of the current version.
    #[schema(required = true, value_type = Option<Object>)]
    pub declaration: Option<Box<RawValue>>,
    /// Its attachments.
    pub attachments: Vec<AttachmentView>,
}

/// Reads a record with its current declaration.
pub async fn full(conn: &mut PgConnection, known: Known) -> Result<FullRecord, CommandError> {
    let (id, current) = (known.view.id, known.view.version);
    let declaration = version::declaration(conn, id, current).await?;
    let attachments = attachment::of_version(conn, id, current).await?;
    Ok(FullRecord {
        record: known.view,
        created_at: known.created_at,
        updated_at: known.updated_at,
        declaration: declaration.map(RawValue::from_string).transpose()?,
        attachments: attachments
            .into_iter()
            .map(|a| AttachmentView { kind: a.kind, content_type: a.media_type, size: a.size, sha256: hex(&a.sha256) })
            .collect(),
    })
}

/// One action with its deliveries.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// The action.
    pub id: Uuid,
    /// The client's transaction.
    pub transaction_id: String,
    /// What was done.
    pub action: ActionKind,
    /// requested, accepted or rejected.
    pub status: ActionStatus,
    /// The record's status after it.
    pub record_status: Status,
    /// The record's version as of it.
    pub version: i32,
    /// The number given with it.
    #[schema(required = true)]
    pub registration_number: Option<String>,
    /// Why.
    #[schema(required = true)]
    pub reason: Option<String>,
    /// Free text.
    #[schema(required = true)]
    pub comment: Option<String>,
    /// Who.
    pub created_by: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// Until when the country promised to call back.
    #[schema(required = true)]
    #[serde(with = "time::serde::rfc3339::option")]
    pub callback_due_at: Option<OffsetDateTime>,
    /// The records that it was found to resemble with this action, or after it and before the next.
    pub possible_duplicates: Vec<FoundDuplicate>,
    /// Its messages, in order.
    pub deliveries: Vec<Delivery>,
}

/// The actions of a record and their deliveries, in order.
pub async fn record_history(conn: &mut PgConnection, record_id: Uuid) -> Result<Vec<HistoryEntry>, CommandError> {
    let actions = action::of_record(conn, record_id).await?;
    let ids: Vec<Uuid> = actions.iter().map(|a| a.id).collect();
    let mut deliveries = history::of_actions(conn, &ids).await?;
    let mut found = by_action(&actions, duplicates::history(conn, record_id).await?);
    let entries = actions.into_iter().map(|a| {
        let (mine, others) = deliveries.drain(..).partition(|d| d.action_id == a.id);
        deliveries = others;
        HistoryEntry {
            id: a.id,
            transaction_id: a.transaction_id,
            action: a.action,
            status: a.status,
            record_status: a.record_status,
            version: a.version,
            registration_number: a.registration_number,
            reason: a.reason,
            comment: a.comment,
            created_by: a.created_by,
            created_at: a.created_at,
            callback_due_at: a.callback_due_at,
            possible_duplicates: found.remove(&a.id).unwrap_or_default(),
            deliveries: mine,
        }
    });
    Ok(entries.collect())
}

/// What was found, by the last action that had been done by then.
fn by_action(actions: &[action::Row], found: Vec<FoundDuplicate>) -> HashMap<Uuid, Vec<FoundDuplicate>> {
    let mut by_action: HashMap<Uuid, Vec<FoundDuplicate>> = HashMap::new();
    for duplicate in found {
        let before = actions.iter().rev().find(|a| a.created_at <= duplicate.found_at).or_else(|| actions.first());
        if let Some(action) = before {
            by_action.entry(action.id).or_default().push(duplicate);
        }
    }
    by_action
}

/// An action of a record, and the verdict or opinion of the country on it; `None` if the record has no such action.
pub async fn verdict_on(
    conn: &mut PgConnection,
    record_id: Uuid,
    action_id: Uuid,
) -> Result<Option<(ActionKind, Option<ActionStatus>)>, CommandError> {
    Ok(action::verdict_on(conn, record_id, action_id).await?)
}

/// What messages are rendered from, with the declarations or without.
pub async fn sources(
    conn: &mut PgConnection,
    actions: &[Uuid],
    with_declarations: bool,
) -> Result<Vec<Source>, CommandError> {
    Ok(action::sources(conn, actions, with_declarations).await?)
}
