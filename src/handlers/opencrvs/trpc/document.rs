//! A record as OpenCRVS's events service shows it: an `EventDocument`.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::auth::RecordGrant;
use crate::handlers::AppState;
use crate::handlers::problem::Problem;
use crate::records::model::{ActionKind, ActionStatus};
use crate::records::queries::{self, HistoryEntry};

/// A record, and the verdict on the action that was asked about.
#[derive(Clone, Debug)]
pub(super) struct Document {
    pub(super) json: Value,
    pub(super) verdict: Option<ActionStatus>,
}

/// Reads a record; `None` if there is none.
pub(super) async fn read(state: &AppState, grant: RecordGrant) -> Result<Option<Document>, Problem> {
    let mut conn = state.db.acquire().await?;
    let Some(known) = queries::record(&mut conn, grant.record_id).await? else {
        return Ok(None);
    };
    let history = queries::record_history(&mut conn, grant.record_id).await?;
    let requested = history.iter().find(|entry| Some(entry.id) == grant.action_id);
    let verdict = requested.and_then(|requested| verdict_on(requested, &history)).map(|verdict| verdict.status);
    let json = json!({
        "id": known.view.id,
        "type": known.view.event,
        "trackingId": known.view.tracking_id,
        "createdAt": moment(known.created_at),
        "updatedAt": moment(known.updated_at),
        "actions": history.iter().map(|entry| action(entry, &history)).collect::<Vec<_>>(),
    });
    Ok(Some(Document { json, verdict }))
}

/// A verdict belongs to the transaction of what it decides.
fn verdict_on<'h>(requested: &HistoryEntry, history: &'h [HistoryEntry]) -> Option<&'h HistoryEntry> {
    history.iter().find(|entry| entry.status != ActionStatus::Requested && is_of_one(entry, requested))
}

fn is_of_one(one: &HistoryEntry, other: &HistoryEntry) -> bool {
    one.transaction_id == other.transaction_id && one.action == other.action
}

fn action(entry: &HistoryEntry, history: &[HistoryEntry]) -> Value {
    let mut action = json!({
        "id": entry.id,
        "transactionId": entry.transaction_id,
        "type": kind(entry.action),
        "status": status(entry.status),
        "createdAt": moment(entry.created_at),
        "createdBy": entry.created_by,
        "createdByUserType": "user",
        "declaration": {},
        "annotation": {},
    });
    let requested = |other: &&HistoryEntry| other.status == ActionStatus::Requested && is_of_one(other, entry);
    let original = history.iter().find(requested).filter(|other| other.id != entry.id);
    if let Some(members) = action.as_object_mut() {
        members.extend(original.map(|original| ("originalActionId".to_owned(), json!(original.id))));
        members.extend(entry.registration_number.as_ref().map(|n| ("registrationNumber".to_owned(), json!(n))));
        members.extend(entry.reason.as_ref().map(|r| ("content".to_owned(), json!({ "reason": r }))));
    }
    action
}

fn moment(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).unwrap_or_default()
}

fn kind(action: ActionKind) -> &'static str {
    match action {
        ActionKind::Notify => "NOTIFY",
        ActionKind::Declare => "DECLARE",
        ActionKind::Validate => "VALIDATE",
        ActionKind::Register => "REGISTER",
        ActionKind::Reject => "REJECT",
        ActionKind::MarkNotDuplicate => "MARK_AS_NOT_DUPLICATE",
        ActionKind::Archive => "ARCHIVE",
    }
}

fn status(status: ActionStatus) -> &'static str {
    match status {
        ActionStatus::Requested => "Requested",
        ActionStatus::Accepted => "Accepted",
        ActionStatus::Rejected => "Rejected",
    }
}
