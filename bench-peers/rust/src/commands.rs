//! The commands of a contestant, for any [`Queue`].

use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::job::Job;
use crate::kit::{Driver, Handler, Pace, Producer as _, Queue, Result, setting, wall};

/// Clients that submit at the same time.
const CLIENTS: u64 = 8;
/// Jobs of one call that fills.
const BATCH: u64 = 1000;
/// How long a drain may take before it counts as hung, and how long its last completions may.
const PATIENCE: Duration = Duration::from_secs(600);
const LAST: Duration = Duration::from_secs(30);

pub(crate) async fn run<Q: Queue>(args: &[&str]) -> Result<()> {
    let queue = Q::open(&setting("BENCH_DATABASE_URL")?).await?;
    match args {
        ["install"] => queue.install().await,
        ["fill", jobs] => fill(&queue, jobs.parse()?).await,
        ["submit", seconds] => submit(&queue, Duration::from_secs_f64(seconds.parse()?)).await,
        ["drain", jobs, how @ ("noop" | "http"), until @ ("all" | "part")] => {
            drain(&queue, jobs.parse()?, *how == "http", *until == "all").await
        }
        ["watch"] => watch(&queue).await,
        ["send", rate, seconds] => send(&queue, rate.parse()?, seconds.parse()?).await,
        _ => Err("no such command".into()),
    }
}

async fn fill<Q: Queue>(queue: &Q, jobs: u64) -> Result<()> {
    let mut filling = JoinSet::new();
    // Two at a time: one prepares while the other waits for its commit.
    for half in 0..2 {
        let mut producer = queue.producer().await?;
        filling.spawn(async move {
            for first in (half * BATCH..jobs).step_by(2 * BATCH as usize) {
                let batch: Vec<Job> = (first..jobs.min(first + BATCH)).map(Job::new).collect();
                producer.fill(&batch).await?;
            }
            Result::Ok(())
        });
    }
    all(filling).await.map(drop)
}

async fn submit<Q: Queue>(queue: &Q, lasts: Duration) -> Result<()> {
    let mut driver = Driver::new();
    let mut producers = Vec::new();
    for client in 0..CLIENTS {
        let mut producer = queue.producer().await?;
        // The first transaction of a connection prepares its statements.
        producer.submit(&Job::new(client)).await?;
        producers.push(producer);
    }
    driver.ready().await?;
    let started = Instant::now();
    let mut submitting = JoinSet::new();
    for (mut producer, client) in producers.into_iter().zip(1..) {
        submitting.spawn(async move {
            let mut done = 0;
            while started.elapsed() < lasts {
                producer.submit(&Job::new(client << 32 | done)).await?;
                done += 1;
            }
            Result::Ok(done)
        });
    }
    let done: u64 = all(submitting).await?.into_iter().sum();
    driver.done(&json!({ "n": done, "seconds": started.elapsed().as_secs_f64() })).await
}

async fn drain<Q: Queue>(queue: &Q, jobs: u64, http: bool, all: bool) -> Result<()> {
    let mut driver = Driver::new();
    let post_to = if http { Some(setting("BENCH_SINK")?) } else { None };
    let handler = Handler::counting(jobs, post_to);
    driver.ready().await?;
    let stop = queue.work(handler.clone(), if http { Pace::Post } else { Pace::Drain }).await?;
    // Checking its tables is no part of a drain; some handle jobs before they say that they started.
    let up = Instant::now();
    timeout(PATIENCE, handler.reached()).await.map_err(|_| format!("handled {} of {jobs}", handler.handled()))?;
    if all {
        let last = Instant::now() + LAST;
        while queue.left().await? > 0 {
            if Instant::now() > last {
                return Err(format!("{} jobs stay behind", queue.left().await?).into());
            }
            sleep(Duration::from_millis(2)).await;
        }
    }
    let started = handler.first().map_or(up, |first| up.min(first.into()));
    let seconds = started.elapsed().as_secs_f64();
    driver.done(&json!({ "n": jobs, "seconds": seconds, "handled": handler.handled() })).await?;
    stop.await
}

async fn watch<Q: Queue>(queue: &Q) -> Result<()> {
    let mut driver = Driver::new();
    let handler = Handler::noting();
    let stop = queue.work(handler.clone(), Pace::Watch).await?;
    driver.ready().await?;
    driver.end().await?;
    crate::kit::say(&json!({ "starts": handler.starts() }))?;
    stop.await
}

async fn send<Q: Queue>(queue: &Q, rate: f64, seconds: f64) -> Result<()> {
    const CONNECTIONS: u64 = 4;
    let mut driver = Driver::new();
    let (told, mut sent) = mpsc::unbounded_channel();
    let mut producers = Vec::new();
    for _ in 0..CONNECTIONS {
        producers.push(queue.producer().await?);
    }
    driver.ready().await?;
    let started = Instant::now();
    let mut sending = JoinSet::new();
    for (mut producer, first) in producers.into_iter().zip(1..) {
        let told = told.clone();
        sending.spawn(async move {
            // Each connection has every fourth moment: no job waits for another's commit.
            for id in (first..=(rate * seconds) as u64).step_by(CONNECTIONS as usize) {
                sleep_until(started + Duration::from_secs_f64(id as f64 / rate)).await;
                let job = Job::new(id);
                let before = wall();
                producer.add(&job).await?;
                told.send((id, before, wall()))?;
            }
            Result::Ok(())
        });
    }
    drop(told);
    all(sending).await?;
    let mut list = Vec::new();
    while let Ok(one) = sent.try_recv() {
        list.push(one);
    }
    driver.done(&json!({ "n": list.len(), "seconds": started.elapsed().as_secs_f64(), "sent": list })).await
}

async fn all<T: Send + 'static>(mut tasks: JoinSet<Result<T>>) -> Result<Vec<T>> {
    let mut results = Vec::new();
    while let Some(one) = tasks.join_next().await {
        results.push(one??);
    }
    Ok(results)
}
