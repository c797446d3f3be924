//! A request's body that has to make progress.
//!
//! It ends with [`TooSlow`] if it pauses for too long, or if the time that was spent waiting for it exceeds what its
//! bytes allow. Time in which nobody asked for more does not count.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use hyper::body::{Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

/// The body's bytes came too slowly.
#[derive(Debug, thiserror::Error)]
#[error("the body came too slowly")]
pub(super) struct TooSlow;

/// The body.
pub(super) struct Paced {
    body: Body,
    idle: Duration,
    rate: u64,
    bytes: u64,
    waited: Duration,
    wait: Option<(Instant, Pin<Box<Sleep>>)>,
    /// Dropped when the body has ended, whatever its end.
    done: Option<oneshot::Sender<()>>,
}

impl Paced {
    /// Lets it pause for `idle`, and asks for `rate` bytes per second beyond that. The receiver hears of its end.
    pub(super) fn new(body: Body, idle: Duration, rate: u64) -> (Self, oneshot::Receiver<()>) {
        let (done, ended) = oneshot::channel();
        let done = (!body.is_end_stream()).then_some(done);
        (Self { body, idle, rate: rate.max(1), bytes: 0, waited: Duration::ZERO, wait: None, done }, ended)
    }

    /// Still nothing: how long may that last?
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let left = (self.idle + Duration::from_secs(self.bytes / self.rate)).saturating_sub(self.waited);
        let patience = self.idle.min(left);
        let (_, sleep) = self.wait.get_or_insert_with(|| (Instant::now(), Box::pin(tokio::time::sleep(patience))));
        sleep.as_mut().poll(cx)
    }

    fn arrived(&mut self, frame: &Frame<Bytes>) {
        self.bytes += frame.data_ref().map_or(0, |data| u64::try_from(data.len()).unwrap_or(u64::MAX));
        if let Some((since, _)) = self.wait.take() {
            self.waited += since.elapsed();
        }
    }
}

impl hyper::body::Body for Paced {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.arrived(frame);
                if self.body.is_end_stream() {
                    self.done = None;
                }
            }
            Poll::Ready(_) => self.done = None,
            Poll::Pending => {
                if self.wait(cx).is_ready() {
                    self.done = None;
                    return Poll::Ready(Some(Err(axum::Error::new(TooSlow))));
                }
            }
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

/// Whether a failure to read a body means that it was too slow, whatever wraps it.
pub(super) fn is_too_slow(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<TooSlow>() {
            return true;
        }
        cause = error.source();
    }
    false
}
