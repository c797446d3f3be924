//! An operator's connection: one transaction per action, and in it who acts.

use std::future::Future;

use clap::Args;
use sqlx::postgres::PgPool;
use sqlx::{Postgres, Transaction};

use super::database::Database;
use super::{CliError, runtime};
use crate::db;
use crate::outbox::operate;

/// Who acts.
#[derive(Clone, Debug, Args)]
pub(super) struct Operator {
    /// Who you are, for the record; the database user is kept as well
    #[arg(long = "as", id = "operator", value_name = "NAME", env = "USER", hide_env_values = true)]
    name: Option<String>,
}

impl Operator {
    /// Begins a transaction in which this operator acts.
    pub(super) async fn begin(&self, db: &PgPool) -> Result<Transaction<'static, Postgres>, CliError> {
        let mut tx = db.begin().await?;
        operate::act_as(&mut tx, self.name.as_deref().unwrap_or_default()).await?;
        Ok(tx)
    }
}

/// Runs `work` with a connection to the database.
pub(super) fn with_database<F, W>(database: &Database, work: W) -> Result<(), CliError>
where
    F: Future<Output = Result<(), CliError>>,
    W: FnOnce(PgPool) -> F,
{
    let cluster = database.cluster()?;
    let url = database.url(cluster.as_ref())?;
    runtime()?.block_on(async {
        let db = db::pool(&url, 1).await?;
        let done = work(db.clone()).await;
        db.close().await;
        done
    })
}
