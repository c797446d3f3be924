//! The feed of changes as server-sent events: `event: change`, `id:` a cursor to resume from, `data:` a change.
//!
//! An event's id never lies after what was not sent yet: all but the last change of a moment carry the cursor before it,
//! so that a stream that is cut between two of them tells them again.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_util::stream;
use tokio::time::Instant;

use super::AppState;
use super::changes::{Asked, now, page, shared};
use super::problem::{Kind, Problem};
use crate::records::changes::Cursor;
use crate::records::progress::ChangeView;
use crate::waiting::{OnePrincipal, Told};

/// A comment at least this often, so that nobody on the way takes the connection for dead.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// A stream ends after so many seconds, and is resumed with a token that is valid then.
const LIFE: std::ops::RangeInclusive<u64> = 600..=900;

struct Feed {
    state: AppState,
    principal: String,
    waits: OnePrincipal,
    cursor: Cursor,
    limit: u16,
    /// Pages have to be read before there is anything to wait for.
    more: bool,
    end: Instant,
}

/// The stream, from the cursor on; from now on without one.
pub(super) async fn stream(state: AppState, principal: String, asked: Asked) -> Result<Response, Problem> {
    // First this, then the page: what moves in between is told.
    let waits = state.waiting.principal(&principal).await?;
    let (first, cursor, more) = match asked.cursor {
        None => (Vec::new(), now(&state).await?, false),
        Some(from) => {
            let page = page(&state, &principal, &from, asked.limit).await?;
            (written(&page.changes, &from, &page.cursor)?, page.cursor, page.more)
        }
    };
    // Those who are cut off together do not come back together.
    let mut begin = format!("retry: {}\n", rand::random_range(1000..=5000)).into_bytes();
    if first.is_empty() {
        begin.extend(format!("id: {cursor}\n").into_bytes());
    }
    begin.push(b'\n');
    begin.extend(first);
    let end = Instant::now() + Duration::from_secs(rand::random_range(LIFE));
    let feed = Box::new(Feed { state, principal, waits, cursor, limit: asked.limit, more, end });
    let chunks = stream::unfold((Some(Bytes::from(begin)), feed), |(begin, mut feed)| async move {
        let chunk = match begin {
            Some(begin) => begin,
            None => feed.next().await?,
        };
        Some((Ok::<_, Infallible>(chunk), (None, feed)))
    });
    let mut response = Response::new(Body::from_stream(chunks));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that gather what they pass on are asked not to.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

impl Feed {
    /// What is to be sent next; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Bytes> {
        if self.more {
            return self.read().await;
        }
        let heartbeat = Instant::now() + HEARTBEAT;
        match tokio::time::timeout_at(heartbeat.min(self.end), self.waits.told()).await {
            Ok(Told::Changes(changes, after)) => {
                let chunk = written_shared(&changes, &self.cursor, &after).ok()?;
                self.cursor = after;
                Some(chunk.into())
            }
            Ok(Told::Behind) => self.read().await,
            Ok(Told::Ended) => None,
            Err(_elapsed) if Instant::now() >= self.end => None,
            Err(_elapsed) => Some(self.heartbeat()),
        }
    }

    async fn read(&mut self) -> Option<Bytes> {
        // Whoever is cut off here comes back, and is told what is the matter.
        let page = page(&self.state, &self.principal, &self.cursor, self.limit).await.ok()?;
        let chunk = written(&page.changes, &self.cursor, &page.cursor).ok()?;
        self.cursor = page.cursor;
        self.more = page.more;
        Some(if chunk.is_empty() { self.heartbeat() } else { chunk.into() })
    }

    /// The id moves on though nothing is told: a cursor does not grow old while one listens.
    fn heartbeat(&mut self) -> Bytes {
        if !self.more
            && let Some(cursor) = self.waits.caught_up()
        {
            self.cursor = cursor;
        }
        format!(":\nid: {}\n\n", self.cursor).into()
    }
}

fn written(changes: &[ChangeView], before: &Cursor, after: &Cursor) -> Result<Vec<u8>, Problem> {
    written_shared(&shared(changes.to_vec()), before, after)
}

fn written_shared(changes: &[Arc<ChangeView>], before: &Cursor, after: &Cursor) -> Result<Vec<u8>, Problem> {
    let mut events = Vec::with_capacity(changes.len());
    for (at, change) in changes.iter().enumerate() {
        let id = if at + 1 == changes.len() { after } else { before };
        let data = serde_json::to_string(change).map_err(|error| {
            tracing::error!(%error, "a change could not be written");
            Problem::new(Kind::Internal)
        })?;
        events.push(format!("event: change\nid: {id}\ndata: {data}\n\n"));
    }
    Ok(events.concat().into_bytes())
}
