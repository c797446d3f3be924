//! A lane: one destination's claims, its open exchanges and their settlement. Lanes share nothing but the pool.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use uuid::Uuid;

use super::deliver::deliver;
use super::settle::{Ended, settle};
use super::{Context, Destination, Stop};
use crate::metrics;
use crate::outbox::Claimed;
use crate::outbox::claim::{self, Ask, Batch, Floor};
use crate::outbox::complete::{Outcome, Settlement};
use crate::periodic;
use crate::records::queries::{self, Source};

/// Deliveries that are settled together at most.
const SETTLED_TOGETHER: usize = 100;

/// Batches that are being settled at a time. One that somebody holds up delays no other; a database that is slow for all
/// slows the lane down.
const SETTLING: usize = 4;

/// A lane that keeps up turns no more often than this: what comes or ends within it is claimed or settled together.
const TURN: Duration = Duration::from_millis(5);

/// How often a lane looks from the start of the queue, at the most often; no more than a twentieth of its time.
const FULL_LOOK: Duration = Duration::from_secs(1);
const FULL_LOOK_SHARE: u32 = 20;

/// One destination's lane.
pub struct Lane {
    context: Context,
    /// Changes when the configuration is read anew; what is open ends under the old one.
    config: watch::Receiver<Arc<Destination>>,
    open: JoinSet<Ended>,
    settling: JoinSet<()>,
    /// What is open, so that a cut-short exchange can be given back.
    leases: HashMap<Id, Open>,
    floor: Floor,
    next_full_look: Instant,
    /// Whether the circuit was closed and without failures when last seen.
    clean: bool,
    /// Something may be ready.
    look: bool,
    /// Nothing is to be had before: the circuit is open or the rate is spent.
    wait_until: Instant,
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
        Self {
            context,
            config,
            open: JoinSet::new(),
            settling: JoinSet::new(),
            leases: HashMap::new(),
            floor: Floor::default(),
            next_full_look: Instant::now(),
            clean: false,
            look: true,
            wait_until: Instant::now(),
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
        // Whether there is more than was taken.
        let mut more = false;
        while !stop.soft.is_cancelled() {
            let turn = Instant::now();
            if self.look && self.has_room() && self.wait_until <= turn {
                // Seen before we look: a wake-up that comes while we look is heard below.
                wake.mark_unchanged();
                more = self.fill().await;
                self.look = more;
                if more && self.has_room() {
                    continue;
                }
            }
            let waits = self.wait_until.saturating_duration_since(Instant::now());
            let poll = periodic::jittered(self.context.settings.poll);
            let pause = if waits.is_zero() { poll } else { waits };
            let room = self.has_room();
            tokio::select! {
                () = stop.soft.cancelled() => break,
                Some(ended) = self.open.join_next_with_id() => self.finish(ended).await,
                // What is settled may have made its successors ready.
                Some(_) = self.settling.join_next() => self.look = true,
                Ok(()) = wake.changed(), if room && waits.is_zero() => self.look = true,
                () = tokio::time::sleep(pause), if room => self.look = true,
            }
            if !more {
                tokio::time::sleep_until((turn + TURN).into()).await;
            }
        }
        self.drain(&stop).await;
    }

    /// Claims and delivers until nothing of this destination is due or open. For tests and for draining by hand.
    pub async fn run_until_idle(&mut self) {
        loop {
            let claimed = self.fill().await;
            match self.open.join_next_with_id().await {
                Some(ended) => self.finish(ended).await,
                None if !claimed && self.settling.is_empty() => return,
                // What is settled makes its successors ready.
                None => while self.settling.join_next().await.is_some() {},
            }
        }
    }

    fn has_room(&self) -> bool {
        self.open.len() < usize::from(self.destination().definition.concurrency)
    }

    /// Claims into the free room and starts the exchanges; true if there may be more than was claimed.
    async fn fill(&mut self) -> bool {
        let destination = self.destination();
        let Some((limit, retries)) = self.room(&destination) else {
            return false;
        };
        let batch = match self.claim(&destination, limit, retries).await {
            Ok(batch) => batch,
            Err(error) => {
                tracing::warn!(%error, destination = %destination.definition.name, "nothing could be claimed");
                return false;
            }
        };
        self.clean = batch.clean;
        if let Some(wait) = batch.wait {
            // Somebody else may close the circuit, or change the rate: not longer than a poll.
            self.wait_until = Instant::now() + wait.min(self.context.settings.poll);
        }
        if batch.messages.is_empty() {
            return false;
        }
        let sources = self.sources(&batch.messages).await;
        for message in batch.messages {
            let source = sources.get(&message.action_id).cloned();
            self.start(Arc::clone(&destination), message, source);
        }
        batch.full
    }

    /// How many messages may be claimed, and how many of them may be retries: half of the places are kept for fresh ones,
    /// so that old ones which time out again and again do not hold them all.
    fn room(&self, destination: &Destination) -> Option<(u16, u16)> {
        let concurrency = usize::from(destination.definition.concurrency);
        let room = concurrency.saturating_sub(self.open.len());
        let limit = u16::try_from(room).unwrap_or(u16::MAX).min(destination.definition.batch);
        let old = self.leases.values().filter(|open| open.old).count();
        let retries = concurrency.div_ceil(2).saturating_sub(old);
        (limit > 0).then(|| (limit, u16::try_from(retries).unwrap_or(u16::MAX)))
    }

    async fn claim(&mut self, destination: &Destination, limit: u16, retries: u16) -> sqlx::Result<Batch> {
        let full_look = Instant::now() >= self.next_full_look;
        let ask = Ask {
            destination: &destination.definition.name,
            worker: self.context.worker,
            limit,
            retries,
            lease: destination.definition.lease,
            from: if full_look { Floor::default() } else { self.floor },
        };
        let mut conn = self.context.db.acquire().await?;
        let started = Instant::now();
        let batch = claim::claim(&mut conn, &ask).await?;
        if full_look {
            // More may lie behind the floor only if something did and a limit cut the claim short.
            let floor = self.floor;
            let is_behind =
                |m: &Claimed| if m.old { m.due_at <= floor.due_after } else { m.position <= floor.position };
            if !(batch.full && batch.messages.iter().any(is_behind)) {
                self.next_full_look = Instant::now() + FULL_LOOK.max(started.elapsed() * FULL_LOOK_SHARE);
            }
        }
        self.floor.position = self.floor.position.max(batch.next.position);
        self.floor.due_after = self.floor.due_after.max(batch.next.due_after);
        Ok(batch)
    }

    async fn sources(&self, claimed: &[Claimed]) -> HashMap<Uuid, Source> {
        let actions: Vec<Uuid> = claimed.iter().map(|m| m.action_id).collect();
        let read = async {
            let mut conn = self.context.db.acquire().await?;
            queries::sources(&mut conn, &actions).await
        };
        match read.await {
            Ok(sources) => sources.into_iter().map(|s| (s.action_id, s)).collect(),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "sources could not be read");
                HashMap::new()
            }
        }
    }

    fn start(&mut self, destination: Arc<Destination>, message: Claimed, source: Option<Source>) {
        let open = Open {
            released: Settlement::without_exchange(&message, Outcome::Released(Duration::ZERO)),
            action_id: message.action_id,
            probe: message.probe,
            old: message.old,
        };
        let context = self.context.clone();
        let handle = self.open.spawn(async move { deliver(&context, &destination, message, source).await });
        self.leases.insert(handle.id(), open);
    }

    /// Settles an ended delivery together with those that have ended meanwhile.
    async fn finish(&mut self, first: Result<(Id, Ended), JoinError>) {
        let mut ended = vec![self.ended(first)];
        while ended.len() < SETTLED_TOGETHER {
            let Some(next) = self.open.try_join_next_with_id() else {
                break;
            };
            ended.push(self.ended(next));
        }
        let ended: Vec<Ended> = ended.into_iter().flatten().collect();
        if ended.iter().any(Ended::is_our_fault) {
            // What keeps one from being sent keeps the others: not the whole queue is to go round meanwhile.
            self.wait_until = Instant::now() + self.context.settings.poll;
        }
        while self.settling.len() >= SETTLING {
            self.settling.join_next().await;
            self.look = true;
        }
        let (context, destination, clean) = (self.context.clone(), self.destination(), self.clean);
        self.settling.spawn(async move { settle(&context, &destination, ended, clean).await });
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

    async fn drain(&mut self, stop: &Stop) {
        loop {
            tokio::select! {
                joined = self.open.join_next_with_id() => match joined {
                    Some(ended) => self.finish(ended).await,
                    None => break,
                },
                () = stop.hard.cancelled() => break,
            }
        }
        self.open.abort_all();
        while let Some(ended) = self.open.join_next_with_id().await {
            self.finish(ended).await;
        }
        while self.settling.join_next().await.is_some() {}
    }
}
