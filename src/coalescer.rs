//! Concurrent pieces of work share a commit: what arrived while others were being written is written together next.
//!
//! Promises: a lone piece waits for nothing; one that spoils its list fails none of the others, since each of them is then
//! given back, to be written by itself. What was begun is finished, whether or not its client still listens; what was
//! not, is not.
//!
//! Not promised: an order among pieces that are open at the same time, nor that they are written together.

use std::collections::VecDeque;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use tokio::sync::oneshot;

/// Lists that are written at a time: while one waits for its commit to reach the disk, another is prepared.
const WRITERS: usize = 2;

/// Most pieces of a list, and most bytes of them.
const TOGETHER: usize = 64;
const BYTES: usize = 1024 * 1024;

/// Bytes of a piece that nobody else should have to wait for.
const LARGE: usize = 256 * 1024;

/// How pieces of work are written.
pub(crate) trait Writer: Clone + Send + Sync + 'static {
    /// A piece of work.
    type Item: Send + Sync + 'static;
    /// What became of it.
    type Done: Send + 'static;
    /// What is kept from one list to the next, as long as there is one: a connection.
    type Held: Default + Send;

    /// How large a piece is, in bytes.
    fn size(item: &Self::Item) -> usize;

    /// Is told that a list was spoilt, and its parts go one by one.
    fn spoilt();

    /// Writes all of a list in one transaction, or nothing of it; what became of each, in its order.
    fn write(
        &self,
        held: &mut Self::Held,
        list: &[Self::Item],
    ) -> impl Future<Output = Result<Vec<Self::Done>, Spoilt>> + Send;
}

/// Why nothing of a list was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoilt {
    /// By one of them, or by what some of them met: each is to be written by itself.
    ByOne,
    /// There was no time to.
    NotTried,
    /// There is no connection: who waits would wait as long for none.
    NoConnection,
}

/// What became of a piece of work.
#[derive(Debug)]
pub(crate) enum Written<T, D> {
    /// It was written, or answered otherwise.
    Done(D),
    /// Nothing was tried; it may be sent again.
    NotTried,
    /// It belongs into no list, or its list was spoilt and nothing of it was written.
    Alone(Box<T>),
}

/// Where pieces of work meet. Cheap to clone.
pub struct Coalescer<T, D>(Arc<Mutex<Queue<T, D>>>);

struct Queue<T, D> {
    waiting: VecDeque<Waiting<T, D>>,
    writers: usize,
}

struct Waiting<T, D> {
    item: T,
    tell: oneshot::Sender<Written<T, D>>,
}

impl<T, D> Clone for Coalescer<T, D> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T, D> Default for Coalescer<T, D> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Queue { waiting: VecDeque::new(), writers: 0 })))
    }
}

impl<T, D> fmt::Debug for Coalescer<T, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The rest holds personal data.
        f.debug_struct("Coalescer").finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static, D: Send + 'static> Coalescer<T, D> {
    /// Writes a piece of work together with whatever else is there.
    pub(crate) async fn write<W: Writer<Item = T, Done = D>>(&self, writer: &W, item: T) -> Written<T, D> {
        if W::size(&item) > LARGE {
            return Written::Alone(Box::new(item));
        }
        let (tell, told) = oneshot::channel();
        let is_needed = {
            let mut queue = self.queue();
            queue.waiting.push_back(Waiting { item, tell });
            let is_needed = queue.writers < WRITERS;
            queue.writers += usize::from(is_needed);
            is_needed
        };
        if is_needed {
            tokio::spawn(write_until_empty(self.clone(), writer.clone()));
        }
        // Not told: the process ends. Whether it was written shows when it is sent again.
        told.await.unwrap_or(Written::NotTried)
    }

    /// Tells all who wait that nothing is to be had.
    fn give_up(&self) {
        for waiting in std::mem::take(&mut self.queue().waiting) {
            drop(waiting.tell.send(Written::NotTried));
        }
    }

    /// Each change of the queue is one step, so a panic elsewhere leaves it whole.
    fn queue(&self) -> MutexGuard<'_, Queue<T, D>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is written next; the writer that finds nothing is one no longer.
    fn next(&self, size: impl Fn(&T) -> usize) -> Option<Vec<Waiting<T, D>>> {
        let mut queue = self.queue();
        // What nobody waits for any more was not begun, and may be sent again.
        queue.waiting.retain(|waiting| !waiting.tell.is_closed());
        let mut bytes = 0;
        let fits = |waiting: &&Waiting<T, D>| {
            bytes += size(&waiting.item);
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

async fn write_until_empty<W: Writer>(queue: Coalescer<W::Item, W::Done>, writer: W) {
    let mut held = W::Held::default();
    while let Some(list) = queue.next(W::size) {
        let (items, tell): (Vec<W::Item>, Vec<_>) = list.into_iter().map(|w| (w.item, w.tell)).unzip();
        // A panic leaves nothing half done in there: the transaction is rolled back.
        let written = AssertUnwindSafe(writer.write(&mut held, &items)).catch_unwind().await.unwrap_or_else(|_panic| {
            tracing::error!("writing a list panicked; its parts go one by one");
            Err(Spoilt::ByOne)
        });
        if written.is_err() {
            held = W::Held::default();
        }
        let written: Vec<_> = match written {
            Ok(done) => done.into_iter().map(Written::Done).collect(),
            Err(Spoilt::ByOne) => {
                W::spoilt();
                items.into_iter().map(|item| Written::Alone(Box::new(item))).collect()
            }
            Err(Spoilt::NotTried) => items.iter().map(|_| Written::NotTried).collect(),
            Err(Spoilt::NoConnection) => {
                queue.give_up();
                items.iter().map(|_| Written::NotTried).collect()
            }
        };
        for (tell, written) in tell.into_iter().zip(written) {
            // A client that is gone may send it again and be told then.
            drop(tell.send(written));
        }
        // Who was told and comes back at once joins the next list, which would else hold the few that came meanwhile, or
        // none, and then this writer would end and its connection be given back.
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;

    use super::*;

    /// Writes nothing, in a moment, and counts the connections that it takes.
    #[derive(Clone, Default)]
    struct Nothing(Arc<AtomicUsize>);

    /// A connection, once there is one.
    type Held = Option<()>;

    impl Writer for Nothing {
        type Item = ();
        type Done = ();
        type Held = Held;

        fn size(_item: &()) -> usize {
            1
        }

        fn spoilt() {}

        async fn write(&self, held: &mut Held, list: &[()]) -> Result<Vec<()>, Spoilt> {
            self.0.fetch_add(usize::from(held.replace(()).is_none()), Ordering::Relaxed);
            tokio::task::yield_now().await;
            Ok(vec![(); list.len()])
        }
    }

    #[tokio::test]
    async fn a_writer_whose_clients_come_back_at_once_keeps_its_connection() {
        let (coalescer, writer) = (Coalescer::default(), Nothing::default());
        let client = || async {
            for _ in 0..100 {
                assert!(matches!(coalescer.write(&writer, ()).await, Written::Done(())));
            }
        };
        join_all((0..8).map(|_| client())).await;
        let connections = writer.0.load(Ordering::Relaxed);
        assert!(connections <= WRITERS, "{connections} were taken");
    }
}
