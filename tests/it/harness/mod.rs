//! A service of its own for each test: its own database, cloned from a migrated template, on a private cluster that
//! the test binary shares; wiremock as every peer; the real workers, stepped by hand.
//!
//! A test ends with [`TestApp::done`], which asserts that the queue is empty and the invariants hold; a test that
//! leaves messages on purpose ends with [`TestApp::done_with_leftovers`]. Forgetting both fails the test.

mod process;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crvs_outbox::app::{App, Halves};
use crvs_outbox::auth::{Minter, Signer};
use crvs_outbox::config::{File, Settings};
use crvs_outbox::outbox::{claim, worker};
use crvs_outbox::workers::dispatcher::Lane;
use crvs_outbox::{db, records, samples};
use dev_postgres::{Cluster, Options};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

pub(crate) use process::Process;

/// The audience of the service in tests.
pub(crate) const GATEWAY: &str = "opencrvs:gateway-user";

/// How long a test waits for a condition.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

struct Shared {
    cluster: Cluster,
    key_file: PathBuf,
}

/// The cluster and the template; stopped and deleted by the cluster's guard when this process ends.
fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| {
        let dir = std::env::temp_dir().join(format!("crvs-outbox-tests-{}", std::process::id()));
        let options = Options {
            throwaway: true,
            settings: vec![("max_connections".to_owned(), "300".to_owned())],
            ..Options::default()
        };
        let cluster = Cluster::start_with(&dir, &options).expect("a private PostgreSQL");
        let url = cluster.url_for("template");
        let maintenance = cluster.url();
        // A runtime of its own: tests come from many.
        std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                execute(&maintenance, "create database template").await;
                db::migrate(&url).await.expect("migrations");
            });
        })
        .join()
        .unwrap();
        // Deleted with the cluster.
        let key_file = cluster.dir().join("signing-key.pem");
        Shared { cluster, key_file }
    })
}

async fn execute(url: &str, sql: &str) {
    use sqlx::{Connection as _, Executor as _};
    let mut conn = sqlx::PgConnection::connect(url).await.unwrap();
    conn.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()))).await.unwrap();
    conn.close().await.unwrap();
}

/// A database of its own; returns its URL.
pub(crate) async fn new_database() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let shared = tokio::task::spawn_blocking(shared).await.unwrap();
    let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    execute(&shared.cluster.url(), &format!("create database {name} template template")).await;
    shared.cluster.url_for(&name)
}

/// The key that every service of this process signs with.
pub(crate) fn key_file() -> &'static Path {
    &shared().key_file
}

/// A registrar's token for any service of this process.
pub(crate) fn user_token() -> String {
    let settings = settings(String::new(), "http://nowhere").mint;
    let signer = Arc::new(Signer::load_or_generate(key_file()).unwrap());
    let minter = Minter::new(signer, settings).unwrap();
    minter.for_user("registrar", &["register".to_owned()], GATEWAY, Duration::from_hours(1)).unwrap()
}

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
    let key_file = shared().key_file.clone();
    let mut text = format!(
        "listen = \"127.0.0.1:0\"\ninternal_addr = \"127.0.0.1:0\"\nconnections = 8\nstop_seconds = 5\n[tokens]\nsigning_key_file = \"{}\"\n",
        key_file.display()
    );
    for (name, effect, protocol) in [
        ("country-config", "validation", "event-registration"),
        ("search", "search", "event"),
        ("audit", "audit", "event"),
        ("metrics", "metrics", "event"),
        ("notification", "notification", "event"),
    ] {
        writeln!(
            text,
            "[[destinations]]\nname = \"{name}\"\nurl = \"{peers}/{name}\"\neffects = [\"{effect}\"]\nprotocol = \"{protocol}\"\ntimeout_ms = 2000\n"
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

    async fn default_peers(&self) {
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

    /// A token of ours that was good an hour ago.
    pub(crate) fn expired_token(&self) -> String {
        let now = time::OffsetDateTime::now_utc().unix_timestamp();
        let claims = json!({
            "iss": "crvs-outbox", "sub": "registrar", "aud": GATEWAY, "scope": ["register"], "iat": now - 7200, "exp": now - 3600,
        });
        Signer::from_file(&shared().key_file).unwrap().sign(&claims).unwrap()
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
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        let body: Value = response.json().await.unwrap();
        let record_id: Uuid = body["record"]["id"].as_str().unwrap().parse().unwrap();
        let action_id = sqlx::query_scalar("select awaiting_action_id from record where id = $1")
            .bind(record_id)
            .fetch_one(&self.db)
            .await
            .unwrap();
        Submitted { transaction_id: transaction_id.to_owned(), record_id, action_id, body }
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
        loop {
            let before = self.due().await;
            if before == 0 {
                return;
            }
            for destination in &context.settings.destinations {
                Lane::new(context.clone(), destination.clone()).run_until_idle().await;
            }
            assert!(self.due().await < before || before == 0, "the queue does not get shorter");
        }
    }

    /// Messages that could be claimed now.
    pub(crate) async fn due(&self) -> i64 {
        self.count("select count(*) from outbox_message where state = 'queued' or (state = 'retrying' and available_at <= now())")
            .await
    }

    /// Makes every retry due now, as if its time had come.
    pub(crate) async fn make_due(&self) {
        self.execute("update outbox_message set available_at = now() where state = 'retrying'").await;
    }

    /// Ends the leases of every worker but ours, or of all, as time would.
    pub(crate) async fn expire_leases(&self) {
        self.execute("update outbox_message set lease_until = now() - interval '1 second' where state = 'delivering'")
            .await;
    }

    /// Takes lost leases back.
    pub(crate) async fn rescue(&self) -> claim::Rescued {
        let mut conn = self.db.acquire().await.unwrap();
        claim::rescue(&mut conn, self.app().context.settings.max_rescues).await.unwrap()
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
    /// The client's transaction id.
    pub(crate) transaction_id: String,
    /// The record.
    pub(crate) record_id: Uuid,
    /// The requested registration.
    pub(crate) action_id: Uuid,
    /// The answer.
    pub(crate) body: Value,
}

/// The sample birth as the body of a submission.
pub(crate) fn birth(action: &str) -> Value {
    let declaration: Value = serde_json::from_str(samples::BIRTH).unwrap();
    json!({ "event": "birth", "action": action, "declaration": declaration })
}

/// A flat declaration as the body of a submission.
pub(crate) fn flat(action: &str) -> Value {
    json!({ "event": "birth", "action": action, "declaration": { "child.firstName": "Ada", "child.dateOfBirth": "2026-11-01" } })
}

/// What holds at any moment, whatever happened before.
pub(crate) async fn assert_invariants(db: &PgPool) {
    let broken: Vec<(String, i64)> = sqlx::query_as(
        "
        select 'P2: a transaction without its reply', count(*) from client_transaction where reply_body is null
        union all
        select 'P2: a consequence twice', count(*) from (
            select destination, transaction_id, redelivery from (
                select destination, transaction_id, redelivery from outbox_message
                union all select destination, transaction_id, redelivery from outbox_history) m
            group by 1, 2, 3 having count(*) > 1) twice
        union all
        select 'P3: an action without any message', count(*) from record_action a
        where not exists (select from outbox_message m where m.action_id = a.id)
          and not exists (select from outbox_history h where h.action_id = a.id)
        union all
        select 'P5: the first unfinished message of a record and destination is blocked', count(*) from (
            select distinct on (record_id, destination) state from outbox_message order by record_id, destination, id) f
        where f.state = 'blocked'
        union all
        select 'P5: a later message overtook an earlier one', count(*) from outbox_message m
        join outbox_history h on h.record_id = m.record_id and h.destination = m.destination and h.id > m.id and h.duration is not null
        union all
        select 'a registered record without exactly one accepted registration', count(*) from record r
        where (r.status = 'registered') <> (select count(*) = 1 from record_action a
              where a.record_id = r.id and a.action = 'register' and a.status = 'accepted')
        union all
        select 'a record whose newest action says another status', count(*) from record r
        where r.status <> (select a.record_status from record_action a where a.record_id = r.id order by a.ordinal desc limit 1)
        union all
        select 'a record without its current version', count(*) from record r
        where not exists (select from record_version v where v.record_id = r.id and v.version = r.version)
        ",
    )
    .fetch_all(db)
    .await
    .unwrap();
    for (what, rows) in broken {
        assert_eq!(rows, 0, "{what}");
    }
}
