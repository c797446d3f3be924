//! A lane: one destination's claims, its open exchanges and their settlement. Lanes share nothing but the pool.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::PgPool;
use tokio::task::{Id, JoinError, JoinSet};
use uuid::Uuid;

use super::settle::{Ended, settle};
use super::{Context, Destination, Stop, delivery, payload, periodic};
use crate::auth::SignerError;
use crate::metrics;
use crate::outbox::complete::{Outcome, Settlement};
use crate::outbox::destination::{Auth, Protocol};
use crate::outbox::retry::{self, Answer};
use crate::outbox::{Claimed, claim};
use crate::records::commands::{self, CommandError};
use crate::records::effects::EVENT_REGISTRATION;
use crate::records::queries::{self, Source};

/// Deliveries that are settled together at most.
const SETTLED_TOGETHER: usize = 100;

/// One destination's lane.
pub struct Lane {
    context: Context,
    destination: Destination,
    open: JoinSet<Ended>,
    /// What is open, so that a cut-short exchange can be given back.
    leases: HashMap<Id, (Settlement, Uuid)>,
}

impl Lane {
    /// A lane that has claimed nothing yet.
    pub fn new(context: Context, destination: Destination) -> Self {
        Self { context, destination, open: JoinSet::new(), leases: HashMap::new() }
    }

    /// Works until stopped. After `stop.soft` nothing is claimed; what is open is finished, or cut short at `stop.hard`.
    pub async fn run(mut self, stop: Stop) {
        let mut wake = self.context.wakeup.subscribe();
        while !stop.soft.is_cancelled() {
            // Seen before we look: a wake-up that comes while we look is heard below.
            wake.mark_unchanged();
            let more = self.fill().await;
            if more && self.has_room() {
                continue;
            }
            let poll = periodic::jittered(self.context.settings.poll);
            tokio::select! {
                () = stop.soft.cancelled() => break,
                Some(ended) = self.open.join_next_with_id() => self.finish(ended).await,
                Ok(()) = wake.changed(), if self.has_room() => {}
                () = tokio::time::sleep(poll), if self.has_room() => {}
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
                None if !claimed => return,
                None => {}
            }
        }
    }

    fn has_room(&self) -> bool {
        self.open.len() < usize::from(self.destination.definition.concurrency)
    }

    /// Claims into the free room and starts the exchanges; true if something was claimed.
    async fn fill(&mut self) -> bool {
        let room = usize::from(self.destination.definition.concurrency).saturating_sub(self.open.len());
        let Ok(limit @ 1..) = u16::try_from(room) else {
            return false;
        };
        let claimed = match claim_now(&self.context, &self.destination, limit).await {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::warn!(%error, destination = %self.destination.definition.name, "nothing could be claimed");
                return false;
            }
        };
        if claimed.is_empty() {
            return false;
        }
        let sources = self.sources(&claimed).await;
        for message in claimed {
            let source = sources.get(&message.action_id).cloned();
            self.start(message, source);
        }
        true
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

    fn start(&mut self, message: Claimed, source: Option<Source>) {
        let action_id = message.action_id;
        let released = Settlement::without_exchange(&message, Outcome::Released(Duration::ZERO));
        let (context, destination) = (self.context.clone(), self.destination.clone());
        let handle = self.open.spawn(async move { deliver(&context, &destination, message, source).await });
        self.leases.insert(handle.id(), (released, action_id));
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
        settle(&self.context, &self.destination, ended.into_iter().flatten().collect()).await;
    }

    fn ended(&mut self, joined: Result<(Id, Ended), JoinError>) -> Option<Ended> {
        match joined {
            Ok((id, ended)) => {
                self.leases.remove(&id);
                Some(ended)
            }
            // Cut short or panicked: given back, or left to the rescuer, which counts.
            Err(error) if error.is_cancelled() => self
                .leases
                .remove(&error.id())
                .map(|(settlement, action_id)| Ended { settlement, action_id, answer: None }),
            Err(error) => {
                metrics::delivery_panicked(&self.destination.definition.name);
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
                    None => return,
                },
                () = stop.hard.cancelled() => break,
            }
        }
        self.open.abort_all();
        while let Some(ended) = self.open.join_next_with_id().await {
            self.finish(ended).await;
        }
    }
}

async fn claim_now(context: &Context, destination: &Destination, limit: u16) -> sqlx::Result<Vec<Claimed>> {
    let mut conn = context.db.acquire().await?;
    claim::claim(&mut conn, &destination.definition.name, context.worker, limit, destination.lease).await
}

/// Why a message was not sent: our own fault, which burns no attempt.
#[derive(Debug, thiserror::Error)]
enum NotSent {
    #[error("its action cannot be read")]
    NoSource,
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("it cannot be rendered")]
    Payload(#[from] payload::PayloadError),
    #[error("no token could be minted")]
    Token(#[from] SignerError),
}

/// Renders, sends and judges one message. The connection is given back before anything is sent (P9).
async fn deliver(context: &Context, destination: &Destination, message: Claimed, source: Option<Source>) -> Ended {
    let action_id = message.action_id;
    let asks_verdict = destination.definition.protocol == Protocol::EventRegistration;
    if asks_verdict && message.kind == EVENT_REGISTRATION && source.as_ref().is_some_and(|s| !s.awaited) {
        // A verdict stands, or the request was superseded: there is nothing left to ask.
        let settlement = Settlement::without_exchange(&message, Outcome::Delivered);
        return Ended { settlement, action_id, answer: None };
    }
    match prepare(context, destination, &message, source).await {
        Ok(request) => {
            let exchange = delivery::exchange(&context.client, request, destination.timeout).await;
            judge(destination, &message, &exchange)
        }
        Err(error) => {
            tracing::error!(message = message.id, error = &error as &dyn std::error::Error, "not sent");
            Ended { settlement: not_sent(&message, &error), action_id, answer: None }
        }
    }
}

/// Our own fault: given back without burning the attempt, but not to be claimed again at once. What can never be
/// rendered is dead, where an operator sees it.
fn not_sent(message: &Claimed, error: &NotSent) -> Settlement {
    let outcome = match error {
        NotSent::Payload(_) => Outcome::Dead,
        NotSent::NoSource | NotSent::Command(_) | NotSent::Database(_) | NotSent::Token(_) => {
            Outcome::Released(Duration::from_secs(5))
        }
    };
    let error = if outcome == Outcome::Dead { "unrenderable" } else { "not-sent" };
    Settlement { error: Some(error), ..Settlement::without_exchange(message, outcome) }
}

async fn prepare(
    context: &Context,
    destination: &Destination,
    message: &Claimed,
    source: Option<Source>,
) -> Result<delivery::Request, NotSent> {
    let source = source.ok_or(NotSent::NoSource)?;
    let protocol = destination.definition.protocol;
    let declaration = if payload::carries_declaration(&destination.definition.effects) {
        declaration_of(&context.db, &source).await?
    } else {
        None
    };
    Ok(delivery::Request {
        url: format!("{}{}", destination.definition.url.trim_end_matches('/'), payload::path(protocol)),
        transaction_id: message.transaction_id.clone(),
        token: token(context, destination, message)?,
        traceparent: message.traceparent.clone(),
        body: payload::render(protocol, message, &source, declaration)?,
    })
}

async fn declaration_of(db: &PgPool, source: &Source) -> Result<Option<String>, NotSent> {
    let mut conn = db.acquire().await?;
    Ok(queries::declaration(&mut conn, source.record_id, source.version).await?)
}

fn token(context: &Context, destination: &Destination, message: &Claimed) -> Result<Option<String>, SignerError> {
    let audience = &destination.audience;
    match (destination.definition.auth, destination.definition.protocol) {
        (Auth::None, _) => Ok(None),
        (Auth::Token, Protocol::Event) => context
            .minter
            .for_delivery(&message.initiator_id, &message.initiator_scopes, audience)
            .map(|token| Some(token.to_string())),
        (Auth::Token, Protocol::EventRegistration) => {
            context.minter.for_record(&message.initiator_id, message.record_id, message.action_id, audience).map(Some)
        }
    }
}

/// What becomes of the message after the exchange.
fn judge(destination: &Destination, message: &Claimed, exchange: &delivery::Exchange) -> Ended {
    let status = match exchange.answer {
        Answer::Status { code, .. } => Some(code),
        Answer::Transport => None,
    };
    let attempt = u32::try_from(message.attempt).unwrap_or(u32::MAX);
    let outcome = retry::decide(&destination.policy, exchange.answer, attempt, message.refused_for, rand::random());
    let answer = (destination.definition.protocol == Protocol::EventRegistration)
        .then(|| status.map_or(commands::Answer::Nothing, |s| super::answer::read(s, &exchange.body)));
    Ended {
        settlement: Settlement {
            id: message.id,
            lease: message.lease,
            outcome,
            status,
            error: exchange.error,
            refused: retry::is_refusal(exchange.answer),
            duration: Some(exchange.duration),
        },
        action_id: message.action_id,
        answer,
    }
}
