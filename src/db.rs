//! The database: connections and migrations. The only file that names refinery.
//!
//! Connections carry their own limits: a lock is waited for at most [`LOCK_TIMEOUT`], a transaction left idle is
//! ended by the server. They are said by SQL once connected, since a pooler refuses them at the start of a session;
//! a pooler that shares sessions is refused before anything else is done. Migrations run one instance at a time, and
//! an older instance starts on a newer schema (a rolling deployment), since migrations only go forward.

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

/// How long a connection, or the first answer on it, is waited for.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a worker's idle connection is taken to be alive without asking: longer than one rests while lanes only poll, or
/// each poll would be two statements.
const FRESH: Duration = Duration::from_secs(10);

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
    /// There was no connection, or no answer on it, in time.
    #[error(
        "the database gave no connection in time: it cannot be reached, or it or the pooler before it has too few \
        (docs/operating.md says how many a process takes)"
    )]
    NoAnswer,
    /// A pooler before the server gives transactions or statements of one client to several server processes.
    #[error(
        "the pooler before the database shares its server connections between clients, which breaks advisory locks, \
        LISTEN and prepared statements: set pool_mode = session for this database (PgBouncer), or connect to \
        PostgreSQL directly"
    )]
    SharedSessions,
    /// The server is older than PostgreSQL 15.
    #[error("PostgreSQL 15 or later is needed, the server is version {0}")]
    TooOld(String),
    /// This user may not migrate, and there is something to migrate.
    #[error("the schema is not up to date, and this user may not change it: run `crvs-outbox migrate` as its owner; missing: {}", .0.join(", "))]
    NotMigrated(Vec<String>),
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
///
/// For [`connect`] and [`pool`], which also say the session's settings: of what a startup packet may hold, PgBouncer
/// refuses `options` and `extra_float_digits`. The URL's own `options` are sent, so they need a direct connection.
pub fn options(url: &str) -> Result<PgConnectOptions, DbError> {
    let options: PgConnectOptions = url.parse().map_err(DbError::Connect)?;
    Ok(options.application_name("crvs-outbox").extra_float_digits(None))
}

/// Opens one connection, outside any pool.
pub async fn connect(url: &str) -> Result<PgConnection, DbError> {
    let options = options(url)?;
    in_time(async {
        let mut conn = PgConnection::connect_with(&options).await?;
        settle_in(&mut conn).await?;
        Ok(conn)
    })
    .await
}

/// Opens one connection whose plans are pinned: planned once, and to go by indexes alone.
pub async fn connect_pinned(url: &str) -> Result<PgConnection, DbError> {
    let mut conn = connect(url).await?;
    in_time(async { conn.execute(sqlx::raw_sql(PINNED)).await.map(drop) }).await?;
    Ok(conn)
}

/// Opens a pool of up to `connections`.
pub async fn pool(url: &str, connections: u32) -> Result<PgPool, DbError> {
    open(url, connections, Plans::Fresh).await
}

/// Opens a pool of up to `connections` whose plans are pinned: planned once, and to go by indexes alone.
pub async fn pool_pinned(url: &str, connections: u32) -> Result<PgPool, DbError> {
    open(url, connections, Plans::Pinned).await
}

/// How statements are planned.
#[derive(Clone, Copy, Debug)]
enum Plans {
    /// Each time anew, for what it is asked for and what the tables are then.
    Fresh,
    /// Once for a connection, by the indexes alone.
    Pinned,
}

async fn open(url: &str, connections: u32, plans: Plans) -> Result<PgPool, DbError> {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(5))
        .after_connect(move |conn, _| {
            Box::pin(async move {
                settle_in(conn).await?;
                match plans {
                    Plans::Fresh => Ok(()),
                    Plans::Pinned => conn.execute(sqlx::raw_sql(PINNED)).await.map(drop),
                }
            })
        })
        .test_before_acquire(false)
        .before_acquire(move |conn, meta| Box::pin(is_clean(conn, plans, meta.idle_for)))
        .connect_with(options(url)?)
        .await
        .map_err(|error| {
            let timed_out = matches!(error, sqlx::Error::PoolTimedOut);
            if timed_out { DbError::NoAnswer } else { DbError::Connect(error) }
        })
}

/// Whether a connection can be used, asked of the server: it answers, and no transaction is open on it. One is if whoever
/// had it before was dropped while they began, before sqlx knew; what the next one wrote would be lost with it.
///
/// That costs as much as a small statement: workers, who try again by themselves and are not dropped, do not ask of one
/// that they have just used.
async fn is_clean(conn: &mut PgConnection, plans: Plans, idle_for: Duration) -> sqlx::Result<bool> {
    if matches!(plans, Plans::Pinned) && idle_for < FRESH {
        return Ok(true);
    }
    // An error, unlike `false`, closes it without a farewell that nobody hears.
    conn.fetch_one(sqlx::raw_sql("select now() = statement_timestamp()")).await?.try_get(0)
}

/// Says the session's settings, in one round trip.
async fn settle_in(conn: &mut PgConnection) -> sqlx::Result<()> {
    let settings = format!(
        "set lock_timeout = '{lock}ms'; \
         set idle_in_transaction_session_timeout = '30s'; \
         set plan_cache_mode = force_custom_plan; \
         set jit = off; \
         {INSIST_ON_DURABILITY}",
        lock = LOCK_TIMEOUT.as_millis(),
    );
    // The plan: one made while the queue is empty reads and sorts all of it, and would be kept when a backlog comes.
    // No compilation: these are short statements, and it is estimates, often wrong ones, that would set it off.
    conn.execute(sqlx::raw_sql(AssertSqlSafe(settings))).await.map(drop)
}

/// For the statements of workers and readers, each of which goes by keys, in the order of an index: planned once for a
/// connection, and by the indexes alone. Their planning costs more than they do, above all where partitions are; and a
/// plan that was made while a table was empty would be to read all of it, which stays wrong until it is analyzed.
///
/// What costs is a row that is looked at, so that going by a key is the cheapest even where a table is taken to be small.
/// By that measure it would pay to start a process to help: it never does.
const PINNED: &str = "set plan_cache_mode = force_generic_plan; \
    set cpu_tuple_cost = 1; set cpu_index_tuple_cost = 1; set cpu_operator_cost = 0.0001; \
    set random_page_cost = 0; set seq_page_cost = 0; set enable_seqscan = off; set enable_bitmapscan = off; \
    set enable_hashjoin = off; set enable_mergejoin = off; set max_parallel_workers_per_gather = 0";

/// Begins a transaction that writes submissions: it waits for no lock for more than a moment, and its plans are pinned
/// too. One of them has to read a bitmap: what cannot be done without is not to be priced out, since nothing beside it
/// has a weight then.
pub const BEGIN_PINNED: &str = "begin; set local lock_timeout = '50ms'; \
    set local plan_cache_mode = force_generic_plan; \
    set local cpu_tuple_cost = 1; set local cpu_index_tuple_cost = 1; set local cpu_operator_cost = 0.0001; \
    set local random_page_cost = 0; set local seq_page_cost = 0; set local enable_seqscan = off; \
    set local enable_hashjoin = off; set local enable_mergejoin = off; set local max_parallel_workers_per_gather = 0";

/// P1: a server that is set to answer before its WAL is on disk is told otherwise. Stronger settings are left alone.
const INSIST_ON_DURABILITY: &str = "select set_config('synchronous_commit', 'on', false) \
    where current_setting('synchronous_commit') in ('off', 'local', 'remote_write')";

async fn in_time<T>(work: impl Future<Output = sqlx::Result<T>>) -> Result<T, DbError> {
    let done = tokio::time::timeout(CONNECT_TIMEOUT, work).await;
    done.map_err(|_elapsed| DbError::NoAnswer)?.map_err(DbError::Connect)
}

/// Refuses a pooler in transaction or statement mode: under one, the two connections that are opened here see the same
/// server process though both are open, or one of them sees several.
///
/// Before any other use of the database, by the simple protocol: in such a mode a prepared statement may meet another
/// one of the same name, and return its rows. Nothing is set, as it would stay with a process that is somebody else's
/// next. Direct connections and session mode pass always.
pub async fn insist_on_sessions(url: &str) -> Result<(), DbError> {
    let options = options(url)?;
    let mut connections = [
        (in_time(PgConnection::connect_with(&options)).await?, None),
        (in_time(PgConnection::connect_with(&options)).await?, None),
    ];
    for turn in TURNS {
        let (conn, before) = &mut connections[turn];
        let now = in_time(server_process(conn)).await?;
        let moved = before.replace(now.clone()).is_some_and(|before| before != now);
        if moved || connections[1 - turn].1.as_ref() == Some(&now) {
            return Err(DbError::SharedSessions);
        }
    }
    for (conn, _) in connections {
        conn.close().await?;
    }
    Ok(())
}

/// Whose turn it is. A pooler that hands out the server used last shows at the first change of turns; one that hands
/// out the server used longest ago would keep strictly alternating clients apart, and shows where one repeats.
const TURNS: [usize; 12] = [0, 1, 0, 0, 1, 1, 0, 1, 1, 0, 1, 0];

/// Two servers behind one name may have processes of one number.
async fn server_process(conn: &mut PgConnection) -> sqlx::Result<String> {
    let row = sqlx::raw_sql("select pg_backend_pid() || ' of ' || pg_postmaster_start_time()").fetch_one(conn).await?;
    row.try_get(0)
}

/// What [`migrate`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The migrations that were applied now, in order.
    pub applied: Vec<String>,
}

/// Brings the schema up to date, if [the sessions are ours](insist_on_sessions). Safe to call from many instances at once.
pub async fn migrate(url: &str) -> Result<Migrated, DbError> {
    insist_on_sessions(url).await?;
    let mut conn = connect(url).await?;
    check_version(&mut conn).await?;
    if !may_migrate(&mut conn).await? {
        // The role of the service owns nothing: somebody else migrates.
        let pending = pending(&mut conn).await?;
        conn.close().await?;
        return if pending.is_empty() { Ok(Migrated { applied: pending }) } else { Err(DbError::NotMigrated(pending)) };
    }
    lock_migrations(&mut conn).await?;
    let done = embedded::migrations::runner().set_abort_missing(false).run_async(&mut Migrator(&mut conn)).await;
    // The lock is the session's: closing the connection frees it whatever happened.
    conn.close().await?;
    Ok(Migrated { applied: done?.applied_migrations().iter().map(ToString::to_string).collect() })
}

async fn may_migrate(conn: &mut PgConnection) -> Result<bool, DbError> {
    let may = sqlx::query_scalar!(r#"select has_schema_privilege(current_schema(), 'create') as "may!""#);
    Ok(may.fetch_one(conn).await?)
}

/// The migrations of this release that are not applied.
async fn pending(conn: &mut PgConnection) -> Result<Vec<String>, DbError> {
    let applied: Vec<i32> = sqlx::query_scalar("select version from refinery_schema_history").fetch_all(conn).await?;
    let runner = embedded::migrations::runner();
    let missing = runner.get_migrations().iter().filter(|m| !applied.contains(&m.version()));
    Ok(missing.map(ToString::to_string).collect())
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
