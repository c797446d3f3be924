//! `GET /transactions/{id}`: what became of a transaction, now or once it is settled. `POST /transactions/query`: of many.

use std::collections::HashSet;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::ToSchema;

use super::extract::{Caller, is_transaction_id};
use super::openapi::problems::{PatientProblems, QueryProblems};
use super::openapi::shapes::{TransactionPath, asked_ids};
use super::openapi::tags;
use super::openapi::waiting::{Patience, TransactionRead};
use super::problem::{Kind, Problem};
use super::validators::{self, Known};
use super::{AppState, body};
use crate::records::progress::{self, ChangeView, Owned};
use crate::waiting::{CannotWait, Heard, OneTransaction, Until};

/// How long the reader's answer is waited for.
const A_LOOK: Duration = Duration::from_secs(10);

/// Most ids of one query, and its largest body.
const IDS: usize = 500;
const QUERY_MAX: usize = 256 * 1024;

/// Ask what became of a request
///
/// The transaction as it stands now, or once it is settled; for its owner, who may read records, or the token of its
/// record.
#[utoipa::path(
    get, path = "/transactions/{transactionId}", operation_id = "readTransaction", tag = tags::TRANSACTIONS,
    params(TransactionPath, Patience, Caller),
    responses(TransactionRead, PatientProblems),
    security(("bearer" = []), ("bearer" = ["record.read"])),
)]
pub(super) async fn read(
    State(state): State<AppState>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    // A path that is no UTF-8 is no id either.
    let id = path.map_or_else(|_| String::new(), |Path(id)| id);
    if !is_transaction_id(&id) {
        return Err(Problem::new(Kind::InvalidId).detail("a transaction id is 8 to 128 of A-Z a-z 0-9 . _ : -"));
    }
    let known = Known::of(&headers);
    let wait = validators::preferred_wait(&headers);
    drop(headers);
    let representation = match wait {
        Some(wait) if !wait.is_zero() => Box::pin(patiently(&state, &caller, &id, &known, wait)).await?,
        Some(_) | None => Box::pin(look(&state, &caller, &id)).await?,
    };
    Ok(representation.respond(&known, wait))
}

/// A transaction as it is told.
struct Representation {
    body: String,
    etag: String,
    settled: bool,
}

impl Representation {
    fn of(owned: &Owned) -> Result<Self, Problem> {
        let body = serde_json::to_string(&owned.view).map_err(|error| {
            tracing::error!(%error, "a transaction could not be written");
            Problem::new(Kind::Internal)
        })?;
        let etag = validators::etag(body.as_bytes());
        Ok(Self { etag, body, settled: owned.view.settled })
    }

    /// Whether it is what the client waits for.
    fn is_awaited(&self, known: &Known) -> bool {
        match known {
            Known::Nothing => self.settled,
            Known::Anything | Known::These(_) => !known.has(&self.etag),
        }
    }

    fn respond(self, known: &Known, wait: Option<Duration>) -> Response {
        let mut response = if known.has(&self.etag) {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            let json = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            ([json], self.body).into_response()
        };
        let headers = response.headers_mut();
        if let Ok(etag) = HeaderValue::from_str(&self.etag) {
            headers.insert(header::ETAG, etag);
        }
        // Whoever keeps it asks before they use it again.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
        if !self.settled {
            // Jittered, so that those who poll do not come in one moment.
            headers.insert(header::RETRY_AFTER, HeaderValue::from(rand::random_range(2..=8_u32)));
        }
        if let Some(wait) = wait {
            let applied = HeaderValue::from_str(&format!("wait={}", wait.as_secs()));
            headers.extend(applied.ok().map(|v| (axum::http::HeaderName::from_static("preference-applied"), v)));
        }
        response
    }
}

/// What it is now, if the caller may read it.
async fn look(state: &AppState, caller: &Caller, id: &str) -> Result<Representation, Problem> {
    let mut conn = state.db.acquire().await?;
    let owned = progress::views(&mut conn, &[id]).await?.remove(id);
    readable(caller, owned.as_ref())
}

fn readable(caller: &Caller, owned: Option<&Owned>) -> Result<Representation, Problem> {
    let may = |o: &&Owned| caller.may_read(o.view.record.id, &o.view.record.event, &o.principal_id);
    owned.filter(may).map_or_else(|| Err(Problem::new(Kind::NotFound)), Representation::of)
}

/// What it is once it is what the client waits for, or at the end of its patience. The first look is the reader's too:
/// ten thousand who come in one moment are a few statements.
async fn patiently(
    state: &AppState,
    caller: &Caller,
    id: &str,
    known: &Known,
    wait: Duration,
) -> Result<Representation, Problem> {
    let deadline = Instant::now() + wait;
    let until = if matches!(known, Known::Nothing) { Until::Settled } else { Until::Moved };
    // First this, then the look: what moves in between is told.
    let waits = state.waiting.transaction(&caller.principal.id, id, until).await?;
    waits.ask();
    let Some(mut latest) = hear(&waits, caller, Instant::now() + A_LOOK).await? else {
        return Box::pin(look(state, caller, id)).await;
    };
    while !latest.is_awaited(known) {
        drop(latest);
        latest = match hear(&waits, caller, deadline).await? {
            Some(told) => told,
            None => return at_the_end(state, caller, id, &waits).await,
        };
    }
    Ok(latest)
}

/// What is told before the deadline; `None` if nothing is.
async fn hear(waits: &OneTransaction, caller: &Caller, deadline: Instant) -> Result<Option<Representation>, Problem> {
    match tokio::time::timeout_at(deadline, waits.told()).await {
        Ok(Heard::View(owned)) => readable(caller, Some(&owned)).map(Some),
        Ok(Heard::Unknown) => Err(Problem::new(Kind::NotFound)),
        Ok(Heard::Nothing) | Err(_) => Ok(None),
    }
}

/// As it is: by the reader once more, or, when the process stops, by oneself.
async fn at_the_end(
    state: &AppState,
    caller: &Caller,
    id: &str,
    waits: &OneTransaction,
) -> Result<Representation, Problem> {
    waits.ask();
    match hear(waits, caller, Instant::now() + A_LOOK).await? {
        Some(told) => Ok(told),
        None => Box::pin(look(state, caller, id)).await,
    }
}

impl From<CannotWait> for Problem {
    fn from(error: CannotWait) -> Self {
        match error {
            CannotWait::TooMany => Self::retry(Kind::TooManyWaiting, rand::random_range(5..=30))
                .detail("ask without waiting, or again after Retry-After seconds"),
            CannotWait::NotRead => Self::retry(Kind::Unavailable, 2),
        }
    }
}

/// Transactions that are asked for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TransactionQuery)]
struct QueryBody {
    /// Their ids; one that is none is unknown.
    #[schema(schema_with = asked_ids)]
    ids: Vec<String>,
}

/// What became of many transactions.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TransactionAnswers)]
pub(super) struct Answers {
    /// In the order asked.
    transactions: Vec<ChangeView>,
    /// Not there, or not for the caller.
    unknown: Vec<String>,
}

/// Ask what became of many requests
///
/// Of up to 500 transactions in one call. What the caller may not read is unknown.
#[utoipa::path(
    post, path = "/transactions/query", operation_id = "queryTransactions", tag = tags::TRANSACTIONS,
    params(Caller), request_body = QueryBody,
    responses((status = 200, description = "What became of them", body = Answers), QueryProblems),
    security(("bearer" = []), ("bearer" = ["record.read"])),
)]
pub(super) async fn query(
    State(state): State<AppState>,
    caller: Caller,
    request: Request,
) -> Result<Json<Answers>, Problem> {
    let (parts, content) = request.into_parts();
    let bytes = body::read(&parts, content, QUERY_MAX).await?;
    body::fingerprint("", &bytes)?;
    let QueryBody { mut ids } = body::typed(&bytes)?;
    if ids.is_empty() || ids.len() > IDS {
        return Err(Problem::new(Kind::BadRequest).detail(format!("ids: 1 to {IDS} are needed")));
    }
    let mut seen = HashSet::new();
    ids.retain(|id| seen.insert(id.clone()));
    let asked: Vec<&str> = ids.iter().map(String::as_str).filter(|id| is_transaction_id(id)).collect();
    let mut conn = state.db.acquire().await?;
    let mut states = progress::states(&mut conn, &asked).await?;
    drop(conn);
    states.retain(|_, s| caller.may_read(s.record_id, &s.event, &s.principal_id));
    let mut answers = Answers { transactions: Vec::with_capacity(states.len()), unknown: Vec::new() };
    for id in ids {
        match states.remove(&id) {
            Some(state) => answers.transactions.push(state),
            None => answers.unknown.push(id),
        }
    }
    Ok(Json(answers))
}
