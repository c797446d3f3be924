//! What looking for possible duplicates adds to a submission, one at a time, among 1,000,000 births of five years. The same
//! submissions with and without it, in turns, each turn on a service of its own.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use super::bed::Bed;
use super::figures::{count, percentile};
use super::load::{Client, birth};
use super::sink::Sink;
use super::{BenchError, Figure, Options};

const NAME: &str = "duplicates";
const USUAL: usize = 1_000_000;
const DAYS: usize = 1825;
const TURNS: u64 = 3;
/// Submissions of a turn; the first ones warm it up.
const SUBMISSIONS: u64 = 120;
const WARM_UP: usize = 20;

pub(super) async fn run(
    options: &Options,
    bed: &Bed<'_>,
    report: &mut (dyn FnMut(Figure) + Send),
) -> Result<(), BenchError> {
    let rows = options.size.unwrap_or(USUAL);
    let sink = Sink::start()?;
    // The schema is the service's to make.
    drop(bed.serve(sink.addr, "").await?);
    fill(bed, rows).await?;
    report(Figure::value(NAME, format!("births over {DAYS} days"), count(rows), "records"));
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for turn in 0..TURNS {
        for (enabled, took) in [(false, &mut without), (true, &mut with)] {
            let service = bed.serve(sink.addr, &format!("[duplicates]\nenabled = {enabled}\n")).await?;
            let client = Client {
                http: reqwest::Client::builder().no_proxy().build()?,
                base: service.at(""),
                token: bed.token("bench-agent", "declare")?.into(),
            };
            let mut turns = Vec::new();
            for n in 0..SUBMISSIONS {
                let (id, n) =
                    (format!("bench-{enabled}-{turn}-{n:04}"), n + SUBMISSIONS * (2 * turn + u64::from(enabled)));
                turns.push(client.declare(&id, birth(2025, n)).await?);
            }
            took.extend(turns.split_off(WARM_UP));
        }
    }
    let added = median(&mut with) - median(&mut without);
    report(Figure::latency(NAME, "POST /records without", without));
    report(Figure::latency(NAME, "POST /records with", with));
    report(Figure::value(NAME, "added at the median", added, "ms"));
    Ok(())
}

/// Milliseconds.
fn median(of: &mut [Duration]) -> f64 {
    of.sort_unstable();
    percentile(of, 50).unwrap_or_default()
}

async fn fill(bed: &Bed<'_>, rows: usize) -> Result<(), BenchError> {
    let sql = include_str!("duplicates.sql").replace("{rows}", &rows.to_string()).replace("{days}", &DAYS.to_string());
    let mut conn = bed.quiet().await?;
    conn.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await?;
    for table in ["record_match", "record"] {
        conn.execute(sqlx::raw_sql(AssertSqlSafe(format!("vacuum analyze {table}")))).await?;
    }
    conn.close().await?;
    Ok(())
}
