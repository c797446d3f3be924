//! What a database's URL may say, and what stands in the way of a start is said clearly, without the password.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crvs_outbox::db;
use crvs_outbox::outbox::rescue::{Rescued, rescue};
use sqlx::{AssertSqlSafe, Postgres};
use uuid::Uuid;

use wiremock::ResponseTemplate;

use crate::harness::{PATIENCE, Setup, TestApp, new_database};

/// The binary, with an environment that tells it nothing.
fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crvs-outbox"));
    for name in ["DATABASE_URL", "RUST_LOG", "PGPASSWORD", "PGPASSFILE"] {
        command.env_remove(name);
    }
    command
}

/// `migrate` on a URL: whether it succeeded, and what it said.
fn migrate(url: &str, pgpass: Option<&Path>) -> (bool, String) {
    let mut command = binary();
    command.args(["migrate", "--database-url", url]);
    command.envs(pgpass.map(|file| ("PGPASSFILE", file)));
    let said = command.output().unwrap();
    (said.status.success(), String::from_utf8(said.stderr).unwrap())
}

#[tokio::test]
async fn a_host_that_is_not_there_and_a_url_that_is_none_are_said() {
    for (url, reason) in [
        ("postgres://crvs:secret@127.0.0.1:1/crvs", "refused"),
        ("postgres://crvs:secret@no-such-host.invalid/crvs", "lookup"),
        ("this is no url", "URL"),
    ] {
        let (done, said) = migrate(url, None);
        assert!(!done);
        assert!(said.starts_with("error: cannot connect to the database: "), "{said}");
        assert!(said.contains(reason), "{reason}: {said}");
        assert!(!said.contains("secret"), "{said}");
    }
}

/// A user of the tests' server who needs a password, the owner of a database of its own.
struct PasswordUser {
    name: String,
    socket: String,
    database: String,
}

impl PasswordUser {
    async fn new(password: &str) -> Self {
        let url = new_database().await;
        let db = db::pool(&url, 1).await.unwrap();
        let name = format!("user_{}", Uuid::now_v7().simple());
        let hba: String = sqlx::query_scalar("show hba_file").fetch_one(&db).await.unwrap();
        require_password(Path::new(&hba), &name);
        let database: String = sqlx::query_scalar("select current_database()").fetch_one(&db).await.unwrap();
        for statement in [
            format!("create role {name} login password '{password}'"),
            format!("alter database {database} owner to {name}"),
            format!("grant all on all tables in schema public to {name}"),
            "select pg_reload_conf()".to_owned(),
        ] {
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&db).await.unwrap();
        }
        let socket: String = sqlx::query_scalar("show unix_socket_directories").fetch_one(&db).await.unwrap();
        db.close().await;
        let user = Self { name, socket, database };
        user.wait_until_refused();
        user
    }

    fn url(&self, credentials: &str) -> String {
        format!("postgres://{}{credentials}@localhost/{}?host={}", self.name, self.database, self.socket)
    }

    /// The server reads its files a moment after it is told to.
    fn wait_until_refused(&self) {
        let deadline = Instant::now() + PATIENCE;
        while migrate(&self.url(":wrong"), None).0 {
            assert!(Instant::now() < deadline, "the server asks for no password");
        }
    }
}

/// The first line that fits a user counts. Replaced as a whole: other tests' connections read it, too.
fn require_password(hba: &Path, user: &str) {
    let before = fs::read_to_string(hba).unwrap();
    let owner = fs::metadata(hba).unwrap();
    let new = hba.with_extension("new");
    fs::write(&new, format!("local all {user} scram-sha-256\n{before}")).unwrap();
    fs::set_permissions(&new, owner.permissions()).unwrap();
    chown(&new, Some(owner.uid()), None).unwrap();
    fs::rename(new, hba).unwrap();
}

fn pgpass(user: &PasswordUser, password: &str) -> PathBuf {
    use std::io::Write as _;
    let path = std::env::temp_dir().join(format!("crvs-outbox-{}.pgpass", user.name));
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&path).unwrap();
    writeln!(file, "*:*:*:{}:{password}", user.name).unwrap();
    path
}

#[tokio::test]
async fn user_and_password_come_from_the_url_or_from_pgpassfile_and_a_wrong_one_is_said() {
    let user = PasswordUser::new("open sesame").await;
    let (done, said) = migrate(&user.url(":open%20sesame"), None);
    assert!(done, "{said}");
    let file = pgpass(&user, "open sesame");
    let (done, said) = migrate(&user.url(""), Some(&file));
    assert!(done, "{said}");
    let (done, said) = migrate(&user.url(":very%20wrong"), Some(&file));
    assert!(!done, "the URL outranks the file");
    assert!(said.contains("password authentication failed"), "{said}");
    assert!(!said.contains("very wrong") && !said.contains("very%20wrong"), "{said}");
    fs::remove_file(file).unwrap();
}

#[test]
fn a_url_with_user_password_and_sslmode_is_read_as_libpq_does() {
    let options =
        db::options("postgres://crvs%40moh:p%2Fw@db.example:6432/registry?sslmode=verify-full&sslrootcert=/etc/ca.pem")
            .unwrap();
    assert_eq!((options.get_username(), options.get_host(), options.get_port()), ("crvs@moh", "db.example", 6432));
    assert_eq!(options.get_database(), Some("registry"));
    assert!(matches!(options.get_ssl_mode(), sqlx::postgres::PgSslMode::VerifyFull));
}

#[tokio::test]
async fn the_urls_own_options_hold_on_a_direct_connection() {
    let url = format!("{}&options=-c%20statement_timeout%3D123s", new_database().await);
    let mut conn = db::connect(&url).await.unwrap();
    let timeout: String = sqlx::query_scalar("show statement_timeout").fetch_one(&mut conn).await.unwrap();
    assert_eq!(timeout, "123s");
}

/// Everything that both pools may hold.
async fn every_connection(app: &TestApp) -> Vec<sqlx::pool::PoolConnection<Postgres>> {
    let mut held = Vec::new();
    for pool in [&app.app().db, &app.app().context.db] {
        for _ in 0..pool.options().get_max_connections() {
            held.push(pool.acquire().await.unwrap());
        }
    }
    held
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_pools_burn_no_attempt_and_lose_no_heartbeat() {
    let heartbeat = Duration::from_millis(500);
    let change = move |settings: &mut crvs_outbox::config::Settings| settings.workers.heartbeat = heartbeat;
    let app = TestApp::with(Setup { workers: true, change: Box::new(change) }).await;
    let late = ResponseTemplate::new(202).set_delay(heartbeat);
    app.country_answers(late).await;
    app.register_birth("draft-0001").await;
    app.wait_for("select count(*) from outbox_message where state = 'delivering'", 1).await;
    let held = every_connection(&app).await;
    assert_eq!(held.len(), 8, "connections is the cap of both pools together");
    // Four heartbeats: twice the time after which the leases of a silent worker are lost.
    let (until, mut conn) = (Instant::now() + 4 * heartbeat, app.db.acquire().await.unwrap());
    while Instant::now() < until {
        assert_eq!(rescue(&mut conn, 20).await.unwrap(), Rescued::default());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop((held, conn));
    app.wait_for("select count(*) from outbox_message", 0).await;
    assert_eq!(app.count("select count(*) from outbox_attempt where outcome <> 'delivered' or attempt > 1").await, 0);
    app.done().await;
}

#[tokio::test]
async fn the_heart_finds_a_new_connection_before_its_leases_are_lost() {
    let heartbeat = Duration::from_secs(1);
    let change = move |settings: &mut crvs_outbox::config::Settings| settings.workers.heartbeat = heartbeat;
    let app = TestApp::with(Setup { workers: true, change: Box::new(change) }).await;
    let cut = "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity \
               where datname = current_database() and query ilike '%insert into worker%' and pid <> pg_backend_pid()";
    let silent = "select count(*) from worker where name <> 'test' and heartbeat_at < now() - 2 * interval";
    // The harness beat, too: from now on its connections have said something else last.
    let mut own = Vec::new();
    for _ in 0..app.db.options().get_max_connections() {
        own.push(app.db.acquire().await.unwrap());
    }
    for conn in &mut own {
        sqlx::raw_sql("select 'of the test'").execute(&mut **conn).await.unwrap();
    }
    drop(own);
    for _ in 0..4 {
        let deadline = Instant::now() + PATIENCE;
        while app.count(cut).await == 0 {
            assert!(Instant::now() < deadline, "the heart has no connection of its own");
            assert_eq!(app.count(silent).await, 0, "two beats were missed");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    app.done().await;
}

#[tokio::test]
async fn a_connection_on_which_a_transaction_was_left_open_is_given_to_nobody() {
    let db = db::pool(&new_database().await, 1).await.unwrap();
    let mut left = db.acquire().await.unwrap();
    // As it is when whoever began was dropped before the answer came.
    sqlx::raw_sql("begin").execute(&mut *left).await.unwrap();
    let before: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *left).await.unwrap();
    drop(left);
    sqlx::query(
        "insert into worker (id, name, heartbeat_at, interval) values (gen_random_uuid(), 'it', now(), interval '1 s')",
    )
    .execute(&db)
    .await
    .unwrap();
    let after: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&db).await.unwrap();
    assert_ne!(before, after);
    let kept: i64 = sqlx::query_scalar("select count(*) from worker where name = 'it'").fetch_one(&db).await.unwrap();
    assert_eq!(kept, 1);
}
