//! Waiting without polling: whoever waits for a transaction, or for whatever becomes of theirs, is told by the one reader
//! of this instance. A waiter is an entry in a map and holds no connection to the database.
//!
//! ```text
//! commit ─▶ wake-up (here at once, elsewhere by NOTIFY; a poll makes good what was lost)
//!        ─▶ reader: the hints since its last snapshot ─▶ states of what somebody waits for, many at a time ─▶ mailboxes
//! ```
//!
//! Promises: who subscribes and *then* reads misses nothing that commits later; nothing is read while nobody waits; no
//! more wait than [`Settings::max_waiting`]; all are told to go when the process stops.
//! Not promised: each state in between.

mod map;
mod reader;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, SemaphorePermit, watch};
use tokio_util::sync::CancellationToken;

use crate::records::changes::{Cursor, Moment};
use crate::records::progress::ChangeView;

use map::{Mailbox, Map, OfPrincipal, locked};

pub use map::{Heard, Until};

/// How one may wait.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How many may wait at once in this process.
    pub max_waiting: usize,
    /// How long what moved is kept, and so for how long a cursor is good.
    pub kept: Duration,
    /// How often is looked for what no wake-up told of.
    pub poll: Duration,
}

/// How long one who comes first waits until the reader reads.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many read pages of their own at once: ten thousand who come back in one moment leave connections to others.
const PAGES: usize = 4;

/// As many feeds as one principal may have open, and as many transactions as they may wait for: devices, not a way to take
/// everybody's place. Whoever has more is served better by the feed.
const EACH: usize = 1000;

/// Why one cannot wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotWait {
    /// Too many do.
    #[error("too many are waiting")]
    TooMany,
    /// The database cannot be read.
    #[error("the changes cannot be read")]
    NotRead,
}

/// Those who wait in this process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Waiting(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: Settings,
    map: Mutex<Map>,
    /// Somebody came, or asks.
    wanted: Notify,
    reads: watch::Sender<bool>,
    /// So many read pages of their own at once.
    pages: Semaphore,
    ended: CancellationToken,
}

impl Waiting {
    /// Nobody waits yet. [`Waiting::run`] makes it work.
    pub fn new(settings: Settings) -> Self {
        let (map, wanted) = (Mutex::default(), Notify::new());
        let (reads, ended) = (watch::Sender::new(false), CancellationToken::new());
        Self(Arc::new(Inner { settings, map, wanted, reads, pages: Semaphore::new(PAGES), ended }))
    }

    /// How one may wait.
    pub fn settings(&self) -> Settings {
        self.0.settings
    }

    /// How many wait now.
    pub fn count(&self) -> usize {
        locked(&self.0.map).waiting
    }

    /// Waits for a transaction. [Ask](OneTransaction::ask) what it is *after* this: what moves later is told.
    pub async fn transaction(&self, principal: &str, id: &str, until: Until) -> Result<OneTransaction, CannotWait> {
        if locked(&self.0.map).polls_of(principal) >= EACH {
            return Err(CannotWait::TooMany);
        }
        let mailbox = self.enter(|map| map.wait_for_transaction(principal, id, until))?;
        let waits = OneTransaction { principal: principal.into(), id: id.to_owned(), mailbox, waiting: self.clone() };
        self.until_read().await?;
        Ok(waits)
    }

    /// Waits for whatever becomes of a principal's transactions. Read a page *after* this: what moves later is told.
    pub async fn principal(&self, id: &str) -> Result<OnePrincipal, CannotWait> {
        if locked(&self.0.map).feeds_of(id) >= EACH {
            return Err(CannotWait::TooMany);
        }
        let mailbox = self.enter(|map| map.wait_for_principal(id))?;
        let waits = OnePrincipal { id: id.to_owned(), mailbox, waiting: self.clone() };
        self.until_read().await?;
        Ok(waits)
    }

    fn enter<T>(&self, enter: impl FnOnce(&mut Map) -> T) -> Result<T, CannotWait> {
        let mut map = locked(&self.0.map);
        if map.waiting >= self.0.settings.max_waiting {
            return Err(CannotWait::TooMany);
        }
        let entered = enter(&mut map);
        // The only one may have come while the reader, which had lost its connection, was not looking.
        let first = map.seen.is_none() || map.waiting == 1;
        drop(map);
        if first {
            self.0.wanted.notify_one();
        }
        Ok(entered)
    }

    /// What commits from now on, the reader will see: it has a snapshot.
    async fn until_read(&self) -> Result<(), CannotWait> {
        let mut reads = self.0.reads.subscribe();
        let reads = reads.wait_for(|reads| *reads);
        tokio::select! {
            read = tokio::time::timeout(PATIENCE, reads) => match read {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(_)) | Err(_) => Err(CannotWait::NotRead),
            },
            () = self.0.ended.cancelled() => Ok(()),
        }
    }

    /// Waits for one's turn to read a page. Hold it while reading.
    pub async fn turn(&self) -> Result<SemaphorePermit<'_>, CannotWait> {
        // It is never closed.
        self.0.pages.acquire().await.map_err(|_closed| CannotWait::NotRead)
    }

    /// Resolves when the process stops: whoever waits is to answer with what there is.
    pub async fn ended(&self) {
        self.0.ended.cancelled().await;
    }
}

/// One who waits for a transaction; leaves when dropped.
#[derive(Debug)]
pub struct OneTransaction {
    principal: Box<str>,
    id: String,
    mailbox: Arc<Mailbox<Heard>>,
    waiting: Waiting,
}

impl OneTransaction {
    /// What it is, once it is what was waited for or was asked for; [`Heard::Nothing`] when the process stops.
    pub async fn told(&self) -> Heard {
        loop {
            tokio::select! {
                () = self.mailbox.told.notified() => {}
                () = self.waiting.ended() => return Heard::Nothing,
            }
            match self.mailbox.take() {
                Heard::Nothing => {}
                heard @ (Heard::Unknown | Heard::View(_)) => return heard,
            }
        }
    }

    /// Asks the reader what it is now: it reads for many at a time. [`OneTransaction::told`] brings the answer.
    pub fn ask(&self) {
        locked(&self.waiting.0.map).ask(&self.id, &self.mailbox);
        self.waiting.0.wanted.notify_one();
    }
}

impl Drop for OneTransaction {
    fn drop(&mut self) {
        locked(&self.waiting.0.map).leave_transaction(&self.principal, &self.id, &self.mailbox);
    }
}

/// What a feed is told.
#[derive(Clone, Debug)]
pub enum Told {
    /// These moved, and the cursor after them.
    Changes(Vec<Arc<ChangeView>>, Cursor),
    /// More than is told here: read pages from where you are.
    Behind,
    /// The process stops.
    Ended,
}

/// One who waits for a principal's transactions; leaves when dropped.
#[derive(Debug)]
pub struct OnePrincipal {
    id: String,
    mailbox: Arc<Mailbox<OfPrincipal>>,
    waiting: Waiting,
}

impl OnePrincipal {
    /// What moved, once something did.
    pub async fn told(&self) -> Told {
        loop {
            tokio::select! {
                () = self.mailbox.told.notified() => {}
                () = self.waiting.ended() => return Told::Ended,
            }
            let OfPrincipal { changes, until, behind } = self.mailbox.take();
            match until {
                _ if behind => return Told::Behind,
                Some(until) => return Told::Changes(changes, Cursor::at(until)),
                None => {}
            }
        }
    }

    /// Where one is who was told everything so far, for who has been caught up before; `None` if something is to be told.
    pub fn caught_up(&self) -> Option<Cursor> {
        let map = locked(&self.waiting.0.map);
        let seen: Moment = map.seen.clone()?;
        if self.mailbox.is_empty() { Some(Cursor::at(seen)) } else { None }
    }
}

impl Drop for OnePrincipal {
    fn drop(&mut self) {
        locked(&self.waiting.0.map).leave_principal(&self.id, &self.mailbox);
    }
}
