//! Writes down what came of deliveries. Those that touch no record are settled together; one of the protocol
//! `event-registration` is settled in a transaction of its own, record first, then the fence.

use std::time::Duration;

use super::{Context, Destination};
use crate::metrics;
use crate::outbox::complete::{self, Outcome, Settlement};
use crate::records::commands::{Answer, CommandError, Standing, receive_answer};

/// A delivery that ended, and what the peer said about the record, if its protocol lets it say something.
#[derive(Debug)]
pub(super) struct Ended {
    pub settlement: Settlement,
    pub action_id: uuid::Uuid,
    pub answer: Option<Answer>,
}

/// Tries of one settlement. If all fail the lease runs out and the message is sent again.
const TRIES: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Settles deliveries, whatever it takes within reason.
pub(super) async fn settle(context: &Context, destination: &Destination, ended: Vec<Ended>) {
    let (with_answer, plain): (Vec<Ended>, Vec<Ended>) = ended.into_iter().partition(|e| e.answer.is_some());
    let plain: Vec<Settlement> = plain.into_iter().map(|e| e.settlement).collect();
    if !plain.is_empty() {
        insist(|| settle_plain(context, destination, &plain)).await;
    }
    for one in with_answer {
        insist(|| settle_answer(context, destination, &one)).await;
    }
}

async fn insist<F: Future<Output = Result<(), CommandError>>>(mut attempt: impl FnMut() -> F) {
    let mut pause = FIRST_PAUSE;
    for left in (0..TRIES).rev() {
        match attempt().await {
            Ok(()) => return,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, left, "a delivery could not be settled");
            }
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    metrics::settlement_given_up();
}

async fn settle_plain(
    context: &Context,
    destination: &Destination,
    settlements: &[Settlement],
) -> Result<(), CommandError> {
    let mut tx = context.db.begin().await?;
    let settled = complete::complete(&mut tx, context.worker, settlements).await?;
    tx.commit().await?;
    count(destination, settlements, &settled);
    Ok(())
}

async fn settle_answer(context: &Context, destination: &Destination, ended: &Ended) -> Result<(), CommandError> {
    let mut tx = context.db.begin().await?;
    let answer = ended.answer.clone().unwrap_or(Answer::Nothing);
    let name = &destination.definition.name;
    let standing = receive_answer(&mut tx, ended.action_id, name, answer, context.settings.callback_deadline).await?;
    let mut settlement = ended.settlement.clone();
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
    if standing == Standing::Decided {
        context.wakeup.wake();
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
