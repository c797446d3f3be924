//! Keys that are read from elsewhere and may change: a file or an address.
//!
//! One fetch at a time, at most one a minute, and it runs to its end even when the request that
//! asked for it is given up. Requests that need no newer keys never wait for one.

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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use wiremock::matchers::method;
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::super::testing::{self, AUDIENCE, Directory, ISSUER, OtherKey, claims, other_signer, refused, signer};
    use super::super::{KeySource, Verifier};
    use super::*;

    const NEVER_AGAIN: Duration = Duration::MAX;

    /// Keys at a server's address, fetched anew after a pause.
    fn keys_at(server: &MockServer, pause: Duration, of: fn(Client, Url) -> Origin) -> CachedKeys {
        let url = Url::parse(&server.uri()).unwrap();
        let mut keys = CachedKeys::new(ISSUER, of(client().unwrap(), url));
        keys.interval = pause;
        keys.first_interval = pause;
        keys
    }

    fn verifier(keys: CachedKeys) -> Verifier {
        Verifier::over(ISSUER, AUDIENCE, Arc::new(keys))
    }

    /// Makes the server answer like this from now on, and count its requests anew.
    async fn serve(server: &MockServer, answer: ResponseTemplate) {
        server.reset().await;
        let mock = Mock::given(method("GET")).respond_with(answer);
        mock.mount(server).await;
    }

    async fn requests(server: &MockServer) -> usize {
        server.received_requests().await.unwrap().len()
    }

    fn json_answer(keys: &Value) -> ResponseTemplate {
        ResponseTemplate::new(200).set_body_json(keys)
    }

    fn text_answer(text: &str) -> ResponseTemplate {
        ResponseTemplate::new(200).set_body_string(text)
    }

    fn key_set(kid: &str, key: &OtherKey) -> Value {
        let mut jwk = key.jwk.clone();
        jwk["kid"] = kid.into();
        json!({"keys": [jwk]})
    }

    #[tokio::test]
    async fn an_unknown_key_id_fetches_the_key_set_again() {
        let server = MockServer::start().await;
        let (old, new) = (OtherKey::p256(), OtherKey::p256());
        serve(&server, json_answer(&key_set("old", &old))).await;
        let verifier = verifier(keys_at(&server, Duration::ZERO, Origin::Jwks));
        let of_old = old.sign(Some("old"), &claims());
        for _ in 0..3 {
            assert!(verifier.verify(&of_old).await.is_ok());
        }
        let of_new = new.sign(Some("new"), &claims());
        let error = refused(verifier.verify(&of_new).await);
        assert!(matches!(error, AuthError::UnknownKey));
        assert_eq!(requests(&server).await, 2);
        serve(&server, json_answer(&key_set("new", &new))).await;
        assert!(verifier.verify(&of_new).await.is_ok());
        assert!(verifier.verify(&of_new).await.is_ok());
        assert_eq!(requests(&server).await, 1);
    }

    #[tokio::test]
    async fn a_known_key_id_with_a_bad_signature_fetches_nothing() {
        let server = MockServer::start().await;
        serve(&server, json_answer(&key_set("one", &OtherKey::p256()))).await;
        let verifier = verifier(keys_at(&server, Duration::ZERO, Origin::Jwks));
        let forged = OtherKey::p256().sign(Some("one"), &claims());
        let error = refused(verifier.verify(&forged).await);
        assert!(matches!(error, AuthError::BadSignature));
        assert_eq!(requests(&server).await, 1);
    }

    #[tokio::test]
    async fn a_bad_signature_without_a_key_id_fetches_the_pem_text_again() {
        let server = MockServer::start().await;
        serve(&server, text_answer(signer().public_pem())).await;
        let verifier = verifier(keys_at(&server, Duration::ZERO, Origin::Pem));
        let of_old = signer().sign(&claims()).unwrap();
        assert!(verifier.verify(&of_old).await.is_ok());
        serve(&server, text_answer(other_signer().public_pem())).await;
        let of_new = other_signer().sign(&claims()).unwrap();
        assert!(verifier.verify(&of_new).await.is_ok());
        let error = refused(verifier.verify(&of_old).await);
        assert!(matches!(error, AuthError::BadSignature));
    }

    #[tokio::test]
    async fn keys_are_fetched_at_most_once_in_the_interval() {
        let server = MockServer::start().await;
        serve(&server, text_answer(signer().public_pem())).await;
        let of_new = other_signer().sign(&claims()).unwrap();
        let slow = verifier(keys_at(&server, NEVER_AGAIN, Origin::Pem));
        for _ in 0..3 {
            let error = refused(slow.verify(&of_new).await);
            assert!(matches!(error, AuthError::BadSignature));
        }
        assert_eq!(requests(&server).await, 1);
        let url = Url::parse(&server.uri()).unwrap();
        let usual = CachedKeys::new(ISSUER, Origin::Pem(client().unwrap(), url));
        assert_eq!(usual.interval, Duration::from_mins(1));
    }

    #[tokio::test]
    async fn requests_at_once_make_one_fetch() {
        let server = MockServer::start().await;
        serve(&server, text_answer(signer().public_pem())).await;
        let verifier = Arc::new(verifier(keys_at(&server, NEVER_AGAIN, Origin::Pem)));
        let token = signer().sign(&claims()).unwrap();
        let running: Vec<_> = (0..10)
            .map(|_| {
                let (verifier, token) = (Arc::clone(&verifier), token.clone());
                tokio::spawn(async move { verifier.verify(&token).await.is_ok() })
            })
            .collect();
        for one in running {
            assert!(one.await.unwrap());
        }
        assert_eq!(requests(&server).await, 1);
    }

    #[tokio::test]
    async fn known_keys_go_on_serving_while_fetching_fails() {
        let server = MockServer::start().await;
        serve(&server, text_answer(signer().public_pem())).await;
        let verifier = verifier(keys_at(&server, Duration::ZERO, Origin::Pem));
        let token = signer().sign(&claims()).unwrap();
        assert!(verifier.verify(&token).await.is_ok());
        for broken in [ResponseTemplate::new(500), text_answer("no key")] {
            serve(&server, broken).await;
            let of_other = other_signer().sign(&claims()).unwrap();
            let error = refused(verifier.verify(&of_other).await);
            assert!(matches!(error, AuthError::BadSignature));
            assert_eq!(requests(&server).await, 1);
            assert!(verifier.verify(&token).await.is_ok());
        }
    }

    #[tokio::test]
    async fn without_any_keys_the_answer_is_that_they_are_not_available() {
        let server = MockServer::start().await;
        let token = signer().sign(&claims()).unwrap();
        let moved = ResponseTemplate::new(302).insert_header("location", "/elsewhere");
        for (answer, reason) in [
            (ResponseTemplate::new(503), "Status(503)"),
            (moved, "Status(302)"),
            (text_answer(&"x".repeat(MAX_BODY + 1)), "TooLarge"),
            (text_answer("x"), "NoUsableKey"),
        ] {
            serve(&server, answer).await;
            let verifier = verifier(keys_at(&server, NEVER_AGAIN, Origin::Pem));
            for _ in 0..2 {
                let error = refused(verifier.verify(&token).await);
                let AuthError::KeysUnavailable(error) = error else {
                    panic!("{error}");
                };
                assert_eq!(format!("{error:?}"), reason);
            }
            assert_eq!(requests(&server).await, 1);
        }
    }

    #[tokio::test]
    async fn a_failed_fetch_does_not_show_the_address() {
        let url = Url::parse("http://user:secret@127.0.0.1:9/keys").unwrap();
        let verifier = testing::verifier(KeySource::WellKnownPem(url));
        let token = signer().sign(&claims()).unwrap();
        let AuthError::KeysUnavailable(error) = refused(verifier.verify(&token).await) else {
            panic!("keys from nowhere");
        };
        let text = format!("{error} {error:?}");
        assert!(!text.contains("secret") && !text.contains("/keys"), "{text}");
    }

    #[tokio::test]
    async fn a_fetch_goes_on_when_the_request_that_asked_for_it_is_given_up() {
        let server = MockServer::start().await;
        serve(&server, text_answer(signer().public_pem())).await;
        let keys = Arc::new(keys_at(&server, NEVER_AGAIN, Origin::Pem));
        let mut first = Box::pin(keys.current());
        // One poll starts the fetch, whose answer cannot be there yet.
        assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(first.as_mut().poll(cx).is_pending())).await);
        drop(first);
        assert!(keys.current().await.is_ok());
        assert_eq!(requests(&server).await, 1);
    }

    #[tokio::test]
    async fn old_keys_are_fetched_again_without_waiting_for_it() {
        let server = MockServer::start().await;
        serve(&server, text_answer(signer().public_pem())).await;
        let mut keys = keys_at(&server, Duration::ZERO, Origin::Pem);
        keys.max_age = Duration::ZERO;
        let keys = Arc::new(keys);
        let first = keys.current().await.unwrap();
        serve(&server, text_answer(other_signer().public_pem())).await;
        let still = keys.current().await.unwrap();
        assert!(Arc::ptr_eq(&first, &still));
        // The fetch in the background holds the lock until its keys are there.
        drop(keys.fetching.lock().await);
        let later = keys.cached().unwrap();
        assert!(!Arc::ptr_eq(&first, &later));
        assert_eq!(requests(&server).await, 1);
    }

    #[tokio::test]
    async fn a_file_is_read_again_when_its_keys_do_not_do() {
        let directory = Directory::new();
        let path = directory.path().join("keys.pem");
        std::fs::write(&path, signer().public_pem()).unwrap();
        let mut keys = CachedKeys::new(ISSUER, Origin::File(path.clone()));
        keys.interval = Duration::ZERO;
        let verifier = verifier(keys);
        assert!(verifier.verify(&signer().sign(&claims()).unwrap()).await.is_ok());
        std::fs::write(&path, other_signer().public_pem()).unwrap();
        let of_new = other_signer().sign(&claims()).unwrap();
        assert!(verifier.verify(&of_new).await.is_ok());
    }
}
