//! How many bytes of JSON bodies one process works on at a time.
//!
//! A body is held whole, and so are the attachments that are decoded from it, until it is answered. [`Held`] reserves room
//! for it before it is read: as much as its `Content-Length` says, or as much as its buffer grows to. Who gets no room for
//! a moment is told to come again; the process never grows until it is killed. Uploads ([`super::uploads`]) need none.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower_service::Service as _;

use super::problem::{Kind, Problem};
use crate::metrics;

/// What is reserved at a time, in bytes.
const UNIT: usize = 1024;

/// How long room is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// The room of all bodies.
#[derive(Clone)]
pub(super) struct Budget(Arc<Semaphore>);

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new((bytes / UNIT).clamp(1, Semaphore::MAX_PERMITS))))
    }
}

/// The room of one request. In its extensions.
#[derive(Clone)]
pub(super) struct Held {
    budget: Budget,
    room: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
}

impl Held {
    /// Reserves room for so many more bytes.
    pub(super) async fn reserve(&self, bytes: usize) -> Result<(), Problem> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.budget.0).acquire_many_owned(units);
        let Ok(Ok(permit)) = tokio::time::timeout(PATIENCE, permit).await else {
            metrics::refused("busy");
            return Err(Problem::retry(Kind::Busy, rand::random_range(2..=10)));
        };
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        match room.as_mut() {
            Some(room) => room.merge(permit),
            None => *room = Some(permit),
        }
        Ok(())
    }
}

/// Gives the room back once there is an answer, or nobody waits for it any more.
/// Not an `async fn`: what waits for the answer then holds no copy of the request.
pub(super) fn hold(
    State(budget): State<Budget>,
    mut request: Request,
    mut next: Next,
) -> impl Future<Output = Response> {
    let held = Held { budget, room: Arc::default() };
    let room = Release(Arc::clone(&held.room));
    request.extensions_mut().insert(held);
    let response = next.call(request);
    async move {
        let response = response.await.unwrap_or_else(|never| match never {});
        drop(room);
        response
    }
}

/// Gives the room back whoever still knows of it.
struct Release(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Drop for Release {
    fn drop(&mut self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
