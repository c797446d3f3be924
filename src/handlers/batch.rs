//! `POST /records/batch`: up to 500 submissions in one request, each an intention of its own.
//!
//! Promises: 207 with a result per item for every list that can be read while the database is there, in the order sent: what `POST /records` would have answered, or its
//! problem; an item that is bad harms no other; the whole or any part may be sent again, here or one by one, and replays.
//! A request holds at most one connection, and only while it writes.
//!
//! Not promised: that items are written together. Most often they are, in one transaction; nobody may rely on it.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::error::Category;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::body::{self, Object};
use super::extract::{Caller, is_transaction_id, item_transaction_id};
use super::openapi::problems::{BatchProblems, ProblemBody};
use super::openapi::shapes::BatchItem;
use super::openapi::tags;
use super::problem::{Kind, Problem};
use super::records::read_submission;
use super::{AppState, Settings, attachments, blobs, transact};
use crate::records::attachments::Attachment;
use crate::records::changes;
use crate::records::commands::{Outcome, Submission, TransactionView};

/// The most items of one request.
const MAX: usize = 500;

/// Submissions, each by itself.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Batch)]
struct BatchBody<'t> {
    /// What `POST /records` takes, each with its transaction id.
    #[schema(value_type = Vec<BatchItem>, min_items = 1, max_items = 500)]
    #[serde(borrow)]
    items: Vec<&'t RawValue>,
}

/// One item's result: `body` or `problem`.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = BatchResult)]
struct ItemResult {
    /// Null where none could be read.
    #[schema(required = true)]
    transaction_id: Option<String>,
    /// What the item would have been answered with alone.
    #[schema(minimum = 200, maximum = 599)]
    status: u16,
    /// Whether it was accepted before.
    #[schema(value_type = bool, required = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    replayed: Option<bool>,
    #[schema(value_type = TransactionView, required = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Box<RawValue>>,
    #[schema(value_type = ProblemBody, required = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<serde_json::Value>,
    /// What the header `Retry-After` would say.
    #[schema(value_type = u32, required = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u32>,
}

/// What became of a batch.
#[derive(Serialize, ToSchema)]
#[schema(as = BatchAnswer)]
struct Answer {
    /// In the order sent.
    items: Vec<ItemResult>,
    /// Where the caller's feed of changes stood before anything of the batch was written.
    cursor: String,
}

/// An item as it was read.
enum Item {
    Good(Box<Submission>),
    Bad(ItemResult),
}

/// Declare many events
///
/// Always 207 with a result per item, in the order sent: what `POST /records` would have answered, or its problem. A bad
/// item harms no other. Sent again, in whole or in part, it replays.
#[utoipa::path(
    post, path = "/records/batch", operation_id = "submitRecords", tag = tags::RECORDS,
    params(Caller), request_body = BatchBody<'static>,
    responses(
        (status = 207, description = "A result per item", body = Answer, headers(
            ("Retry-After" = u32, description = "There if items are to be sent again: when all of them may be."),
        )),
        BatchProblems,
    ),
    security(("bearer" = ["declare"]), ("bearer" = ["validate"]), ("bearer" = ["register"])),
)]
pub(super) async fn submit(
    State(state): State<AppState>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let bytes = body::read(&parts, body, state.settings.body_max).await?;
    let (size, settings, asking) = (bytes.len(), Arc::clone(&state.settings), caller.clone());
    let items = body::off_thread(size, move || read(&asking, &bytes, &settings)).await?;
    let items = with_attachments(&state, &caller, items).await?;
    let cursor = {
        let mut conn = state.db.acquire().await?;
        changes::now(&mut conn).await?.to_string()
    };
    let results = run(&state, items).await?;
    body::off_thread(size, move || answer(&Answer { items: results, cursor })).await
}

/// Splits the list before anything is judged; then each item by itself.
fn read(caller: &Caller, bytes: &Bytes, settings: &Settings) -> Result<Vec<Item>, Problem> {
    let body = envelope(bytes)?;
    if body.items.is_empty() {
        return Err(Problem::new(Kind::BadRequest).detail("items is empty"));
    }
    if body.items.len() > MAX {
        return Err(Problem::new(Kind::TooManyItems).detail(format!("at most {MAX} items are accepted")));
    }
    let one = |(at, raw): (usize, &RawValue)| match read_submission(
        caller,
        raw.get().as_bytes(),
        settings,
        item_transaction_id,
    ) {
        Ok(submission) => Item::Good(Box::new(submission)),
        Err(problem) => Item::Bad(ItemResult::refused(named(raw), &problem.under(&format!("/items/{at}")))),
    };
    Ok(body.items.into_iter().enumerate().map(one).collect())
}

/// Makes the attachments of all items ready: one look for what they refer to. Items whose attachments are not there, or
/// not for the caller, are refused.
async fn with_attachments(state: &AppState, caller: &Caller, items: Vec<Item>) -> Result<Vec<Item>, Problem> {
    let stored = attachments::referred_to(state, caller, items.iter().flat_map(Item::attachments)).await?;
    let mut judged = Vec::with_capacity(items.len());
    for (at, item) in items.into_iter().enumerate() {
        let Item::Good(mut good) = item else {
            judged.push(item);
            continue;
        };
        let ready = match attachments::check(caller, &good.attachments, &stored, None) {
            Ok(()) => blobs::write_inline(state, &caller.principal.id, &mut good.attachments).await,
            Err(problem) => Err(problem),
        };
        judged.push(match ready {
            Ok(()) => Item::Good(good),
            Err(problem) => {
                let problem = problem.under(&format!("/items/{at}"));
                Item::Bad(ItemResult::refused(Some(good.transaction_id), &problem))
            }
        });
    }
    Ok(judged)
}

/// Serde skims an item without looking into it: only what makes the whole text no JSON is found here.
fn envelope(bytes: &[u8]) -> Result<BatchBody<'_>, Problem> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Problem::new(Kind::BodyMissing));
    }
    let Err(error) = serde_json::from_slice::<&RawValue>(bytes) else {
        return body::typed(bytes);
    };
    let place = format!("not JSON at line {} column {}", error.line(), error.column());
    Err(Problem::new(if error.classify() == Category::Data { Kind::BadRequest } else { Kind::NotJson }).detail(place))
}

/// The transaction id of an item that is refused, if it has one that may be shown.
fn named(raw: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Named {
        transaction_id: String,
    }
    let Object(Named { transaction_id }) = serde_json::from_str(raw.get()).ok()?;
    is_transaction_id(&transaction_id).then_some(transaction_id)
}

async fn run(state: &AppState, items: Vec<Item>) -> Result<Vec<ItemResult>, Problem> {
    let ids: Vec<&str> = items.iter().filter_map(Item::transaction_id).collect();
    let admitted = transact::admit_list(state, &ids).await?;
    let mut results: Vec<Option<ItemResult>> = Vec::with_capacity(items.len());
    let (mut list, mut places) = (Vec::with_capacity(items.len()), Vec::with_capacity(items.len()));
    for (at, item) in items.into_iter().enumerate() {
        results.push(match item {
            Item::Bad(result) => Some(result),
            Item::Good(submission) if admitted.passes(&submission.transaction_id) => {
                list.push(*submission);
                places.push(at);
                None
            }
            Item::Good(submission) => {
                Some(ItemResult::refused(Some(submission.transaction_id), &Problem::overloaded()))
            }
        });
    }
    let list = Arc::new(list);
    let outcomes = transact::submit_list(state, &list).await;
    let ids = list.iter().map(|submission| submission.transaction_id.clone());
    let mut done = ids.zip(places).zip(outcomes).map(|((id, at), outcome)| match outcome {
        Ok(outcome) => ItemResult::accepted(id, outcome),
        Err(error) => {
            let problem = Problem::from(error).under(&format!("/items/{at}"));
            ItemResult::refused(Some(id), &problem)
        }
    });
    results
        .into_iter()
        .map(|result| result.or_else(|| done.next()).ok_or_else(|| Problem::new(Kind::Internal)))
        .collect()
}

impl Item {
    fn transaction_id(&self) -> Option<&str> {
        match self {
            Self::Good(submission) => Some(&submission.transaction_id),
            Self::Bad(_) => None,
        }
    }

    fn attachments(&self) -> &[Attachment] {
        match self {
            Self::Good(submission) => &submission.attachments,
            Self::Bad(_) => &[],
        }
    }
}

impl ItemResult {
    fn accepted(transaction_id: String, outcome: Outcome) -> Self {
        let (reply, replayed) = match outcome {
            Outcome::Done(reply) => (reply, false),
            Outcome::Replayed(reply) => (reply, true),
            Outcome::Reused => return Self::refused(Some(transaction_id), &Problem::new(Kind::KeyReused)),
        };
        // The reply as it was saved, byte for byte.
        match RawValue::from_string(reply.body) {
            Ok(body) => Self {
                transaction_id: Some(transaction_id),
                status: reply.status,
                replayed: Some(replayed),
                body: Some(body),
                problem: None,
                retry_after: None,
            },
            Err(_) => Self::refused(Some(transaction_id), &Problem::new(Kind::Internal)),
        }
    }

    fn refused(transaction_id: Option<String>, problem: &Problem) -> Self {
        Self {
            transaction_id,
            status: problem.status().as_u16(),
            replayed: None,
            body: None,
            problem: Some(problem.document()),
            retry_after: problem.retry_after(),
        }
    }
}

/// `Retry-After` is that of the item that has to wait longest.
fn answer(answer: &Answer) -> Result<Response, Problem> {
    let wait = answer.items.iter().filter_map(|item| item.retry_after).max();
    let body = serde_json::to_string(answer).map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "an answer could not be written");
        Problem::new(Kind::Internal)
    })?;
    let mut response = (StatusCode::MULTI_STATUS, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(seconds) = wait {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    Ok(response)
}
