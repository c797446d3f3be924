//! `crvs-outbox demo`: the whole path on a machine that has nothing but PostgreSQL's binaries. Starts a database of its
//! own, the service and the sandbox, submits declarations over HTTP as a field app would, and holds the outcome against
//! what must have happened.

mod client;
mod expected;
mod report;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dev_postgres::Cluster;
use futures_util::{StreamExt as _, stream};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::client::{Client, Journey};
use self::report::Report;
use crate::app::{App, AppError, Halves};
use crate::auth::SignerError;
use crate::config::{ConfigError, File, Settings};
use crate::sandbox::{self, Mode, Sandbox, SandboxError};
use crate::{db, samples};

/// What the demo is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the demo's files are.
    pub dir: PathBuf,
    /// How many declarations.
    pub records: usize,
    /// Share of requests that the sandbox lets fail.
    pub fail_rate: f64,
    /// End after the summary.
    pub exit: bool,
    /// Print the summary as JSON, and nothing else on standard output.
    pub json: bool,
    /// Where the API should listen; another port is taken if it is busy.
    pub listen: SocketAddr,
    /// Where operators' endpoints should listen.
    pub internal_addr: SocketAddr,
}

/// Why the demo failed.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The service did not start.
    #[error(transparent)]
    App(#[from] AppError),
    /// The sandbox did not start.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database failed.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// The database cannot be used.
    #[error(transparent)]
    Db(#[from] db::DbError),
    /// No token could be made.
    #[error("no token could be made")]
    Token(#[from] SignerError),
    /// A request failed.
    #[error("a request failed")]
    Request(#[from] reqwest::Error),
    /// The API refused a submission.
    #[error("the API answered {0}: {1}")]
    Refused(u16, String),
    /// A repeated submission got another answer.
    #[error("a repeated submission got another answer")]
    NotReplayed,
    /// An answer was no JSON.
    #[error("an answer is not understood")]
    Json(#[from] serde_json::Error),
    /// It was told to stop before the summary.
    #[error("stopped before everything was registered")]
    Interrupted,
    /// It took too long.
    #[error("not everything was registered and delivered within {} minutes", PATIENCE.as_secs() / 60)]
    TookTooLong,
    /// Something did not happen exactly once.
    #[error("not everything happened exactly once")]
    NotExactlyOnce,
    /// A file could not be written.
    #[error("a file could not be written")]
    Io(#[from] std::io::Error),
}

/// How long the demo waits for everything to be delivered.
const PATIENCE: Duration = Duration::from_mins(10);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Submissions on their way at the same time.
const AT_ONCE: usize = 16;
const REGISTRAR: &str = "demo-registrar";

/// Runs the demo; `told` ends it.
pub async fn run(options: Options, cluster: &Cluster, told: CancellationToken) -> Result<(), DemoError> {
    let say = Say { quiet: options.json };
    say.line(format_args!("PostgreSQL  a cluster of its own in {}", cluster.dir().display()));
    let sandbox_stop = CancellationToken::new();
    let (mut app, sandbox_addr) = start(&options, cluster, &sandbox_stop).await?;
    say.line(format_args!("sandbox     a country config and four receivers on http://{sandbox_addr}"));
    let outcome = tokio::select! {
        outcome = play(&options, cluster, &app, &say) => outcome,
        () = told.cancelled() => if options.exit { Err(DemoError::Interrupted) } else { Ok(()) },
    };
    if outcome.is_ok() && !options.exit && !told.is_cancelled() {
        say.line(format_args!("\n  Serving until Ctrl-C."));
        tokio::select! { () = told.cancelled() => {}, () = app.failed() => {} }
    }
    app.stop(CancellationToken::new()).await;
    sandbox_stop.cancel();
    outcome
}

async fn start(
    options: &Options,
    cluster: &Cluster,
    sandbox_stop: &CancellationToken,
) -> Result<(App, SocketAddr), DemoError> {
    std::fs::create_dir_all(&options.dir)?;
    let url = cluster.url();
    db::migrate(&url).await?;
    let listen = free(options.listen);
    let sandbox = sandbox::Settings {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        gateway: format!("http://{listen}"),
        mode: Mode::Confirm,
        delay: Duration::ZERO,
        failures: 0,
        fail_rate: options.fail_rate,
    };
    let settings = settings(options, url, listen)?;
    let verifier = receivers_verifier(&settings)?;
    let sandbox = Sandbox::bind(db::pool(&settings.database_url, 8).await?, sandbox, Some(verifier)).await?;
    let addr = sandbox.addr;
    tokio::spawn(sandbox.serve(sandbox_stop.clone()));
    let app = App::start(with_destinations(settings, addr)?, Halves::BOTH).await?;
    Ok((app, addr))
}

/// The address, or a free port of the same host if it is taken.
fn free(addr: SocketAddr) -> SocketAddr {
    let probe = |addr: SocketAddr| std::net::TcpListener::bind(addr).and_then(|l| l.local_addr());
    probe(addr).or_else(|_| probe(SocketAddr::new(addr.ip(), 0))).unwrap_or(addr)
}

fn settings(options: &Options, url: String, listen: SocketAddr) -> Result<Settings, DemoError> {
    let mut file = File { listen, internal_addr: free(options.internal_addr), ..File::default() };
    file.tokens.signing_key_file = options.dir.join("signing-key.pem");
    file.stop_seconds = 5;
    file.opencrvs.introspection = true;
    Ok(file.settings(url)?)
}

/// The receivers trust the service's own key, for the audiences of their names.
fn receivers_verifier(settings: &Settings) -> Result<Arc<crate::auth::Verifier>, DemoError> {
    use crate::auth::{KeySource, Signer, Trust, Verifier};
    let signer = Arc::new(Signer::load_or_generate(&settings.signing_key_file)?);
    let trust = Trust {
        issuer: settings.mint.issuer.clone(),
        audiences: DESTINATIONS.iter().map(|(name, _, _)| (*name).to_owned()).collect(),
        keys: KeySource::Own(signer),
    };
    Ok(Arc::new(Verifier::new(vec![trust]).map_err(AppError::Trust)?))
}

/// (name, effects, format).
const DESTINATIONS: [(&str, &str, &str); 5] = [
    ("country-config", "validation", "opencrvs-event-registration"),
    ("search", "search", "cloudevents"),
    ("audit", "audit", "cloudevents"),
    ("metrics", "metrics", "cloudevents"),
    ("notification", "notification", "cloudevents"),
];

fn with_destinations(mut settings: Settings, sandbox: SocketAddr) -> Result<Settings, DemoError> {
    use std::fmt::Write as _;
    let mut text = "[egress]\nallow = [\"127.0.0.0/8\"]\n".to_owned();
    for (name, effect, format) in DESTINATIONS {
        // Writing to a String cannot fail. The retries are quick, so that a demo with failures is.
        write!(
            text,
            "[[destinations]]\nname = \"{name}\"\nurl = \"http://{sandbox}/{name}\"\neffects = [\"{effect}\"]\n\
             format = \"{format}\"\nretry_base_ms = 100\nretry_cap_ms = 2000\n\
             breaker_base_ms = 200\nbreaker_cap_ms = 1000\n"
        )
        .unwrap_or_default();
    }
    let file: File = File::parse(&text, Path::new("demo"))?;
    settings.workers.destinations = file.settings(String::new())?.workers.destinations;
    Ok(settings)
}

/// Submits, watches, reports.
async fn play(options: &Options, cluster: &Cluster, app: &App, say: &Say) -> Result<(), DemoError> {
    let gateway = app.public_addr.map(|a| format!("http://{a}")).unwrap_or_default();
    say.line(format_args!("service     {gateway} (internal: http://{})\n", app.internal_addr));
    let token = app.context.minter.for_user(
        REGISTRAR,
        &["register".to_owned()],
        "opencrvs:gateway-user",
        Duration::from_hours(12),
    )?;
    let client = Client { http: reqwest::Client::builder().no_proxy().build()?, gateway: gateway.clone(), token };
    let run = Uuid::now_v7().simple().to_string();
    let deadline = Instant::now() + PATIENCE;
    let mut journeys = submit_all(options, &client, &run, say).await?;
    watch_all(&client, &mut journeys, deadline, say).await?;
    let records: Vec<Uuid> = journeys.iter().map(|j| j.record_id).collect();
    while !report::settled(&app.context.db, &records).await? {
        if Instant::now() > deadline {
            return Err(DemoError::TookTooLong);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let report = report_on(app, cluster, &journeys, &run, gateway).await?;
    if options.json {
        Say::result(&serde_json::to_string_pretty(&report)?);
    } else {
        say.line(format_args!("{}", report.table()));
    }
    if report.is_good() { Ok(()) } else { Err(DemoError::NotExactlyOnce) }
}

async fn submit_all(options: &Options, client: &Client, run: &str, say: &Say) -> Result<Vec<Journey>, DemoError> {
    let people: u64 = rand::random();
    let submissions =
        (0..options.records).zip(0..).zip(samples::ALL.iter().cycle()).map(|((n, nth), (event, bundle))| {
            let id = format!("demo-{run}-{n:04}");
            // Each about other people, so that none is held as a possible duplicate.
            let declaration = samples::of_somebody_else(bundle, people.wrapping_add(nth));
            // A client on a bad network does not always get its answer, and sends the same again.
            let again = rand::random::<f64>() < options.fail_rate;
            async move { client.submit(event, &declaration, id, again).await }
        });
    let mut journeys = Vec::with_capacity(options.records);
    let mut answers = stream::iter(submissions).buffered(AT_ONCE);
    while let Some(journey) = answers.next().await {
        let journey = journey?;
        say.record(journeys.len(), options.records, &journey, "accepted, in one transaction with its messages");
        journeys.push(journey);
    }
    Ok(journeys)
}

async fn watch_all(client: &Client, journeys: &mut [Journey], deadline: Instant, say: &Say) -> Result<(), DemoError> {
    let total = journeys.len();
    let mut done = 0;
    while done < total {
        for journey in journeys.iter_mut().filter(|j| j.registration_number.is_none()) {
            if client.ask(journey).await? {
                let number = journey.registration_number.clone().unwrap_or_default();
                say.record(done, total, journey, &format!("validated by the country, registered as {number}"));
                done += 1;
            }
        }
        if Instant::now() > deadline {
            return Err(DemoError::TookTooLong);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

async fn report_on(
    app: &App,
    cluster: &Cluster,
    journeys: &[Journey],
    run: &str,
    gateway: String,
) -> Result<Report, DemoError> {
    let expected = expected::effects(journeys.iter().map(|j| j.transaction_id.as_str()));
    let (happened, receipts) = sandbox::effects_ending_in(&app.context.db, run).await?;
    let effects_happened = happened.len();
    let mut records = Vec::with_capacity(journeys.len());
    for journey in journeys {
        records.push(report::line(&app.context.db, journey).await?);
    }
    let ids: Vec<Uuid> = journeys.iter().map(|j| j.record_id).collect();
    Ok(Report {
        records,
        effects_expected: expected.len(),
        effects_happened,
        // The ledger's primary key forbids two; the sets being equal forbids none and too many.
        exactly_once: effects_happened == expected.len() && happened.into_iter().collect::<BTreeSet<_>>() == expected,
        receipts,
        messages_retried: report::retried(&app.context.db, &ids).await?,
        api: gateway,
        internal: format!("http://{}", app.internal_addr),
        psql: cluster.psql_command(),
    })
}

/// What is said to the person who watches.
struct Say {
    quiet: bool,
}

impl Say {
    #[expect(clippy::print_stdout, reason = "the demo is there to be watched")]
    fn line(&self, text: std::fmt::Arguments<'_>) {
        if !self.quiet {
            println!("{text}");
        }
    }

    /// What is said in any case.
    #[expect(clippy::print_stdout, reason = "the demo's result")]
    fn result(text: &str) {
        println!("{text}");
    }

    /// One line a record; of many records a line for every tenth of them.
    fn record(&self, at: usize, total: usize, journey: &Journey, what: &str) {
        let step = (total / 10).max(1);
        if total <= 10 || (at + 1).is_multiple_of(step) {
            let (event, id) = (journey.event, &journey.tracking_id);
            self.line(format_args!("  {:>4}/{total}  {event:<9} {id}  {what}", at + 1));
        }
    }
}
