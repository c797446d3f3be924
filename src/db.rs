//! The database: connections and migrations. The only file that names refinery.
//!
//! Connections carry their own limits: a lock is waited for at most [`LOCK_TIMEOUT`], a transaction left idle is
//! ended by the server. Migrations run one instance at a time, and an older instance starts on a newer schema
//! (a rolling deployment), since migrations only go forward.

use std::time::{Duration, Instant};

use refinery::Migration;
use refinery_core::traits::r#async::{AsyncMigrate, AsyncQuery, AsyncTransaction};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// How long a statement waits for a lock, a concurrent twin's included.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// The key of the advisory lock that migrations run under.
const MIGRATION_LOCK: i64 = 0x6372_7673_6f62_7831;
const MIGRATION_LOCK_PATIENCE: Duration = Duration::from_mins(1);

/// First line of a migration that runs outside a transaction (one idempotent statement, such as
/// `create index concurrently if not exists`).
const NO_TRANSACTION: &str = "-- crvs:no-transaction";

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The URL is not one, or the server refused.
    #[error("cannot connect to the database")]
    Connect(#[source] sqlx::Error),
    /// The server is older than PostgreSQL 15.
    #[error("PostgreSQL 15 or later is needed, the server is version {0}")]
    TooOld(String),
    /// Somebody else holds the migration lock.
    #[error("another process has held the migration lock for a minute")]
    MigrationLock,
    /// A migration failed; those before it are applied.
    #[error("a migration failed")]
    Migration(#[from] refinery::Error),
    /// A statement failed.
    #[error("the database failed")]
    Statement(#[from] sqlx::Error),
}

/// Reads a `postgres://` URL; password, PGPASSFILE and `sslmode=verify-full` work as in libpq.
pub fn options(url: &str) -> Result<PgConnectOptions, DbError> {
    let options: PgConnectOptions = url.parse().map_err(DbError::Connect)?;
    Ok(options.application_name("crvs-outbox").options([
        ("lock_timeout", format!("{}ms", LOCK_TIMEOUT.as_millis())),
        ("idle_in_transaction_session_timeout", "30s".to_owned()),
        // A plan made while the queue is empty reads and sorts all of it, and would be kept when a backlog comes.
        ("plan_cache_mode", "force_custom_plan".to_owned()),
    ]))
}

/// Opens a pool of up to `connections`.
pub async fn pool(url: &str, connections: u32) -> Result<PgPool, DbError> {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(5))
        .after_connect(|conn, _| Box::pin(async move { insist_on_durability(conn).await }))
        .connect_with(options(url)?)
        .await
        .map_err(DbError::Connect)
}

/// P1: a server that is set to answer before its WAL is on disk is told otherwise. Stronger settings are left alone.
async fn insist_on_durability(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!(
        "select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') in ('off', 'local', 'remote_write')"
    )
    .fetch_optional(conn)
    .await
    .map(drop)
}

/// What [`migrate`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The migrations that were applied now, in order.
    pub applied: Vec<String>,
}

/// Brings the schema up to date. Safe to call from many instances at once.
pub async fn migrate(url: &str) -> Result<Migrated, DbError> {
    let mut conn = PgConnection::connect_with(&options(url)?).await.map_err(DbError::Connect)?;
    check_version(&mut conn).await?;
    lock_migrations(&mut conn).await?;
    let done = embedded::migrations::runner().set_abort_missing(false).run_async(&mut Migrator(&mut conn)).await;
    // The lock is the session's: closing the connection frees it whatever happened.
    conn.close().await?;
    Ok(Migrated { applied: done?.applied_migrations().iter().map(ToString::to_string).collect() })
}

async fn check_version(conn: &mut PgConnection) -> Result<(), DbError> {
    let row = sqlx::query!(
        r#"select current_setting('server_version_num')::int >= 150000 as "ok!", current_setting('server_version') as "version!""#
    )
    .fetch_one(conn)
    .await?;
    if row.ok { Ok(()) } else { Err(DbError::TooOld(row.version)) }
}

/// Tries in a loop: a waiter inside `pg_advisory_lock` would hold a snapshot that a concurrent index build of the
/// lock's holder waits for, a deadlock.
async fn lock_migrations(conn: &mut PgConnection) -> Result<(), DbError> {
    let started = Instant::now();
    loop {
        let locked = sqlx::query_scalar!(r#"select pg_try_advisory_lock($1) as "locked!""#, MIGRATION_LOCK)
            .fetch_one(&mut *conn)
            .await?;
        if locked {
            return Ok(());
        }
        if started.elapsed() > MIGRATION_LOCK_PATIENCE {
            return Err(DbError::MigrationLock);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// refinery's driver traits over the connection type that the rest of the service uses.
struct Migrator<'c>(&'c mut PgConnection);

impl AsyncTransaction for Migrator<'_> {
    type Error = sqlx::Error;

    async fn execute<'a, T: Iterator<Item = &'a str> + Send + 'a>(&'a mut self, queries: T) -> sqlx::Result<usize> {
        let queries: Vec<&str> = queries.collect();
        let (alone, together): (Vec<&str>, Vec<&str>) =
            queries.iter().partition(|q| q.trim_start().starts_with(NO_TRANSACTION));
        for query in alone {
            self.0.execute(sqlx::raw_sql(AssertSqlSafe(query.to_owned()))).await?;
        }
        let mut tx = self.0.begin().await?;
        for query in together {
            tx.execute(sqlx::raw_sql(AssertSqlSafe(query.to_owned()))).await?;
        }
        tx.commit().await?;
        Ok(queries.len())
    }
}

impl AsyncQuery<Vec<Migration>> for Migrator<'_> {
    async fn query<'a>(&'a mut self, query: &'a str) -> sqlx::Result<Vec<Migration>> {
        let rows = sqlx::query(AssertSqlSafe(query.to_owned())).fetch_all(&mut *self.0).await?;
        rows.iter()
            .map(|row| {
                let applied_on: String = row.try_get(2)?;
                let checksum: String = row.try_get(3)?;
                Ok(Migration::applied(
                    row.try_get(0)?,
                    row.try_get(1)?,
                    OffsetDateTime::parse(&applied_on, &Rfc3339).map_err(|e| sqlx::Error::Decode(e.into()))?,
                    checksum.parse().map_err(|e: std::num::ParseIntError| sqlx::Error::Decode(e.into()))?,
                ))
            })
            .collect()
    }
}

impl AsyncMigrate for Migrator<'_> {}

#[cfg(test)]
mod tests {
    /// refinery skips a file whose name it does not understand, with no more than a log line.
    #[test]
    fn every_file_in_migrations_is_a_migration() {
        let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).unwrap().count();
        assert_eq!(super::embedded::migrations::runner().get_migrations().len(), files);
    }
}
