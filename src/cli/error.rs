//! Why a command failed.

use dev_postgres::ClusterError;

use crate::app::AppError;
use crate::auth::{SignerError, TrustError};
use crate::bench::BenchError;
use crate::config::ConfigError;
use crate::db::DbError;
use crate::demo::DemoError;
use crate::outbox::operate::OperateError;
use crate::sandbox::SandboxError;

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
    /// A destination that is not in the configuration.
    #[error("there is no destination {0:?} in the configuration")]
    NoSuchDestination(String),
    /// A probe got no answer.
    #[error("not every destination answers")]
    Unreachable,
    /// The result could not be written.
    #[error("the result could not be written")]
    Output(#[source] std::io::Error),
    /// The result could not be put into words.
    #[error("the result could not be put into words")]
    Json(#[from] serde_json::Error),
    /// What was named is not there, or nothing was changed.
    #[error("{0}")]
    Nothing(String),
    /// An operator's command was refused.
    #[error(transparent)]
    Operate(#[from] OperateError),
    /// A statement failed.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
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
    /// The measurement failed.
    #[error(transparent)]
    Bench(#[from] BenchError),
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
