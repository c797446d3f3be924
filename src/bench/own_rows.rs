//! The rows of other queues' benchmarks: one of a business, 1 kB, and one job, 1 kB, in one transaction. Ours is the way that
//! submissions are written, with these rows instead of theirs: clients that meet in the coalescer, without HTTP. Limit: the
//! same rows in plain SQL, statement by statement, by as many clients.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres};
use tokio::task::JoinSet;

use super::bed::{Bed, fill};
use super::meter::{Meter, Sample};
use super::rounds::Series;
use super::script::{self, Load, Runner, Until};
use super::{BenchError, Figure, Options};
use crate::coalescer::{Coalescer, Spoilt, Writer, Written};
use crate::db;

const NAME: &str = "submit";
const UNIT: &str = "pairs/s";
const USUAL_SECONDS: u32 = 5;
/// Connections: one for each list that is being written.
const CONNECTIONS: u32 = 2;
/// Bytes of a payload, about.
const FILLING: usize = 960;

/// Writes the rows of a list.
#[derive(Clone, Debug)]
struct Pairs(PgPool);

impl Writer for Pairs {
    type Item = String;
    type Done = ();
    type Held = Option<PoolConnection<Postgres>>;

    fn size(item: &String) -> usize {
        2 * item.len()
    }

    fn spoilt() {}

    async fn write(&self, held: &mut Self::Held, list: &[String]) -> Result<Vec<()>, Spoilt> {
        let written = async {
            let mut conn = match held.take() {
                Some(conn) => conn,
                None => self.0.acquire().await?,
            };
            sqlx::query(include_str!("limits/own_rows_together.sql")).bind(list).execute(&mut *conn).await?;
            Ok::<_, sqlx::Error>(conn)
        };
        match written.await {
            Ok(conn) => {
                *held = Some(conn);
                Ok(vec![(); list.len()])
            }
            Err(error) => {
                tracing::error!(%error, "pairs were not written");
                Err(Spoilt::NotTried)
            }
        }
    }
}

pub(super) async fn run(
    options: &Options,
    bed: &Bed<'_>,
    report: &mut (dyn FnMut(Figure) + Send),
) -> Result<(), BenchError> {
    let url = bed.database("own_rows").await?;
    let runner = Runner::find(bed.cluster.bin_dir());
    let (seconds, db) = (options.seconds.unwrap_or(USUAL_SECONDS), db::pool_pinned(&url, CONNECTIONS).await?);
    for clients in options.size.map_or(vec![8, 64], |clients| vec![clients]) {
        let mut ours = Series::new(format!("a business row and a job, {clients} clients"));
        let title = format!("limit: a business row and a job, {clients} clients ({})", runner.name());
        let mut theirs = Series::new(title);
        for round in 0..=options.rounds {
            fill(&url, SETUP, &[]).await?;
            let meter = Meter::start(bed, &[]).await?;
            let pairs = together(&db, clients, Duration::from_secs(seconds.into())).await?;
            ours.note(round, meter.stop(pairs).await?);
            fill(&url, SETUP, &[]).await?;
            let variables = [("payload", payload(0, 0))];
            let (script, until) = (include_str!("limits/own_rows.sql"), Until::Seconds(seconds));
            let load = Load { url: &url, script, clients, until, variables: &variables };
            let meter = Meter::start(bed, &[]).await?;
            let ran = script::run(&runner, &bed.dir, &load).await?;
            let sample = meter.stop(ran.turns).await?;
            theirs.note(round, Sample { seconds: ran.seconds, ..sample });
        }
        report(ours.figure(NAME, UNIT).beside(theirs.rate()));
        report(theirs.figure(NAME, UNIT));
    }
    Ok(())
}

const SETUP: &str = include_str!("limits/own_rows_setup.sql");

/// Lets clients write one pair after the other; returns how many were written.
async fn together(db: &PgPool, clients: usize, lasts: Duration) -> Result<usize, BenchError> {
    let coalescer = Arc::new(Coalescer::default());
    let (mut tasks, started) = (JoinSet::new(), Instant::now());
    for client in 0..clients {
        let (coalescer, writer) = (Arc::clone(&coalescer), Pairs(db.clone()));
        tasks.spawn(async move {
            let mut written = 0;
            while started.elapsed() < lasts {
                match coalescer.write(&writer, payload(client, written)).await {
                    Written::Done(()) => written += 1,
                    Written::NotTried | Written::Alone(_) => return Err(BenchError::Nothing("a pair was not written")),
                }
            }
            Ok(written)
        });
    }
    let mut written = 0;
    while let Some(one) = tasks.join_next().await {
        written += one??;
    }
    Ok(written)
}

fn payload(client: usize, n: usize) -> String {
    format!(r#"{{"client":{client},"n":{n},"text":"{}"}}"#, "0123456789abcdef".repeat(FILLING / 16))
}
