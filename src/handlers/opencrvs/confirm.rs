//! `POST /confirm/registration`: how country configs of 1.6 confirm.
//!
//! They do not look at the answer, and say 202 to our delivery whatever it was. A confirmation that fails here is lost by
//! such a peer; it is healed by us: the record keeps waiting, and when the promised callback is overdue the registration is
//! sent to the country again ([`callbacks.deadline_seconds`](crate::config::Callbacks)).

use axum::Json;
use axum::extract::{Request, State};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::verdict::{self, Identifier};
use crate::handlers::AppState;
use crate::handlers::body::{self, Object};
use crate::handlers::extract::Caller;
use crate::handlers::openapi::problems::VerdictProblems;
use crate::handlers::openapi::tags;
use crate::handlers::problem::Problem;

/// The country registers the event, in the words of 1.6.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = OpenCrvsConfirmation)]
struct Confirmation {
    /// The record.
    composition_id: String,
    /// Unique across records; printable, and without space around it.
    registration_number: String,
    /// If it is there, it is that of the record.
    #[schema(pattern = r"^[^\x00]*$")]
    tracking_id: Option<String>,
    /// Identifiers to give to the child; those without a value are left out.
    #[schema(value_type = Option<Vec<Identifier>>)]
    child_identifiers: Option<Vec<Object<Identifier>>>,
}

/// Confirm a registration as OpenCRVS 1.6
///
/// 200 says that a verdict stands: this one, or one that was first.
#[utoipa::path(
    post, path = "/confirm/registration", operation_id = "confirmRegistration16", tag = tags::COUNTRY,
    params(Caller), request_body = Confirmation,
    responses((status = 200, description = "A verdict stands.", body = Object), VerdictProblems),
    security(("bearer" = ["record.confirm-registration"])),
)]
pub(in crate::handlers) async fn confirm(
    State(state): State<AppState>,
    caller: Caller,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let (parts, body) = request.into_parts();
    let bytes = body::read(&parts, body, state.settings.body_max).await?;
    let body: Confirmation = body::walked(&bytes)?;
    let identifiers = body.child_identifiers.unwrap_or_default().into_iter().map(|Object(i)| i).collect();
    let verdict = verdict::accepted(Some(body.registration_number), identifiers, None)?;
    verdict::give(&state, &caller, &body.composition_id, body.tracking_id, verdict).await?;
    Ok(Json(json!({})))
}
