//! One message: rendered, sent, judged. Says what should become of it; writes nothing.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sqlx::PgPool;

use super::answer::{self, Said};
use super::delivery::{AMENDED_MAX, BODY_MAX};
use super::settle::{Ended, NOT_SENT};
use super::signature::{Signing, Unsignable};
use super::wanted::Unread;
use super::{Context, Destination, delivery, payload};
use crate::auth::SignerError;
use crate::outbox::Claimed;
use crate::outbox::complete::{Outcome, Settlement};
use crate::outbox::destination::{Auth, Format};
use crate::outbox::retry::{self, Answer};
use crate::records::commands::{self, CommandError};
use crate::records::effects::EVENT_REGISTRATION;
use crate::records::event_document::{self, Head};
use crate::records::queries::Source;

/// Class of an answer that is cut off where its number may be.
const TOO_LARGE: &str = "answer-too-large";

/// Class of an answer that accepts a registration without giving its number.
const NO_NUMBER: &str = "no-registration-number";

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
    #[error("it cannot be signed")]
    Signature(#[from] Unsignable),
    #[error("no token could be minted")]
    Token(#[from] SignerError),
    #[error("it is not known whether it is wanted")]
    Wanted(#[from] Unread),
}

/// Class of a notification that the country does not want: done without an exchange.
const NOT_WANTED: &str = "not-wanted";

/// Renders, sends and judges one message. The connection is given back before anything is sent (P9).
pub(super) async fn deliver(
    context: Arc<Context>,
    destination: Arc<Destination>,
    message: Claimed,
    source: Option<Arc<Source>>,
) -> Ended {
    let action_id = message.action_id;
    if asks_verdict(&destination, &message) && source.as_ref().is_some_and(|s| !s.awaited) {
        // A verdict stands, or the request was superseded: there is nothing left to ask.
        let settlement = Settlement::without_exchange(&message, Outcome::Delivered);
        return Ended::without_exchange(settlement, action_id, message.probe);
    }
    let prepared = if asks_first(&destination) {
        // In a place of its own: hundreds of deliveries are open at a time, and few of them ask.
        Box::pin(ask_and_prepare(&context, &destination, &message, source)).await
    } else {
        prepare(&context, &destination, &message, source, None).map(Some)
    };
    match prepared {
        Ok(Some(request)) => {
            let exchange = delivery::exchange(&destination.client, request, destination.definition.timeout).await;
            judge(&destination, &message, &exchange)
        }
        Ok(None) => {
            let done = Settlement::without_exchange(&message, Outcome::Delivered);
            let settlement = Settlement { error: Some(NOT_WANTED), ..done };
            Ended::without_exchange(settlement, action_id, message.probe)
        }
        Err(error) => {
            tracing::error!(message = message.id, error = &error as &dyn std::error::Error, "not sent");
            Ended::without_exchange(not_sent(&message, &error), action_id, message.probe)
        }
    }
}

/// Our own fault: given back without burning the attempt, but not to be claimed again at once. What can never be
/// rendered is dead, where an operator sees it.
fn not_sent(message: &Claimed, error: &NotSent) -> Settlement {
    let outcome = match error {
        NotSent::Payload(_) => Outcome::Dead,
        NotSent::NoSource
        | NotSent::Command(_)
        | NotSent::Database(_)
        | NotSent::Token(_)
        | NotSent::Signature(_)
        | NotSent::Wanted(_) => Outcome::Released(Duration::from_secs(5)),
    };
    let error = if outcome == Outcome::Dead { "unrenderable" } else { NOT_SENT };
    Settlement { error: Some(error), ..Settlement::without_exchange(message, outcome) }
}

/// Whether the country wants it, where it says so. It is asked in the initiator's name, by a token without any scope.
async fn is_wanted(
    context: &Context,
    destination: &Destination,
    message: &Claimed,
    source: Option<&Source>,
) -> Result<bool, NotSent> {
    let Some(wanted) = &destination.wanted else {
        return Ok(true);
    };
    let source = source.ok_or(NotSent::NoSource)?;
    let token = || {
        let minted = wanted.audience().map(|to| context.minter.for_delivery(&message.initiator_id, &[], to));
        Ok(minted.transpose()?.map(|token| token.to_string()))
    };
    wanted.wants(&destination.client, token, &source.event, &message.kind).await
}

/// Whether the country or the database has to be asked before a message can be rendered.
fn asks_first(destination: &Destination) -> bool {
    destination.wanted.is_some() || destination.definition.format == Format::OpencrvsTrigger
}

/// `None`: it is not wanted.
async fn ask_and_prepare(
    context: &Context,
    destination: &Destination,
    message: &Claimed,
    source: Option<Arc<Source>>,
) -> Result<Option<delivery::Request>, NotSent> {
    if !is_wanted(context, destination, message, source.as_deref()).await? {
        return Ok(None);
    }
    let document = match &source {
        Some(source) if destination.definition.format == Format::OpencrvsTrigger => {
            document(&context.db, source).await?
        }
        Some(_) | None => None,
    };
    prepare(context, destination, message, source, document).map(Some)
}

fn prepare(
    context: &Context,
    destination: &Destination,
    message: &Claimed,
    source: Option<Arc<Source>>,
    document: Option<String>,
) -> Result<delivery::Request, NotSent> {
    let source = source.ok_or(NotSent::NoSource)?;
    let format = destination.definition.format;
    let payload = payload::render(format, message, &source, document)?;
    let signing =
        Signing::new(Arc::clone(&destination.secrets), destination.ed25519.then(|| Arc::clone(&context.webhook_key)));
    let signature =
        signing.map(|s| s.headers(&message.transaction_id, SystemTime::now(), &payload.body)).transpose()?;
    let mut own_headers = payload.headers;
    own_headers.extend(signature.unwrap_or_default());
    Ok(delivery::Request {
        attempt: message.attempt,
        headers: destination.headers.clone(),
        own_headers,
        content_type: payload.content_type,
        url: format!("{}{}", destination.definition.url.trim_end_matches('/'), payload.path),
        transaction_id: message.transaction_id.clone(),
        token: token(context, destination, message)?,
        traceparent: message.traceparent.clone(),
        body: payload.body,
        answer_max: if format == Format::OpencrvsTrigger { AMENDED_MAX } else { BODY_MAX },
    })
}

/// Whether a message asks for a verdict that the record waits for.
fn asks_verdict(destination: &Destination, message: &Claimed) -> bool {
    let format = destination.definition.format;
    matches!(format, Format::OpencrvsEventRegistration | Format::OpencrvsTrigger) && message.kind == EVENT_REGISTRATION
}

/// The event's document as of the action.
async fn document(db: &PgPool, source: &Source) -> Result<Option<String>, NotSent> {
    let mut conn = db.acquire().await?;
    let head = Head { record_id: source.record_id, event: &source.event, tracking_id: &source.tracking_id };
    Ok(event_document::until(&mut conn, head, source.action_id).await?)
}

fn token(context: &Context, destination: &Destination, message: &Claimed) -> Result<Option<String>, SignerError> {
    let audience = &destination.audience;
    match (destination.definition.auth, destination.definition.format) {
        (Auth::None, _) => Ok(None),
        (Auth::Token, Format::OpencrvsEventRegistration) => {
            context.minter.for_record(&message.initiator_id, message.record_id, message.action_id, audience).map(Some)
        }
        (Auth::Token, Format::OpencrvsTrigger) => {
            context.minter.for_event(&message.initiator_id, message.record_id, message.action_id, audience).map(Some)
        }
        (Auth::Token, _) => context
            .minter
            .for_delivery(&message.initiator_id, &message.initiator_scopes, audience)
            .map(|token| Some(token.to_string())),
    }
}

/// What the answer says of the record, if the format lets it say something. Most triggers are just taken: those are settled
/// like any other delivery.
fn said(destination: &Destination, message: &Claimed, status: Option<u16>, body: &[u8]) -> Option<Said> {
    let asked = asks_verdict(destination, message);
    let nothing = || commands::Answer::Nothing;
    match destination.definition.format {
        Format::OpencrvsEventRegistration => {
            Some(Said::Registration(status.map_or_else(nothing, |s| answer::read(s, body))))
        }
        Format::OpencrvsTrigger if asked => {
            Some(Said::Registration(status.map_or_else(nothing, |s| answer::read_trigger(s, body))))
        }
        Format::OpencrvsTrigger => status.and_then(|s| answer::read_opinion(s, body)).map(Said::Action),
        Format::Cloudevents
        | Format::OpencrvsSearch
        | Format::OpencrvsMetrics
        | Format::OpencrvsAudit
        | Format::OpencrvsNotification => None,
    }
}

/// What becomes of the message after the exchange.
fn judge(destination: &Destination, message: &Claimed, exchange: &delivery::Exchange) -> Ended {
    let status = match exchange.answer {
        Answer::Status { code, .. } => Some(code),
        Answer::Transport => None,
    };
    // One whose worker died counts as a rescue, which has a limit of its own.
    let attempt = u32::try_from((message.attempt - message.rescues).max(1)).unwrap_or(1);
    let said = said(destination, message, status, &exchange.body);
    // A registration that is accepted without its number is not: it is asked again.
    let numberless = status.is_some_and(|s| s < 300) && said == Some(Said::Registration(commands::Answer::Nothing));
    let answer = if numberless { Answer::Transport } else { exchange.answer };
    let outcome = retry::decide(&destination.definition.policy, answer, attempt, message.refused_for, rand::random());
    // It would be as large the next time.
    let cut = numberless && exchange.body.len() >= AMENDED_MAX;
    let outcome = if cut { Outcome::Dead } else { outcome };
    let unread = numberless.then_some(if cut { TOO_LARGE } else { NO_NUMBER });
    Ended {
        settlement: Settlement {
            id: message.id,
            lease: message.lease,
            outcome,
            status,
            error: unread.or(exchange.error),
            refused: retry::is_refusal(exchange.answer),
            duration: Some(exchange.duration),
        },
        action_id: message.action_id,
        said,
        healthy: Some(retry::is_healthy(exchange.answer)),
        probe: message.probe,
    }
}
