//! HTTP: request → command → reply. Every route on one page, below.
//!
//! A handler authenticates, reads, opens the transaction ([`transact`]) and answers; what may happen to a record is
//! the domain's to say, and how a consequence is sent is nobody's business here. Handlers never import workers.
//!
//! Promises: a 2xx to a write leaves after its commit (P1); every error is a problem (RFC 9457) that echoes no value of
//! the request's content; what may not be read does not exist (404).

mod acts;
mod attachments;
mod body;
mod decisions;
mod extract;
mod keys;
mod operate;
mod problem;
mod records;
pub mod transact;
mod transactions;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use sqlx::PgPool;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::trace::TraceLayer;

use crate::auth::{PublishedKeys, Verifier};
use crate::pressure::Pressure;
use crate::records::model::Step;
use crate::wakeup::Wakeup;

/// What clients may send.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The events that are registered, for example `birth`.
    pub events: Vec<String>,
    /// Largest request body, in bytes.
    pub body_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { events: ["birth", "death", "marriage"].map(str::to_owned).to_vec(), body_max: 50 * 1024 * 1024 }
    }
}

/// What handlers share.
#[derive(Clone)]
pub struct AppState {
    /// Connections.
    pub db: PgPool,
    /// Who is calling.
    pub verifier: Arc<Verifier>,
    /// The public keys that are shown.
    pub keys: Arc<PublishedKeys>,
    /// What clients may send.
    pub settings: Arc<Settings>,
    /// Tells dispatchers of new work.
    pub wakeup: Wakeup,
    /// Whether submissions are refused.
    pub pressure: Pressure,
}

/// The routes for clients and country configs.
pub fn public(state: AppState) -> Router {
    let act = |step: Step| post(move |c, id, request| acts::act(step, c, id, request));
    Router::new()
        .route("/records", post(records::submit))
        .route("/records/{id}", get(records::read))
        .route("/records/{id}/history", get(records::history))
        .route("/records/{id}/notify", act(Step::Notify))
        .route("/records/{id}/declare", act(Step::Declare))
        .route("/records/{id}/validate", act(Step::Validate))
        .route("/records/{id}/register", act(Step::Register))
        .route("/records/{id}/not-duplicate", act(Step::MarkNotDuplicate))
        .route("/records/{id}/archive", act(Step::Archive))
        .route("/records/{id}/reject", post(decisions::reject))
        .route("/records/{id}/confirm", post(decisions::confirm))
        .route("/transactions/{id}", get(transactions::read))
        .route("/attachments/{sha256}", get(attachments::read))
        // Without a token: public keys.
        .route("/.well-known/jwks.json", get(keys::jwks))
        .route("/.well-known", get(keys::pem))
        .fallback(problem::no_such_route)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(DefaultBodyLimit::disable()) // body::read has its own, which answers with a problem
        .layer(CatchPanicLayer::custom(problem::panicked))
        .layer(TraceLayer::new_for_http())
        .with_state(state)
}

/// The routes for operators, on an address of their own. No token is asked for here.
pub fn internal(state: AppState) -> Router {
    Router::new()
        .route("/healthz", get(operate::alive))
        .route("/readyz", get(operate::ready))
        .route("/metrics", get(operate::metrics))
        .fallback(problem::no_such_route)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(CatchPanicLayer::custom(problem::panicked))
        .with_state(state)
}
