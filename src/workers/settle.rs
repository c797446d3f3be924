//! Writes down what came of deliveries. Those that touch no record are settled together; one whose answer says something of
//! its record is settled in a transaction of its own, record first, then the fence.

use std::collections::HashMap;
use std::time::Duration;

use super::answer::Said;
use super::{Context, Destination};
use crate::metrics;
use crate::outbox::breaker::{self, Change, Pulse};
use crate::outbox::complete::{self, Outcome, Settlement};
use crate::outbox::destination;
use crate::outbox::retry::GONE;
use crate::records::commands::{CommandError, Standing, receive_answer, receive_opinion};

/// A delivery that ended, and what the peer said about the record, if its format lets it say something.
#[derive(Debug)]
pub(super) struct Ended {
    pub settlement: Settlement,
    pub action_id: uuid::Uuid,
    pub said: Option<Said>,
    /// What the exchange says of the destination's health; `None` if there was none.
    pub healthy: Option<bool>,
    /// Whether it was the probe of a circuit that is not closed.
    pub probe: bool,
}

impl Ended {
    pub(super) fn without_exchange(settlement: Settlement, action_id: uuid::Uuid, probe: bool) -> Self {
        Self { settlement, action_id, said: None, healthy: None, probe }
    }

    /// Not sent: no token, no database, no source.
    pub(super) fn is_our_fault(&self) -> bool {
        self.settlement.error == Some(NOT_SENT)
    }
}

/// Class of a delivery that we could not send.
pub(super) const NOT_SENT: &str = "not-sent";

/// Tries of one settlement. If all fail the lease runs out and the message is sent again.
const TRIES: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Settles deliveries, whatever it takes within reason. `clean`: the circuit was closed and without failures when last seen.
/// Returns the fencing numbers of those that were settled, or that somebody else owns by now.
pub(super) async fn settle(context: &Context, destination: &Destination, ended: Vec<Ended>, clean: bool) -> Vec<i64> {
    let mut pulse = Pulse::default();
    for e in &ended {
        pulse.note(e.healthy, e.probe);
    }
    let gone = ended.iter().any(|e| e.settlement.status == Some(GONE) && is_released(&e.settlement));
    let (with_answer, plain): (Vec<Ended>, Vec<Ended>) = ended.into_iter().partition(|e| e.said.is_some());
    if gone {
        // Before its message is put back: nobody is to send it again.
        pause(context, destination).await;
    }
    if pulse.failures > 0 || pulse.probe_unused || (pulse.answered && !clean) {
        note_health(context, destination, pulse).await;
    }
    insist(context, destination, plain.into_iter().map(|e| e.settlement).collect(), with_answer).await
}

fn is_released(settlement: &Settlement) -> bool {
    matches!(settlement.outcome, Outcome::Released(_))
}

/// Before the settlement, which somebody may hold up, and not with it: the row is one for all instances, and is not to be
/// held during a commit.
async fn note_health(context: &Context, destination: &Destination, pulse: Pulse) {
    let name = &destination.definition.name;
    let noted = async {
        let mut conn = context.db.acquire().await?;
        breaker::note(&mut conn, name, pulse).await
    };
    match noted.await {
        Ok(Some(Change::Opened)) => {
            metrics::circuit(name, "open");
            tracing::error!(destination = %name, "too many failures in a row; circuit open");
        }
        Ok(Some(Change::Closed)) => {
            metrics::circuit(name, "closed");
            tracing::info!(destination = %name, "answered again; circuit closed");
        }
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, destination = %name, "the circuit could not be noted"),
    }
}

/// 410: whoever runs the destination says that it is gone. Its messages wait for an operator.
async fn pause(context: &Context, destination: &Destination) {
    let name = &destination.definition.name;
    let paused = async {
        let mut conn = context.db.acquire().await?;
        destination::pause(&mut conn, name, "crvs-outbox", "it answered 410 Gone").await
    };
    match paused.await {
        Ok(true) => tracing::error!(destination = %name, "answered 410 Gone; paused until an operator resumes it"),
        Ok(false) => {}
        // The next 410 tries again.
        Err(error) => tracing::warn!(%error, destination = %name, "could not be paused"),
    }
}

/// Those that touch no record together; if somebody holds one of them, each by itself, so that it delays no other.
async fn insist(
    context: &Context,
    destination: &Destination,
    mut plain: Vec<Settlement>,
    mut answers: Vec<Ended>,
) -> Vec<i64> {
    let mut leases: HashMap<i64, i64> =
        plain.iter().chain(answers.iter().map(|e| &e.settlement)).map(|s| (s.id, s.lease)).collect();
    let mut pause = FIRST_PAUSE;
    for left in (0..TRIES).rev() {
        plain = together(context, destination, plain).await;
        let mut failed = Vec::new();
        for one in answers {
            if let Err(error) = settle_answer(context, destination, &one).await {
                tracing::warn!(error = &error as &dyn std::error::Error, left, "an answer could not be settled");
                failed.push(one);
            }
        }
        answers = failed;
        if plain.is_empty() && answers.is_empty() {
            return leases.into_values().collect();
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    for given_up in plain.iter().chain(answers.iter().map(|e| &e.settlement)) {
        metrics::settlement_given_up();
        leases.remove(&given_up.id);
    }
    leases.into_values().collect()
}

/// Returns what could not be settled.
async fn together(context: &Context, destination: &Destination, list: Vec<Settlement>) -> Vec<Settlement> {
    if list.is_empty() {
        return list;
    }
    let Err(error) = settle_plain(context, destination, &list).await else {
        return Vec::new();
    };
    tracing::warn!(error = &error as &dyn std::error::Error, deliveries = list.len(), "not settled yet");
    if list.len() == 1 || !error.is_contention() {
        return list;
    }
    let mut failed = Vec::new();
    for one in list {
        if settle_plain(context, destination, std::slice::from_ref(&one)).await.is_err() {
            failed.push(one);
        }
    }
    failed
}

/// Begins a settlement, which does not wait long for somebody who holds its rows, but lets the others go first.
const BEGIN_IMPATIENTLY: &str = "begin; set local lock_timeout = '300ms'";

async fn settle_plain(
    context: &Context,
    destination: &Destination,
    settlements: &[Settlement],
) -> Result<(), CommandError> {
    let mut tx = context.db.begin_with(BEGIN_IMPATIENTLY).await?;
    let settled = complete::complete(&mut tx, context.worker, settlements).await?;
    tx.commit().await?;
    if settlements.iter().any(|s| matches!(s.outcome, Outcome::Delivered | Outcome::Dead)) {
        context.wakeup.tell_moved();
    }
    count(destination, settlements, &settled);
    Ok(())
}

async fn settle_answer(context: &Context, destination: &Destination, ended: &Ended) -> Result<(), CommandError> {
    let mut tx = context.db.begin_with(BEGIN_IMPATIENTLY).await?;
    let mut settlement = ended.settlement.clone();
    let standing = match &ended.said {
        Some(Said::Registration(answer)) => {
            let (name, deadline) = (&destination.definition.name, context.settings.callback_deadline);
            receive_answer(&mut tx, ended.action_id, name, answer.clone(), deadline).await?
        }
        Some(Said::Action(opinion)) => {
            receive_opinion(&mut tx, ended.action_id, &destination.definition.name, opinion.clone()).await?
        }
        None => Standing::Open,
    };
    match standing {
        Standing::Open => {}
        Standing::Decided | Standing::Awaited => settlement.outcome = Outcome::Delivered,
        Standing::NumberTaken => {
            settlement.outcome = Outcome::Dead;
            settlement.error = Some("registration-number-taken");
        }
    }
    let settlements = [settlement];
    let settled = complete::complete(&mut tx, context.worker, &settlements).await?;
    // A lost lease does not take the verdict back: first verdict wins, whoever brings it.
    tx.commit().await?;
    count(destination, &settlements, &settled);
    if standing == Standing::Decided && ended.healthy == Some(false) {
        // It called back and then failed to say so: whoever gives verdicts is there.
        note_health(context, destination, Pulse { answered: true, ..Pulse::default() }).await;
    }
    if standing == Standing::Decided {
        context.wakeup.wake();
    } else {
        context.wakeup.tell_moved();
    }
    Ok(())
}

fn count(destination: &Destination, settlements: &[Settlement], settled: &[i64]) {
    let name = &destination.definition.name;
    for s in settlements {
        if settled.contains(&s.id) {
            metrics::settled(name, &s.outcome, s.duration);
            if s.outcome == Outcome::Dead {
                tracing::error!(message = s.id, destination = %name, status = s.status, error = s.error, "message is dead");
            }
        } else {
            metrics::lease_lost(name);
            tracing::warn!(message = s.id, lease = s.lease, destination = %name, "lease lost; nothing was written");
        }
    }
}
