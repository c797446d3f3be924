//! The least that a program in Rust can do to post jobs of a plain table and delete them: the limit of [`super::drain_http`].
//! It claims many at once and ahead, posts so many at a time on kept connections, and deletes what is done together. No
//! retries, no leases that are looked after, no signatures, no history.

use std::sync::Arc;

use sqlx::Connection as _;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use super::BenchError;
use super::bed::quiet;

/// Jobs that are claimed, and deleted, in one round trip.
const BATCH: usize = 1000;

/// Posts all jobs to `sink`; returns how many there were.
pub(super) async fn post_all(url: &str, sink: &str, at_once: usize) -> Result<usize, BenchError> {
    let http = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build()?;
    let (claimed, jobs) = mpsc::channel(BATCH);
    let (done, ids) = mpsc::channel(BATCH);
    let mut tasks = JoinSet::new();
    tasks.spawn(claim(url.to_owned(), claimed));
    let jobs = Arc::new(Mutex::new(jobs));
    for _ in 0..at_once {
        tasks.spawn(post(http.clone(), sink.to_owned(), Arc::clone(&jobs), done.clone()));
    }
    drop(done);
    let deleted = delete(url, ids).await?;
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(deleted)
}

async fn claim(url: String, to: mpsc::Sender<(i64, String)>) -> Result<(), BenchError> {
    let mut conn = quiet(&url).await?;
    loop {
        let jobs: Vec<(i64, String)> = sqlx::query_as(include_str!("limits/minimal_claim.sql"))
            .bind(i64::try_from(BATCH).unwrap_or(1))
            .fetch_all(&mut conn)
            .await?;
        if jobs.is_empty() {
            break;
        }
        for job in jobs {
            if to.send(job).await.is_err() {
                // Whoever takes them ends before us only if it failed, which it says.
                return Ok(());
            }
        }
    }
    conn.close().await?;
    Ok(())
}

async fn post(
    http: reqwest::Client,
    sink: String,
    jobs: Arc<Mutex<mpsc::Receiver<(i64, String)>>>,
    done: mpsc::Sender<i64>,
) -> Result<(), BenchError> {
    loop {
        let next = jobs.lock().await.recv().await;
        let Some((id, payload)) = next else { return Ok(()) };
        let request = http.post(&sink).header("content-type", "application/json").body(payload);
        let answer = request.send().await?.error_for_status()?;
        answer.bytes().await?;
        if done.send(id).await.is_err() {
            return Ok(());
        }
    }
}

async fn delete(url: &str, mut done: mpsc::Receiver<i64>) -> Result<usize, BenchError> {
    let mut conn = quiet(url).await?;
    let (mut ids, mut deleted) = (Vec::new(), 0);
    while done.recv_many(&mut ids, BATCH).await > 0 {
        sqlx::query("delete from plain where id = any ($1)").bind(&ids).execute(&mut conn).await?;
        deleted += ids.len();
        ids.clear();
    }
    conn.close().await?;
    Ok(deleted)
}
