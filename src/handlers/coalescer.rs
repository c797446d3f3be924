//! Concurrent submissions share a commit: what arrived while others were being written is written together next.
//!
//! Promises: a lone submission waits for nothing; one that spoils its list fails none of the others, since each of them
//! is then written by itself; nobody's lock holds up a list for more than a moment, and nothing for more than ten
//! seconds. What was begun is finished, whether or not its client still listens; what was not, is not.
//!
//! Not promised: an order among submissions that are open at the same time, nor that they are written together.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use tokio::sync::oneshot;

use super::{AppState, transact};
use crate::metrics;
use crate::records::commands::{CommandError, Outcome, Submission};

/// Lists that are written at a time: while one waits for its commit to reach the disk, another is prepared.
const WRITERS: usize = 2;

/// Most submissions of a list, and most bytes of them.
const TOGETHER: usize = 64;
const BYTES: usize = 1024 * 1024;

/// Bytes of a submission that nobody else should have to wait for.
const LARGE: usize = 256 * 1024;

/// Where submissions meet. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Coalescer(Arc<Mutex<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    writers: usize,
}

#[derive(Debug)]
struct Waiting {
    submission: Submission,
    tell: oneshot::Sender<Written>,
}

/// What became of a submission's list.
#[derive(Debug)]
pub(super) enum Written {
    /// It was written, or cannot be.
    Done(Result<Outcome, CommandError>),
    /// It belongs into no list, or its list was spoilt and nothing of it was written.
    Alone(Box<Submission>),
}

impl Coalescer {
    /// Writes a submission together with whatever else is there.
    pub(super) async fn write(&self, state: &AppState, submission: Submission) -> Written {
        if submission.size() > LARGE {
            return Written::Alone(Box::new(submission));
        }
        let (tell, told) = oneshot::channel();
        let is_needed = {
            let mut queue = self.queue();
            queue.waiting.push_back(Waiting { submission, tell });
            let is_needed = queue.writers < WRITERS;
            queue.writers += usize::from(is_needed);
            is_needed
        };
        if is_needed {
            tokio::spawn(write_until_empty(state.clone()));
        }
        // Not told: the process ends. Whether it was written shows when it is sent again.
        told.await.unwrap_or(Written::Done(Err(CommandError::NotTried)))
    }

    /// Tells all who wait that nothing is to be had.
    fn give_up(&self) {
        for waiting in std::mem::take(&mut self.queue().waiting) {
            drop(waiting.tell.send(Written::Done(Err(CommandError::NotTried))));
        }
    }

    /// Each change of the queue is one step, so a panic elsewhere leaves it whole.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is written next; the writer that finds nothing is one no longer.
    fn next(&self) -> Option<Vec<Waiting>> {
        let mut queue = self.queue();
        // What nobody waits for any more was not begun, and may be sent again.
        queue.waiting.retain(|waiting| !waiting.tell.is_closed());
        let mut bytes = 0;
        let fits = |waiting: &&Waiting| {
            bytes += waiting.submission.size();
            bytes <= BYTES
        };
        let many = queue.waiting.iter().take(TOGETHER).take_while(fits).count().max(1).min(queue.waiting.len());
        if many == 0 {
            queue.writers -= 1;
            return None;
        }
        Some(queue.waiting.drain(..many).collect())
    }
}

async fn write_until_empty(state: AppState) {
    while let Some(list) = state.coalescer.next() {
        write_together(&state, list).await;
    }
}

async fn write_together(state: &AppState, list: Vec<Waiting>) {
    let (submissions, tell): (Vec<Submission>, Vec<_>) = list.into_iter().map(|w| (w.submission, w.tell)).unzip();
    metrics::submitted_together(submissions.len());
    // A panic leaves nothing half done in there: the transaction is rolled back.
    let written = AssertUnwindSafe(transact::submit_together(state, &submissions)).catch_unwind().await;
    let written: Vec<Written> = match written {
        Ok(Ok(outcomes)) => outcomes.into_iter().map(|outcome| Written::Done(Ok(outcome))).collect(),
        // There is no connection: who comes next would wait as long for none.
        Ok(Err(CommandError::Database(sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed))) => {
            state.coalescer.give_up();
            submissions.iter().map(|_| Written::Done(Err(CommandError::NotTried))).collect()
        }
        Ok(Err(CommandError::NotTried)) => {
            submissions.iter().map(|_| Written::Done(Err(CommandError::NotTried))).collect()
        }
        spoilt => {
            metrics::list_spoilt();
            if let Ok(Err(error)) = &spoilt {
                tracing::info!(code = error.code().as_deref(), "submissions go one by one");
            } else {
                tracing::error!("writing submissions panicked; they go one by one");
            }
            submissions.into_iter().map(|s| Written::Alone(Box::new(s))).collect()
        }
    };
    for (tell, written) in tell.into_iter().zip(written) {
        // A client that is gone may send it again and be told then.
        drop(tell.send(written));
    }
}
