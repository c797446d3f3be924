//! What a scenario runs on: a configuration, the service as a process of its own, tokens for its clients.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dev_postgres::Cluster;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection, PgPool};

use super::BenchError;
use crate::auth::{MintSettings, Minter, Signer, SignerError};
use crate::db;

/// How long the service may take to become ready.
const PATIENCE: Duration = Duration::from_mins(1);
/// The effects that have a receiver.
const USUAL: [&str; 4] = ["search", "audit", "metrics", "notification"];
const AUDIENCE: &str = "opencrvs:gateway-user";

/// The ground of a scenario.
pub(super) struct Bed<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) dir: PathBuf,
    url: String,
    pub(super) minter: Arc<Minter>,
}

impl<'a> Bed<'a> {
    pub(super) fn new(cluster: &'a Cluster, dir: &Path) -> Result<Self, BenchError> {
        let signer = Arc::new(Signer::load_or_generate(&dir.join("signing-key.pem"))?);
        let settings = MintSettings {
            issuer: "crvs-outbox".to_owned(),
            actor: "crvs-outbox".to_owned(),
            gateway_audience: AUDIENCE.to_owned(),
            delivery_ttl: Duration::from_mins(5),
            record_ttl: Duration::from_hours(24),
        };
        let minter = Arc::new(Minter::new(signer, settings)?);
        Ok(Self { cluster, dir: dir.to_owned(), url: cluster.url(), minter })
    }

    /// A token of a user who may do this.
    pub(super) fn token(&self, user: &str, scope: &str) -> Result<String, SignerError> {
        self.minter.for_user(user, &[scope.to_owned()], AUDIENCE, Duration::from_hours(6))
    }

    /// Connections to look with.
    pub(super) async fn db(&self) -> Result<PgPool, BenchError> {
        Ok(db::pool(&self.url, 2).await?)
    }

    /// A connection whose statements may take long without a word in the log.
    pub(super) async fn quiet(&self) -> Result<PgConnection, BenchError> {
        quiet(&self.url).await
    }

    /// Makes a database of its own in the cluster, empty; returns its URL.
    pub(super) async fn database(&self, name: &'static str) -> Result<String, BenchError> {
        let mut conn = self.quiet().await?;
        conn.execute(sqlx::raw_sql(AssertSqlSafe(format!("create database {name}")))).await?;
        conn.close().await?;
        Ok(self.cluster.url_for(name))
    }

    /// The same with the schema of the service.
    pub(super) async fn schema(&self, name: &'static str) -> Result<String, BenchError> {
        let url = self.database(name).await?;
        db::migrate(&url).await?;
        Ok(url)
    }

    /// Where the service's data is.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Starts the service with the usual receivers at `sink`, and these further settings.
    pub(super) async fn serve(&self, sink: SocketAddr, settings: &str) -> Result<Service, BenchError> {
        self.serve_to(&USUAL, sink, settings).await
    }

    /// The same with one receiver for each of these effects.
    pub(super) async fn serve_to(
        &self,
        effects: &[&str],
        sink: SocketAddr,
        settings: &str,
    ) -> Result<Service, BenchError> {
        let (public, internal) = (free_address()?, free_address()?);
        let config = self.dir.join("bench.toml");
        std::fs::write(&config, configuration(&self.dir, effects, sink, settings))?;
        let log = self.dir.join("service.log");
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("serve").arg("--config").arg(&config).env("DATABASE_URL", &self.url).env("RUST_LOG", "warn");
        command.args(["--listen", &public.to_string(), "--internal-addr", &internal.to_string()]);
        let child = command.stdout(Stdio::null()).stderr(File::create(&log)?).spawn()?;
        let service = Service { child, public };
        let ready = format!("http://{internal}/readyz");
        let client = reqwest::Client::builder().no_proxy().build()?;
        let deadline = Instant::now() + PATIENCE;
        while !client.get(&ready).send().await.is_ok_and(|r| r.status().is_success()) {
            if Instant::now() > deadline {
                return Err(BenchError::NotReady(log));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(service)
    }
}

/// A connection whose statements may take long without a word in the log.
pub(super) async fn quiet(url: &str) -> Result<PgConnection, BenchError> {
    Ok(PgConnection::connect_with(&db::options(url)?.disable_statement_logging()).await?)
}

/// Runs a few statements.
pub(super) async fn execute(url: &str, sql: &'static str) -> Result<(), BenchError> {
    let mut conn = quiet(url).await?;
    conn.execute(sqlx::raw_sql(sql)).await?;
    conn.close().await?;
    Ok(())
}

/// Runs the statements of a file, in which `{name}`s are replaced; then cleans up and writes out, so that no round pays for
/// what was made before it.
pub(super) async fn fill(url: &str, sql: &str, names: &[(&str, String)]) -> Result<(), BenchError> {
    let sql = names.iter().fold(sql.to_owned(), |sql, (name, value)| sql.replace(&format!("{{{name}}}"), value));
    let mut conn = quiet(url).await?;
    for sql in [sql.as_str(), "vacuum analyze", "checkpoint"] {
        insist(&mut conn, sql).await?;
    }
    conn.close().await?;
    Ok(())
}

/// Runs statements, again where they met those of the service half-way: tables are emptied under it, and it takes them in an
/// order of its own.
async fn insist(conn: &mut PgConnection, sql: &str) -> sqlx::Result<()> {
    let mut tries = 3;
    loop {
        tries -= 1;
        match conn.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await {
            Ok(_) => return Ok(()),
            Err(error) if tries > 0 && is_deadlock(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

fn is_deadlock(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|e| e.code().as_deref() == Some("40P01"))
}

fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// Whoever submits is not limited here: the limit is not what is measured.
fn configuration(dir: &Path, effects: &[&str], sink: SocketAddr, settings: &str) -> String {
    use std::fmt::Write as _;
    let key = dir.join("signing-key.pem");
    let mut text = format!(
        "stop_seconds = 1\n[egress]\nallow = [\"127.0.0.0/8\"]\n[tokens]\nsigning_key_file = {:?}\n{settings}\n",
        key.display().to_string()
    );
    for name in effects {
        // Writing to a String cannot fail.
        write!(text, "[[destinations]]\nname = \"{name}\"\nurl = \"http://{sink}/{name}\"\neffects = [\"{name}\"]\nformat = \"cloudevents\"\n")
            .unwrap_or_default();
    }
    text
}

/// A running service; killed when dropped, which it survives by design.
pub(super) struct Service {
    child: Child,
    /// Where its API is.
    pub(super) public: SocketAddr,
}

impl Service {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An address below its API.
    pub(super) fn at(&self, path: &str) -> String {
        format!("http://{}{path}", self.public)
    }

    /// Resident memory: now, and at most so far, in bytes (`VmRSS` and `VmHWM` of proc(5)).
    pub(super) fn memory(&self) -> Result<Memory, BenchError> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok().map(|kb| kb * 1024)
        };
        let memory = field("VmRSS:").zip(field("VmHWM:")).map(|(now, most)| Memory { now, most });
        memory.ok_or(BenchError::Nothing("/proc has no memory of the service"))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Gone already, or gone now.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Resident memory in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    pub(super) now: u64,
    pub(super) most: u64,
}
