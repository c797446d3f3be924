//! HTTP: request → command → reply. Every route on one page, below.
//!
//! A handler authenticates, reads, opens the transaction ([`transact`]) and answers; what may happen to a record is
//! the domain's to say, and how a consequence is sent is nobody's business here. Handlers never import workers.
//!
//! Promises: a 2xx to a write leaves after its commit (P1); every error is a problem (RFC 9457) that echoes no value of
//! the request's content, told to the peers of OpenCRVS in their protocols' words (`opencrvs`); what may not be read does
//! not exist (404).

mod acts;
mod attachments;
mod batch;
mod blobs;
mod body;
mod changes;
mod decisions;
mod edge;
mod events;
mod exchange;
mod extract;
mod find;
mod inline;
mod keys;
pub mod openapi;
mod opencrvs;
mod operate;
mod problem;
mod ranges;
mod records;
mod steps;
pub mod transact;
mod transactions;
mod uploads;
mod validators;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use axum::{Extension, Router};
use sqlx::PgPool;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::{Minter, PublishedKeys, Verifier};
use crate::coalescer::Coalescer;
use crate::objects::Store;
use crate::pressure::Pressure;
use crate::records::commands::{Outcome, Submission};
use crate::waiting::Waiting;
use crate::wakeup::Wakeup;

pub use crate::records::attachments::IMAGES_AND_PDF;
pub use edge::Settings as EdgeSettings;
pub use opencrvs::{Location, Settings as OpenCrvsSettings};
pub use uploads::Settings as UploadSettings;

/// What clients may send.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The events that are registered, for example `birth`.
    pub events: Vec<String>,
    /// Largest request body, in bytes.
    pub body_max: usize,
    /// Bytes of bodies that are worked on at a time.
    pub inline_bytes: usize,
    /// What may be uploaded.
    pub attachments: UploadSettings,
    /// What one client may cost.
    pub edge: EdgeSettings,
    /// How much of `OpenCRVS` is there.
    pub opencrvs: OpenCrvsSettings,
}

/// What handlers share.
#[derive(Clone)]
pub struct AppState {
    /// Connections.
    pub db: PgPool,
    /// Who is calling.
    pub verifier: Arc<Verifier>,
    /// Makes tokens in exchange for others.
    pub minter: Arc<Minter>,
    /// The public keys that are shown.
    pub keys: Arc<PublishedKeys>,
    /// What clients may send.
    pub settings: Arc<Settings>,
    /// Where the bytes of attachments go.
    pub store: Store,
    /// Tells dispatchers of new work.
    pub wakeup: Wakeup,
    /// Whether submissions are refused.
    pub pressure: Pressure,
    /// Those who wait to be told.
    pub waiting: Waiting,
    /// Where submissions meet that come at the same time.
    pub coalescer: Coalescer<Submission, Outcome>,
}

/// The routes for clients and country configs, each with its description.
fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(openapi::Base::openapi())
        .routes(routes!(records::submit))
        .routes(routes!(find::find))
        .routes(routes!(find::counts))
        .routes(routes!(batch::submit))
        .routes(routes!(records::read))
        .routes(routes!(records::history))
        .routes(routes!(steps::notify))
        .routes(routes!(steps::declare))
        .routes(routes!(steps::validate))
        .routes(routes!(steps::register))
        .routes(routes!(steps::not_duplicate))
        .routes(routes!(steps::archive))
        .routes(routes!(decisions::reject))
        .routes(routes!(decisions::confirm))
        .routes(routes!(transactions::read))
        .routes(routes!(transactions::query))
        .routes(routes!(changes::read))
        .routes(routes!(attachments::read, attachments::head, uploads::upload))
        .routes(routes!(exchange::exchange))
        .routes(routes!(opencrvs::graphql::execute))
        .routes(routes!(opencrvs::confirm::confirm))
        .routes(routes!(opencrvs::trpc::query, opencrvs::trpc::mutate))
        // Without a token: public keys and the description of all this.
        .routes(routes!(keys::jwks))
        .routes(routes!(keys::pem))
        .routes(routes!(keys::verify))
        .routes(routes!(openapi::read))
        .routes(routes!(openapi::reader::page))
        .routes(routes!(openapi::reader::file))
}

/// What clients and country configs reach.
pub fn public(state: AppState) -> Router {
    let (router, description) = routes().split_for_parts();
    let edge = state.settings.edge.clone();
    let budget = inline::Budget::new(state.settings.inline_bytes);
    let router = router
        .layer(from_fn_with_state(budget, inline::hold))
        .layer(Extension(opencrvs::graphql::schema(state.settings.opencrvs.introspection)))
        .layer(Extension(openapi::Served::new(description, &state.settings.events)))
        .fallback(problem::no_such_route)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(DefaultBodyLimit::disable()) // body::read has its own, which answers with a problem
        .with_state(state);
    edge::around(router, &edge)
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
