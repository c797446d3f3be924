//! Which notifications a country wants: what its country config answers to `GET /record-notification` (OpenCRVS up to
//! 1.9), kept for a while.
//!
//! ```json
//! {"BIRTH": {"sent-notification": true, "registered": false}, "DEATH": {}}
//! ```
//!
//! - Only `true` says that a notification is wanted: what is not there is not wanted, as in OpenCRVS.
//! - The answer is good for [`FRESH`]. An older one serves on while it cannot be read anew; none is ever made up. While
//!   nothing was ever read nothing is known, and the message waits. OpenCRVS sends none then, and forgets it.
//! - One fetch at a time, and after one that failed none for [`PAUSE`]. Who has an old answer does not wait for a new one
//!   that another is fetching.
//! - The way there is the destination's: its vetting of addresses, its proxy, its authorities.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex as Turn;

use super::egress::client::{Client, NotBegun};
use super::egress::failure::{REFUSED_ADDRESS, class};
use super::payload::opencrvs;

/// How long an answer is good.
pub const FRESH: Duration = Duration::from_mins(5);
/// How long after a failure nobody tries again.
pub const PAUSE: Duration = Duration::from_secs(5);
/// The time for one fetch. A lease has room for it beside the delivery itself.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest answer, in bytes.
const BODY_MAX: usize = 64 * 1024;

/// Why it is not known what is wanted. No text of it holds what the peer said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// There was no whole answer; holds the class of the failure.
    #[error("there was no answer: {0}")]
    Transport(&'static str),
    /// The answer's status was not 200.
    #[error("the answer's status was {0}")]
    Status(u16),
    /// The answer is larger than 64 KiB.
    #[error("the answer is too large")]
    TooLarge,
    /// The answer is not an object of JSON with an object per event.
    #[error("the answer is not what it should be")]
    Form,
    /// Somebody tried just now, and failed.
    #[error("it could not be read a moment ago")]
    Paused,
}

/// Where the settings are, and how they are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Their address.
    pub url: String,
    /// The audience of the token that is sent there; without one no token is sent.
    pub audience: Option<String>,
    /// How long an answer is good.
    pub fresh: Duration,
    /// How long after a failure nobody tries again.
    pub pause: Duration,
}

impl Settings {
    /// The usual ones.
    pub fn new(url: String, audience: Option<String>) -> Self {
        Self { url, audience, fresh: FRESH, pause: PAUSE }
    }
}

/// What a country wants, as far as it is known.
#[derive(Debug)]
pub struct Wanted {
    settings: Settings,
    known: Mutex<Known>,
    fetching: Turn<()>,
}

#[derive(Debug, Default)]
struct Known {
    last: Option<(Arc<Flags>, Instant)>,
    failed: Option<Instant>,
}

/// The answer: events in capitals, kinds of notification, whether they are wanted.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
struct Flags(HashMap<String, HashMap<String, Value>>);

impl Flags {
    fn want(&self, event: &str, kind: &str) -> bool {
        self.0.get(&event.to_ascii_uppercase()).and_then(|kinds| kinds.get(opencrvs::word(kind)))
            == Some(&Value::Bool(true))
    }
}

impl Wanted {
    /// Nothing is read before it is needed.
    pub fn new(settings: Settings) -> Self {
        Self { settings, known: Mutex::default(), fetching: Turn::default() }
    }

    /// The audience of the token that is sent along.
    pub fn audience(&self) -> Option<&str> {
        self.settings.audience.as_deref()
    }

    /// Whether a notification of this kind about such an event is wanted. `token` is minted only if it has to be read.
    pub async fn wants<E>(
        &self,
        client: &Client,
        token: impl FnOnce() -> Result<Option<String>, E>,
        event: &str,
        kind: &str,
    ) -> Result<bool, E>
    where
        E: From<Unread>,
    {
        let flags = match self.fresh() {
            Some(flags) => flags,
            None => self.read(client, token).await?,
        };
        Ok(flags.want(event, kind))
    }

    /// Read anew, or an old answer.
    async fn read<E: From<Unread>>(
        &self,
        client: &Client,
        token: impl FnOnce() -> Result<Option<String>, E>,
    ) -> Result<Arc<Flags>, E> {
        let turn = match (self.fetching.try_lock(), self.old()) {
            (Ok(turn), _) => turn,
            (Err(_), Some(old)) => return Ok(old),
            (Err(_), None) => self.fetching.lock().await,
        };
        // Whoever had the turn before may have read it.
        if let Some(flags) = self.fresh() {
            return Ok(flags);
        }
        if self.has_just_failed() {
            return self.old().ok_or_else(|| Unread::Paused.into());
        }
        let fetched = tokio::time::timeout(TIMEOUT, fetch(client, &self.settings.url, token()?)).await;
        let read = self.store(fetched.unwrap_or(Err(Unread::Transport("timeout"))));
        drop(turn);
        Ok(read?)
    }

    fn store(&self, fetched: Result<Flags, Unread>) -> Result<Arc<Flags>, Unread> {
        let mut known = self.known();
        match fetched {
            Ok(flags) => {
                let flags = Arc::new(flags);
                *known = Known { last: Some((Arc::clone(&flags), Instant::now())), failed: None };
                Ok(flags)
            }
            Err(error) => {
                let old = known.last.as_ref().map(|(flags, _)| Arc::clone(flags));
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    serves_on = old.is_some(),
                    "the notification settings could not be read"
                );
                known.failed = Some(Instant::now());
                old.ok_or(error)
            }
        }
    }

    fn fresh(&self) -> Option<Arc<Flags>> {
        let known = self.known();
        let (flags, at) = known.last.as_ref()?;
        (at.elapsed() < self.settings.fresh).then(|| Arc::clone(flags))
    }

    fn old(&self) -> Option<Arc<Flags>> {
        self.known().last.as_ref().map(|(flags, _)| Arc::clone(flags))
    }

    fn has_just_failed(&self) -> bool {
        self.known().failed.is_some_and(|at| at.elapsed() < self.settings.pause)
    }

    /// No code panics while it holds the lock, so what a poisoned one guards is still whole.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn fetch(client: &Client, url: &str, token: Option<String>) -> Result<Flags, Unread> {
    let begun = client.request(Method::GET, url).map_err(|not_begun| match not_begun {
        NotBegun::Refused(_) => Unread::Transport(REFUSED_ADDRESS),
        NotBegun::Url => Unread::Transport("unsendable-request"),
    })?;
    let begun = match token {
        Some(token) => begun.bearer_auth(token),
        None => begun,
    };
    let failed = |error: reqwest::Error| Unread::Transport(class(&error));
    let mut response = begun.send().await.map_err(failed)?;
    if response.status() != StatusCode::OK {
        return Err(Unread::Status(response.status().as_u16()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > BODY_MAX {
            return Err(Unread::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&body).map_err(|_may_quote_the_answer| Unread::Form)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(text: &str) -> Flags {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn only_true_says_that_a_notification_is_wanted() {
        let flags = flags(
            r#"{"BIRTH": {"sent-notification": true, "registered": false, "sent-for-approval": "true"}, "DEATH": {}}"#,
        );
        assert!(flags.want("birth", "sent-notification"));
        for (event, kind) in [
            ("birth", "registered"),
            ("birth", "sent-for-approval"),
            ("birth", "sent-notification-for-review"),
            ("death", "sent-notification"),
            ("marriage", "sent-notification"),
        ] {
            assert!(!flags.want(event, kind), "{event} {kind}");
        }
    }

    #[test]
    fn a_rejection_is_what_opencrvs_calls_sent_for_updates() {
        let flags = flags(r#"{"BIRTH": {"sent-for-updates": true}, "DEATH": {"rejected": true}}"#);
        assert!(flags.want("birth", "rejected"));
        assert!(!flags.want("death", "rejected"));
    }

    #[test]
    fn an_answer_of_another_form_is_none() {
        for text in ["", "[]", "null", r#"{"statusCode": 401, "error": "Unauthorized"}"#, r#"{"BIRTH": true}"#] {
            assert!(serde_json::from_str::<Flags>(text).is_err(), "{text}");
        }
        assert!(!flags("{}").want("birth", "registered"));
    }
}
