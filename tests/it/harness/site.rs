//! Real processes of the service on one database.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crvs_outbox::db;
use sqlx::PgPool;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{PATIENCE, Process, assert_invariants, birth, new_database, user_token};

/// The program.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_crvs-outbox");

/// A database, peers, and processes of the service on them.
pub(crate) struct Site {
    pub(crate) url: String,
    pub(crate) db: PgPool,
    pub(crate) peers: MockServer,
    pub(crate) config: PathBuf,
}

impl Site {
    /// A site; `settings` are of the top of the configuration.
    pub(crate) async fn new(settings: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let url = new_database().await;
        let db = db::pool(&url, 4).await.unwrap();
        let peers = MockServer::start().await;
        let mut text = format!("stop_seconds = 1\n{settings}\n");
        writeln!(
            text,
            "[duplicates]\nenabled = false\n[egress]\nallow = [\"127.0.0.0/8\"]\n[tokens]\nsigning_key_file = \"{}\"",
            super::key_file().display()
        )
        .unwrap();
        text += "[workers]\nheartbeat_ms = 1000\npoll_ms = 200\n";
        for (name, effects, format) in [
            ("country-config", r#""validation""#, "opencrvs-event-registration"),
            ("everything", r#""search", "audit", "metrics", "notification""#, "cloudevents"),
        ] {
            let peer = peers.uri();
            writeln!(
            text,
                "[[destinations]]\nname = \"{name}\"\nurl = \"{peer}/{name}\"\neffects = [{effects}]\nformat = \"{format}\"\nretry_base_ms = 50\n"
            ).unwrap();
        }
        let name = format!("crvs-outbox-crash-{}-{}.toml", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let config = std::env::temp_dir().join(name);
        std::fs::write(&config, text).unwrap();
        Self { url, db, peers, config }
    }

    /// What a peer answers, for so many times or from then on.
    pub(crate) async fn peers_answer(&self, name: &str, response: ResponseTemplate, times: Option<u64>) {
        let mock = Mock::given(method("POST")).and(path(format!("/{name}"))).respond_with(response);
        match times {
            Some(n) => mock.up_to_n_times(n).with_priority(1).mount(&self.peers).await,
            None => mock.with_priority(9).mount(&self.peers).await,
        }
    }

    /// Every peer takes everything.
    pub(crate) async fn all_fine(&self) {
        self.peers_answer("everything", ResponseTemplate::new(200), None).await;
        self.peers_answer("country-config/event-registration", ResponseTemplate::new(202), None).await;
    }

    /// A process that answers on both its addresses.
    pub(crate) async fn serve(&self, arguments: &[&str]) -> Process {
        let mut command = Command::new(BINARY);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--internal-addr", "127.0.0.1:0", "--config"])
            .arg(&self.config);
        command.args(arguments).env("DATABASE_URL", &self.url);
        Process::start(command).await
    }

    /// Submits the sample birth for registration.
    pub(crate) async fn submit(&self, process: &Process, id: &str) -> reqwest::Response {
        let client = reqwest::Client::new().post(format!("http://{}/records", process.public()));
        client.bearer_auth(user_token()).header("idempotency-key", id).json(&birth("register")).send().await.unwrap()
    }

    /// A count.
    pub(crate) async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.db).await.unwrap()
    }

    /// Waits until a count has a value.
    pub(crate) async fn wait_for(&self, sql: &'static str, expected: i64) {
        let deadline = Instant::now() + PATIENCE;
        while self.count(sql).await != expected {
            assert!(Instant::now() < deadline, "{sql}: {}, not {expected}", self.count(sql).await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends the test: the invariants hold.
    pub(crate) async fn done(self) {
        assert_invariants(&self.db).await;
        self.db.close().await;
        std::fs::remove_file(&self.config).unwrap();
    }
}
