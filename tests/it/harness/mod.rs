//! A service of its own for each test: its own database, cloned from a migrated template, on a private cluster that
//! the test binary shares; wiremock as every peer; the real workers, stepped by hand.
//!
//! A test ends with [`TestApp::done`], which asserts that the queue is empty and the invariants hold; a test that
//! leaves messages on purpose ends with [`TestApp::done_with_leftovers`]. Forgetting both fails the test.

mod cluster;
mod inputs;
mod invariants;
mod process;
mod python;
mod queue;
mod site;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crvs_outbox::app::{App, Halves};
use crvs_outbox::config::{File, Settings};
use crvs_outbox::outbox::rescue::{self, Rescued};
use crvs_outbox::outbox::worker;
use crvs_outbox::workers::lane::Lane;
use crvs_outbox::{db, records};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

pub(crate) use cluster::{empty_database, key_file, new_database};
pub(crate) use inputs::{POISON, birth, expired_token, flat, message, record_token, token_of, user_token};
pub(crate) use invariants::assert_invariants;
pub(crate) use process::Process;
pub(crate) use python::python;
pub(crate) use queue::take;
pub(crate) use site::{BINARY, Site};

/// The audience of the service in tests.
pub(crate) const GATEWAY: &str = "opencrvs:gateway-user";

/// How long a test waits for a condition.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// How a test's service differs from the usual one.
pub(crate) struct Setup {
    /// Whether the workers run by themselves; otherwise the test steps them with [`TestApp::drain`].
    pub(crate) workers: bool,
    /// Changes of the settings.
    pub(crate) change: Box<dyn FnOnce(&mut Settings) + Send>,
}

impl Default for Setup {
    fn default() -> Self {
        Self { workers: false, change: Box::new(|_| {}) }
    }
}

/// A running service, its peers and its clients.
pub(crate) struct TestApp {
    app: Option<App>,
    /// Connections to its database.
    pub(crate) db: PgPool,
    /// The URL of its database.
    pub(crate) url: String,
    /// Where its API is.
    pub(crate) base: String,
    /// Every peer: `/country-config/event-registration`, `/search`, `/audit`, `/metrics`, `/notification`.
    pub(crate) peers: MockServer,
    /// For clients.
    pub(crate) http: reqwest::Client,
    finished: bool,
}

/// The usual settings, with every destination at `peers`.
pub(crate) fn settings(url: String, peers: &str) -> Settings {
    let key_file = key_file();
    let mut text = format!(
        "listen = \"127.0.0.1:0\"\ninternal_addr = \"127.0.0.1:0\"\nconnections = 8\nstop_seconds = 5\n[duplicates]\nenabled = false\n[egress]\nallow = [\"127.0.0.0/8\"]\n[tokens]\nsigning_key_file = \"{}\"\n",
        key_file.display()
    );
    for (name, effect, format) in [
        ("country-config", "validation", "opencrvs-event-registration"),
        ("search", "search", "cloudevents"),
        ("audit", "audit", "cloudevents"),
        ("metrics", "metrics", "cloudevents"),
        ("notification", "notification", "cloudevents"),
    ] {
        writeln!(
            text,
            "[[destinations]]\nname = \"{name}\"\nurl = \"{peers}/{name}\"\neffects = [\"{effect}\"]\nformat = \"{format}\"\ntimeout_ms = 2000\nbreaker_failures = 0\n"
        ).unwrap();
    }
    toml::from_str::<File>(&text).unwrap().settings(url).unwrap()
}

impl TestApp {
    /// The usual service: the API runs, the workers are stepped, every peer answers 200 and the country config 202.
    pub(crate) async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    /// A service that differs.
    pub(crate) async fn with(setup: Setup) -> Self {
        let peers = MockServer::start().await;
        let url = new_database().await;
        let mut settings = settings(url.clone(), &peers.uri());
        (setup.change)(&mut settings);
        let halves = Halves { api: true, workers: setup.workers };
        let app = App::start(settings, halves).await.expect("the service starts");
        let base = format!("http://{}", app.public_addr.unwrap());
        let db = db::pool(&url, 4).await.unwrap();
        let test = Self { app: Some(app), db, url, base, peers, http: reqwest::Client::new(), finished: false };
        test.beat().await;
        test.default_peers().await;
        test
    }

    /// What every peer answers if nobody says otherwise.
    pub(crate) async fn default_peers(&self) {
        for name in ["search", "audit", "metrics", "notification"] {
            Mock::given(method("POST"))
                .and(path(format!("/{name}")))
                .respond_with(ResponseTemplate::new(200))
                .with_priority(200)
                .mount(&self.peers)
                .await;
        }
        Mock::given(method("POST"))
            .and(path("/country-config/event-registration"))
            .respond_with(ResponseTemplate::new(202))
            .with_priority(200)
            .mount(&self.peers)
            .await;
    }

    /// A second instance on the same database.
    pub(crate) async fn another_instance(&self) -> Instance {
        let settings = settings(self.url.clone(), &self.peers.uri());
        Instance(App::start(settings, Halves { api: true, workers: false }).await.unwrap())
    }

    /// What the country config answers from now on.
    pub(crate) async fn country_answers(&self, response: ResponseTemplate) {
        Mock::given(method("POST"))
            .and(path("/country-config/event-registration"))
            .respond_with(response)
            .with_priority(100)
            .mount(&self.peers)
            .await;
    }

    /// What the country config answers to the next request.
    pub(crate) async fn country_answers_once(&self, response: ResponseTemplate) {
        let mock = Mock::given(method("POST")).and(path("/country-config/event-registration")).respond_with(response);
        mock.up_to_n_times(1).with_priority(1).mount(&self.peers).await;
    }

    /// The country config confirms while our request is open, and only then answers with this status.
    pub(crate) async fn country_calls_back(&self, of: &Submitted, number: &str, status: u16) {
        let url = format!("{}/records/{}/confirm", self.base, of.record_id);
        let (token, body) = (self.record_token(of.record_id, of.action_id), json!({ "registrationNumber": number }));
        let call_back = move |_: &wiremock::Request| {
            let (url, token, body) = (url.clone(), token.clone(), body.clone());
            // A responder is not async: a thread of its own waits for the callback's answer.
            let called = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let call = reqwest::Client::new().post(url).bearer_auth(token).json(&body);
                runtime.block_on(async { call.send().await.unwrap().status() })
            });
            assert_eq!(called.join().unwrap(), StatusCode::ACCEPTED);
            ResponseTemplate::new(status)
        };
        Mock::given(method("POST"))
            .and(path("/country-config/event-registration"))
            .respond_with(call_back)
            .with_priority(100)
            .mount(&self.peers)
            .await;
    }

    /// The service.
    pub(crate) fn app(&self) -> &App {
        self.app.as_ref().unwrap()
    }

    /// Makes the stepped worker's heart beat now.
    pub(crate) async fn beat(&self) {
        let mut conn = self.db.acquire().await.unwrap();
        worker::beat(&mut conn, self.app().context.worker, "test", Duration::from_mins(1)).await.unwrap();
    }

    /// A token of a user.
    pub(crate) fn token(&self, sub: &str, scopes: &[&str]) -> String {
        let scopes: Vec<String> = scopes.iter().map(|s| (*s).to_owned()).collect();
        self.app().context.minter.for_user(sub, &scopes, GATEWAY, Duration::from_hours(1)).unwrap()
    }

    /// The token that the country config gets for a requested registration.
    pub(crate) fn record_token(&self, record_id: Uuid, action_id: Uuid) -> String {
        self.app().context.minter.for_record("registrar", record_id, action_id, "country-config").unwrap()
    }

    /// Posts JSON with a transaction id.
    pub(crate) async fn post(&self, path: &str, token: &str, transaction_id: &str, body: &Value) -> Response {
        let request = self.http.post(format!("{}{path}", self.base)).bearer_auth(token);
        request.header("idempotency-key", transaction_id).json(body).send().await.unwrap()
    }

    /// Gets JSON.
    pub(crate) async fn get(&self, path: &str, token: &str) -> Response {
        self.http.get(format!("{}{path}", self.base)).bearer_auth(token).send().await.unwrap()
    }

    /// Submits the sample birth for registration as `registrar`; returns what was answered.
    pub(crate) async fn register_birth(&self, transaction_id: &str) -> Submitted {
        let token = self.token("registrar", &["register"]);
        let response = self.post("/records", &token, transaction_id, &birth("register")).await;
        self.submitted(response).await
    }

    async fn submitted(&self, response: Response) -> Submitted {
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        let body: Value = response.json().await.unwrap();
        let record_id: Uuid = body["record"]["id"].as_str().unwrap().parse().unwrap();
        let action_id = sqlx::query_scalar("select awaiting_action_id from record where id = $1")
            .bind(record_id)
            .fetch_one(&self.db)
            .await
            .unwrap();
        Submitted { record_id, action_id, body }
    }

    /// Submits a declaration's text as it is.
    pub(crate) async fn register_birth_as_sent(&self, transaction_id: &str, declaration: &str) -> Submitted {
        let body = format!(r#"{{"event":"birth","action":"register","declaration":{declaration}}}"#);
        let request =
            self.http.post(format!("{}/records", self.base)).bearer_auth(self.token("registrar", &["register"]));
        let request = request.header("idempotency-key", transaction_id).header("content-type", "application/json");
        self.submitted(request.body(body).send().await.unwrap()).await
    }

    /// Calls confirm back, as the country config does.
    pub(crate) async fn confirm(&self, of: &Submitted, number: &str) -> Response {
        let token = self.record_token(of.record_id, of.action_id);
        let body = json!({ "registrationNumber": number });
        self.post(&format!("/records/{}/confirm", of.record_id), &token, "any-key-at-all", &body).await
    }

    /// Calls reject back, as the country config does.
    pub(crate) async fn reject(&self, of: &Submitted, reason: &str) -> Response {
        let token = self.record_token(of.record_id, of.action_id);
        self.post(&format!("/records/{}/reject", of.record_id), &token, "any-key-at-all", &json!({ "reason": reason }))
            .await
    }

    /// Delivers everything that is due, until nothing is.
    pub(crate) async fn drain(&self) {
        let context = self.app().context.clone();
        let deadline = Instant::now() + PATIENCE * 3;
        loop {
            let before = self.due().await;
            if before == 0 {
                return;
            }
            assert!(Instant::now() < deadline, "{before} messages are due and stay so");
            for destination in &context.settings.destinations {
                Lane::of(context.clone(), destination.clone()).run_until_idle().await;
            }
        }
    }

    /// Messages that could be claimed now.
    pub(crate) async fn due(&self) -> i64 {
        self.count(
            "select count(*) from outbox_message m join destination d on d.name = m.destination
             where d.paused_at is null and (m.state = 'queued' or (m.state = 'retrying' and m.available_at <= now()))",
        )
        .await
    }

    /// Makes every retry due now, as if its time had come.
    pub(crate) async fn make_due(&self) {
        self.execute("update outbox_message set available_at = now() where state = 'retrying'").await;
    }

    /// Ends the leases of every worker but ours, or of all, as time would.
    pub(crate) async fn expire_leases(&self) {
        self.execute("update outbox_claim set lease_until = now() - interval '1 second'").await;
        self.execute("update outbox_message set lease_until = now() where state = 'delivering'").await;
    }

    /// Takes lost leases back.
    pub(crate) async fn rescue(&self) -> Rescued {
        let mut tx = self.db.begin().await.unwrap();
        let rescued = rescue::rescue(&mut tx, self.app().context.settings.max_rescues).await.unwrap();
        tx.commit().await.unwrap();
        rescued
    }

    /// A count.
    pub(crate) async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.db).await.unwrap()
    }

    /// A statement.
    pub(crate) async fn execute(&self, sql: &'static str) -> u64 {
        sqlx::query(sql).execute(&self.db).await.unwrap().rows_affected()
    }

    /// The status of a record.
    pub(crate) async fn status(&self, record_id: Uuid) -> records::model::Status {
        sqlx::query_scalar("select status from record where id = $1").bind(record_id).fetch_one(&self.db).await.unwrap()
    }

    /// Waits until a count has a value.
    pub(crate) async fn wait_for(&self, sql: &'static str, expected: i64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.count(sql).await;
            if now == expected {
                return;
            }
            assert!(Instant::now() < deadline, "{sql}: {now}, not {expected}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// How many requests each peer got under each `Idempotency-Key`: (path, key) → count.
    pub(crate) async fn received(&self) -> HashMap<(String, String), usize> {
        let mut counts = HashMap::new();
        for request in self.peers.received_requests().await.unwrap() {
            let key = request.headers.get("idempotency-key").map_or("", |v| v.to_str().unwrap()).to_owned();
            *counts.entry((request.url.path().to_owned(), key)).or_default() += 1;
        }
        counts
    }

    /// Ends the test: nothing is left in the queue, and the invariants hold.
    pub(crate) async fn done(mut self) {
        self.finished = true;
        assert_invariants(&self.db).await;
        assert_eq!(self.count("select count(*) from outbox_message").await, 0, "messages are left in the queue");
        self.stop().await;
    }

    /// Ends a test that leaves messages on purpose.
    pub(crate) async fn done_with_leftovers(mut self) {
        self.finished = true;
        assert_invariants(&self.db).await;
        self.stop().await;
    }

    /// Ends a test whose messages belong to no record.
    pub(crate) async fn done_with_leftovers_of_nobody(mut self) {
        self.finished = true;
        self.stop().await;
    }

    async fn stop(&mut self) {
        if let Some(app) = self.app.take() {
            app.stop(CancellationToken::new()).await;
        }
        self.db.close().await;
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        assert!(self.finished || std::thread::panicking(), "a test ends with done() or done_with_leftovers()");
    }
}

/// Another instance of the service.
pub(crate) struct Instance(App);

impl Instance {
    /// Where its API is.
    pub(crate) fn base(&self) -> String {
        format!("http://{}", self.0.public_addr.unwrap())
    }

    /// Stops it.
    pub(crate) async fn stop(self) {
        self.0.stop(CancellationToken::new()).await;
    }
}

/// A submission that was accepted.
#[derive(Clone, Debug)]
pub(crate) struct Submitted {
    /// The record.
    pub(crate) record_id: Uuid,
    /// The requested registration.
    pub(crate) action_id: Uuid,
    /// The answer.
    pub(crate) body: Value,
}
