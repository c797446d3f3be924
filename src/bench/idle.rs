//! The service with four destinations and nothing to do: its share of a core, its memory, and the transactions that it asks of
//! the database, each of which is a statement or a few.

use std::time::Duration;

use sqlx::{Connection as _, PgConnection};

use super::bed::Bed;
use super::figures::{count, megabytes};
use super::meter;
use super::sink::Sink;
use super::{BenchError, Figure, Options};

const NAME: &str = "idle";
const USUAL_SECONDS: u32 = 30;
const DESTINATIONS: f64 = 4.0;
/// Until what is done at a start is done.
const SETTLING: Duration = Duration::from_secs(5);

pub(super) async fn run(
    options: &Options,
    bed: &Bed<'_>,
    report: &mut (dyn FnMut(Figure) + Send),
) -> Result<(), BenchError> {
    let (sink, seconds) = (Sink::start()?, options.seconds.unwrap_or(USUAL_SECONDS));
    let service = bed.serve(sink.addr, "").await?;
    tokio::time::sleep(SETTLING).await;
    let mut conn = bed.quiet().await?;
    let before = (transactions(&mut conn).await?, meter::of_process(service.pid())?);
    tokio::time::sleep(Duration::from_secs(u64::from(seconds))).await;
    let after = (transactions(&mut conn).await?, meter::of_process(service.pid())?);
    conn.close().await?;
    let seconds = f64::from(seconds);
    let asked = count(usize::try_from(after.0 - before.0).unwrap_or_default());
    report(Figure::value(NAME, "CPU", (after.1 - before.1) / seconds * 100.0, "% of a core"));
    report(Figure::value(NAME, "memory", megabytes(service.memory()?.now), "MB"));
    report(Figure::value(NAME, "transactions, all", asked / seconds, "per second"));
    let each = asked / seconds / DESTINATIONS;
    report(Figure::value(NAME, "transactions, for a destination", each, "per second"));
    Ok(())
}

/// Transactions so far, without those that look at them.
async fn transactions(conn: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar("select xact_commit + xact_rollback from pg_stat_database where datname = current_database()")
        .fetch_one(conn)
        .await
}
