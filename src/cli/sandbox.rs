//! `sandbox`: a country config and receivers to play with.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::database::Database;
use super::output::say;
use super::signals::listen_to_signals;
use super::{CliError, runtime, share};
use crate::auth::{KeySource, Trust, Verifier};
use crate::db;
use crate::sandbox::{self, Mode, Sandbox};

#[derive(Debug, Args)]
pub(super) struct SandboxArgs {
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

pub(super) fn run_sandbox(args: SandboxArgs) -> Result<(), CliError> {
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
        say(&format!("sandbox on http://{}", sandbox.addr))?;
        Ok(sandbox.serve(told.stop).await?)
    })
}
