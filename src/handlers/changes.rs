//! `GET /changes`: the caller's own feed of changes, page by page, waiting for the next one if there is none; or, with
//! `Accept: text/event-stream`, as events.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::time::Instant;

use super::AppState;
use super::events;
use super::extract::Caller;
use super::openapi::problems::FeedProblems;
use super::openapi::tags;
use super::openapi::waiting::{FeedQuery, FeedRead};
use super::problem::{Kind, Problem};
use super::transact;
use super::validators::LONGEST_WAIT;
use crate::records::changes::{self, ChangesError, Cursor, NoCursor, Page};
use crate::records::progress::ChangeView;
use crate::waiting::{OnePrincipal, Told};

/// Most hints of a page, and those of one that says nothing.
const LIMIT_MAX: u16 = 500;
const LIMIT: u16 = 200;

/// What a client asks for.
pub(super) struct Asked {
    pub(super) cursor: Option<Cursor>,
    wait: Duration,
    pub(super) limit: u16,
}

/// A page of the feed.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Changes)]
pub(super) struct Answer<'a> {
    /// In the order in which they moved last.
    #[schema(value_type = Vec<ChangeView>)]
    changes: &'a [Arc<ChangeView>],
    /// Where to go on.
    cursor: String,
    /// Whether there is more already.
    more: bool,
}

/// Read what moved
///
/// Of the caller's own transactions, after the cursor; waits for it if there is nothing and a wait is asked for. With
/// `Accept: text/event-stream` the same as server-sent events.
#[utoipa::path(
    get, path = "/changes", operation_id = "readChanges", tag = tags::TRANSACTIONS,
    params(FeedQuery, Caller), responses(FeedRead, FeedProblems), security(("bearer" = [])),
)]
pub(super) async fn read(
    State(state): State<AppState>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if caller.principal.record.is_some() {
        return Err(Problem::new(Kind::Forbidden).detail("the token is for one record only"));
    }
    let principal = caller.principal.id;
    let streams = wants_events(&headers);
    let asked = Asked::of(&uri, headers.get("last-event-id").filter(|_| streams))?;
    drop((uri, headers));
    // On the heap each, so that who waits in one way has no room for the other.
    if streams {
        Box::pin(events::stream(state, principal, asked)).await
    } else {
        Box::pin(poll(state, principal, asked)).await
    }
}

/// A page, or the next one.
async fn poll(state: AppState, principal: String, asked: Asked) -> Result<Response, Problem> {
    let Some(cursor) = asked.cursor else {
        return Ok(answer(&[], &now(&state).await?, false));
    };
    if asked.wait.is_zero() {
        let page = page(&state, &principal, &cursor, asked.limit).await?;
        return Ok(answer(&shared(page.changes), &page.cursor, page.more));
    }
    let deadline = Instant::now() + asked.wait;
    // First this, then the page: what moves in between is told.
    let waits = state.waiting.principal(&principal).await?;
    let page = page(&state, &principal, &cursor, asked.limit).await?;
    if page.more || !page.changes.is_empty() {
        return Ok(answer(&shared(page.changes), &page.cursor, page.more));
    }
    wait(&state, &waits, &principal, page.cursor, (deadline, asked.limit)).await
}

/// The next page, once there is one; at the deadline an empty one.
async fn wait(
    state: &AppState,
    waits: &OnePrincipal,
    principal: &str,
    cursor: Cursor,
    (deadline, limit): (Instant, u16),
) -> Result<Response, Problem> {
    match tokio::time::timeout_at(deadline, waits.told()).await {
        Ok(Told::Changes(changes, after)) if changes.len() <= limit.into() => Ok(answer(&changes, &after, false)),
        Ok(Told::Changes(..) | Told::Behind) => {
            let page = page(state, principal, &cursor, limit).await?;
            Ok(answer(&shared(page.changes), &page.cursor, page.more))
        }
        Ok(Told::Ended) => Ok(answer(&[], &cursor, false)),
        Err(_elapsed) => Ok(answer(&[], &waits.caught_up().unwrap_or(cursor), false)),
    }
}

/// On the heap, and only when it is one's turn: whoever waits, for a change or for the turn, holds no room for it.
pub(super) async fn page(state: &AppState, principal: &str, cursor: &Cursor, limit: u16) -> Result<Page, Problem> {
    let _turn = state.waiting.turn().await?;
    let page = async {
        let mut conn = transact::look(state).await?;
        Ok(changes::page(&mut conn, principal, cursor, limit, state.waiting.settings().kept).await?)
    };
    Box::pin(page).await
}

/// Where the feed stands, in one's turn too: ten thousand who come back at once do not all ask at once.
pub(super) async fn now(state: &AppState) -> Result<Cursor, Problem> {
    let _turn = state.waiting.turn().await?;
    let now = async {
        let mut conn = state.db.acquire().await?;
        Ok(changes::now(&mut conn).await?)
    };
    Box::pin(now).await
}

pub(super) fn shared(changes: Vec<ChangeView>) -> Vec<Arc<ChangeView>> {
    changes.into_iter().map(Arc::new).collect()
}

fn answer(changes: &[Arc<ChangeView>], cursor: &Cursor, more: bool) -> Response {
    let mut response = Json(Answer { changes, cursor: cursor.to_string(), more }).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn wants_events(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    values.filter_map(|value| value.split_once(';').or(Some((value, "")))).any(|(media_type, parameters)| {
        // Of weights only the one that says "not this" matters (RFC 9110 §12.4.2).
        let refused =
            parameters.split(';').any(|p| matches!(p.trim(), "q=0" | "q=0." | "q=0.0" | "q=0.00" | "q=0.000"));
        media_type.trim().eq_ignore_ascii_case("text/event-stream") && !refused
    })
}

impl Asked {
    /// The parameters; a stream that is resumed says where in a header, which counts then.
    fn of(uri: &Uri, resumed: Option<&HeaderValue>) -> Result<Self, Problem> {
        let bad = |detail: &str| Problem::new(Kind::BadRequest).detail(detail);
        let mut asked = Self { cursor: None, wait: Duration::ZERO, limit: LIMIT };
        let mut seen = Vec::new();
        for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if seen.contains(&name) {
                return Err(bad("a parameter is there twice"));
            }
            seen.push(name);
            match name {
                "cursor" => asked.cursor = Some(cursor(value)?),
                "wait" => {
                    // More digits than a number has room for are more than is granted, too.
                    let seconds = digits(value).then(|| value.parse().map_or(LONGEST_WAIT, Duration::from_secs));
                    asked.wait = seconds.ok_or_else(|| bad(WAIT))?.min(LONGEST_WAIT);
                }
                "limit" => {
                    let limit = digits(value).then(|| value.parse::<u16>().ok()).flatten();
                    asked.limit = limit.filter(|n| (1..=LIMIT_MAX).contains(n)).ok_or_else(|| bad(LIMITS))?;
                }
                _ => return Err(bad("the parameters are cursor, wait and limit")),
            }
        }
        if let Some(id) = resumed.filter(|id| !id.is_empty()) {
            asked.cursor = Some(cursor(id.to_str().unwrap_or("?"))?);
        }
        Ok(asked)
    }
}

const WAIT: &str = "wait: whole seconds; more than 60 are taken for 60";
const LIMITS: &str = "limit: 1 to 500";

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn cursor(token: &str) -> Result<Cursor, Problem> {
    token.parse().map_err(|_none: NoCursor| Problem::new(Kind::CursorInvalid).detail("send one that was given to you"))
}

impl From<ChangesError> for Problem {
    fn from(error: ChangesError) -> Self {
        match error {
            ChangesError::Expired => Self::new(Kind::CursorExpired)
                .detail("get a new cursor by GET /changes, then ask for what you wait for by POST /transactions/query"),
            ChangesError::Database(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_for_who_accepts_them() {
        let wants = |accept: &'static str| {
            let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]);
            wants_events(&headers)
        };
        assert!(wants("text/event-stream"));
        assert!(wants("application/json;q=0.5, Text/Event-Stream;q=0.9"));
        assert!(!wants("text/event-stream;q=0, application/json"));
        assert!(!wants("application/json"));
        assert!(!wants("*/*"));
    }
}
