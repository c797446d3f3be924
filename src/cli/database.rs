//! Which database, and `migrate`.

use std::path::{Path, PathBuf};

use clap::Args;
use dev_postgres::Cluster;

use super::output::say;
use super::{CliError, runtime};
use crate::db;

#[derive(Debug, Args)]
pub(super) struct Database {
    /// The database, as in `postgres://user:password@host/name?sslmode=verify-full`
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// Run a private PostgreSQL cluster in this folder instead
    #[arg(long, value_name = "DIR")]
    embedded: Option<PathBuf>,
}

impl Database {
    /// The private cluster, if one was asked for. It is started outside the runtime: starting waits.
    pub(super) fn cluster(&self) -> Result<Option<Cluster>, CliError> {
        self.embedded.as_deref().map(start_cluster).transpose()
    }

    pub(super) fn url(&self, cluster: Option<&Cluster>) -> Result<String, CliError> {
        cluster.map(Cluster::url).or_else(|| self.database_url.clone()).ok_or(CliError::NoDatabase)
    }
}

pub(super) fn start_cluster(dir: &Path) -> Result<Cluster, CliError> {
    start_cluster_with(dir, std::iter::empty())
}

/// The same with settings of the server, by name.
pub(super) fn start_cluster_with<'s>(
    dir: &Path,
    settings: impl Iterator<Item = (&'s str, &'s str)>,
) -> Result<Cluster, CliError> {
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let cluster = Cluster::start_with(dir, &dev_postgres::Options { settings, ..dev_postgres::Options::default() })?;
    if let Some(note) = cluster.note() {
        tracing::warn!("{note}");
    }
    tracing::info!(psql = %cluster.psql_command(), "embedded PostgreSQL");
    Ok(cluster)
}

/// Brings the schema up to date and ends.
pub(super) fn migrate(database: &Database) -> Result<(), CliError> {
    let cluster = database.cluster()?;
    let migrated = runtime()?.block_on(db::migrate(&database.url(cluster.as_ref())?))?;
    let applied = migrated.applied.join(", ");
    say(&format!("applied: {}", if applied.is_empty() { "nothing to do" } else { &applied }))
}
