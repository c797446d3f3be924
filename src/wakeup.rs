//! The wake-up: tells dispatchers that there may be work, and those who wait that something moved. A hint only; their
//! poll is the truth.
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

/// There may be work, and so something moved.
const CHANNEL: &str = "crvs_outbox";
/// Something moved that is no work: a delivery ended.
const MOVED: &str = "crvs_outbox_moved";

/// Wake-ups within this time become one NOTIFY.
const COALESCE: Duration = Duration::from_millis(5);
const RECONNECT: Duration = Duration::from_secs(1);

/// How long nothing is heard before the connection is asked whether it is still there: one whose other end is gone
/// without a word (a failover, a firewall) looks like one on which nothing happens.
const SILENCE: Duration = Duration::from_secs(30);

/// How long an answer is waited for. A wake-up's connection has one round trip to make, ever.
const ANSWER: Duration = Duration::from_secs(5);

/// Wakes dispatchers and those who wait. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Wakeup {
    instance: Uuid,
    work: Signal,
    moved: Signal,
}

/// What is to be heard in this process, and in others.
#[derive(Clone, Debug)]
struct Signal {
    here: watch::Sender<()>,
    elsewhere: watch::Sender<()>,
}

impl Default for Wakeup {
    fn default() -> Self {
        let signal = || Signal { here: watch::Sender::new(()), elsewhere: watch::Sender::new(()) };
        Self { instance: Uuid::now_v7(), work: signal(), moved: signal() }
    }
}

impl Wakeup {
    /// Says that there may be work, here and elsewhere. Call it after the commit.
    pub fn wake(&self) {
        self.wake_here();
        self.work.elsewhere.send_replace(());
    }

    fn wake_here(&self) {
        self.work.here.send_replace(());
        self.moved.here.send_replace(());
    }

    /// Says that something moved that makes no work, here and elsewhere. Call it after the commit.
    pub fn tell_moved(&self) {
        self.moved.here.send_replace(());
        self.moved.elsewhere.send_replace(());
    }

    /// Hears that something moved. Mark it seen *before* looking.
    pub fn moved(&self) -> watch::Receiver<()> {
        self.moved.here.subscribe()
    }

    /// Hears wake-ups. Mark it seen *before* looking for work: one that comes while we look is not missed then.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.work.here.subscribe()
    }

    /// Tells other instances, until told to stop.
    pub async fn announce(self, url: String, stop: CancellationToken) {
        let work = async {
            let (mut work, mut moved) = (self.work.elsewhere.subscribe(), self.moved.elsewhere.subscribe());
            loop {
                if let Err(error) = self.announce_while_connected(&url, &mut work, &mut moved).await {
                    tracing::warn!(%error, "the wake-up of other instances failed; they poll");
                }
                // What could not be said is said as soon as there is a connection.
                work.mark_changed();
                tokio::time::sleep(RECONNECT).await;
            }
        };
        tokio::select! { () = stop.cancelled() => {}, () = work => {} }
    }

    async fn announce_while_connected(
        &self,
        url: &str,
        work: &mut watch::Receiver<()>,
        moved: &mut watch::Receiver<()>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let mut conn = db::connect(url).await?;
        let instance = self.instance.to_string();
        loop {
            let working = tokio::select! {
                said = work.changed() => said.map(|()| true)?,
                said = moved.changed() => said.map(|()| false)?,
            };
            tokio::time::sleep(COALESCE).await;
            let channel = if working || work.has_changed()? { CHANNEL } else { MOVED };
            work.mark_unchanged();
            moved.mark_unchanged();
            let sent = sqlx::query!(r#"select pg_notify($1, $2) as "sent: ()""#, channel, instance).execute(&mut conn);
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
        listener.listen_all([CHANNEL, MOVED]).await?;
        // What was said before we listened is lost.
        self.wake_here();
        let instance = self.instance.to_string();
        loop {
            let Ok(heard) = tokio::time::timeout(SILENCE, listener.try_recv()).await else {
                tokio::time::timeout(ANSWER, listener.execute("select")).await??;
                continue;
            };
            match heard? {
                Some(own) if own.payload() == instance => {}
                Some(other) if other.channel() == MOVED => self.moved.here.send_replace(()),
                // None: the connection was lost and made again, and what was said in between is lost.
                Some(_) | None => self.wake_here(),
            }
        }
    }
}
