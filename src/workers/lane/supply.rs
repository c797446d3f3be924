//! What a lane has claimed: how much, from where, and ahead of what it can send at the moment.
//!
//! Claims are made beside the exchanges: one at a time, and two where one leaves something behind. As long as deliveries end faster than claims are made, a lane claims
//! ahead: as much as it has just delivered within [`AHEAD`], so that what waits here waits for a moment and not for a lease.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::PgConnection;
use uuid::Uuid;

use crate::outbox::claim::{self, Ask, Batch, Floor};
use crate::outbox::{Claimed, destination::Definition};
use crate::records::queries::{self, Source};
use crate::workers::{Context, Destination, payload};

/// How often a lane looks from the start of the queue, at the most often; no more than a twentieth of its time.
const FULL_LOOK: Duration = Duration::from_secs(1);
const FULL_LOOK_SHARE: u32 = 20;

/// How long what is claimed ahead should last.
const AHEAD: Duration = Duration::from_millis(50);

/// How long a message may wait here at most. Then it is given back: meanwhile its destination may have been paused, or its
/// lease lost because this process stood still. Leases are lost after two heartbeats, which is longer.
const HELD: Duration = Duration::from_secs(1);

/// A message that is held and not sent yet.
#[derive(Debug)]
pub(super) struct Ready {
    /// As the configuration was when it was claimed: what it is rendered from was read for that.
    pub(super) destination: Arc<Destination>,
    pub(super) message: Claimed,
    pub(super) source: Option<Arc<Source>>,
    /// After this it is given back.
    pub(super) start_before: Instant,
}

/// What a claim is to take.
#[derive(Debug)]
pub(super) struct Order {
    destination: Arc<Destination>,
    limit: u16,
    retries: u16,
    from: Floor,
    /// Where the lane had got to.
    floor: Floor,
    full_look: bool,
    over: Vec<i64>,
}

/// What a claim took, or why it took nothing.
#[derive(Debug)]
pub(super) struct Taken {
    order: Order,
    batch: sqlx::Result<Batch>,
    sources: HashMap<Uuid, Arc<Source>>,
    lasted: Duration,
}

/// What is claimed and where to go on.
#[derive(Debug)]
pub(super) struct Supply {
    pub(super) ready: VecDeque<Ready>,
    /// What the claims that are being made may bring, and how many retries among it.
    expected: usize,
    expected_old: usize,
    claims: Claims,
    floor: Floor,
    next_full_look: Instant,
    pace: Pace,
}

impl Default for Supply {
    fn default() -> Self {
        let ready = VecDeque::new();
        let (claims, pace) = (Claims::default(), Pace::default());
        Self {
            ready,
            expected: 0,
            expected_old: 0,
            claims,
            floor: Floor::default(),
            next_full_look: Instant::now(),
            pace,
        }
    }
}

impl Supply {
    /// How many messages there is room for, with so many exchanges open: as many as there are places, and some ahead.
    pub(super) fn room(&self, definition: &Definition, open: usize) -> u16 {
        let ahead = self.pace.now().min(usize::from(definition.batch));
        let held = self.ready.len() + self.expected;
        // Half of it is to be used up before more is fetched: a claim costs about the same for one as for ten.
        if held > ahead / 2 && held + open > usize::from(definition.concurrency) {
            return 0;
        }
        let room = (usize::from(definition.concurrency) + ahead).saturating_sub(open + held);
        u16::try_from(room).unwrap_or(u16::MAX).min(definition.batch)
    }

    /// What to claim now, with so many exchanges open, so many of which are retries: half of the places are kept for fresh
    /// messages, so that old ones which time out again and again do not hold them all. Nothing if there is no room.
    pub(super) fn order(&mut self, destination: &Arc<Destination>, open: usize, old: usize) -> Option<Order> {
        let limit = self.room(&destination.definition, open);
        if limit == 0 {
            return None;
        }
        let concurrency = usize::from(destination.definition.concurrency);
        let old = old + self.expected_old + self.ready.iter().filter(|r| r.message.old).count();
        let retries = u16::try_from(concurrency.div_ceil(2).saturating_sub(old)).unwrap_or(u16::MAX);
        let full_look = Instant::now() >= self.next_full_look;
        let from = if full_look { Floor::default() } else { self.floor };
        let over = std::mem::take(&mut self.claims.over);
        self.expected += usize::from(limit);
        self.expected_old += usize::from(retries.min(limit));
        Some(Order { destination: Arc::clone(destination), limit, retries, from, floor: self.floor, full_look, over })
    }

    /// Takes in what a claim took: what its destination is like, if it could be asked.
    pub(super) fn take(&mut self, taken: Taken) -> Option<State> {
        let Taken { order, batch, sources, lasted } = taken;
        self.expected = self.expected.saturating_sub(usize::from(order.limit));
        self.expected_old = self.expected_old.saturating_sub(usize::from(order.retries.min(order.limit)));
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => {
                self.claims.over.extend(order.over);
                tracing::warn!(%error, destination = %order.destination.definition.name, "nothing could be claimed");
                return None;
            }
        };
        if order.full_look {
            // More may lie behind the floor only if something did and a limit cut the claim short.
            let floor = order.floor;
            let is_behind =
                |m: &Claimed| if m.old { m.due_at <= floor.due_after } else { m.position <= floor.position };
            if !(batch.full && batch.messages.iter().any(is_behind)) {
                self.next_full_look = Instant::now() + FULL_LOOK.max(lasted * FULL_LOOK_SHARE);
            }
        }
        self.floor.position = self.floor.position.max(batch.next.position);
        self.floor.due_after = self.floor.due_after.max(batch.next.due_after);
        self.claims.add(&batch.messages);
        let state = State { clean: batch.clean, full: batch.full && !batch.messages.is_empty(), wait: batch.wait };
        let start_before = Instant::now() + HELD;
        self.ready.extend(batch.messages.into_iter().map(|message| {
            let source = sources.get(&message.action_id).map(Arc::clone);
            Ready { destination: Arc::clone(&order.destination), message, source, start_before }
        }));
        Some(state)
    }

    /// No claim is being made, whatever became of the last ones.
    pub(super) fn expect_nothing(&mut self) {
        self.expected = 0;
        self.expected_old = 0;
    }

    /// Deliveries have ended.
    pub(super) fn ended(&mut self, many: usize) {
        self.pace.count(many);
    }

    /// Messages with these fencing numbers are settled.
    pub(super) fn settled(&mut self, leases: &[i64]) {
        self.claims.settled(leases);
    }

    /// Forgets the claims that are over, once there is no next one to do it.
    pub(super) async fn forget(&mut self, context: &Context) {
        if self.claims.over.is_empty() {
            return;
        }
        let forgotten = async {
            let mut conn = context.db.acquire().await?;
            claim::forget(&mut conn, &self.claims.over).await
        };
        match forgotten.await {
            Ok(()) => self.claims.over.clear(),
            Err(error) => tracing::warn!(%error, "claims could not be forgotten; the rescuer will find them empty"),
        }
    }
}

/// What a claim said of the destination.
#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    /// The circuit is closed and without failures.
    pub(super) clean: bool,
    /// There may be more to claim.
    pub(super) full: bool,
    /// How long nothing may be claimed.
    pub(super) wait: Option<Duration>,
}

/// Claims, and reads what the messages are rendered from.
pub(super) async fn claim(context: Arc<Context>, order: Order) -> Taken {
    let begun = Instant::now();
    let definition = &order.destination.definition;
    let ask = Ask {
        destination: &definition.name,
        worker: context.worker,
        limit: order.limit,
        retries: order.retries,
        lease: definition.lease,
        from: order.from,
        over: &order.over,
    };
    let batch = async {
        let mut conn = context.db.acquire().await?;
        let batch = claim::claim(&mut conn, &ask).await?;
        Ok((batch, conn))
    };
    let (batch, sources, lasted) = match batch.await {
        Ok((batch, mut conn)) => {
            let lasted = begun.elapsed();
            let actions: Vec<Uuid> = batch.messages.iter().map(|m| m.action_id).collect();
            let with_declarations = payload::carries_declaration(definition.format, &definition.effects);
            (Ok(batch), sources(&mut conn, &actions, with_declarations).await, lasted)
        }
        Err(error) => (Err(error), Vec::new(), begun.elapsed()),
    };
    let sources = sources.into_iter().map(|s| (s.action_id, Arc::new(s))).collect();
    Taken { order, batch, sources, lasted }
}

/// What messages are rendered from. What cannot be read, a row that is damaged, is missing alone.
async fn sources(conn: &mut PgConnection, actions: &[Uuid], with_declarations: bool) -> Vec<Source> {
    if actions.is_empty() {
        return Vec::new();
    }
    let error = match queries::sources(conn, actions, with_declarations).await {
        Ok(sources) => return sources,
        Err(error) => error,
    };
    tracing::warn!(error = &error as &dyn std::error::Error, "sources could not be read together");
    let mut sources = Vec::with_capacity(actions.len());
    if error.is_outage() {
        return sources;
    }
    for action in actions {
        match queries::sources(conn, std::slice::from_ref(action), with_declarations).await {
            Ok(one) => sources.extend(one),
            Err(error) => {
                tracing::error!(%action, error = &error as &dyn std::error::Error, "a source cannot be read");
            }
        }
    }
    sources
}

/// What was claimed: each claim is forgotten when the last of its messages is settled.
#[derive(Debug, Default)]
struct Claims {
    /// Unsettled messages by fencing number.
    open: HashMap<i64, usize>,
    over: Vec<i64>,
}

impl Claims {
    fn add(&mut self, claimed: &[Claimed]) {
        for message in claimed {
            *self.open.entry(message.lease).or_default() += 1;
        }
    }

    fn settled(&mut self, leases: &[i64]) {
        for lease in leases {
            let Some(open) = self.open.get_mut(lease) else {
                continue;
            };
            *open -= 1;
            if *open == 0 {
                self.open.remove(lease);
                self.over.push(*lease);
            }
        }
    }
}

/// How fast deliveries end, as of the last window that is over.
#[derive(Debug)]
struct Pace {
    since: Instant,
    counted: usize,
    /// In the window before.
    last: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self { since: Instant::now(), counted: 0, last: 0 }
    }
}

impl Pace {
    fn count(&mut self, many: usize) {
        let gone = self.since.elapsed();
        if gone >= AHEAD {
            // After a silence of a window and more the pace is none.
            self.last = if gone < 2 * AHEAD { self.counted } else { 0 };
            self.counted = 0;
            self.since = Instant::now();
        }
        self.counted += many;
    }

    /// How many end within a window.
    fn now(&self) -> usize {
        if self.since.elapsed() < 2 * AHEAD { self.last.max(self.counted) } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_over_when_the_last_of_its_messages_is_settled() {
        let mut claims = Claims { open: HashMap::from([(7, 2), (8, 1)]), over: Vec::new() };
        claims.settled(&[7, 8]);
        assert_eq!(claims.over, [8]);
        claims.settled(&[7, 9]);
        assert_eq!(claims.over, [8, 7]);
        assert!(claims.open.is_empty());
    }
}
