//! The wake-up: tells dispatchers that there may be work. A hint only; their jittered poll is the truth.
//!
//! In this process it is heard at once. Other instances hear one NOTIFY per few milliseconds, sent from a connection
//! of its own and never inside a business transaction: a NOTIFY there takes a database-wide lock until its commit.

use std::time::Duration;

use sqlx::Executor as _;
use sqlx::postgres::PgListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::db;

const CHANNEL: &str = "crvs_outbox";

/// Wake-ups within this time become one NOTIFY.
const COALESCE: Duration = Duration::from_millis(5);
const RECONNECT: Duration = Duration::from_secs(1);

/// How long nothing is heard before the connection is asked whether it is still there: one whose other end is gone
/// without a word (a failover, a firewall) looks like one on which nothing happens.
const SILENCE: Duration = Duration::from_secs(30);

/// How long an answer is waited for. A wake-up's connection has one round trip to make, ever.
const ANSWER: Duration = Duration::from_secs(5);

/// Wakes dispatchers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Wakeup {
    instance: Uuid,
    here: watch::Sender<()>,
    elsewhere: watch::Sender<()>,
}

impl Default for Wakeup {
    fn default() -> Self {
        Self { instance: Uuid::now_v7(), here: watch::Sender::new(()), elsewhere: watch::Sender::new(()) }
    }
}

impl Wakeup {
    /// Says that there may be work, here and elsewhere. Call it after the commit.
    pub fn wake(&self) {
        self.here.send_replace(());
        self.elsewhere.send_replace(());
    }

    /// Hears wake-ups. Mark it seen *before* looking for work: one that comes while we look is not missed then.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.here.subscribe()
    }

    /// Tells other instances, until told to stop.
    pub async fn announce(self, url: String, stop: CancellationToken) {
        let work = async {
            let mut wanted = self.elsewhere.subscribe();
            loop {
                if let Err(error) = self.announce_while_connected(&url, &mut wanted).await {
                    tracing::warn!(%error, "the wake-up of other instances failed; they poll");
                }
                // What could not be said is said as soon as there is a connection.
                wanted.mark_changed();
                tokio::time::sleep(RECONNECT).await;
            }
        };
        tokio::select! { () = stop.cancelled() => {}, () = work => {} }
    }

    async fn announce_while_connected(
        &self,
        url: &str,
        wanted: &mut watch::Receiver<()>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let mut conn = db::connect(url).await?;
        let instance = self.instance.to_string();
        loop {
            wanted.changed().await?;
            tokio::time::sleep(COALESCE).await;
            wanted.mark_unchanged();
            let sent = sqlx::query!(r#"select pg_notify($1, $2) as "sent: ()""#, CHANNEL, instance).execute(&mut conn);
            tokio::time::timeout(ANSWER, sent).await??;
        }
    }

    /// Hears other instances, until told to stop.
    pub async fn listen(self, url: String, stop: CancellationToken) {
        let work = async {
            loop {
                if let Err(error) = self.listen_while_connected(&url).await {
                    tracing::warn!(%error, "listening for wake-ups failed; polling");
                }
                tokio::time::sleep(RECONNECT).await;
            }
        };
        tokio::select! { () = stop.cancelled() => {}, () = work => {} }
    }

    async fn listen_while_connected(&self, url: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let pool = db::pool(url, 1).await?;
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.listen(CHANNEL).await?;
        // What was said before we listened is lost.
        self.here.send_replace(());
        let instance = self.instance.to_string();
        loop {
            let Ok(heard) = tokio::time::timeout(SILENCE, listener.try_recv()).await else {
                tokio::time::timeout(ANSWER, listener.execute("select")).await??;
                continue;
            };
            // None: the connection was lost and made again, and what was said in between is lost.
            let own = heard?.is_some_and(|n| n.payload() == instance);
            if !own {
                self.here.send_replace(());
            }
        }
    }
}
