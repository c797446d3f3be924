//! The command line: what can be asked for, and who does it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use dev_postgres::{Cluster, ClusterError};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::app::{App, AppError, Halves};
use crate::auth::{KeySource, MintSettings, Minter, Signer, SignerError, Trust, TrustError, Verifier};
use crate::config::{ConfigError, File, Settings};
use crate::db::{self, DbError};
use crate::demo::{self, DemoError};
use crate::sandbox::{self, Mode, Sandbox, SandboxError};

/// Accepts declarations of births, deaths and marriages in one PostgreSQL transaction and delivers every consequence
/// exactly once in effect.
#[derive(Debug, Parser)]
#[command(name = "crvs-outbox", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

impl Cli {
    /// What is logged unless `RUST_LOG` says otherwise. The demo speaks for itself.
    pub fn log_filter(&self) -> &'static str {
        match self.command {
            Command::Demo(_) => "error,crvs_outbox::workers=off",
            Command::Serve(_) | Command::Migrate(_) | Command::Sandbox(_) | Command::Token(_) => {
                "info,sqlx=warn,refinery_core=warn"
            }
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service: the API and the workers
    Serve(Serve),
    /// Bring the schema up to date and end
    Migrate(Database),
    /// Show the whole path on this machine, with a database and a country config of its own
    Demo(Demo),
    /// Run a country config and receivers to play with
    Sandbox(SandboxArgs),
    /// Print a token signed with the service's key, for trying things out
    Token(Token),
}

#[derive(Debug, Args)]
struct Database {
    /// The database, as in `postgres://user:password@host/name?sslmode=verify-full`
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// Run a private PostgreSQL cluster in this folder instead
    #[arg(long, value_name = "DIR")]
    embedded: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Serve {
    #[command(flatten)]
    database: Database,
    /// Settings; see crvs-outbox.example.toml
    #[arg(long, env = "CRVS_OUTBOX_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where clients and country configs reach the API
    #[arg(long, env = "CRVS_OUTBOX_LISTEN", value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Where operators reach /metrics, /healthz and /readyz
    #[arg(long, env = "CRVS_OUTBOX_INTERNAL_ADDR", value_name = "ADDR")]
    internal_addr: Option<SocketAddr>,
    /// The API only
    #[arg(long, conflicts_with = "workers")]
    api: bool,
    /// The workers only
    #[arg(long)]
    workers: bool,
}

#[derive(Debug, Args)]
struct Demo {
    /// Where the demo's database and key are
    #[arg(long, default_value = "data/demo", value_name = "DIR")]
    dir: PathBuf,
    /// How many declarations to submit
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9999))]
    records: u16,
    /// Share of requests that the receivers let fail, before or after their effect
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    fail_rate: f64,
    /// End after the summary; 0 only if all is registered and every effect happened exactly once
    #[arg(long)]
    exit: bool,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
    /// Where the API listens; another port is taken if it is busy
    #[arg(long, default_value = "127.0.0.1:7070", value_name = "ADDR")]
    listen: SocketAddr,
    /// Where operators' endpoints listen; another port is taken if it is busy
    #[arg(long, default_value = "127.0.0.1:7071", value_name = "ADDR")]
    internal_addr: SocketAddr,
}

#[derive(Debug, Args)]
struct SandboxArgs {
    #[command(flatten)]
    database: Database,
    /// Where it listens
    #[arg(long, default_value = "127.0.0.1:7080", value_name = "ADDR")]
    listen: SocketAddr,
    /// Where the service's API is
    #[arg(long, default_value = "http://127.0.0.1:7070", value_name = "URL")]
    gateway: String,
    /// Check the tokens of deliveries: the issuer, with the keys at {gateway}/.well-known/jwks.json
    #[arg(long, value_name = "ISSUER")]
    check_tokens_of: Option<String>,
    /// Audiences that tokens may have
    #[arg(long, value_name = "NAME", default_values_t = ["country-config", "search", "audit", "metrics", "notification"].map(str::to_owned))]
    audience: Vec<String>,
    /// What the country config does
    #[arg(long, value_enum, default_value = "confirm")]
    mode: Mode,
    /// How late the callback of `later` is, in milliseconds
    #[arg(long, default_value_t = 2000)]
    delay_ms: u64,
    /// How often `fail-then-confirm` fails
    #[arg(long, default_value_t = 3)]
    failures: u16,
    /// Share of requests that fail, before or after their effect
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    fail_rate: f64,
}

#[derive(Debug, Args)]
struct Token {
    /// The service's private key
    #[arg(long, default_value = "data/demo/signing-key.pem", value_name = "FILE")]
    key: PathBuf,
    /// Whose token it is
    #[arg(long, default_value = "somebody")]
    sub: String,
    /// What it may do; may be given more than once
    #[arg(long, default_values_t = ["register".to_owned()])]
    scope: Vec<String>,
    /// Its issuer
    #[arg(long, default_value = "crvs-outbox")]
    issuer: String,
    /// Its audience
    #[arg(long, default_value = "opencrvs:gateway-user")]
    audience: String,
    /// Its life in minutes
    #[arg(long, default_value_t = 60)]
    minutes: u32,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=0.9).contains(&share) => Ok(share),
        _ => Err("a share is a number from 0 to 0.9".to_owned()),
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Neither a URL nor a folder.
    #[error("no database: set DATABASE_URL or give --database-url or --embedded DIR")]
    NoDatabase,
    /// The private cluster did not start.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The runtime did not start.
    #[error("the runtime did not start")]
    Runtime(#[from] std::io::Error),
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The service did not start.
    #[error(transparent)]
    App(#[from] AppError),
    /// The database cannot be used.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The demo failed.
    #[error(transparent)]
    Demo(#[from] DemoError),
    /// The sandbox failed.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The key cannot be used.
    #[error("the key cannot be used")]
    Signer(#[from] SignerError),
    /// The issuer cannot be checked.
    #[error("the issuer cannot be checked")]
    Trust(#[from] TrustError),
    /// The gateway is no URL.
    #[error("the gateway is no URL")]
    Gateway,
    /// The private cluster ended by itself.
    #[error("the embedded database ended; start again to recover it")]
    DatabaseEnded,
    /// A part of the service ended by itself.
    #[error("a part of the service ended by itself")]
    Ended,
}

/// Does what was asked for.
pub fn run(cli: Cli) -> Result<(), CliError> {
    match cli.command {
        Command::Serve(args) => serve(&args),
        Command::Migrate(database) => {
            let cluster = database.cluster()?;
            let migrated = runtime()?.block_on(db::migrate(&database.url(cluster.as_ref())?))?;
            say(&format!(
                "applied: {}",
                if migrated.applied.is_empty() { "nothing to do".to_owned() } else { migrated.applied.join(", ") }
            ));
            Ok(())
        }
        Command::Demo(args) => run_demo(args),
        Command::Sandbox(args) => run_sandbox(args),
        Command::Token(args) => token(&args),
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

#[expect(clippy::print_stdout, reason = "a command's result")]
fn say(text: &str) {
    println!("{text}");
}

impl Database {
    /// The private cluster, if one was asked for. It is started outside the runtime: starting waits.
    fn cluster(&self) -> Result<Option<Cluster>, CliError> {
        self.embedded.as_deref().map(start_cluster).transpose()
    }

    fn url(&self, cluster: Option<&Cluster>) -> Result<String, CliError> {
        cluster.map(Cluster::url).or_else(|| self.database_url.clone()).ok_or(CliError::NoDatabase)
    }
}

fn start_cluster(dir: &Path) -> Result<Cluster, CliError> {
    let cluster = Cluster::start(dir)?;
    if let Some(note) = cluster.note() {
        tracing::warn!("{note}");
    }
    tracing::info!(psql = %cluster.psql_command(), "embedded PostgreSQL");
    Ok(cluster)
}

/// Two signals: the first asks to stop, the second to stop now.
struct Told {
    stop: CancellationToken,
    now: CancellationToken,
}

fn listen_to_signals() -> std::io::Result<Told> {
    let told = Told { stop: CancellationToken::new(), now: CancellationToken::new() };
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (stop, now) = (told.stop.clone(), told.now.clone());
    tokio::spawn(async move {
        for next in [stop, now] {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
            next.cancel();
        }
    });
    Ok(told)
}

fn serve(args: &Serve) -> Result<(), CliError> {
    let mut file = args.config.as_deref().map_or_else(|| Ok(File::default()), File::read)?;
    file.listen = args.listen.unwrap_or(file.listen);
    file.internal_addr = args.internal_addr.unwrap_or(file.internal_addr);
    let halves = Halves { api: !args.workers, workers: !args.api };
    let cluster = args.database.cluster()?;
    let settings = file.settings(args.database.url(cluster.as_ref())?)?;
    runtime()?.block_on(serve_until_told(settings, halves, cluster.as_ref()))
}

async fn serve_until_told(settings: Settings, halves: Halves, cluster: Option<&Cluster>) -> Result<(), CliError> {
    let told = listen_to_signals()?;
    let mut app = App::start(settings, halves).await?;
    let outcome = tokio::select! {
        () = told.stop.cancelled() => Ok(()),
        () = app.failed() => Err(CliError::Ended),
        () = ended(cluster) => Err(CliError::DatabaseEnded),
    };
    app.stop(told.now).await;
    outcome
}

/// Waits until a private cluster ends that should not have.
async fn ended(cluster: Option<&Cluster>) {
    while cluster.is_none_or(Cluster::is_running) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn run_demo(args: Demo) -> Result<(), CliError> {
    let cluster = start_cluster(&args.dir.join("pg"))?;
    let options = demo::Options {
        dir: args.dir,
        records: usize::from(args.records),
        fail_rate: args.fail_rate,
        exit: args.exit,
        json: args.json,
        listen: args.listen,
        internal_addr: args.internal_addr,
    };
    runtime()?.block_on(async {
        let told = listen_to_signals()?;
        Ok(demo::run(options, &cluster, told.stop).await?)
    })
}

fn run_sandbox(args: SandboxArgs) -> Result<(), CliError> {
    let cluster = args.database.cluster()?;
    let url = args.database.url(cluster.as_ref())?;
    let verifier = args.check_tokens_of.map(|issuer| {
        let jwks = format!("{}/.well-known/jwks.json", args.gateway.trim_end_matches('/'));
        let url = reqwest::Url::parse(&jwks).map_err(|_not_a_url| CliError::Gateway)?;
        let trust = Trust { issuer, audiences: args.audience.clone(), keys: KeySource::Jwks(url) };
        Ok::<_, CliError>(Arc::new(Verifier::new(vec![trust])?))
    });
    let settings = sandbox::Settings {
        listen: args.listen,
        gateway: args.gateway.trim_end_matches('/').to_owned(),
        mode: args.mode,
        delay: Duration::from_millis(args.delay_ms),
        failures: i64::from(args.failures),
        fail_rate: args.fail_rate,
    };
    let verifier = verifier.transpose()?;
    runtime()?.block_on(async {
        let told = listen_to_signals()?;
        db::insist_on_sessions(&url).await?;
        let sandbox = Sandbox::bind(db::pool(&url, 8).await?, settings, verifier).await?;
        say(&format!("sandbox on http://{}", sandbox.addr));
        Ok(sandbox.serve(told.stop).await?)
    })
}

fn token(args: &Token) -> Result<(), CliError> {
    let signer = Arc::new(Signer::from_file(&args.key)?);
    let settings = MintSettings {
        issuer: args.issuer.clone(),
        actor: "crvs-outbox".to_owned(),
        gateway_audience: args.audience.clone(),
        delivery_ttl: Duration::from_mins(5),
        record_ttl: Duration::from_hours(24),
    };
    let minter = Minter::new(signer, settings)?;
    let life = Duration::from_mins(u64::from(args.minutes));
    say(&minter.for_user(&args.sub, &args.scope, &args.audience, life)?);
    Ok(())
}
