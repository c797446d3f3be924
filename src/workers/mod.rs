//! The loops: they claim messages, send them and write down what came of it. Never imported by handlers:
//! the tables between them are the interface, so either half runs alone.
//!
//! | loop | when | what |
//! |---|---|---|
//! | [`dispatcher`], one lane per destination | woken, and every `poll` | claim → render → send → settle |
//! | heartbeat | every `heartbeat` | says that this worker lives, on a connection of its own |
//! | [`rescuer`] | four times a `heartbeat` | takes back the leases of dead workers; finds claims that are written nowhere, every minute |
//! | [`callbacks`] | every `callback_check` | sends registrations again whose callback is overdue |
//! | [`duplicates`] | every `duplicate_check` | compares records that were accepted at the same moment |
//! | [`housekeeping`] | every hour | makes the coming days' partitions, drops those past their retention, forgets silent workers, collects attachments that nothing refers to |
//!
//! Promises: no transaction is open during an exchange (P9); what one destination does delays no other; a lease is
//! settled once and by its holder (P6); a stop sends nothing new, waits for open exchanges, then cuts them short and
//! gives their messages back without burning an attempt.
//! Not promised: that the peer saw one exchange only. It tells repetitions by the `Idempotency-Key`.

pub mod answer;
pub mod callbacks;
mod deliver;
pub mod delivery;
pub mod dispatcher;
pub mod duplicates;
pub mod egress;
mod heartbeat;
pub mod housekeeping;
pub mod lane;
pub mod payload;
pub mod rescuer;
mod settle;
pub mod signature;
pub mod wanted;

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::HeaderMap;
use sqlx::PgPool;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::auth::{Minter, WebhookKey, WebhookSecret};
use crate::db::DbError;
use crate::objects::Store;
use crate::outbox::destination::Definition;
use crate::wakeup::Wakeup;

use egress::Client;

use heartbeat::Heart;
use wanted::Wanted;

/// A destination with everything that this process needs to reach it.
#[derive(Clone, Debug)]
pub struct Destination {
    /// What the database knows of it.
    pub definition: Definition,
    /// The audience of its tokens.
    pub audience: String,
    /// The way to it.
    pub client: Client,
    /// Headers of its own.
    pub headers: HeaderMap,
    /// What its deliveries are signed with, the newest first.
    pub secrets: Arc<[WebhookSecret]>,
    /// Whether they are signed with the key of this service too.
    pub ed25519: bool,
    /// Which of its notifications the country wants; all of them if nobody is to be asked.
    pub wanted: Option<Arc<Wanted>>,
}

/// How this process delivers.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where messages go.
    pub destinations: Vec<Destination>,
    /// How often a lane looks for work when nobody wakes it; jittered by a tenth.
    pub poll: Duration,
    /// How often this worker says that it lives; its leases are lost after two.
    pub heartbeat: Duration,
    /// Lost leases after which a message is dead.
    pub max_rescues: i32,
    /// How long the first promised callback may take.
    pub callback_deadline: Duration,
    /// How often overdue callbacks are looked for.
    pub callback_check: Duration,
    /// How often records that were accepted at the same moment are compared.
    pub duplicate_check: Duration,
    /// Days that finished messages and attempts are kept.
    pub retention_days: u16,
    /// Days that what moved is kept.
    pub changes_days: u16,
    /// Hours that an attachment is kept that no record has.
    pub unreferenced_hours: u16,
    /// Whether this process hears of other instances' work and tells of its own; if not, it opens no connections for
    /// that and only polls.
    pub listen: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            destinations: Vec::new(),
            poll: Duration::from_secs(1),
            heartbeat: Duration::from_secs(5),
            max_rescues: 20,
            callback_deadline: Duration::from_hours(1),
            callback_check: Duration::from_secs(15),
            duplicate_check: Duration::from_secs(30),
            retention_days: 90,
            changes_days: 14,
            unreferenced_hours: 24,
            listen: true,
        }
    }
}

/// What the loops share.
#[derive(Clone)]
pub struct Context {
    /// The workers' connections: what they say goes by keys, and is planned once.
    pub db: PgPool,
    /// Connections for what looks through tables.
    pub maintenance: PgPool,
    /// For the heart's own connection.
    pub database_url: String,
    /// This process in the table `worker`.
    pub worker: Uuid,
    /// How to deliver.
    pub settings: Arc<Settings>,
    /// Mints the tokens of deliveries.
    pub minter: Arc<Minter>,
    /// Signs deliveries, where it is asked for.
    pub webhook_key: Arc<WebhookKey>,
    /// Where the bytes of attachments are, for housekeeping.
    pub store: Store,
    /// Hears of work, and tells of work that a verdict made.
    pub wakeup: Wakeup,
}

/// The two stages of a stop.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Claim nothing new, finish what is open.
    pub soft: CancellationToken,
    /// Cut short what is open.
    pub hard: CancellationToken,
}

/// Starts every loop on `tasks`. They end after `stop.soft`, at the latest soon after `stop.hard`.
/// The first heartbeat is written before this returns: no lease is taken in the name of an unknown worker.
pub async fn spawn_all(
    tasks: &mut JoinSet<()>,
    context: &Context,
    destinations: dispatcher::Destinations,
    stop: &Stop,
) -> Result<(), DbError> {
    let alive = CancellationToken::new();
    let heart = Heart::start(context.clone()).await?;
    // The heart beats as long as a lane holds leases.
    tasks.spawn(heart.run(alive.clone()));
    let lanes = dispatcher::run(context.clone(), destinations, stop.clone());
    tasks.spawn(async move {
        // If it ends early the process ends too, and others rescue what it held.
        lanes.await;
        alive.cancel();
    });
    tasks.spawn(rescuer::run(context.clone(), stop.soft.clone()));
    tasks.spawn(rescuer::find_unwritten(context.clone(), stop.soft.clone()));
    tasks.spawn(callbacks::run(context.clone(), stop.soft.clone()));
    tasks.spawn(duplicates::run(context.clone(), stop.soft.clone()));
    tasks.spawn(housekeeping::run(context.clone(), stop.soft.clone()));
    Ok(())
}
