//! A lane: one destination's claims, its open exchanges and their settlement. Lanes share nothing but the pool.
//!
//! Claims (`supply`), exchanges and settlements go on side by side. What ends while a settlement is written is settled with
//! the next one. Nothing waits for company: a lone message is claimed, sent and settled at once.
//!
//! Promises: no more exchanges at a time than the destination's `concurrency`; nothing that is held is forgotten: it is sent,
//! given back, or left to the rescuer with its lease.

mod supply;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use uuid::Uuid;

use self::supply::{Ready, Supply, Taken, claim};
use super::deliver::deliver;
use super::settle::{Ended, settle};
use super::{Context, Destination, Stop};
use crate::metrics;
use crate::outbox::complete::{Outcome, Settlement};
use crate::outbox::retry::GONE;
use crate::periodic;

/// Deliveries that are settled together at most.
const SETTLED_TOGETHER: usize = 500;

/// Batches that are being settled at a time. One that somebody holds up delays no other; a database that is slow for all
/// slows the lane down.
const SETTLING: usize = 4;

/// Claims that are being made at a time where there is more than one of them takes.
const CLAIMING: usize = 2;

/// A settlement that takes longer is held up: the next one does not wait for it.
const HELD_UP: Duration = Duration::from_millis(20);

/// A lane that keeps up claims, and settles, no more often than this: what comes or ends within it goes together.
const TURN: Duration = Duration::from_millis(5);

/// One destination's lane.
pub struct Lane {
    context: Arc<Context>,
    /// Changes when the configuration is read anew; what is open ends under the old one.
    config: watch::Receiver<Arc<Destination>>,
    supply: Supply,
    /// The claims that are being made.
    claiming: JoinSet<Taken>,
    open: JoinSet<Ended>,
    /// What is open, so that a cut-short exchange can be given back.
    leases: HashMap<Id, Open>,
    /// What has ended and is not being settled yet.
    ended: Vec<Ended>,
    settling: JoinSet<Vec<i64>>,
    /// Held once more for each answer that is being written.
    writing: Arc<()>,
    last_claim: Instant,
    last_settlement: Instant,
    /// Exchanges that failed in a row.
    failures: u16,
    /// Whether the circuit was closed and without failures when last seen.
    clean: bool,
    /// Something may be ready.
    look: bool,
    /// The last claim left something behind: the lane does not keep up.
    behind: bool,
    /// Nothing is to be had before: the circuit is open or the rate is spent.
    wait_until: Instant,
    /// When to look though nobody says that there is something.
    next_look: Instant,
}

struct Open {
    released: Settlement,
    action_id: Uuid,
    probe: bool,
    old: bool,
}

impl Lane {
    /// A lane that has claimed nothing yet.
    pub fn new(context: Context, config: watch::Receiver<Arc<Destination>>) -> Self {
        let now = Instant::now();
        // Where the clock has run for less than a turn there is a first turn to wait for.
        let before = now.checked_sub(TURN).unwrap_or(now);
        Self {
            context: Arc::new(context),
            config,
            supply: Supply::default(),
            claiming: JoinSet::new(),
            open: JoinSet::new(),
            leases: HashMap::new(),
            ended: Vec::new(),
            settling: JoinSet::new(),
            writing: Arc::default(),
            last_claim: before,
            last_settlement: before,
            failures: 0,
            clean: false,
            look: true,
            behind: false,
            wait_until: now,
            next_look: now,
        }
    }

    /// A lane whose configuration never changes.
    pub fn of(context: Context, destination: Destination) -> Self {
        Self::new(context, watch::Sender::new(Arc::new(destination)).subscribe())
    }

    fn destination(&self) -> Arc<Destination> {
        Arc::clone(&self.config.borrow())
    }

    /// Works until stopped. After `stop.soft` nothing is claimed; what is open is finished, or cut short at `stop.hard`.
    pub async fn run(mut self, stop: Stop) {
        let mut wake = self.context.wakeup.subscribe();
        while !stop.soft.is_cancelled() {
            self.start_ready();
            if self.next_claim().is_some_and(|at| at <= Instant::now()) {
                // Seen before we look: a wake-up that comes while we look is heard below.
                wake.mark_unchanged();
                self.begin_claim();
            }
            if self.next_settlement().is_some_and(|at| at <= Instant::now()) {
                self.begin_settlement();
            }
            let pause = self.pause();
            tokio::select! {
                () = stop.soft.cancelled() => break,
                Some(ended) = self.open.join_next_with_id() => self.gather(ended),
                Some(settled) = self.settling.join_next() => self.note_settled(settled),
                Some(taken) = self.claiming.join_next() => self.take(taken),
                Ok(()) = wake.changed(), if !self.look => self.look = true,
                () = tokio::time::sleep_until(pause.into()) => self.look |= self.next_look <= Instant::now(),
            }
        }
        self.drain(&stop).await;
    }

    /// Claims and delivers until nothing of this destination is due or open. For tests and for draining by hand.
    pub async fn run_until_idle(&mut self) {
        loop {
            self.begin_claim();
            while let Some(taken) = self.claiming.join_next().await {
                self.take(taken);
            }
            let claimed = !self.supply.ready.is_empty();
            self.start_ready();
            match self.open.join_next_with_id().await {
                Some(ended) => {
                    self.gather(ended);
                    self.begin_settlement();
                }
                None if !claimed && self.settling.is_empty() && self.ended.is_empty() => break,
                None => self.all_settled().await,
            }
        }
        self.supply.forget(&self.context).await;
    }

    /// When to claim, if there is a reason to and room for it.
    fn next_claim(&self) -> Option<Instant> {
        let claims = if self.behind { CLAIMING } else { 1 };
        let is_free = self.claiming.len() < claims && self.settling.len() < SETTLING;
        let wants = self.look && is_free && self.supply.room(&self.config.borrow().definition, self.taken()) > 0;
        let turn = if self.behind { self.last_claim } else { self.last_claim + TURN };
        wants.then(|| turn.max(self.wait_until))
    }

    /// Begins a claim, if there is room for what it takes.
    fn begin_claim(&mut self) {
        let old = self.leases.values().filter(|open| open.old).count();
        let Some(order) = self.supply.order(&self.destination(), self.taken(), old) else {
            return;
        };
        self.look = self.behind;
        self.last_claim = Instant::now();
        self.next_look = self.last_claim + periodic::jittered(self.context.settings.poll);
        self.claiming.spawn(claim(Arc::clone(&self.context), order));
    }

    fn take(&mut self, taken: Result<Taken, JoinError>) {
        self.behind = false;
        match taken {
            Ok(taken) => {
                let Some(state) = self.supply.take(taken) else {
                    // Not again at once: with the next poll.
                    self.look = false;
                    return;
                };
                self.clean = state.clean;
                self.behind = state.full;
                self.look |= state.full;
                if let Some(wait) = state.wait {
                    // Somebody else may close the circuit, or change the rate: not longer than a poll.
                    self.wait(wait);
                }
            }
            Err(error) => {
                self.look = false;
                tracing::error!(%error, "a claim panicked; its leases will run out");
            }
        }
        if self.claiming.is_empty() {
            self.supply.expect_nothing();
        }
    }

    fn wait(&mut self, wait: Duration) {
        self.wait_until = Instant::now() + wait.min(self.context.settings.poll);
        self.next_look = self.wait_until;
    }

    /// Places that are taken: by open exchanges, and by answers that say something of their records until that is written,
    /// each in a transaction of its own. Without a bound their leases could end while they wait for it.
    fn taken(&self) -> usize {
        let unwritten = self.ended.iter().filter(|e| e.said.is_some()).count();
        self.open.len() + unwritten + Arc::strong_count(&self.writing).saturating_sub(1)
    }

    /// Begins exchanges as long as there are messages and places.
    fn start_ready(&mut self) {
        let concurrency = usize::from(self.config.borrow().definition.concurrency);
        let (now, mut places) = (Instant::now(), concurrency.saturating_sub(self.taken()));
        while places > 0 && self.ended.len() < SETTLED_TOGETHER * SETTLING {
            let Some(ready) = self.supply.ready.pop_front() else {
                break;
            };
            if ready.start_before < now {
                self.give_back(&ready);
                continue;
            }
            places -= 1;
            let Ready { destination, message, source, .. } = ready;
            let open = Open {
                released: Settlement::without_exchange(&message, Outcome::Released(Duration::ZERO)),
                action_id: message.action_id,
                probe: message.probe,
                old: message.old,
            };
            let handle = self.open.spawn(deliver(Arc::clone(&self.context), destination, message, source));
            self.leases.insert(handle.id(), open);
        }
        // In the order of claims, and so of time.
        while let Some(late) = self.supply.ready.pop_front_if(|ready| ready.start_before < now) {
            self.give_back(&late);
        }
    }

    /// Gives back what was not sent; it burns no attempt.
    fn give_back(&mut self, ready: &Ready) {
        let released = Settlement::without_exchange(&ready.message, Outcome::Released(Duration::ZERO));
        self.ended.push(Ended::without_exchange(released, ready.message.action_id, ready.message.probe));
    }

    fn give_all_back(&mut self) {
        for ready in std::mem::take(&mut self.supply.ready) {
            self.give_back(&ready);
        }
    }

    /// Takes in an ended delivery, and those that have ended meanwhile.
    fn gather(&mut self, first: Result<(Id, Ended), JoinError>) {
        let mut next = Some(first);
        let before = self.ended.len();
        while let Some(joined) = next {
            let ended = self.ended(joined);
            self.ended.extend(ended);
            next = self.open.try_join_next_with_id();
        }
        let new = self.ended.get(before..).unwrap_or_default();
        self.supply.ended(new.len());
        let is_our_fault = new.iter().any(Ended::is_our_fault);
        let is_gone = new.iter().any(|e| e.settlement.status == Some(GONE));
        for healthy in new.iter().filter_map(|e| e.healthy) {
            self.failures = if healthy { 0 } else { self.failures.saturating_add(1) };
        }
        if is_our_fault {
            // What keeps one from being sent keeps the others: not the whole queue is to go round meanwhile.
            self.wait(self.context.settings.poll);
        }
        let breaker = self.config.borrow().definition.breaker.failures;
        if is_gone || (breaker > 0 && self.failures >= breaker) {
            // The destination is being paused, or its circuit opened: what was claimed ahead burns no attempt.
            self.give_all_back();
        }
    }

    fn ended(&mut self, joined: Result<(Id, Ended), JoinError>) -> Option<Ended> {
        match joined {
            Ok((id, ended)) => {
                self.leases.remove(&id);
                Some(ended)
            }
            // Cut short or panicked: given back, or left to the rescuer, which counts.
            Err(error) if error.is_cancelled() => {
                let open = self.leases.remove(&error.id())?;
                Some(Ended::without_exchange(open.released, open.action_id, open.probe))
            }
            Err(error) => {
                metrics::delivery_panicked(&self.destination().definition.name);
                tracing::error!(%error, "a delivery panicked; its lease will run out");
                self.leases.remove(&error.id());
                None
            }
        }
    }

    /// When to settle what has ended: with the next turn, and not while the one before is written, unless that takes long or
    /// there is a lot.
    fn next_settlement(&self) -> Option<Instant> {
        if self.ended.is_empty() || self.settling.len() >= SETTLING {
            return None;
        }
        let pause = match (self.settling.is_empty(), self.ended.len() >= SETTLED_TOGETHER) {
            (_, true) => Duration::ZERO,
            (true, false) if self.behind => Duration::ZERO,
            (true, false) => TURN,
            (false, false) => HELD_UP,
        };
        Some(self.last_settlement + pause)
    }

    fn begin_settlement(&mut self) {
        let many = self.ended.len().min(SETTLED_TOGETHER);
        let ended: Vec<Ended> = self.ended.drain(..many).collect();
        let (context, destination, clean) = (Arc::clone(&self.context), self.destination(), self.clean);
        self.last_settlement = Instant::now();
        let writing: Vec<Arc<()>> =
            ended.iter().filter(|e| e.said.is_some()).map(|_| Arc::clone(&self.writing)).collect();
        self.settling.spawn(async move {
            let settled = settle(&context, &destination, ended, clean).await;
            drop(writing);
            settled
        });
    }

    /// What is settled may have made its successors ready.
    fn note_settled(&mut self, settled: Result<Vec<i64>, JoinError>) {
        self.look = true;
        match settled {
            Ok(leases) => self.supply.settled(&leases),
            Err(error) => tracing::error!(%error, "a settlement panicked; its leases will run out"),
        }
    }

    async fn all_settled(&mut self) {
        while !self.ended.is_empty() || !self.settling.is_empty() {
            while !self.ended.is_empty() && self.settling.len() < SETTLING {
                self.begin_settlement();
            }
            if let Some(settled) = self.settling.join_next().await {
                self.note_settled(settled);
            }
        }
    }

    /// When something is to be done though nothing happens.
    fn pause(&self) -> Instant {
        // Where something is to be had already, it is room that is waited for.
        let look = if self.look { Instant::now() + self.context.settings.poll } else { self.next_look };
        let late = self.supply.ready.front().map(|ready| ready.start_before + TURN);
        [self.next_claim(), self.next_settlement(), late].into_iter().flatten().fold(look, Instant::min)
    }

    async fn drain(&mut self, stop: &Stop) {
        // What it took is ours: it is sent where there is a place for it, and given back where it was taken ahead.
        while let Some(taken) = self.claiming.join_next().await {
            self.take(taken);
        }
        self.start_ready();
        self.give_all_back();
        loop {
            while !self.ended.is_empty() && self.settling.len() < SETTLING {
                self.begin_settlement();
            }
            tokio::select! {
                joined = self.open.join_next_with_id() => match joined {
                    Some(ended) => self.gather(ended),
                    None => break,
                },
                Some(settled) = self.settling.join_next() => self.note_settled(settled),
                () = stop.hard.cancelled() => break,
            }
        }
        self.open.abort_all();
        while let Some(ended) = self.open.join_next_with_id().await {
            self.gather(ended);
        }
        self.all_settled().await;
        self.supply.forget(&self.context).await;
    }
}
