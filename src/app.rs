//! The composition root: builds everything, starts it, and stops it softly, then hard.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::auth::{
    KeySource, Minter, PublicKeyError, PublishedKeys, Signer, SignerError, TokenPublicKey, Trust, TrustError, Verifier,
    WebhookKey, WebhookKeyError, WebhookPublicKey,
};
use crate::coalescer::Coalescer;
use crate::config::Settings;
use crate::db::{self, DbError};
use crate::handlers::{self, AppState};
use crate::outbox::destination;
use crate::pressure::Pressure;
use crate::waiting::Waiting;
use crate::wakeup::Wakeup;
use crate::workers::{self, Context, Destination, Stop};
use crate::{metrics, outbox, records, serve};

/// Why the service did not start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The database cannot be used.
    #[error(transparent)]
    Db(#[from] DbError),
    /// A first statement failed.
    #[error("the database failed")]
    Database(#[source] sqlx::Error),
    /// The signing key cannot be used.
    #[error("the signing key cannot be used")]
    Signer(#[from] SignerError),
    /// A public key of the tokens cannot be used.
    #[error("the public keys of the tokens cannot be used")]
    PublicKey(#[from] PublicKeyError),
    /// A key of the deliveries cannot be used.
    #[error("the webhook keys cannot be used")]
    WebhookKey(#[from] WebhookKeyError),
    /// A trusted issuer cannot be used.
    #[error("the trusted issuers cannot be used")]
    Trust(#[from] TrustError),
    /// An address cannot be listened on.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// The metrics cannot be recorded.
    #[error("the metrics cannot be recorded")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
}

impl From<sqlx::Error> for AppError {
    fn from(error: sqlx::Error) -> Self {
        let timed_out = matches!(error, sqlx::Error::PoolTimedOut);
        if timed_out { Self::Db(DbError::NoAnswer) } else { Self::Database(error) }
    }
}

/// Which halves run in this process; the tables between them are the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Halves {
    /// The API.
    pub api: bool,
    /// The workers.
    pub workers: bool,
}

impl Halves {
    /// Both.
    pub const BOTH: Self = Self { api: true, workers: true };
}

/// How long a hard stop may take to give leases back.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A running service.
pub struct App {
    /// Where clients reach it; `None` without the API.
    pub public_addr: Option<SocketAddr>,
    /// Where operators reach it.
    pub internal_addr: SocketAddr,
    /// The API's connections.
    pub db: PgPool,
    /// What its loops work with, whether they run or not.
    pub context: Context,
    /// Those who wait for what becomes of transactions.
    pub waiting: Waiting,
    destinations: watch::Sender<Vec<Arc<Destination>>>,
    stop: Stop,
    grace: Duration,
    tasks: JoinSet<()>,
}

impl App {
    /// Migrates, applies the destinations, and starts the chosen halves. Ready when it returns.
    pub async fn start(settings: Settings, halves: Halves) -> Result<Self, AppError> {
        metrics::install()?;
        let migrated = db::migrate(&settings.database_url).await?;
        tracing::info!(applied = ?migrated.applied, "the schema is up to date");
        let parts = Parts::build(&settings, halves).await?;
        let stop = Stop::default();
        let configured = settings.workers.destinations.iter().cloned().map(Arc::new).collect();
        let destinations = watch::Sender::new(configured);
        let mut tasks = JoinSet::new();
        let mut public_addr = None;
        if halves.api {
            let listener = listen(settings.listen).await?;
            public_addr = listener.local_addr().ok();
            tasks.spawn(serve(listener, handlers::public(parts.state.clone()), settings.serve, &stop));
        }
        let listener = listen(settings.internal_addr).await?;
        let internal_addr = listener.local_addr().unwrap_or(settings.internal_addr);
        tasks.spawn(serve(listener, handlers::internal(parts.state.clone()), settings.serve, &stop));
        if settings.workers.listen {
            let (wakeup, url) = (parts.state.wakeup.clone(), settings.database_url.clone());
            tasks.spawn(wakeup.clone().announce(url.clone(), stop.soft.clone()));
            tasks.spawn(wakeup.listen(url, stop.soft.clone()));
        }
        if halves.api {
            let (waiting, wakeup) = (parts.state.waiting.clone(), parts.state.wakeup.clone());
            tasks.spawn(waiting.run(settings.database_url.clone(), wakeup, stop.soft.clone()));
        }
        let (looking, db) = (parts.state.pressure.clone(), parts.state.db.clone());
        tasks.spawn(looking.watch(db, settings.pressure, settings.pressure_check, stop.soft.clone()));
        if halves.workers {
            workers::spawn_all(&mut tasks, &parts.context, destinations.subscribe(), &stop).await?;
        } else {
            // An API alone needs tomorrow's partitions too.
            tasks.spawn(workers::housekeeping::run(parts.context.clone(), stop.soft.clone()));
        }
        tracing::info!(?public_addr, %internal_addr, "started");
        let (db, context, waiting) = (parts.state.db, parts.context, parts.state.waiting);
        Ok(Self { public_addr, internal_addr, db, context, waiting, destinations, stop, grace: settings.stop, tasks })
    }

    /// Takes over the destinations of a configuration that was read anew; everything else needs a restart. If the
    /// database cannot be told, nothing changes.
    pub async fn reload(&self, settings: &Settings) -> sqlx::Result<()> {
        apply(&self.context.db, settings).await?;
        self.destinations.send_replace(settings.workers.destinations.iter().cloned().map(Arc::new).collect());
        tracing::info!(destinations = settings.workers.destinations.len(), "the destinations were read anew");
        Ok(())
    }

    /// Waits until a task ends that should not have: the process is of no use then.
    pub async fn failed(&mut self) {
        let ended = self.tasks.join_next().await;
        tracing::error!(?ended, "a part of the service ended by itself");
    }

    /// Stops: takes nothing new, waits for what is open, then cuts it short. `now` cuts it short at once.
    pub async fn stop(mut self, now: CancellationToken) {
        tracing::info!("stopping");
        self.stop.soft.cancel();
        let ended = tokio::select! {
            () = async { while self.tasks.join_next().await.is_some() {} } => true,
            () = tokio::time::sleep(self.grace) => false,
            () = now.cancelled() => false,
        };
        if !ended {
            tracing::warn!("cutting short what is still open");
            self.stop.hard.cancel();
            // What cannot be written down by then – the database may be gone – is rescued by others.
            let settled = async { while self.tasks.join_next().await.is_some() {} };
            if tokio::time::timeout(LAST_WORDS, settled).await.is_err() {
                tracing::warn!("some leases could not be given back; they will be rescued");
                self.tasks.shutdown().await;
            }
        }
        let closed = async { tokio::join!(self.db.close(), self.context.db.close()) };
        if tokio::time::timeout(LAST_WORDS, closed).await.is_err() {
            tracing::warn!("the connections could not be closed in order");
        }
        tracing::info!("stopped");
    }
}

struct Parts {
    state: AppState,
    context: Context,
}

impl Parts {
    async fn build(settings: &Settings, halves: Halves) -> Result<Self, AppError> {
        let signer = Arc::new(Signer::load_or_generate(&settings.signing_key_file)?);
        let webhook_key = Arc::new(WebhookKey::load_or_generate(&settings.webhook_key_file)?);
        let listed = settings.public_keys.iter().map(|path| TokenPublicKey::from_file(path));
        let listed = listed.collect::<Result<Vec<_>, _>>()?;
        let keys = Arc::new(published(settings, &signer, &listed, &webhook_key)?);
        let minter = Arc::new(Minter::new(Arc::clone(&signer), settings.mint.clone())?);
        let verifier = Arc::new(Verifier::new(trusts(settings, &signer, listed))?);
        let Pools { db, workers_db } = pools(settings, halves).await?;
        prepare(&db, settings).await?;
        let wakeup = Wakeup::default();
        let context = Context {
            db: workers_db,
            maintenance: db.clone(),
            database_url: settings.database_url.clone(),
            worker: Uuid::now_v7(),
            settings: Arc::new(settings.workers.clone()),
            minter: Arc::clone(&minter),
            webhook_key,
            wakeup: wakeup.clone(),
            store: settings.store.clone(),
        };
        let handlers = Arc::new(settings.handlers.clone());
        let (pressure, waiting) = (Pressure::default(), Waiting::new(settings.waiting));
        let store = settings.store.clone();
        let coalescer = Coalescer::default();
        let state =
            AppState { db, verifier, minter, keys, settings: handlers, store, wakeup, pressure, waiting, coalescer };
        Ok(Self { state, context })
    }
}

/// The API's connections, which are those of maintenance too, and the workers'.
struct Pools {
    db: PgPool,
    workers_db: PgPool,
}

/// Two, so that neither half starves behind the other: the workers have two fifths of the connections. Alone they have all
/// but two, and an API alone has all of them.
async fn pools(settings: &Settings, halves: Halves) -> Result<Pools, DbError> {
    let (url, all) = (&settings.database_url, settings.connections);
    if !halves.workers {
        let db = db::pool(url, all).await?;
        return Ok(Pools { workers_db: db.clone(), db });
    }
    let workers = if halves.api { all * 2 / 5 } else { all.saturating_sub(2) }.max(2);
    let db = db::pool(url, all.saturating_sub(workers).max(2)).await?;
    Ok(Pools { db, workers_db: db::pool_pinned(url, workers).await? })
}

/// Users' issuers, and ourselves: country configs send our own tokens back, for as long as `record_days` after a rotation.
fn trusts(settings: &Settings, signer: &Arc<Signer>, listed: Vec<TokenPublicKey>) -> Vec<Trust> {
    let ours = |keys| Trust {
        issuer: settings.mint.issuer.clone(),
        audiences: vec![settings.mint.gateway_audience.clone()],
        keys,
    };
    let own = [ours(KeySource::Own(Arc::clone(signer)))];
    let listed = (!listed.is_empty()).then(|| ours(KeySource::Listed(listed)));
    let others = settings.trusted.iter().cloned();
    let others = others.map(|t| Trust { issuer: t.issuer, audiences: t.audiences, keys: t.keys.into() });
    own.into_iter().chain(listed).chain(others).collect()
}

/// Our public keys, and those from before or after a rotation.
fn published(
    settings: &Settings,
    signer: &Signer,
    listed: &[TokenPublicKey],
    key: &WebhookKey,
) -> Result<PublishedKeys, WebhookKeyError> {
    let others = settings.webhook_public_keys.iter().map(|path| WebhookPublicKey::from_file(path));
    let others = others.collect::<Result<Vec<_>, _>>()?;
    Ok(PublishedKeys::new(signer, listed, std::iter::once(key.public()).chain(&others)))
}

async fn prepare(db: &PgPool, settings: &Settings) -> Result<(), AppError> {
    apply(db, settings).await?;
    // Somebody who reads the history keeps its lock; the default partition takes the rows meanwhile.
    let mut conn = db.acquire().await?;
    records::duplicates::prepare(&mut conn, &settings.duplicates).await?;
    if let Err(error) = outbox::partitions::ensure(&mut conn).await {
        tracing::warn!(%error, "the coming days' partitions could not be made yet");
    }
    Ok(())
}

async fn apply(db: &PgPool, settings: &Settings) -> sqlx::Result<()> {
    let definitions: Vec<_> = settings.workers.destinations.iter().map(|d| d.definition.clone()).collect();
    let mut tx = db.begin().await?;
    // A process that was given no destinations (an API started alone, say) has no opinion on them.
    if !definitions.is_empty() {
        let disabled = destination::apply(&mut tx, &definitions).await?;
        if !disabled.is_empty() {
            tracing::warn!(
                ?disabled,
                "destinations that this configuration does not have get no new messages, from any instance"
            );
        }
    }
    tx.commit().await
}

async fn listen(addr: SocketAddr) -> Result<TcpListener, AppError> {
    TcpListener::bind(addr).await.map_err(|e| AppError::Listen(addr, e))
}

fn serve(
    listener: TcpListener,
    router: Router,
    settings: serve::Settings,
    stop: &Stop,
) -> impl Future<Output = ()> + use<> {
    serve::run(listener, router, settings, stop.soft.clone(), stop.hard.clone())
}
