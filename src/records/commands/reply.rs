//! The transaction resource: what a client is told, and what is replayed.

use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::CommandError;
use crate::outbox::{MessageState, Queued};
use crate::records::duplicates::PossibleDuplicate;
use crate::records::model::Status;
use crate::records::store::record::Row;
use crate::transactions::Reply;

/// A record as it is told to clients.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Record)]
pub struct RecordView {
    /// A `UUIDv7`.
    pub id: Uuid,
    /// Seven characters.
    #[schema(pattern = "^[A-Z][A-Z0-9]{6}$")]
    pub tracking_id: String,
    /// `birth`, `death`, `marriage`, …
    pub event: String,
    /// Where it stands.
    pub status: Status,
    /// Given when registered.
    #[schema(required = true)]
    pub registration_number: Option<String>,
    /// The current version.
    #[schema(minimum = 1)]
    pub version: i32,
    /// Records that may register the same event.
    pub possible_duplicates: Vec<PossibleDuplicate>,
}

impl RecordView {
    /// A record and what it resembles.
    pub(in crate::records) fn of(row: &Row, possible_duplicates: Vec<PossibleDuplicate>) -> Self {
        Self {
            id: row.id,
            tracking_id: row.tracking_id.clone(),
            event: row.event.clone(),
            status: row.status,
            registration_number: row.registration_number.clone(),
            version: row.version,
            possible_duplicates,
        }
    }
}

/// One message as it is told to clients.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Delivery)]
pub struct DeliveryView {
    /// Where it goes.
    pub destination: String,
    /// The consequence.
    pub kind: String,
    /// Its state.
    pub state: MessageState,
}

impl DeliveryView {
    /// Whether it is over. A dead one is not: it needs an operator.
    fn is_finished(&self) -> bool {
        matches!(self.state, MessageState::Delivered | MessageState::Cancelled)
    }
}

impl From<Queued> for DeliveryView {
    fn from(q: Queued) -> Self {
        Self { destination: q.destination, kind: q.kind, state: q.state }
    }
}

/// The transaction resource.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Transaction)]
pub struct TransactionView {
    /// The client's transaction id.
    #[schema(pattern = "^[A-Za-z0-9._:-]{8,128}$")]
    pub transaction_id: String,
    /// Whether nothing of it is outstanding: no unfinished delivery, no verdict of the country.
    pub settled: bool,
    /// The record it made or acted on.
    pub record: RecordView,
    /// What it sends.
    pub deliveries: Vec<DeliveryView>,
}

impl TransactionView {
    /// What is told of a transaction.
    pub(in crate::records) fn new(transaction_id: String, record: RecordView, deliveries: Vec<DeliveryView>) -> Self {
        let settled = record.status != Status::WaitingValidation && deliveries.iter().all(DeliveryView::is_finished);
        Self { transaction_id, settled, record, deliveries }
    }

    /// One delivery more.
    pub(in crate::records) fn add(&mut self, delivery: DeliveryView) {
        self.settled &= delivery.is_finished();
        self.deliveries.push(delivery);
    }
}

/// The reply to an accepted request: 202, with what was queued.
pub(super) fn accepted(
    transaction_id: &str,
    row: &Row,
    duplicates: Vec<PossibleDuplicate>,
    deliveries: impl IntoIterator<Item = impl Into<DeliveryView>>,
) -> Result<Reply, CommandError> {
    let deliveries = deliveries.into_iter().map(Into::into).collect();
    let view = TransactionView::new(transaction_id.to_owned(), RecordView::of(row, duplicates), deliveries);
    Ok(Reply { status: 202, body: serde_json::to_string(&view)? })
}
