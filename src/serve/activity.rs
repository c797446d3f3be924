//! What a connection is doing: whether a request is open, when it last did anything, and whether part of an answer is
//! still in hyper's hands.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Instant;

/// One connection's.
pub(super) struct Activity {
    open: AtomicUsize,
    /// Answers whose client has yet to take what it was sent before it is sent more.
    owed: AtomicUsize,
    born: Instant,
    /// When a request began or ended or part of an answer was taken, in ms after `born`.
    last: AtomicU64,
    /// Something was handed to hyper after it was last known to hold nothing unwritten.
    unwritten: AtomicBool,
}

impl Activity {
    pub(super) fn new() -> Self {
        let (open, owed, last) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicU64::new(0));
        Self { open, owed, born: Instant::now(), last, unwritten: AtomicBool::new(false) }
    }

    pub(super) fn touch(&self) {
        self.last.store(self.age(), Ordering::Relaxed);
    }

    fn age(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Part of an answer is handed to hyper.
    pub(super) fn handed(&self) {
        self.unwritten.store(true, Ordering::Relaxed);
    }

    /// hyper flushes what is below it, which it does when it has nothing left to write, and only then.
    pub(super) fn written(&self) {
        self.unwritten.store(false, Ordering::Relaxed);
    }

    /// Whether all that was handed over has been given to the socket.
    pub(super) fn is_written(&self) -> bool {
        !self.unwritten.load(Ordering::Relaxed)
    }

    /// A client is to take part of an answer.
    pub(super) fn owe(&self) {
        self.owed.fetch_add(1, Ordering::Relaxed);
        self.touch();
    }

    /// It has, or there is nothing more to take.
    pub(super) fn paid(&self) {
        self.owed.fetch_sub(1, Ordering::Relaxed);
        self.touch();
    }

    /// Returns when there was no open request for so long.
    pub(super) async fn idle(&self, limit: Duration) {
        self.quiet(limit, || self.open.load(Ordering::Relaxed) == 0).await;
    }

    /// Returns when nothing was taken of what is owed for so long.
    pub(super) async fn stalled(&self, limit: Duration) {
        self.quiet(limit, || self.owed.load(Ordering::Relaxed) > 0).await;
    }

    async fn quiet(&self, limit: Duration, counts: impl Fn() -> bool) {
        loop {
            let quiet = Duration::from_millis(self.age().saturating_sub(self.last.load(Ordering::Relaxed)));
            let left = if counts() { limit.saturating_sub(quiet) } else { limit };
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }
}

/// An open request, until its answer has been handed over or given up.
pub(super) struct Open(Arc<Activity>);

impl Open {
    pub(super) fn begin(activity: &Arc<Activity>) -> Self {
        activity.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(activity))
    }

    /// Part of its answer is handed to hyper.
    pub(super) fn handed(&self) {
        self.0.handed();
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.touch();
    }
}

/// The body of an answer.
pub(super) struct Counted {
    pub(super) body: axum::body::Body,
    pub(super) open: Open,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_ready() {
            self.open.handed();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
