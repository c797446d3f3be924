//! `serve`: the service, until it is told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use dev_postgres::Cluster;
use tokio::signal::unix::{SignalKind, signal};

use super::database::Database;
use super::signals::listen_to_signals;
use super::{CliError, files, runtime};
use crate::app::{App, Halves};
use crate::config::{ConfigError, File};

#[derive(Debug, Args)]
pub(super) struct Serve {
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

impl Serve {
    /// The file with the command line on top of it.
    fn file(&self) -> Result<File, ConfigError> {
        let mut file = self.config.as_deref().map_or_else(|| Ok(File::default()), File::read)?;
        file.listen = self.listen.unwrap_or(file.listen);
        file.internal_addr = self.internal_addr.unwrap_or(file.internal_addr);
        Ok(file)
    }
}

pub(super) fn serve(args: &Serve) -> Result<(), CliError> {
    let file = args.file()?;
    files::allow_many();
    let cluster = args.database.cluster()?;
    let url = args.database.url(cluster.as_ref())?;
    runtime()?.block_on(serve_until_told(args, file, &url, cluster.as_ref()))
}

async fn serve_until_told(args: &Serve, file: File, url: &str, cluster: Option<&Cluster>) -> Result<(), CliError> {
    let told = listen_to_signals()?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let halves = Halves { api: !args.workers, workers: !args.api };
    let mut app = App::start(file.clone().settings(url.to_owned())?, halves).await?;
    let mut ended = std::pin::pin!(ended(cluster));
    let outcome = loop {
        tokio::select! {
            () = told.stop.cancelled() => break Ok(()),
            () = app.failed() => break Err(CliError::Ended),
            () = &mut ended => break Err(CliError::DatabaseEnded),
            Some(()) = hang_up.recv() => {
                if let Err(error) = reload(&app, args, &file, url).await {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "the configuration was not read anew; everything stays as it was");
                }
            }
        }
    };
    app.stop(told.now).await;
    outcome
}

/// SIGHUP: the destinations of the file, as it is now.
async fn reload(app: &App, args: &Serve, before: &File, url: &str) -> Result<(), CliError> {
    let now = args.file()?;
    if now.destinations.is_empty() && !before.destinations.is_empty() {
        let text = "there is no destination left; to stop delivering, pause them or stop the process".to_owned();
        return Err(ConfigError::Invalid(vec![text]).into());
    }
    let others_changed = File { destinations: before.destinations.clone(), ..now.clone() } != *before;
    app.reload(&now.settings(url.to_owned())?).await?;
    if others_changed {
        tracing::warn!("settings other than destinations have changed: they need a restart");
    }
    Ok(())
}

/// Waits until a private cluster ends that should not have.
async fn ended(cluster: Option<&Cluster>) {
    while cluster.is_none_or(Cluster::is_running) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
