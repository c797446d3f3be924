//! `GET /transactions/{transactionId}`: what became of a transaction.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};

use super::AppState;
use super::extract::{Caller, is_transaction_id};
use super::openapi::problems::ReadProblems;
use super::openapi::shapes::TransactionPath;
use super::openapi::tags;
use super::problem::{Kind, Problem};
use crate::records::commands::TransactionView;
use crate::records::queries;
use crate::transactions;

/// Ask what became of a request
///
/// The transaction as it stands now; for its owner, who may read records, or the token of its record.
#[utoipa::path(
    get, path = "/transactions/{transactionId}", operation_id = "readTransaction", tag = tags::TRANSACTIONS,
    params(TransactionPath, Caller),
    responses((status = 200, description = "The transaction", body = TransactionView<'static>), ReadProblems),
    security(("bearer" = []), ("bearer" = ["record.read"])),
)]
pub(super) async fn read(
    State(state): State<AppState>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    // A path that is no UTF-8 is no id either.
    let id = path.map_or_else(|_| String::new(), |Path(id)| id);
    if !is_transaction_id(&id) {
        return Err(Problem::new(Kind::InvalidId).detail("a transaction id is 8 to 128 of A-Z a-z 0-9 . _ : -"));
    }
    let not_found = || Problem::new(Kind::NotFound);
    let mut conn = state.db.acquire().await?;
    let owner = transactions::owner(&mut conn, &id).await?.ok_or_else(not_found)?;
    let known = queries::record(&mut conn, owner.record_id).await?.ok_or_else(not_found)?;
    if !caller.may_read(owner.record_id, &known.view.event, &owner.principal_id) {
        return Err(not_found());
    }
    let deliveries = queries::deliveries(&mut conn, &id).await?;
    let view = TransactionView { transaction_id: &id, record: known.view, deliveries };
    Ok(Json(view).into_response())
}
