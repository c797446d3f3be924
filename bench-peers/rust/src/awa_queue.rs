//! awa: the crate, on its own storage engine (append-only partitions that rotate), which is its default. Large claims
//! and large batches of completions: each of either costs it tens of milliseconds, of whatever size
//! (`AWA_COMPLETION_...` in `contestants.py`).

use std::sync::Arc;
use std::time::Duration;

use awa::model::insert::params_with;
use awa::{Client, InsertOpts, JobError, JobResult, QueueConfig, QueueStorage, QueueStorageConfig, migrations};
use sqlx08::postgres::PgPoolOptions;
use sqlx08::{Connection as _, PgConnection, PgPool};

use crate::job::Job;
use crate::kit::{BUSINESS, Handler, Pace, Producer, Queue, Result, Stop};

const QUEUE: &str = "bench";
/// Heads that producers append to, as its documentation advises where they wait for one another. Nobody here promises
/// a strict order.
const SHARDS: i16 = 8;

fn options() -> InsertOpts {
    InsertOpts { queue: QUEUE.to_owned(), ..InsertOpts::default() }
}

#[derive(Clone)]
pub(crate) struct Awa {
    url: String,
    pool: PgPool,
    storage: Arc<QueueStorage>,
}

pub(crate) struct Connected {
    connection: PgConnection,
    queue: Awa,
}

impl Queue for Awa {
    type Producer = Connected;

    async fn open(url: &str) -> Result<Self> {
        let pool = PgPoolOptions::new().max_connections(30).connect(url).await?;
        let storage = Arc::new(QueueStorage::new(QueueStorageConfig::default())?);
        Ok(Self { url: url.to_owned(), pool, storage })
    }

    async fn install(&self) -> Result<()> {
        migrations::run(&self.pool).await?;
        self.storage.install(&self.pool).await?;
        let shards = sqlx08::query("insert into awa.queue_meta (queue, enqueue_shards) values ($1, $2)");
        shards.bind(QUEUE).bind(SHARDS).execute(&self.pool).await?;
        Ok(())
    }

    async fn producer(&self) -> Result<Connected> {
        Ok(Connected { connection: PgConnection::connect(&self.url).await?, queue: self.clone() })
    }

    async fn work(&self, handler: Handler, pace: Pace) -> Result<Stop> {
        let poll_interval = Duration::from_millis(50);
        // Without a deadline jobs take its short path. More workers than requests in flight: the handler limits those.
        let config = QueueConfig { deadline_duration: Duration::ZERO, ..QueueConfig::default() };
        let config = match pace {
            Pace::Drain => QueueConfig { max_workers: 4096, claim_batch_size: 2000, poll_interval, ..config },
            Pace::Post => QueueConfig { max_workers: 1024, poll_interval, ..config },
            Pace::Watch => config,
        };
        let handle = move |job: Job, _: &awa::JobContext| {
            let handler = handler.clone();
            async move {
                let handled = handler.job(&job).await;
                handled.map(|()| JobResult::Completed).map_err(|error| JobError::terminal(error.to_string()))
            }
        };
        let client = Client::builder(self.pool.clone()).queue(QUEUE, config).register::<Job, _, _>(handle).build()?;
        client.start().await?;
        Ok(Box::pin(async move {
            client.shutdown(Duration::from_secs(10)).await;
            Ok(())
        }))
    }

    async fn left(&self) -> Result<i64> {
        let counts = self.storage.queue_counts(&self.pool, QUEUE).await?;
        Ok(counts.available + counts.running)
    }
}

impl Producer for Connected {
    async fn submit(&mut self, job: &Job) -> Result<()> {
        let mut transaction = self.connection.begin().await?;
        sqlx08::query(BUSINESS).bind(job.json()).execute(&mut *transaction).await?;
        awa::insert_with(&mut *transaction, job, options()).await?;
        Ok(transaction.commit().await?)
    }

    async fn add(&mut self, job: &Job) -> Result<()> {
        awa::insert_with(&mut self.connection, job, options()).await?;
        Ok(())
    }

    async fn fill(&mut self, jobs: &[Job]) -> Result<()> {
        let params: Vec<_> =
            jobs.iter().map(|job| params_with(job, options())).collect::<std::result::Result<_, _>>()?;
        self.queue.storage.enqueue_params_batch(&self.queue.pool, &params).await?;
        Ok(())
    }
}
