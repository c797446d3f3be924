//! The one who reads for all who wait: what moved since the last turn, and what of it somebody waits for.
//!
//! It has a connection of its own, so that full pools delay nobody, opened when first somebody waits. It does not go
//! on to the next moment before what moved until then is told: an error repeats the turn.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgConnection;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Waiting;
use super::map::locked;
use crate::db::{self, DbError};
use crate::metrics;
use crate::records::changes::{self, Moved};
use crate::records::progress::{self, ChangeView};
use crate::wakeup::Wakeup;

/// Turns are no closer than this, so that what moves in one moment is read together.
const PAUSE: Duration = Duration::from_millis(10);
const RECONNECT: Duration = Duration::from_secs(1);
/// How long an answer of the database is waited for: its other end may be gone without a word.
const ANSWER: Duration = Duration::from_secs(10);

/// How long those who wait are still told what is when the process stops.
const LAST_TURN: Duration = Duration::from_secs(10);

/// Transactions that are read at a time: in a few words, and in full.
const STATES: usize = 500;
const VIEWS: usize = 100;

#[derive(Debug, thiserror::Error)]
enum TurnError {
    #[error(transparent)]
    Connect(#[from] DbError),
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    #[error("the database did not answer in time")]
    NoAnswer(#[from] tokio::time::error::Elapsed),
}

impl Waiting {
    /// Reads for all who wait until told to stop; then tells them what is, and to go.
    pub async fn run(self, url: String, wakeup: Wakeup, stop: CancellationToken) {
        let mut moved = wakeup.moved();
        while let Err(error) = self.read_while_connected(&url, &mut moved, &stop).await {
            metrics::maintenance_failed("changes");
            tracing::warn!(error = &error as &dyn std::error::Error, "changes could not be read; they are read later");
            tokio::select! { () = stop.cancelled() => break, () = tokio::time::sleep(RECONNECT) => {} }
        }
        self.0.ended.cancel();
    }

    /// `Ok` once told to stop.
    async fn read_while_connected(
        &self,
        url: &str,
        moved: &mut watch::Receiver<()>,
        stop: &CancellationToken,
    ) -> Result<(), TurnError> {
        let connected = async {
            self.until_wanted().await;
            db::connect_pinned(url).await
        };
        let mut conn = tokio::select! { conn = connected => conn?, () = stop.cancelled() => return Ok(()) };
        loop {
            if self.rests() {
                tokio::select! { () = self.until_wanted() => {}, () = stop.cancelled() => return Ok(()) }
            }
            // Before looking: what is said meanwhile is looked for again.
            moved.mark_unchanged();
            let started = Instant::now();
            tokio::time::timeout(ANSWER, self.read_turn(&mut conn)).await??;
            tokio::time::sleep_until(started + PAUSE).await;
            tokio::select! {
                _ = moved.changed() => {}
                () = self.0.wanted.notified() => {}
                () = tokio::time::sleep(self.0.settings.poll) => {}
                () = stop.cancelled() => {
                    locked(&self.0.map).ask_all();
                    return Ok(tokio::time::timeout(LAST_TURN, self.read_turn(&mut conn)).await??);
                }
            }
        }
    }

    /// Whether nobody waits. Whoever comes then sees that nothing is read, and says that they are there.
    fn rests(&self) -> bool {
        let mut map = locked(&self.0.map);
        if map.waiting > 0 {
            return false;
        }
        map.seen = None;
        metrics::waiting(0);
        self.0.reads.send_replace(false);
        true
    }

    async fn until_wanted(&self) {
        while locked(&self.0.map).waiting == 0 {
            self.0.wanted.notified().await;
        }
    }

    async fn read_turn(&self, conn: &mut PgConnection) -> sqlx::Result<()> {
        let (seen, waiting) = {
            let map = locked(&self.0.map);
            (map.seen.clone(), map.waiting)
        };
        metrics::waiting(waiting);
        let Some(seen) = seen else {
            let now = changes::moment(conn).await?;
            locked(&self.0.map).seen = Some(now);
            self.0.reads.send_replace(true);
            return Ok(());
        };
        let moved = changes::tail(conn, &seen).await?;
        let ids = locked(&self.0.map).take_wanted(&moved.transactions, moved.uncertain);
        let outcome = self.tell(conn, &moved, &ids).await;
        if outcome.is_err() {
            // Told at the next turn; what was asked for has to be asked for again.
            locked(&self.0.map).ask_again(ids);
        }
        outcome
    }

    async fn tell(&self, conn: &mut PgConnection, moved: &Moved, ids: &HashSet<String>) -> sqlx::Result<()> {
        let states = read_states(conn, ids).await?;
        let in_full: Vec<&str> = {
            let map = locked(&self.0.map);
            states.values().filter(|s| map.wants_view(s)).map(|s| s.transaction_id.as_str()).collect()
        };
        for some in in_full.chunks(VIEWS) {
            let views = progress::views(conn, some).await?;
            let map = locked(&self.0.map);
            for view in views.into_values() {
                map.tell_view(&Arc::new(view));
            }
        }
        let map = &mut *locked(&self.0.map);
        for id in ids.iter().filter(|id| !states.contains_key(*id)) {
            map.tell_unknown(id);
        }
        for (principal, changes) in by_principal(moved, &states) {
            map.tell_changes(principal, &changes, &moved.now);
        }
        if moved.uncertain {
            map.tell_all_behind();
        }
        map.seen = Some(moved.now.clone());
        Ok(())
    }
}

async fn read_states(conn: &mut PgConnection, ids: &HashSet<String>) -> sqlx::Result<HashMap<String, Arc<ChangeView>>> {
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut states = HashMap::with_capacity(ids.len());
    for some in ids.chunks(STATES) {
        states.extend(progress::states(conn, some).await?.into_iter().map(|(id, state)| (id, Arc::new(state))));
    }
    Ok(states)
}

/// What is told to feeds: to each principal only transactions of their own.
fn by_principal<'m>(
    moved: &'m Moved,
    states: &HashMap<String, Arc<ChangeView>>,
) -> HashMap<&'m str, Vec<Arc<ChangeView>>> {
    let mut changes: HashMap<&str, Vec<Arc<ChangeView>>> = HashMap::new();
    let mut told = HashSet::new();
    for (principal, id) in &moved.transactions {
        if let Some(state) = states.get(id).filter(|state| state.principal_id == *principal)
            && told.insert(id)
        {
            changes.entry(principal).or_default().push(Arc::clone(state));
        }
    }
    changes
}
