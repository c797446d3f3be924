//! `graphile_worker`: the crate, with its default driver, in the settings its guide names for many small jobs.

use std::time::Duration;

use graphile_worker::{
    Database, IntoTaskHandlerResult, JobSpec, LocalQueueConfig, RawJobSpec, TaskHandler, WorkerContext, WorkerOptions,
    WorkerUtils,
};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection as _, PgConnection, PgPool};

use crate::job::Job;
use crate::kit::{BUSINESS, Handler, IN_FLIGHT, Pace, Producer, Queue, Result, Stop};

const SCHEMA: &str = "graphile_worker";

impl TaskHandler for Job {
    const IDENTIFIER: &'static str = "job";

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        let handler = context.get_ext::<Handler>().ok_or("no handler")?;
        handler.job(&self).await.map_err(|error| error.to_string())
    }
}

#[derive(Clone)]
pub(crate) struct Graphile {
    url: String,
    pool: PgPool,
}

pub(crate) struct Client {
    connection: PgConnection,
    utils: WorkerUtils,
}

impl Queue for Graphile {
    type Producer = Client;

    async fn open(url: &str) -> Result<Self> {
        let pool = PgPoolOptions::new().max_connections(30).connect(url).await?;
        Ok(Self { url: url.to_owned(), pool })
    }

    async fn install(&self) -> Result<()> {
        Ok(WorkerUtils::new(self.pool.clone(), SCHEMA).migrate().await?)
    }

    async fn producer(&self) -> Result<Client> {
        let connection = PgConnection::connect(&self.url).await?;
        Ok(Client { connection, utils: WorkerUtils::new(self.pool.clone(), SCHEMA) })
    }

    async fn work(&self, handler: Handler, pace: Pace) -> Result<Stop> {
        let options = WorkerOptions::default()
            .database(Database::from(self.pool.clone()))
            .schema(SCHEMA)
            .complete_job_batch_delay(Duration::from_millis(5))
            .listen_os_shutdown_signals(false)
            .add_extension(handler)
            .define_job::<Job>();
        let local = |size| LocalQueueConfig::default().with_size(size).with_queue_count(2);
        // Sizes found by trying around the guide's; a local queue would only delay the lone job.
        let options = match pace {
            Pace::Drain => options.concurrency(500).poll_interval(Duration::from_millis(5)).local_queue(local(5000)),
            Pace::Post => {
                options.concurrency(IN_FLIGHT).poll_interval(Duration::from_millis(5)).local_queue(local(1000))
            }
            Pace::Watch => options.concurrency(50),
        };
        let worker = std::sync::Arc::new(options.init().await?);
        let running = tokio::spawn({
            let worker = std::sync::Arc::clone(&worker);
            async move { worker.run().await.map_err(|error| error.to_string()) }
        });
        Ok(Box::pin(async move {
            worker.request_shutdown();
            Ok(running.await??)
        }))
    }

    async fn left(&self) -> Result<i64> {
        let left = sqlx::query_scalar("select count(*) from graphile_worker._private_jobs");
        Ok(left.fetch_one(&self.pool).await?)
    }
}

impl Producer for Client {
    async fn submit(&mut self, job: &Job) -> Result<()> {
        let mut transaction = self.connection.begin().await?;
        sqlx::query(BUSINESS).bind(job.json()).execute(&mut *transaction).await?;
        let mut utils = self.utils.clone().with_executor(&mut *transaction);
        utils.add_job(job.clone(), JobSpec::default()).await?;
        Ok(transaction.commit().await?)
    }

    async fn add(&mut self, job: &Job) -> Result<()> {
        let mut utils = self.utils.clone().with_executor(&mut self.connection);
        utils.add_job(job.clone(), JobSpec::default()).await?;
        Ok(())
    }

    async fn fill(&mut self, jobs: &[Job]) -> Result<()> {
        let mut specs = Vec::new();
        for job in jobs {
            let payload = serde_json::to_value(job)?;
            specs.push(RawJobSpec { identifier: "job".to_owned(), payload, spec: JobSpec::default() });
        }
        self.utils.clone().with_executor(&mut self.connection).add_raw_jobs(&specs).await?;
        Ok(())
    }
}
