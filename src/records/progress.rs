//! What transactions are now: in a few words for many, and in full.
//!
//! Settled: no delivery of the transaction is unfinished – one that is dead is – and its record does not await the
//! country's verdict. What a record resembles is read after it.

use std::collections::HashMap;

use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use super::commands::TransactionView;
use super::duplicates;
use super::model::Status;
use super::store::transaction;

/// A transaction in a few words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Change)]
pub struct ChangeView {
    /// The client's transaction id.
    pub transaction_id: String,
    /// The record it made or acted on.
    pub record_id: Uuid,
    /// Seven characters.
    pub tracking_id: String,
    /// `birth`, `death`, `marriage`, …
    pub event: String,
    /// Where the record stands.
    pub status: Status,
    /// Given when registered.
    #[schema(required = true)]
    pub registration_number: Option<String>,
    /// The record's current version.
    pub version: i32,
    /// Whether nothing of it is outstanding.
    pub settled: bool,
    /// Who sent it.
    #[serde(skip)]
    pub principal_id: String,
}

/// A transaction in full, and who sent it.
#[derive(Clone, Debug)]
pub struct Owned {
    /// What is told.
    pub view: TransactionView,
    /// Who sent it.
    pub principal_id: String,
}

/// What these transactions are now, by their ids; those that are not there are missing.
pub async fn states(conn: &mut PgConnection, ids: &[&str]) -> sqlx::Result<HashMap<String, ChangeView>> {
    let rows = transaction::states(conn, ids).await?;
    Ok(rows.into_iter().map(|state| (state.transaction_id.clone(), state)).collect())
}

/// These transactions in full, by their ids; those that are not there are missing.
pub async fn views(conn: &mut PgConnection, ids: &[&str]) -> sqlx::Result<HashMap<String, Owned>> {
    let mut found: HashMap<String, Owned> = HashMap::with_capacity(ids.len());
    for row in transaction::deliveries(conn, ids).await? {
        let transaction_id = row.transaction_id.clone();
        let (principal_id, record, delivery) = row.split();
        let owned = found
            .entry(transaction_id.clone())
            .or_insert_with(|| Owned { view: TransactionView::new(transaction_id, record, Vec::new()), principal_id });
        if let Some(delivery) = delivery {
            owned.view.add(delivery);
        }
    }
    let records: Vec<Uuid> = found.values().map(|owned| owned.view.record.id).collect();
    let resembled = duplicates::of_records(conn, &records).await?;
    for owned in found.values_mut() {
        owned.view.record.possible_duplicates = resembled.get(&owned.view.record.id).cloned().unwrap_or_default();
    }
    Ok(found)
}
