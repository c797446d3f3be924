//! The words of the queue as types.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

/// What a destination subscribes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// The search index.
    Search,
    /// The audit trail.
    Audit,
    /// Performance metrics of the registration service.
    Metrics,
    /// Messages to people.
    Notification,
    /// The country's own verdict on a registration.
    Validation,
    /// The country's server, told of every action.
    Trigger,
    /// Third parties that want to know of registrations.
    Webhook,
}

impl Effect {
    /// The word in `destination.effects`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Search => "search",
            Self::Audit => "audit",
            Self::Metrics => "metrics",
            Self::Notification => "notification",
            Self::Validation => "validation",
            Self::Trigger => "trigger",
            Self::Webhook => "webhook",
        }
    }
}

/// Where a message is in its life; the same words as the type `message_state` of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, sqlx::Type, utoipa::ToSchema)]
#[schema(as = DeliveryState)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "message_state", rename_all = "snake_case")]
pub enum MessageState {
    /// Ready to be claimed.
    Queued,
    /// An earlier message of the same record and destination is unfinished.
    Blocked,
    /// Leased by a worker.
    Delivering,
    /// Waits for its next attempt.
    Retrying,
    /// Rests until an operator retries or cancels it.
    Dead,
    /// Final: the destination took it.
    Delivered,
    /// Final: an operator took it out.
    Cancelled,
}

/// One consequence to be queued; goes to every destination that subscribes to its effect.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// Which destinations get it.
    pub effect: Effect,
    /// The consequence, for example `DECLARED`.
    pub kind: &'static str,
    /// Its id for the receiver.
    pub transaction_id: String,
    /// The record it is about: the key of its order.
    pub record_id: Uuid,
    /// What it is rendered from.
    pub action_id: Uuid,
    /// On whose behalf.
    pub initiator_id: String,
    /// Whose transaction it belongs to, if not the initiator's.
    pub owner_id: Option<String>,
    /// The initiator's scopes when the action was accepted. Never a token (P7).
    pub initiator_scopes: Vec<String>,
    /// W3C trace context of the request.
    pub traceparent: Option<String>,
    /// How many times it was sent before for want of a callback.
    pub redelivery: i32,
}

/// A message as `enqueue` left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    /// The message.
    pub id: i64,
    /// Where it goes.
    pub destination: String,
    /// The consequence.
    pub kind: String,
    /// What it is rendered from.
    pub action_id: Uuid,
    /// `queued` or `blocked`.
    pub state: MessageState,
}

/// A leased message. Not `Clone`: whoever holds it must complete it or let the lease run out.
#[derive(Debug)]
pub struct Claimed {
    /// The message.
    pub id: i64,
    /// Its place in the queue.
    pub position: i64,
    /// Since when it was due.
    pub due_at: OffsetDateTime,
    /// The fencing number.
    pub lease: i64,
    /// The consequence.
    pub kind: String,
    /// Its id for the receiver, the same at each attempt.
    pub transaction_id: String,
    /// The record it is about.
    pub record_id: Uuid,
    /// What it is rendered from.
    pub action_id: Uuid,
    /// Which attempt this is, from 1.
    pub attempt: i32,
    /// How many of the attempts ended with their worker, before the destination could answer.
    pub rescues: i32,
    /// Which redelivery this is, from 0.
    pub redelivery: i32,
    /// How long the destination has answered 401 or 409 without a break.
    pub refused_for: Option<Duration>,
    /// On whose behalf.
    pub initiator_id: String,
    /// The initiator's scopes when the action was accepted.
    pub initiator_scopes: Vec<String>,
    /// W3C trace context of the request.
    pub traceparent: Option<String>,
    /// Whether it was tried or given back before.
    pub old: bool,
    /// Whether it is the probe of a circuit that is not closed.
    pub probe: bool,
}
