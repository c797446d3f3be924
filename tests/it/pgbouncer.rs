//! The service behind the real PgBouncer: session mode works, and the modes that share sessions are refused before
//! anything is done.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crvs_outbox::app::{App, Halves};
use crvs_outbox::db::{self, DbError};
use sqlx::{Connection as _, PgConnection};
use tokio_util::sync::CancellationToken;

use crate::harness::{PATIENCE, Setup, TestApp, empty_database, settings};

/// A PgBouncer before the tests' server; killed when dropped, or when the tests' process ends in whatever way.
struct Bouncer {
    guard: Child,
    dir: PathBuf,
}

impl Bouncer {
    /// `direct` is the URL of any database of the server; `extra` are lines of the ini file.
    async fn start(direct: &str, mode: &str, extra: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("crvs-bouncer-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        fs::create_dir(&dir).unwrap();
        let server = db::options(direct).unwrap();
        let (socket, port, user) = (server.get_socket().unwrap().display(), server.get_port(), server.get_username());
        let ini = format!(
            "[databases]\n* = host={socket} port={port}\n\
             [pgbouncer]\npool_mode = {mode}\nlisten_addr =\nlisten_port = 6432\nunix_socket_dir = {dir}\n\
             auth_type = trust\nauth_file = {dir}/users.txt\nmax_client_conn = 200\n{extra}\n",
            dir = dir.display()
        );
        fs::write(dir.join("pgbouncer.ini"), ini).unwrap();
        fs::write(dir.join("users.txt"), format!("\"{user}\" \"\"\n")).unwrap();
        let bouncer = Self { guard: guard(&dir), dir };
        bouncer.answers(direct).await;
        bouncer
    }

    async fn answers(&self, direct: &str) {
        let url = self.url(direct);
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = PgConnection::connect_with(&db::options(&url).unwrap()).await {
            let log = fs::read_to_string(self.dir.join("log")).unwrap();
            assert!(Instant::now() < deadline, "{error}: {log}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The URL of the same database, through the bouncer.
    fn url(&self, direct: &str) -> String {
        let server = db::options(direct).unwrap();
        let (user, database) = (server.get_username(), server.get_database().unwrap());
        format!("postgres://{user}@localhost:6432/{database}?host={}", self.dir.display())
    }

    /// The binary on that URL; what it writes where it is started goes with the bouncer's folder.
    fn run(&self, direct: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_crvs-outbox"));
        command.args(arguments).env("DATABASE_URL", self.url(direct)).env_remove("RUST_LOG");
        command.current_dir(&self.dir).output().unwrap()
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        drop(self.guard.wait());
        drop(fs::remove_dir_all(&self.dir));
    }
}

/// A shell that kills the bouncer when its input ends. As the server's user, who alone reaches its socket; PgBouncer
/// refuses to run as root.
fn guard(dir: &Path) -> Child {
    let log = File::create(dir.join("log")).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", r#""$0" "$1" & read -r _; kill -KILL $!; wait"#]).arg(program()).arg(dir.join("pgbouncer.ini"));
    command.stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log).current_dir("/");
    if fs::metadata(dir).unwrap().uid() == 0 {
        let (uid, gid) = ["postgres", "nobody"].into_iter().find_map(ids).unwrap();
        for path in [dir.to_owned(), dir.join("pgbouncer.ini"), dir.join("users.txt")] {
            chown(path, Some(uid), Some(gid)).unwrap();
        }
        command.uid(uid).gid(gid);
    }
    command.spawn().unwrap()
}

fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let of_path = std::env::split_paths(&path).map(|dir| dir.join("pgbouncer"));
    let usual = ["/usr/sbin", "/opt/homebrew/bin", "/usr/local/bin"].map(|dir| Path::new(dir).join("pgbouncer"));
    of_path.chain(usual).find(|program| program.is_file()).expect("PgBouncer: run scripts/ensure-pgbouncer.sh")
}

fn ids(user: &str) -> Option<(u32, u32)> {
    let ask = |what| {
        let output = Command::new("id").args([what, user]).stderr(Stdio::null()).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse().ok()
    };
    Some((ask("-u")?, ask("-g")?))
}

const SERVE: [&str; 5] = ["serve", "--listen", "127.0.0.1:0", "--internal-addr", "127.0.0.1:0"];

async fn count(url: &str, sql: &'static str) -> i64 {
    let mut conn = db::connect(url).await.unwrap();
    sqlx::query_scalar(sql).fetch_one(&mut conn).await.unwrap()
}

#[tokio::test]
async fn in_session_mode_migrations_run_and_sessions_have_their_settings() {
    let direct = empty_database().await;
    let bouncer = Bouncer::start(&direct, "session", "").await;
    let url = bouncer.url(&direct);
    let done = bouncer.run(&direct, &["migrate"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(count(&direct, "select count(*) from pg_class where relname = 'outbox_message'").await == 1);
    let pool = db::pool(&url, 2).await.unwrap();
    let mut alone = db::connect(&url).await.unwrap();
    for (setting, expected) in [
        ("lock_timeout", "2s"),
        ("idle_in_transaction_session_timeout", "30s"),
        ("plan_cache_mode", "force_custom_plan"),
        ("synchronous_commit", "on"),
    ] {
        let sql = "select current_setting($1)";
        let pooled: String = sqlx::query_scalar(sql).bind(setting).fetch_one(&pool).await.unwrap();
        let single: String = sqlx::query_scalar(sql).bind(setting).fetch_one(&mut alone).await.unwrap();
        assert_eq!((pooled.as_str(), single.as_str()), (expected, expected), "{setting}");
    }
}

const LISTENING: &str =
    "select count(*) from pg_stat_activity where datname = current_database() and query ilike 'listen %'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_session_mode_a_record_lives_its_whole_life_and_instances_wake_each_other() {
    let (send, bouncer) = tokio::sync::oneshot::channel();
    let (runtime, hour) = (tokio::runtime::Handle::current(), Duration::from_hours(1));
    let through = move |settings: &mut crvs_outbox::config::Settings| {
        let direct = settings.database_url.clone();
        let start = Bouncer::start(&direct, "session", "default_pool_size = 60");
        let bouncer = tokio::task::block_in_place(|| runtime.block_on(start));
        settings.database_url = bouncer.url(&direct);
        drop(send.send(bouncer));
    };
    let app = TestApp::with(Setup { workers: false, change: Box::new(through) }).await;
    let bouncer = bouncer.await.unwrap();
    let mut others = settings(bouncer.url(&app.url), &app.peers.uri());
    // Nobody polls in this test's time.
    others.workers.poll = hour;
    let workers = App::start(others, Halves { api: false, workers: true }).await.unwrap();
    app.wait_for(LISTENING, 2).await;
    let submitted = app.register_birth("draft-0001").await;
    app.wait_for("select count(*) from outbox_message", 0).await;
    assert_eq!(app.confirm(&submitted, "2026BR000001").await.status(), 202);
    app.wait_for("select count(*) from record where status = 'registered'", 1).await;
    app.wait_for("select count(*) from outbox_message", 0).await;
    assert!(app.count("select count(*) from outbox_history where state = 'delivered'").await >= 5);
    workers.stop(CancellationToken::new()).await;
    app.done().await;
}

const SENTENCE: &str = "set pool_mode = session for this database (PgBouncer), or connect to PostgreSQL directly";

#[tokio::test]
async fn transaction_and_statement_mode_are_refused_with_a_sentence_before_anything_is_done() {
    let direct = empty_database().await;
    for mode in ["transaction", "statement"] {
        let bouncer = Bouncer::start(&direct, mode, "").await;
        let sandbox = ["sandbox", "--listen", "127.0.0.1:0"];
        for arguments in [&["migrate"][..], &SERVE, &sandbox] {
            let refused = bouncer.run(&direct, arguments);
            let said = String::from_utf8(refused.stderr).unwrap();
            assert!(!refused.status.success(), "{mode}: {arguments:?}");
            let last = said.lines().last().unwrap();
            assert!(last.starts_with("error: the pooler before the database shares"), "{mode}: {arguments:?}: {said}");
            assert!(last.ends_with(SENTENCE), "{said}");
        }
    }
    let made = "select count(*) from pg_class where relnamespace = 'public'::regnamespace";
    assert_eq!(count(&direct, made).await, 0, "something was done");
    assert_eq!(count(&direct, "select count(*) from pg_namespace where nspname = 'sandbox'").await, 0);
}

/// Clients that take and give back the bouncer's server connections as fast as they can, until told to stop.
fn busy(url: &str, clients: usize, stop: &'static AtomicBool) -> tokio::task::JoinSet<()> {
    let mut busy = tokio::task::JoinSet::new();
    for _ in 0..clients {
        let options = db::options(url).unwrap();
        busy.spawn(async move {
            let mut conn = PgConnection::connect_with(&options).await.unwrap();
            while !stop.load(Ordering::Relaxed) {
                sqlx::raw_sql("select 1").execute(&mut conn).await.unwrap();
            }
        });
    }
    busy
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shared_sessions_are_found_whatever_the_pooler_hands_out_next_and_however_busy_it_is() {
    static STOP: AtomicBool = AtomicBool::new(false);
    let direct = empty_database().await;
    for (mode, extra, clients) in [
        ("transaction", "default_pool_size = 1", 0),
        ("transaction", "server_round_robin = 1\nmin_pool_size = 2", 0),
        ("transaction", "server_round_robin = 1\ndefault_pool_size = 5\nmin_pool_size = 5", 0),
        ("transaction", "default_pool_size = 6", 12),
        ("statement", "server_round_robin = 1", 12),
    ] {
        STOP.store(false, Ordering::Relaxed);
        let bouncer = Bouncer::start(&direct, mode, extra).await;
        let url = bouncer.url(&direct);
        let busy = busy(&url, clients, &STOP);
        for _ in 0..10 {
            let found = db::insist_on_sessions(&url).await;
            assert!(matches!(found, Err(DbError::SharedSessions)), "{mode}, {extra}: {found:?}");
        }
        STOP.store(true, Ordering::Relaxed);
        busy.join_all().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_of_ones_own_are_never_taken_for_shared_ones() {
    static STOP: AtomicBool = AtomicBool::new(false);
    let direct = empty_database().await;
    let bouncer = Bouncer::start(&direct, "session", "server_round_robin = 1\ndefault_pool_size = 8").await;
    let url = bouncer.url(&direct);
    let busy = busy(&url, 4, &STOP);
    for _ in 0..20 {
        db::insist_on_sessions(&url).await.unwrap();
        db::insist_on_sessions(&direct).await.unwrap();
    }
    STOP.store(true, Ordering::Relaxed);
    busy.join_all().await;
}

#[tokio::test]
async fn too_few_server_connections_are_said_and_not_waited_for() {
    let direct = empty_database().await;
    let one = Bouncer::start(&direct, "session", "default_pool_size = 1").await;
    // Enough to migrate, not enough for the pools and the heart.
    let two = Bouncer::start(&direct, "session", "default_pool_size = 2").await;
    let started = Instant::now();
    let outputs = std::thread::scope(|scope| {
        let first = scope.spawn(|| one.run(&direct, &["migrate"]));
        let second = scope.spawn(|| two.run(&direct, &SERVE));
        [first.join().unwrap(), second.join().unwrap()]
    });
    for refused in outputs {
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(!refused.status.success() && said.contains("the database gave no connection in time"), "{said}");
    }
    assert!(started.elapsed() < Duration::from_secs(30));
}
