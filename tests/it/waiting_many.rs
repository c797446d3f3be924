//! How much ten thousand who wait weigh, and how soon they are told. Not part of the suite:
//! `cargo test --release --test it -- --ignored --nocapture ten_thousand`; it needs as many open files.
//! `CRVS_WAITERS` and `CRVS_RATE` (submissions per second) make it smaller.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crvs_outbox::outbox::complete::{self, Outcome, Settlement};
use crvs_outbox::outbox::worker;
use sqlx::PgPool;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::harness::{Process, Site, flat, take, user_token};

fn setting(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

fn resident_mib(process: &Process) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() / 1024
}

/// Transactions of `registrar` that nothing settles: their messages are for nobody.
const FILL: &str = "
    with new as (
        select n, gen_random_uuid() as record_id, gen_random_uuid() as action_id, 'idle-' || lpad(n::text, 6, '0') as id
        from generate_series(1, 20000) n
    ), records as (
        insert into record (id, event, status, tracking_id, version, created_by)
        select record_id, 'birth', 'declared', 'B' || lpad(n::text, 6, '0'), 1, 'registrar' from new
    ), actions as (
        insert into record_action (id, record_id, transaction_id, action, status, version, record_status, created_by, scopes)
        select action_id, record_id, id, 'declare', 'accepted', 1, 'declared', 'registrar', '{}' from new
    ), messages as (
        insert into outbox_message (state, destination, kind, transaction_id, record_id, action_id, initiator_id, initiator_scopes)
        select 'queued', 'nobody', 'index', id, record_id, action_id, 'registrar', '{}' from new
    )
    insert into client_transaction (transaction_id, principal_id, fingerprint, reply_status, reply_body, record_id, action_id)
    select id, 'registrar', sha256(id::bytea), 202, '{}', record_id, action_id from new";

/// Waits for a transaction over a connection of its own; returns once it is answered.
async fn wait(address: SocketAddr, path: String, token: Arc<str>) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nprefer: wait=60\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    drop(token);
    let mut answer = vec![0; 4096];
    // Cut off, if the service is stopped the hard way.
    let read = stream.read(&mut answer).await.unwrap_or_default();
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

/// Delivers whatever is there, without sending it, and notes when each transaction's last message was committed.
async fn deliver(db: PgPool, settled: tokio::sync::mpsc::UnboundedSender<(Uuid, Instant)>) {
    let me = Uuid::now_v7();
    let mut conn = db.acquire().await.unwrap();
    worker::beat(&mut conn, me, "test", Duration::from_hours(1)).await.unwrap();
    loop {
        let claimed = take(&mut conn, "everything", me, 200).await;
        if claimed.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        }
        let list: Vec<_> = claimed.iter().map(|m| Settlement::without_exchange(m, Outcome::Delivered)).collect();
        complete::complete(&mut conn, me, &list).await.unwrap();
        sqlx::query("select pg_notify('crvs_outbox_moved', 'test')").execute(&mut *conn).await.unwrap();
        let now = Instant::now();
        for record in claimed.iter().map(|m| m.record_id) {
            settled.send((record, now)).unwrap();
        }
    }
}

/// The waiters that nothing is told until the service stops; counts the answers.
fn idle(address: SocketAddr, token: &Arc<str>, waiters: std::ops::RangeInclusive<usize>, done: &Arc<AtomicUsize>) {
    for n in waiters {
        let (token, done) = (Arc::clone(token), Arc::clone(done));
        tokio::spawn(async move {
            let answer = wait(address, format!("/transactions/idle-{n:06}"), token).await;
            done.fetch_add(usize::from(answer.starts_with("HTTP/1.1 200")), Ordering::Relaxed);
        });
    }
}

/// Submits, then waits; returns the record and when it was told to be settled. `None` if it was more than is taken.
async fn submit_and_wait(http: reqwest::Client, address: SocketAddr, token: Arc<str>) -> Option<(Uuid, Instant)> {
    let id = Uuid::now_v7().to_string();
    let request = http.post(format!("http://{address}/records")).bearer_auth(&*token);
    let answer = request.header("idempotency-key", &id).json(&flat("declare")).send().await.unwrap();
    let body: serde_json::Value = answer.json().await.unwrap();
    let record: Uuid = body["record"]["id"].as_str()?.parse().unwrap();
    let answer = wait(address, format!("/transactions/{id}"), token).await;
    assert!(answer.contains("\"settled\":true"), "{answer}");
    Some((record, Instant::now()))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute and 20,000 open files"]
async fn ten_thousand_wait_in_little_memory_and_are_told_soon() {
    let (waiters, rate) = (setting("CRVS_WAITERS", 9500), setting("CRVS_RATE", 500));
    let site = Site::new("connections = 20").await;
    let process = site.serve(&["--api"]).await;
    for sql in [FILL, "analyze"] {
        sqlx::query(sql).execute(&site.db).await.unwrap();
    }
    let (address, token) = (process.public(), Arc::<str>::from(user_token()));
    let (before, done) = (resident_mib(&process), Arc::new(AtomicUsize::new(0)));
    for n in (1..=waiters).step_by(100) {
        idle(address, &token, n..=waiters.min(n + 99), &done);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    println!("{waiters} wait: {} MiB resident, {before} before", resident_mib(&process));
    let (sender, mut settled) = tokio::sync::mpsc::unbounded_channel();
    let delivering = tokio::spawn(deliver(site.db.clone(), sender));
    let (http, started) = (reqwest::Client::new(), Instant::now());
    let mut submissions = tokio::task::JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_micros(1_000_000 / rate as u64));
    while started.elapsed() < Duration::from_secs(15) {
        ticks.tick().await;
        submissions.spawn(submit_and_wait(http.clone(), address, Arc::clone(&token)));
    }
    let sent = submissions.len();
    let told: Vec<(Uuid, Instant)> = submissions.join_all().await.into_iter().flatten().collect();
    let took = started.elapsed();
    delivering.abort();
    let mut last = HashMap::new();
    while let Ok((record, at)) = settled.try_recv() {
        last.insert(record, at);
    }
    let mut late: Vec<Duration> = told.iter().map(|(record, at)| at.saturating_duration_since(last[record])).collect();
    late.sort_unstable();
    let at = |percent: usize| late[(late.len() - 1) * percent / 100];
    println!("{} of {sent} submissions in {took:?}; {} MiB resident", told.len(), resident_mib(&process));
    println!("told after {:?} at the median, {:?} at 99 %", at(50), at(99));
    assert_eq!(done.load(Ordering::Relaxed), 0, "the others go on waiting");
    assert!(process.terminate().await.success());
    println!("{} were answered at the stop", done.load(Ordering::Relaxed));
    assert!(at(50) < Duration::from_millis(100), "{:?}", at(50));
    site.db.close().await;
    std::fs::remove_file(&site.config).unwrap();
}
