//! Keys that are read from elsewhere and may change: a file or an address.
//!
//! One fetch at a time, at most one a minute, and it runs to its end even when the request that
//! asked for it is given up. Requests that need no newer keys never wait for one.

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode, Url};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::{JoinHandle, spawn_blocking};

use super::error::{AuthError, KeyError};
use super::keys::KeySet;

/// The shortest time between two fetches once there are keys.
const INTERVAL: Duration = Duration::from_mins(1);
/// The same while there are none: a service that starts before its issuer should not wait long.
const FIRST_INTERVAL: Duration = Duration::from_secs(5);
/// The age at which keys are fetched again unasked, so that a withdrawn key stops to count.
const MAX_AGE: Duration = Duration::from_mins(10);
/// The time for one fetch, from the connection to the last byte.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest document with keys, in bytes.
const MAX_BODY: usize = 1024 * 1024;

/// Where the keys are read from.
pub(super) enum Origin {
    /// A file with PEM text.
    File(PathBuf),
    /// An address of a JSON Web Key Set.
    Jwks(Client, Url),
    /// An address of PEM text.
    Pem(Client, Url),
}

/// The last keys that were read, and the means to read newer ones.
pub(super) struct CachedKeys {
    issuer: String,
    origin: Origin,
    interval: Duration,
    first_interval: Duration,
    max_age: Duration,
    state: RwLock<State>,
    fetching: Arc<Mutex<()>>,
}

#[derive(Default)]
struct State {
    keys: Option<Arc<KeySet>>,
    fetched: Option<Instant>,
    attempted: Option<Instant>,
    failure: Option<Arc<KeyError>>,
}

/// The HTTP client for fetching keys: no redirects, since the address is what the operator trusts.
pub(super) fn client() -> reqwest::Result<Client> {
    Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none()).build()
}

impl CachedKeys {
    pub(super) fn new(issuer: &str, origin: Origin) -> Self {
        Self {
            issuer: issuer.to_owned(),
            origin,
            interval: INTERVAL,
            first_interval: FIRST_INTERVAL,
            max_age: MAX_AGE,
            state: RwLock::default(),
            fetching: Arc::default(),
        }
    }

    /// Takes keys that the caller has read already.
    pub(super) fn start_with(self, keys: KeySet) -> Self {
        self.store(Ok(keys));
        self
    }

    /// The keys to use now; waits for a fetch only when there never were any.
    pub(super) async fn current(self: &Arc<Self>) -> Result<Arc<KeySet>, AuthError> {
        if let Some(keys) = self.cached() {
            self.refresh_when_old();
            return Ok(keys);
        }
        let guard = Arc::clone(&self.fetching).lock_owned().await;
        if self.cached().is_none() && self.is_due() {
            self.finish(self.spawn_fetch(guard)).await;
        }
        self.cached().ok_or_else(|| {
            let failure = self.read(|state| state.failure.clone());
            AuthError::KeysUnavailable(failure.unwrap_or_else(|| Arc::new(KeyError::Interrupted)))
        })
    }

    /// Keys read after `seen`, fetched now when the last fetch is long enough ago.
    pub(super) async fn newer_than(self: &Arc<Self>, seen: &Arc<KeySet>) -> Option<Arc<KeySet>> {
        let newer = || self.cached().filter(|keys| !Arc::ptr_eq(keys, seen));
        let guard = Arc::clone(&self.fetching).lock_owned().await;
        // Whoever held the lock before may have fetched them.
        if newer().is_none() && self.is_due() {
            self.finish(self.spawn_fetch(guard)).await;
        }
        newer()
    }

    /// Starts a fetch in the background, unless one is under way or was just made.
    fn refresh_when_old(self: &Arc<Self>) {
        let old = self.read(|state| state.fetched.is_none_or(|at| at.elapsed() >= self.max_age));
        if !old || !self.is_due() {
            return;
        }
        if let Ok(guard) = Arc::clone(&self.fetching).try_lock_owned() {
            drop(self.spawn_fetch(guard));
        }
    }

    /// The task holds the lock, so a caller that goes away neither ends the fetch nor frees the way
    /// for a second one.
    fn spawn_fetch(self: &Arc<Self>, guard: OwnedMutexGuard<()>) -> JoinHandle<()> {
        self.write(|state| state.attempted = Some(Instant::now()));
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let result = this.origin.fetch().await;
            this.store(result);
            drop(guard);
        })
    }

    async fn finish(&self, task: JoinHandle<()>) {
        if task.await.is_err() {
            self.store(Err(KeyError::Interrupted));
        }
    }

    fn store(&self, result: Result<KeySet, KeyError>) {
        match result {
            Ok(keys) => self.write(|state| {
                state.keys = Some(Arc::new(keys));
                state.fetched = Some(Instant::now());
                state.attempted = state.fetched;
                state.failure = None;
            }),
            Err(error) => {
                tracing::warn!(
                    issuer = self.issuer,
                    error = &error as &dyn std::error::Error,
                    "an issuer's keys could not be read; those read before go on serving"
                );
                self.write(|state| state.failure = Some(Arc::new(error)));
            }
        }
    }

    fn is_due(&self) -> bool {
        self.read(|state| {
            let pause = match state.keys {
                Some(_) => self.interval,
                None => self.first_interval,
            };
            state.attempted.is_none_or(|at| at.elapsed() >= pause)
        })
    }

    fn cached(&self) -> Option<Arc<KeySet>> {
        self.read(|state| state.keys.clone())
    }

    // No code panics while it holds the lock, so a poisoned state is still whole.
    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Origin {
    async fn fetch(&self) -> Result<KeySet, KeyError> {
        match self {
            Self::File(path) => {
                let path = path.clone();
                match spawn_blocking(move || read_file(&path)).await {
                    Ok(text) => KeySet::from_pem(&text?),
                    Err(_) => Err(KeyError::Interrupted),
                }
            }
            Self::Jwks(client, url) => KeySet::from_jwks(&get(client, url).await?),
            Self::Pem(client, url) => KeySet::from_pem(&get(client, url).await?),
        }
    }
}

/// The contents of a file with keys.
pub(super) fn read_file(path: &std::path::Path) -> Result<Vec<u8>, KeyError> {
    let text = std::fs::read(path).map_err(KeyError::Read)?;
    if text.len() > MAX_BODY {
        return Err(KeyError::TooLarge);
    }
    Ok(text)
}

async fn get(client: &Client, url: &Url) -> Result<Vec<u8>, KeyError> {
    // An address may carry a password: it stays out of the error.
    let fetch_error = |error: reqwest::Error| KeyError::Fetch(error.without_url());
    let mut answer = client.get(url.clone()).send().await.map_err(fetch_error)?;
    if answer.status() != StatusCode::OK {
        return Err(KeyError::Status(answer.status().as_u16()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(fetch_error)? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(KeyError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
