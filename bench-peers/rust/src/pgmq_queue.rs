//! pgmq: its SQL functions, as its own crate carries and installs them, under a small client of ours that reads and
//! deletes in batches. pgmq keeps no history where messages are deleted, and has no retries beyond its visibility time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::{Connection as _, PgConnection, PgPool, Row as _};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::job::Job;
use crate::kit::{BUSINESS, Handler, Pace, Producer, Queue, Result, Stop};

/// Loops that read, handle and delete: while one waits for the database, another handles.
const LOOPS: usize = 3;

#[derive(Clone)]
pub(crate) struct Pgmq {
    url: String,
    pool: PgPool,
}

impl Queue for Pgmq {
    type Producer = PgConnection;

    async fn open(url: &str) -> Result<Self> {
        let pool = PgPoolOptions::new().max_connections(8).connect(url).await?;
        Ok(Self { url: url.to_owned(), pool })
    }

    async fn install(&self) -> Result<()> {
        pgmq::install::install_sql_from_embedded(&self.pool).await?;
        sqlx::query("select pgmq.create('bench')").execute(&self.pool).await?;
        Ok(())
    }

    async fn producer(&self) -> Result<PgConnection> {
        Ok(PgConnection::connect(&self.url).await?)
    }

    async fn work(&self, handler: Handler, pace: Pace) -> Result<Stop> {
        let (stopped, wake) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
        let mut loops = JoinSet::new();
        if pace == Pace::Watch {
            sqlx::query("select pgmq.enable_notify_insert('bench', 0)").execute(&self.pool).await?;
            let mut listener = PgListener::connect(&self.url).await?;
            listener.listen("pgmq.q_bench.INSERT").await?;
            let wake = Arc::clone(&wake);
            tokio::spawn(async move {
                while listener.recv().await.is_ok() {
                    wake.notify_one();
                }
            });
        }
        for _ in 0..if pace == Pace::Watch { 1 } else { LOOPS } {
            let connection = self.producer().await?;
            let (stopped, wake) = (Arc::clone(&stopped), Arc::clone(&wake));
            let worker = Worker { connection, handler: handler.clone(), pace };
            loops.spawn(worker.run(stopped, wake));
        }
        Ok(Box::pin(async move {
            stopped.store(true, Ordering::Relaxed);
            wake.notify_waiters();
            while let Some(ended) = loops.join_next().await {
                ended??;
            }
            Ok(())
        }))
    }

    async fn left(&self) -> Result<i64> {
        Ok(sqlx::query_scalar("select count(*) from pgmq.q_bench").fetch_one(&self.pool).await?)
    }
}

struct Worker {
    connection: PgConnection,
    handler: Handler,
    pace: Pace,
}

impl Worker {
    async fn run(mut self, stopped: Arc<AtomicBool>, wake: Arc<Notify>) -> Result<()> {
        let (batch, pause) = match self.pace {
            Pace::Drain => (3000, Duration::from_millis(5)),
            Pace::Post => (500, Duration::from_millis(5)),
            Pace::Watch => (10, Duration::from_secs(1)),
        };
        while !stopped.load(Ordering::Relaxed) {
            let read = sqlx::query("select msg_id, message::text from pgmq.read('bench', 300, $1)").bind(batch);
            let rows = read.fetch_all(&mut self.connection).await?;
            if rows.is_empty() {
                // A notification may come, and else it looks again.
                timeout(pause, wake.notified()).await.unwrap_or(());
                continue;
            }
            let mut ids: Vec<i64> = Vec::with_capacity(rows.len());
            let mut posting = JoinSet::new();
            for row in rows {
                ids.push(row.try_get(0)?);
                let text: String = row.try_get(1)?;
                if self.pace == Pace::Post {
                    let handler = self.handler.clone();
                    posting.spawn(async move { handler.text(text).await });
                } else {
                    self.handler.text(text).await?;
                }
            }
            while let Some(posted) = posting.join_next().await {
                posted??;
            }
            sqlx::query("select pgmq.delete('bench', $1::bigint[])").bind(&ids).execute(&mut self.connection).await?;
        }
        Ok(())
    }
}

const SEND: &str = "select pgmq.send('bench', $1::jsonb)";

impl Producer for PgConnection {
    async fn submit(&mut self, job: &Job) -> Result<()> {
        let body = job.json();
        let mut transaction = self.begin().await?;
        sqlx::query(BUSINESS).bind(&body).execute(&mut *transaction).await?;
        sqlx::query(SEND).bind(&body).execute(&mut *transaction).await?;
        Ok(transaction.commit().await?)
    }

    async fn add(&mut self, job: &Job) -> Result<()> {
        sqlx::query(SEND).bind(job.json()).execute(self).await?;
        Ok(())
    }

    async fn fill(&mut self, jobs: &[Job]) -> Result<()> {
        let bodies: Vec<String> = jobs.iter().map(Job::json).collect();
        sqlx::query("select pgmq.send_batch('bench', $1::jsonb[])").bind(bodies).execute(self).await?;
        Ok(())
    }
}
