//! A queue that is filled in SQL and drained by the workers alone, in this process: no submission takes part.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::HeaderMap;
use sqlx::{Connection as _, PgPool};
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::BenchError;
use super::bed::{Bed, execute, fill, quiet};
use crate::auth::{Minter, WebhookKey};
use crate::objects::Store;
use crate::outbox::Effect;
use crate::outbox::destination::{self, Auth, Definition};
use crate::wakeup::Wakeup;
use crate::workers::egress::Client;
use crate::workers::{self, Context, Destination, Settings, Stop};
use crate::{db, metrics};

/// A declaration of 1 kB, in SQL: the row's number is `n`.
pub(super) const DECLARATION: &str = r#"('{"child.firstName":"' || md5(n::text) || '","text":"' || repeat(md5((n * 7)::text) || md5((n * 13)::text), 14) || '"}')"#;

/// Takes away all records and messages.
pub(super) const CLEAR: &str = include_str!("queue_clear.sql");

/// Connections of the workers: what `serve` gives them of its usual 20.
const CONNECTIONS: u32 = 8;
/// How often it is looked whether enough was delivered.
const LOOK: Duration = Duration::from_millis(1);
/// How long that may take.
const PATIENCE: Duration = Duration::from_mins(30);

/// A receiver of messages with their declarations, that is sent to by this client.
pub(super) fn receiver(name: &str, url: String, client: Client, concurrency: u16, batch: u16) -> Destination {
    Destination {
        definition: Definition {
            name: name.to_owned(),
            url,
            effects: vec![Effect::Search],
            auth: Auth::None,
            concurrency,
            batch,
            ..Definition::default()
        },
        audience: "bench".to_owned(),
        client,
        headers: HeaderMap::new(),
        secrets: Arc::default(),
        ed25519: false,
        wanted: None,
    }
}

/// A database with the service's schema and workers on it.
pub(super) struct Queue {
    url: String,
    db: PgPool,
    maintenance: PgPool,
    minter: Arc<Minter>,
    webhook_key: Arc<WebhookKey>,
}

impl Queue {
    pub(super) async fn new(bed: &Bed<'_>, name: &'static str) -> Result<Self, BenchError> {
        // As in a service: what is counted costs something.
        metrics::install()?;
        let url = bed.schema(name).await?;
        let webhook_key = Arc::new(WebhookKey::load_or_generate(&bed.dir.join("webhook-key.pem"))?);
        let (db, maintenance) = (db::pool_pinned(&url, CONNECTIONS).await?, db::pool(&url, 4).await?);
        Ok(Self { url, db, maintenance, minter: Arc::clone(&bed.minter), webhook_key })
    }

    /// Takes away what earlier rounds left.
    pub(super) async fn clear(&self) -> Result<(), BenchError> {
        execute(&self.url, CLEAR).await
    }

    /// Adds a message to each of these destinations for each of the records of these numbers.
    pub(super) async fn fill(
        &self,
        numbers: std::ops::RangeInclusive<usize>,
        destinations: &[Destination],
    ) -> Result<(), BenchError> {
        let definitions: Vec<Definition> = destinations.iter().map(|d| d.definition.clone()).collect();
        let mut conn = quiet(&self.url).await?;
        destination::apply(&mut conn, &definitions).await?;
        conn.close().await?;
        let destinations: Vec<String> = definitions.into_iter().map(|d| format!("'{}'", d.name)).collect();
        let names = [
            ("first", numbers.start().to_string()),
            ("last", numbers.end().to_string()),
            ("declaration", DECLARATION.to_owned()),
            ("destinations", format!("array[{}]", destinations.join(","))),
        ];
        fill(&self.url, include_str!("queue.sql"), &names).await
    }

    /// Lets the workers work until `delivered` says that so many were, and what is open is settled. Returns how many it were.
    pub(super) async fn drain(
        &self,
        destinations: &[Destination],
        wanted: usize,
        delivered: impl Fn() -> usize,
    ) -> Result<usize, BenchError> {
        let settings = Settings { destinations: destinations.to_vec(), ..Settings::default() };
        let context = Context {
            db: self.db.clone(),
            maintenance: self.maintenance.clone(),
            database_url: self.url.clone(),
            worker: Uuid::now_v7(),
            settings: Arc::new(settings),
            minter: Arc::clone(&self.minter),
            webhook_key: Arc::clone(&self.webhook_key),
            store: Store::Postgres,
            wakeup: Wakeup::default(),
        };
        let (before, started) = (delivered(), Instant::now());
        let configured = watch::Sender::new(destinations.iter().cloned().map(Arc::new).collect());
        let (mut tasks, stop) = (JoinSet::new(), Stop::default());
        workers::spawn_all(&mut tasks, &context, configured.subscribe(), &stop).await?;
        while delivered() - before < wanted {
            if started.elapsed() > PATIENCE {
                return Err(BenchError::Nothing("the queue is not drained"));
            }
            tokio::time::sleep(LOOK).await;
        }
        stop.soft.cancel();
        while let Some(ended) = tasks.join_next().await {
            ended?;
        }
        Ok(delivered() - before)
    }

    /// Runs the statements of a file on it, in which `{rows}` is replaced.
    pub(super) async fn prepare(&self, sql: &str, rows: usize) -> Result<(), BenchError> {
        fill(&self.url, sql, &[("rows", rows.to_string())]).await
    }

    /// Where it is.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// How many messages are left.
    pub(super) async fn left(&self) -> Result<usize, BenchError> {
        let left: i64 = sqlx::query_scalar("select count(*) from outbox_message").fetch_one(&self.maintenance).await?;
        Ok(usize::try_from(left).unwrap_or_default())
    }
}
