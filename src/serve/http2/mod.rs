//! One HTTP/2 connection, for as long as it lives.
//!
//! The socket says little here: pings and their answers are written to a client that has opened no window for what it asked
//! for. So an answer is handed over in pieces, and one that is asked for says that there was room for the one before: a
//! connection of which no answer gets on for [`Settings::stall`](super::Settings::stall) is closed.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Bytes;
use hyper::Request;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http2;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;

use super::activity::{Activity, Counted, Open};
use super::stream::Stream;
use super::{Server, Settings};

#[cfg(test)]
mod tests;

/// Requests of one connection that may be open.
const STREAMS: u32 = 128;

/// Peers that are gone are found by a ping.
const PING: Duration = Duration::from_secs(20);

/// Bytes of an answer that are handed over at a time: the largest frame that every peer takes (RFC 9113 §4.2).
const PIECE: usize = 16 * 1024;

fn builder(settings: &Settings) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(settings.head_max).unwrap_or(u32::MAX))
        .max_concurrent_streams(STREAMS)
        .keep_alive_interval(PING);
    builder
}

impl Server {
    /// Lets a connection do its work until it ends, is idle or stands still for too long, or has to.
    pub(super) async fn http2(&self, stream: Stream, activity: &Arc<Activity>) {
        let (router, counted) = (TowerToHyperService::new(self.router.clone()), Arc::clone(activity));
        let service = service_fn(move |request: Request<Incoming>| {
            let (open, activity) = (Open::begin(&counted), Arc::clone(&counted));
            let answer = router.call(request);
            async move { Ok::<_, Infallible>(answer.await?.map(|body| Pieces::of(Counted { body, open }, activity))) }
        });
        let mut connection = pin!(builder(&self.settings).serve_connection(TokioIo::new(stream), service));
        let mut idle = pin!(activity.idle(self.settings.idle));
        let mut stalled = pin!(activity.stalled(self.settings.stall));
        let mut stopping = false;
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection ended early");
                    }
                    break;
                }
                () = &mut idle => break,
                () = &mut stalled => break,
                () = self.hard.cancelled() => break,
                () = self.soft.cancelled(), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// The body of an answer. hyper asks for a piece when the client has room for one.
struct Pieces {
    body: Counted,
    /// Of the last frame.
    left: Bytes,
    owed: bool,
    activity: Arc<Activity>,
}

impl Pieces {
    fn of(body: Counted, activity: Arc<Activity>) -> Self {
        activity.owe();
        Self { body, left: Bytes::new(), owed: true, activity }
    }

    fn owe(&mut self, owed: bool) {
        match (self.owed, owed) {
            (false, true) => self.activity.owe(),
            (true, false) => self.activity.paid(),
            (true, true) | (false, false) => self.activity.touch(),
        }
        self.owed = owed;
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.left.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) if frame.is_data() => self.left = frame.into_data().unwrap_or_default(),
                other => return Poll::Ready(other),
            }
        }
        let piece = self.left.split_to(self.left.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = self.poll_piece(cx);
        self.owe(matches!(polled, Poll::Ready(Some(Ok(_)))));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (of, left) = (self.body.size_hint(), u64::try_from(self.left.len()).unwrap_or(u64::MAX));
        let mut hint = SizeHint::new();
        hint.set_lower(of.lower().saturating_add(left));
        if let Some(upper) = of.upper() {
            hint.set_upper(upper.saturating_add(left));
        }
        hint
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        self.owe(false);
    }
}
