//! Concurrent submissions share a commit: what arrived while others were being written is written together next.
//!
//! Promises: a lone submission waits for nothing; one that spoils its list fails none of the others, since each of them
//! is then written by itself; nobody's lock holds up a list for more than a moment. What was begun is finished,
//! whether or not its client still listens.
//!
//! Not promised: an order among submissions that are open at the same time, nor that they are written together.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
        // Not told: the list's task panicked. Whether it was written shows when it is sent again.
        told.await.unwrap_or(Written::Done(Err(CommandError::NotTried)))
    }

    /// Each change of the queue is one step, so a panic elsewhere leaves it whole.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is written next; the writer that finds nothing is one no longer.
    fn next(&self) -> Option<Vec<Waiting>> {
        let mut queue = self.queue();
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
        let together = tokio::spawn(write_together(state.clone(), list));
        if together.await.is_err() {
            tracing::error!("writing a list of submissions panicked");
        }
    }
}

async fn write_together(state: AppState, list: Vec<Waiting>) {
    let (submissions, tell): (Vec<Submission>, Vec<_>) = list.into_iter().map(|w| (w.submission, w.tell)).unzip();
    metrics::submitted_together(submissions.len());
    let written: Vec<Written> = match transact::submit_together(&state, &submissions).await {
        Ok(outcomes) => outcomes.into_iter().map(|outcome| Written::Done(Ok(outcome))).collect(),
        // Trying each by itself would find the same.
        Err(error) if error.is_outage() => {
            let rest = std::iter::repeat_with(|| Written::Done(Err(CommandError::NotTried)));
            std::iter::once(Written::Done(Err(error))).chain(rest).take(submissions.len()).collect()
        }
        Err(_) => submissions.into_iter().map(|s| Written::Alone(Box::new(s))).collect(),
    };
    for (tell, written) in tell.into_iter().zip(written) {
        // A client that is gone may send it again and be told then.
        drop(tell.send(written));
    }
}
