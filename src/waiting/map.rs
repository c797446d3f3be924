//! Who waits for what, in memory: by transaction id and by principal. Nobody holds the lock while waiting for anything.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::records::changes::Moment;
use crate::records::progress::{ChangeView, Owned};

/// Most changes that a mailbox holds. A reader of the feed who is that far behind reads a page of its own.
const MAILBOX: usize = 500;

/// What one waits to hear of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// That it is settled.
    Settled,
    /// Whatever moves.
    Moved,
}

/// What was heard of a transaction since it was last asked for.
#[derive(Clone, Debug, Default)]
pub enum Heard {
    /// Nothing.
    #[default]
    Nothing,
    /// There is none.
    Unknown,
    /// What it is.
    View(Arc<Owned>),
}

/// What was heard of a principal's transactions since it was last asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OfPrincipal {
    pub changes: Vec<Arc<ChangeView>>,
    pub until: Option<Moment>,
    pub behind: bool,
}

/// Where one who waits is told something.
#[derive(Debug)]
pub(super) struct Mailbox<T> {
    content: Mutex<T>,
    pub(super) told: Notify,
    /// Whether to tell it at the next turn in any case.
    asks: AtomicBool,
    until: Until,
}

impl<T: Default> Mailbox<T> {
    fn new(until: Until) -> Self {
        Self { content: Mutex::default(), told: Notify::new(), asks: AtomicBool::new(false), until }
    }

    pub(super) fn is_empty(&self) -> bool
    where
        T: PartialEq,
    {
        *locked(&self.content) == T::default()
    }

    pub(super) fn take(&self) -> T {
        std::mem::take(&mut *locked(&self.content))
    }

    fn tell(&self, content: T) {
        self.asks.store(false, Ordering::Relaxed);
        *locked(&self.content) = content;
        self.told.notify_one();
    }
}

/// A panic elsewhere does not make what is in here wrong: each change of it is one step.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type Boxes<T> = HashMap<String, Vec<Arc<Mailbox<T>>>>;

/// Everybody who waits, and where the reader is.
#[derive(Debug, Default)]
pub(super) struct Map {
    transactions: Boxes<Heard>,
    principals: Boxes<OfPrincipal>,
    /// How many wait for transactions, by principal.
    polls: HashMap<String, usize>,
    /// Transactions of which somebody wants to hear at the next turn in any case.
    asked: HashSet<String>,
    pub waiting: usize,
    /// What the reader has seen; `None` while it does not read.
    pub seen: Option<Moment>,
}

fn add<T: Default>(boxes: &mut Boxes<T>, key: &str, until: Until) -> Arc<Mailbox<T>> {
    let mailbox = Arc::new(Mailbox::new(until));
    boxes.entry(key.to_owned()).or_default().push(Arc::clone(&mailbox));
    mailbox
}

fn remove<T>(boxes: &mut Boxes<T>, key: &str, mailbox: &Arc<Mailbox<T>>) {
    if let Some(list) = boxes.get_mut(key) {
        list.retain(|other| !Arc::ptr_eq(other, mailbox));
        if list.is_empty() {
            boxes.remove(key);
        }
    }
}

impl Map {
    /// How many of a principal wait for transactions.
    pub(super) fn polls_of(&self, principal: &str) -> usize {
        self.polls.get(principal).copied().unwrap_or_default()
    }

    pub(super) fn wait_for_transaction(&mut self, principal: &str, id: &str, until: Until) -> Arc<Mailbox<Heard>> {
        self.waiting += 1;
        *self.polls.entry(principal.to_owned()).or_default() += 1;
        add(&mut self.transactions, id, until)
    }

    /// How many feeds of a principal wait.
    pub(super) fn feeds_of(&self, id: &str) -> usize {
        self.principals.get(id).map_or(0, Vec::len)
    }

    pub(super) fn wait_for_principal(&mut self, id: &str) -> Arc<Mailbox<OfPrincipal>> {
        self.waiting += 1;
        add(&mut self.principals, id, Until::Moved)
    }

    pub(super) fn leave_transaction(&mut self, principal: &str, id: &str, mailbox: &Arc<Mailbox<Heard>>) {
        self.waiting -= 1;
        if let Some(polls) = self.polls.get_mut(principal) {
            *polls -= 1;
            if *polls == 0 {
                self.polls.remove(principal);
            }
        }
        remove(&mut self.transactions, id, mailbox);
    }

    pub(super) fn leave_principal(&mut self, id: &str, mailbox: &Arc<Mailbox<OfPrincipal>>) {
        self.waiting -= 1;
        remove(&mut self.principals, id, mailbox);
    }

    /// One wants to hear what its transaction is now, whatever it is.
    pub(super) fn ask(&mut self, id: &str, mailbox: &Mailbox<Heard>) {
        mailbox.asks.store(true, Ordering::Relaxed);
        self.asked.insert(id.to_owned());
    }

    /// All want to hear what theirs is now.
    pub(super) fn ask_all(&mut self) {
        self.asked.extend(self.transactions.keys().cloned());
        for mailbox in self.transactions.values().flatten() {
            mailbox.asks.store(true, Ordering::Relaxed);
        }
    }

    /// What could not be read is read at the next turn.
    pub(super) fn ask_again(&mut self, ids: HashSet<String>) {
        self.asked.extend(ids);
    }

    /// The transactions that somebody waits for, of those that moved; those that were asked for; all of them if it is
    /// not certain which moved.
    pub(super) fn take_wanted(&mut self, moved: &[(String, String)], all: bool) -> HashSet<String> {
        let mut ids = std::mem::take(&mut self.asked);
        ids.retain(|id| self.transactions.contains_key(id));
        if all {
            ids.extend(self.transactions.keys().cloned());
            return ids;
        }
        let wanted = |principal: &String, id: &String| {
            self.principals.contains_key(principal) || self.transactions.contains_key(id)
        };
        ids.extend(moved.iter().filter(|(principal, id)| wanted(principal, id)).map(|(_, id)| id.clone()));
        ids
    }

    /// Whether somebody is to be told this in full.
    pub(super) fn wants_view(&self, state: &ChangeView) -> bool {
        let list = self.transactions.get(&state.transaction_id);
        list.is_some_and(|list| list.iter().any(|b| is_due(b, state.settled)))
    }

    /// Tells all who wait for this transaction what it is, if that is what they wait for.
    pub(super) fn tell_view(&self, view: &Arc<Owned>) {
        for mailbox in self.transactions.get(&view.view.transaction_id).into_iter().flatten() {
            if is_due(mailbox, view.view.settled) {
                mailbox.tell(Heard::View(Arc::clone(view)));
            }
        }
    }

    /// Tells all who asked for this transaction that there is none.
    pub(super) fn tell_unknown(&self, id: &str) {
        for mailbox in self.transactions.get(id).into_iter().flatten() {
            if mailbox.asks.load(Ordering::Relaxed) {
                mailbox.tell(Heard::Unknown);
            }
        }
    }

    /// Tells the feeds of a principal that these moved, in this order.
    pub(super) fn tell_changes(&self, principal: &str, changes: &[Arc<ChangeView>], until: &Moment) {
        for mailbox in self.principals.get(principal).into_iter().flatten() {
            let mut content = locked(&mailbox.content);
            mailbox.told.notify_one();
            if content.behind || content.changes.len() + changes.len() > MAILBOX {
                *content = OfPrincipal { behind: true, ..OfPrincipal::default() };
                continue;
            }
            // One that moved again is told once, as it is now.
            content.changes.retain(|old| changes.iter().all(|new| new.transaction_id != old.transaction_id));
            content.changes.extend(changes.iter().cloned());
            content.until = Some(until.clone());
        }
    }

    /// Tells all feeds to read for themselves.
    pub(super) fn tell_all_behind(&self) {
        for mailbox in self.principals.values().flatten() {
            mailbox.tell(OfPrincipal { behind: true, ..OfPrincipal::default() });
        }
    }
}

fn is_due(mailbox: &Mailbox<Heard>, settled: bool) -> bool {
    settled || mailbox.until == Until::Moved || mailbox.asks.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leaves_counts_no_longer() {
        let mut map = Map::default();
        let one = map.wait_for_transaction("agent", "draft-0001", Until::Settled);
        let two = map.wait_for_transaction("agent", "draft-0001", Until::Moved);
        map.wait_for_transaction("another", "draft-0002", Until::Settled);
        assert_eq!((map.polls_of("agent"), map.polls_of("another"), map.polls_of("nobody")), (2, 1, 0));
        map.leave_transaction("agent", "draft-0001", &one);
        map.leave_transaction("agent", "draft-0001", &two);
        assert_eq!((map.polls_of("agent"), map.waiting, map.polls.len()), (0, 1, 1));
    }
}
