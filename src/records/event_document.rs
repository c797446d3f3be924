//! A record as OpenCRVS 1.9 has it: an event with its actions, the declaration in the actions that changed it.
//!
//! Rendered from what never changes, up to one action: so every attempt of that action's message has the same bytes. The
//! action itself is shown as `Requested`, whatever it is here, since that is how a country config knows which one it is
//! asked about; of requests that were superseded nothing is shown, since it takes any open one for that.
//!
//! What we do not know is left out or general: the office (`createdAtLocation`), and roles by the scopes that were granted.

use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::commands::CommandError;
use super::model::{ActionKind, ActionStatus};
use super::store::action::{self, Documented};

/// A record that is rendered.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The record, and the event's id.
    pub record_id: Uuid,
    /// `birth`, `death`, …
    pub event: &'a str,
    /// Seven characters.
    pub tracking_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    id: Uuid,
    r#type: &'a str,
    tracking_id: &'a str,
    created_at: String,
    updated_at: String,
    actions: Vec<Action<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Action<'a> {
    id: Uuid,
    transaction_id: &'a str,
    r#type: &'static str,
    status: &'static str,
    created_at: String,
    created_by: &'a str,
    created_by_user_type: &'static str,
    created_by_role: &'static str,
    declaration: &'a RawValue,
    annotation: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    original_action_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    registration_number: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Content<'a>>,
}

#[derive(Serialize)]
struct Content<'a> {
    reason: &'a str,
}

/// The document as of an action, which it shows as requested; `None` if there is none.
pub async fn until(conn: &mut PgConnection, head: Head<'_>, action: Uuid) -> Result<Option<String>, CommandError> {
    let actions = action::documented(conn, head.record_id, Some(action)).await?;
    if !actions.iter().any(|a| a.id == action) {
        return Ok(None);
    }
    Ok(Some(render(head, &actions, Some(action))?))
}

/// The document as it is now.
pub async fn whole(conn: &mut PgConnection, head: Head<'_>) -> Result<String, CommandError> {
    let actions = action::documented(conn, head.record_id, None).await?;
    Ok(render(head, &actions, None)?)
}

fn render(head: Head<'_>, rows: &[Documented], asked: Option<Uuid>) -> serde_json::Result<String> {
    let nothing = RawValue::from_string("{}".to_owned())?;
    let mut actions = Vec::with_capacity(rows.len() + 1);
    if let Some(first) = rows.first() {
        // An event begins with its creation; here it begins with what was declared.
        actions.push(Action {
            id: Uuid::new_v5(&head.record_id, b"CREATE"),
            r#type: "CREATE",
            status: "Accepted",
            declaration: &nothing,
            ..action_of(first, &nothing)
        });
    }
    let shown = rows.iter().filter(|row| asked == Some(row.id) || asked.is_none() || !is_open(row, rows));
    actions.extend(shown.map(|row| {
        let action = action_of(row, &nothing);
        if asked == Some(row.id) { Action { status: "Requested", ..action } } else { action }
    }));
    let at = |row: Option<&Documented>| row.map(|row| timestamp(row.created_at)).unwrap_or_default();
    serde_json::to_string(&Document {
        id: head.record_id,
        r#type: head.event,
        tracking_id: head.tracking_id,
        created_at: at(rows.first()),
        updated_at: at(rows.last()),
        actions,
    })
}

/// A request without a verdict.
fn is_open(row: &Documented, rows: &[Documented]) -> bool {
    row.status == ActionStatus::Requested && !rows.iter().any(|other| other.requested_action_id == Some(row.id))
}

fn action_of<'a>(row: &'a Documented, nothing: &'a RawValue) -> Action<'a> {
    let raw = |part: &'a Option<Box<RawValue>>| part.as_deref().unwrap_or(nothing);
    Action {
        id: row.id,
        transaction_id: &row.transaction_id,
        r#type: word(row.action),
        status: match row.status {
            ActionStatus::Requested => "Requested",
            ActionStatus::Accepted => "Accepted",
            ActionStatus::Rejected => "Rejected",
        },
        created_at: timestamp(row.created_at),
        created_by: &row.created_by,
        created_by_user_type: if row.requested_action_id.is_some() { "system" } else { "user" },
        created_by_role: role(&row.scopes),
        declaration: raw(&row.declaration),
        annotation: raw(&row.annotation),
        original_action_id: row.requested_action_id,
        registration_number: row.registration_number.as_deref(),
        content: row.reason.as_deref().map(|reason| Content { reason }),
    }
}

/// The word of OpenCRVS 1.9 for an action.
pub fn word(action: ActionKind) -> &'static str {
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

/// The usual role of who may do so much, in whichever form the scopes say it.
fn role(scopes: &[String]) -> &'static str {
    let may = |wanted: &[&str]| {
        let mut words = scopes.iter().flat_map(|scope| scope.split(['.', '[', '=', '&', ',', '|']));
        words.any(|word| wanted.contains(&word))
    };
    match (may(&["register"]), may(&["validate", "submit-for-approval"])) {
        (true, _) => "LOCAL_REGISTRAR",
        (false, true) => "REGISTRATION_AGENT",
        (false, false) => "FIELD_AGENT",
    }
}

/// As JavaScript writes it.
fn timestamp(at: OffsetDateTime) -> String {
    let format =
        time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    at.to_offset(time::UtcOffset::UTC).format(&format).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use time::macros::datetime;

    use super::*;

    fn row(n: u128, action: ActionKind, status: ActionStatus) -> Documented {
        Documented {
            id: Uuid::from_u128(n),
            transaction_id: format!("draft-{n:04}"),
            action,
            status,
            requested_action_id: None,
            registration_number: None,
            declaration: None,
            annotation: None,
            reason: None,
            created_by: "clerk".to_owned(),
            scopes: vec!["record.register[event=birth]".to_owned()],
            created_at: datetime!(2026-11-01 12:00:00.123456 UTC) + time::Duration::seconds(i64::try_from(n).unwrap()),
        }
    }

    fn rendered(rows: &[Documented], asked: Option<u128>) -> Value {
        let head = Head { record_id: Uuid::from_u128(99), event: "birth", tracking_id: "B2X3ACD" };
        serde_json::from_str(&render(head, rows, asked.map(Uuid::from_u128)).unwrap()).unwrap()
    }

    fn kinds(document: &Value) -> Vec<String> {
        let said = |a: &Value, name: &str| a[name].as_str().unwrap().to_owned();
        let actions = document["actions"].as_array().unwrap();
        actions.iter().map(|a| format!("{} {}", said(a, "type"), said(a, "status"))).collect()
    }

    #[test]
    fn an_event_begins_with_its_creation_and_ends_with_what_is_asked() {
        let declared = RawValue::from_string(r#"{"child.name":{"firstname":"Ada"}}"#.to_owned()).unwrap();
        let declare = Documented { declaration: Some(declared), ..row(1, ActionKind::Declare, ActionStatus::Accepted) };
        let rows = [declare, row(2, ActionKind::Register, ActionStatus::Requested)];
        let document = rendered(&rows, Some(2));
        assert_eq!(kinds(&document), ["CREATE Accepted", "DECLARE Accepted", "REGISTER Requested"]);
        assert_eq!((&document["type"], &document["trackingId"]), (&json!("birth"), &json!("B2X3ACD")));
        assert_eq!(
            document["actions"][1],
            json!({"id": Uuid::from_u128(1), "transactionId": "draft-0001", "type": "DECLARE", "status": "Accepted",
                   "createdAt": "2026-11-01T12:00:01.123Z", "createdBy": "clerk", "createdByUserType": "user",
                   "createdByRole": "LOCAL_REGISTRAR", "declaration": {"child.name": {"firstname": "Ada"}},
                   "annotation": {}})
        );
        assert_eq!(document["actions"][0]["declaration"], json!({}));
        assert_eq!(kinds(&rendered(&rows[..1], Some(1))), ["CREATE Accepted", "DECLARE Requested"]);
    }

    #[test]
    fn what_was_asked_and_superseded_is_not_shown_as_open() {
        let mut rows = vec![
            row(1, ActionKind::Declare, ActionStatus::Accepted),
            row(2, ActionKind::Register, ActionStatus::Requested),
            row(3, ActionKind::Declare, ActionStatus::Accepted),
            row(4, ActionKind::Register, ActionStatus::Requested),
        ];
        let asked = rendered(&rows, Some(4));
        assert_eq!(kinds(&asked)[1..], ["DECLARE Accepted", "DECLARE Accepted", "REGISTER Requested"]);
        let verdict = Documented {
            requested_action_id: Some(Uuid::from_u128(4)),
            registration_number: Some("2026B1".to_owned()),
            ..row(5, ActionKind::Register, ActionStatus::Accepted)
        };
        rows.push(verdict);
        let whole = rendered(&rows, None);
        assert_eq!(kinds(&whole)[4..], ["REGISTER Requested", "REGISTER Accepted"]);
        assert_eq!(whole["actions"][5]["originalActionId"], json!(Uuid::from_u128(4)));
        assert_eq!(whole["actions"][5]["registrationNumber"], "2026B1");
    }
}
