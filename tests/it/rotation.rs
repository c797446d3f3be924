//! The signing key changes under a running service: the next key is served before it signs, tokens of the previous one
//! stay good, and a peer that knows only the old key refuses until it has fetched the new one.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crvs_outbox::app::{App, AppError, Halves};
use crvs_outbox::auth::{PublicKeyError, Signer};
use crvs_outbox::outbox::worker;
use crvs_outbox::workers::lane::Lane;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use wiremock::matchers::{method, path};
use wiremock::{Mock, Request, Respond, ResponseTemplate};

use crate::harness::{Setup, Submitted, TestApp, birth, new_database, settings};

const END: &str = "-----END PUBLIC KEY-----";

/// A country config: it knows the first block of the PEM, as Node reads it, and takes what that key signed.
#[derive(Clone)]
struct Node(Arc<Mutex<String>>);

impl Node {
    async fn fetch(&self, base: &str) {
        let text = reqwest::get(format!("{base}/.well-known")).await.unwrap().text().await.unwrap();
        let first = text.split_inclusive(END).next().unwrap().to_owned();
        *self.0.lock().unwrap() = first;
    }
}

fn bearer(request: &Request) -> &str {
    request.headers["authorization"].to_str().unwrap().strip_prefix("Bearer ").unwrap()
}

impl Respond for Node {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let key = DecodingKey::from_rsa_pem(self.0.lock().unwrap().as_bytes()).unwrap();
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_audience(&["country-config"]);
        let known = jsonwebtoken::decode::<Value>(bearer(request), &key, &validation);
        ResponseTemplate::new(if known.is_ok() { 202 } else { 401 })
    }
}

/// Two keys in a directory of their own.
struct Keys {
    dir: PathBuf,
    previous: PathBuf,
    next: PathBuf,
}

impl Keys {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("crvs-outbox-rotation-{}", Uuid::new_v4()));
        std::fs::create_dir(&dir).unwrap();
        let (previous, next) = (dir.join("previous.pem"), dir.join("next.pem"));
        for path in [&previous, &next] {
            Signer::load_or_generate(path).unwrap();
        }
        Self { dir, previous, next }
    }
}

fn kid(path: &Path) -> String {
    Signer::from_file(path).unwrap().kid().to_owned()
}

async fn published(base: &str) -> (Vec<String>, String) {
    let set: Value = reqwest::get(format!("{base}/.well-known/jwks.json")).await.unwrap().json().await.unwrap();
    let rsa = set["keys"].as_array().unwrap().iter().filter(|key| key["alg"] == "RS256");
    let kids = rsa.map(|key| key["kid"].as_str().unwrap().to_owned()).collect();
    (kids, reqwest::get(format!("{base}/.well-known")).await.unwrap().text().await.unwrap())
}

async fn confirm(base: &str, of: &Submitted, token: &str, number: &str) -> StatusCode {
    let url = format!("{base}/records/{}/confirm", of.record_id);
    let request = reqwest::Client::new().post(url).bearer_auth(token).json(&json!({ "registrationNumber": number }));
    request.send().await.unwrap().status()
}

/// The token that came last with a record.
async fn token_of(app: &TestApp, of: &Submitted) -> String {
    let requests = app.peers.received_requests().await.unwrap();
    let id = of.record_id.to_string();
    let mut of_record = requests.iter().rev().filter(|r| r.url.path() == "/country-config/event-registration");
    let request = of_record.find(|r| String::from_utf8_lossy(&r.body).contains(&id)).unwrap();
    bearer(request).to_owned()
}

/// What the country config is sent by an instance.
async fn deliver(instance: &App) {
    let context = instance.context.clone();
    let mut conn = context.db.acquire().await.unwrap();
    worker::beat(&mut conn, context.worker, "test", Duration::from_mins(1)).await.unwrap();
    drop(conn);
    let country = context.settings.destinations.iter().find(|d| d.definition.name == "country-config").cloned();
    Lane::of(context, country.unwrap()).run_until_idle().await;
}

#[tokio::test]
async fn a_rotation_loses_nothing_and_costs_a_peer_one_refusal() {
    let keys = Keys::new();
    let (previous, next) = (keys.previous.clone(), keys.next.clone());
    // First: the next key is served, the old one signs.
    let old = TestApp::with(Setup {
        change: Box::new(move |settings| {
            settings.signing_key_file = previous;
            settings.public_keys = vec![next];
        }),
        ..Setup::default()
    })
    .await;
    let (kids, pem) = published(&old.base).await;
    assert_eq!(kids, [kid(&keys.previous), kid(&keys.next)]);
    assert_eq!(pem.matches(END).count(), 2);
    let node = Node(Arc::default());
    node.fetch(&old.base).await;
    let mock = Mock::given(method("POST")).and(path("/country-config/event-registration")).respond_with(node.clone());
    mock.with_priority(1).mount(&old.peers).await;
    let before = old.register_birth("draft-0001").await;
    old.drain().await;
    let token_before = token_of(&old, &before).await;

    // Then another instance signs with the next key and serves the old one; the first goes on beside it.
    let mut changed = settings(old.url.clone(), &old.peers.uri());
    (changed.signing_key_file, changed.public_keys) = (keys.next.clone(), vec![keys.previous.clone()]);
    let new = App::start(changed, Halves { api: true, workers: false }).await.unwrap();
    let base = format!("http://{}", new.public_addr.unwrap());
    assert_eq!(published(&base).await.0, [kid(&keys.next), kid(&keys.previous)]);
    let during = old.register_birth("draft-0002").await;
    deliver(&new).await;
    let message = "event-registration__register_draft-0002";
    let told = old.told("country-config", message).await;
    assert_eq!((told.state.as_str(), told.because.as_deref()), ("retrying", Some("http-401")));
    node.fetch(&base).await;
    old.make_due().await;
    deliver(&new).await;
    assert_eq!(old.told("country-config", message).await.because.as_deref(), Some("http-202"));

    // A token of before is good after it, and one of after is good where the old key still signs.
    assert_eq!(confirm(&base, &before, &token_before, "2026B1").await, StatusCode::ACCEPTED);
    let token_after = token_of(&old, &during).await;
    assert_eq!(confirm(&old.base, &during, &token_after, "2026B2").await, StatusCode::ACCEPTED);
    old.drain().await;
    new.stop(CancellationToken::new()).await;
    std::fs::remove_dir_all(keys.dir).unwrap();
    old.done().await;
}

#[tokio::test]
async fn a_token_of_a_key_that_is_not_listed_any_more_is_refused() {
    let (app, keys) = (TestApp::start().await, Keys::new());
    let gone = Signer::from_file(&keys.previous).unwrap();
    let exp = jsonwebtoken::get_current_timestamp() + 60;
    let claims = json!({
        "iss": "crvs-outbox", "aud": crate::harness::GATEWAY, "sub": "registrar", "scope": ["register"], "exp": exp,
    });
    let token = gone.sign(&claims).unwrap();
    let answer = app.post("/records", &token, "draft-0003", &birth("register")).await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    std::fs::remove_dir_all(keys.dir).unwrap();
    app.done().await;
}

#[tokio::test]
async fn a_listed_key_that_is_not_there_stops_the_start() {
    let mut settings = settings(new_database().await, "http://127.0.0.1:9");
    settings.public_keys = vec!["/no/such/key".into()];
    let refused = App::start(settings, Halves::BOTH).await.err().unwrap();
    assert!(matches!(refused, AppError::PublicKey(PublicKeyError::File { .. })), "{refused:?}");
}
