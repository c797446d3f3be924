//! A country config and downstream receivers to play with; also the reference receiver of P4.
//!
//! Each receiver keeps a ledger in the schema `sandbox`, unique by destination and transaction id: whatever is sent
//! twice happens once. `select * from sandbox.exactly_once` reads it. With a fail rate every endpoint fails at random,
//! before its effect or after it, which is what networks do.
//!
//! Not for production: it keeps what it is told for ever.

mod country_config;
mod ledger;
mod receivers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::post;
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::auth::Verifier;

pub use ledger::{Effect, effects_ending_in};

/// What the country config does with a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Calls confirm back, then answers 202: what the stock country config does.
    Confirm,
    /// Answers 200 with the registration number.
    Accept,
    /// Answers 400 with a reason.
    Reject,
    /// Answers 202 and calls confirm back later.
    Later,
    /// Answers 202 and never calls back.
    Silent,
    /// Answers 500 a few times, then confirms.
    FailThenConfirm,
}

/// How the sandbox behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where the service's API is.
    pub gateway: String,
    /// What the country config does.
    pub mode: Mode,
    /// How late `Later` is.
    pub delay: Duration,
    /// How often `FailThenConfirm` fails.
    pub failures: i64,
    /// Share of requests that fail, 0 to 1; half of them before their effect, half after it.
    pub fail_rate: f64,
}

#[derive(Clone)]
struct State {
    db: PgPool,
    settings: Arc<Settings>,
    client: reqwest::Client,
    /// Checks the tokens that come with deliveries; without one they are taken as they are.
    verifier: Option<Arc<Verifier>>,
}

/// Why the sandbox did not start.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// Its tables could not be made.
    #[error("the sandbox's tables could not be made")]
    Database(#[from] sqlx::Error),
    /// It cannot listen.
    #[error("the sandbox cannot listen on {0}")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// No HTTP client.
    #[error("the HTTP client cannot be built")]
    Client(#[from] reqwest::Error),
}

/// A sandbox that listens but does not serve yet.
pub struct Sandbox {
    /// Where it listens.
    pub addr: SocketAddr,
    listener: TcpListener,
    router: Router,
}

impl Sandbox {
    /// Makes the tables and listens.
    pub async fn bind(db: PgPool, settings: Settings, verifier: Option<Arc<Verifier>>) -> Result<Self, SandboxError> {
        ledger::prepare(&db).await?;
        let asked = settings.listen;
        let listener = TcpListener::bind(asked).await.map_err(|e| SandboxError::Listen(asked, e))?;
        let addr = listener.local_addr().map_err(|e| SandboxError::Listen(asked, e))?;
        let client = crate::workers::delivery::client()?;
        let state = State { db, settings: Arc::new(settings), client, verifier };
        let router = Router::new()
            .route("/country-config/event-registration", post(country_config::event_registration))
            .route("/{destination}", post(receivers::receive))
            .route("/{destination}/{*rest}", post(receivers::receive))
            .layer(DefaultBodyLimit::max(64 * 1024 * 1024))
            .with_state(state);
        Ok(Self { addr, listener, router })
    }

    /// Serves until stopped.
    pub async fn serve(self, stop: CancellationToken) -> std::io::Result<()> {
        axum::serve(self.listener, self.router).with_graceful_shutdown(async move { stop.cancelled().await }).await
    }
}

/// When a request is made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Fine,
    FailsBefore,
    FailsAfter,
}

impl State {
    fn fate(&self) -> Fate {
        let dice: f64 = rand::random();
        if dice < self.settings.fail_rate / 2.0 {
            Fate::FailsBefore
        } else if dice < self.settings.fail_rate {
            Fate::FailsAfter
        } else {
            Fate::Fine
        }
    }
}
