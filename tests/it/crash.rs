//! P1 to P4 and P6 against real processes that are killed at the worst moment.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use wiremock::ResponseTemplate;

use crate::harness::{BINARY, PATIENCE, Process, Site};

const LIVE: &str = "select count(*) from outbox_message";
const DELIVERING: &str = "select count(*) from outbox_message where state = 'delivering'";

#[tokio::test]
async fn a_worker_killed_in_mid_delivery_loses_nothing() {
    let site = Site::new("").await;
    // The first exchange of each destination hangs.
    site.peers_answer("everything", ResponseTemplate::new(200).set_delay(PATIENCE), Some(1)).await;
    site.peers_answer("country-config/event-registration", ResponseTemplate::new(202).set_delay(PATIENCE), Some(1))
        .await;
    site.all_fine().await;
    let mut first = site.serve(&[]).await;
    assert_eq!(site.submit(&first, "draft-0001").await.status(), 202);
    site.wait_for(DELIVERING, 2).await;
    first.kill();
    let second = site.serve(&[]).await;
    site.wait_for(LIVE, 0).await;
    assert_eq!(site.count("select count(*) from outbox_attempt where outcome = 'lease_expired'").await, 2);
    assert_eq!(site.count("select count(*) from outbox_history").await, 6);
    second.terminate().await;
    site.done().await;
}

#[tokio::test]
async fn what_was_accepted_survives_a_kill_and_is_replayed_by_the_next_process() {
    let site = Site::new("").await;
    site.all_fine().await;
    let mut first = site.serve(&["--api"]).await;
    let answer = site.submit(&first, "draft-0001").await;
    assert_eq!(answer.status(), 202);
    first.kill();
    let answer = answer.bytes().await.unwrap();
    assert_eq!(site.count("select count(*) from record").await, 1);
    assert_eq!(site.count(LIVE).await, 6);
    let second = site.serve(&[]).await;
    let again = site.submit(&second, "draft-0001").await;
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    assert_eq!(again.bytes().await.unwrap(), answer);
    site.wait_for(LIVE, 0).await;
    second.terminate().await;
    site.done().await;
}

#[tokio::test]
async fn a_soft_stop_finishes_what_is_open_and_leaves_nothing_behind() {
    let site = Site::new("").await;
    site.peers_answer("everything", ResponseTemplate::new(200).set_delay(Duration::from_millis(500)), None).await;
    site.all_fine().await;
    let process = site.serve(&[]).await;
    assert_eq!(site.submit(&process, "draft-0001").await.status(), 202);
    site.wait_for("select count(*) from outbox_message where state = 'delivering' and destination = 'everything'", 1)
        .await;
    assert!(process.terminate().await.success());
    assert_eq!(site.count(DELIVERING).await, 0);
    assert_eq!(site.count("select count(*) from outbox_history where destination = 'everything'").await, 1);
    assert_eq!(site.count("select count(*) from worker").await, 0);
    assert_eq!(site.count("select count(*) from outbox_attempt").await, 0);
    site.done().await;
}

/// With a peer that hangs, how long until it ends, and how.
async fn stop_with_a_hanging_peer(site: &Site, signals: usize) -> (Duration, ExitStatus) {
    site.peers_answer("everything", ResponseTemplate::new(200).set_delay(PATIENCE), None).await;
    site.all_fine().await;
    let process = site.serve(&[]).await;
    assert_eq!(site.submit(&process, "draft-0001").await.status(), 202);
    site.wait_for("select count(*) from outbox_message where state = 'delivering' and destination = 'everything'", 1)
        .await;
    let started = Instant::now();
    for _ in 1..signals {
        process.signal("TERM");
        process.has_logged("stopping").await;
    }
    let status = process.terminate().await;
    (started.elapsed(), status)
}

#[tokio::test]
async fn a_hard_stop_gives_messages_back_without_burning_an_attempt() {
    let site = Site::new("").await;
    let (took, status) = stop_with_a_hanging_peer(&site, 1).await;
    assert!(status.success() && took < Duration::from_secs(8), "{took:?}");
    assert_eq!(site.count("select count(*) from outbox_message where state = 'retrying' and attempt = 0").await, 1);
    assert_eq!(site.count("select count(*) from outbox_attempt where outcome = 'released'").await, 1);
    assert_eq!(site.count(DELIVERING).await, 0);
    site.done().await;
}

#[tokio::test]
async fn a_second_signal_cuts_short_at_once() {
    let site = Site::new("").await;
    std::fs::write(
        &site.config,
        std::fs::read_to_string(&site.config).unwrap().replace("stop_seconds = 1", "stop_seconds = 600"),
    )
    .unwrap();
    let (took, status) = stop_with_a_hanging_peer(&site, 2).await;
    assert!(status.success() && took < Duration::from_secs(8), "{took:?}");
    assert_eq!(site.count(DELIVERING).await, 0);
    site.done().await;
}

#[tokio::test]
async fn either_half_runs_alone_and_wakes_the_other_through_the_database() {
    let site = Site::new("").await;
    std::fs::write(
        &site.config,
        std::fs::read_to_string(&site.config).unwrap().replace("poll_ms = 200", "poll_ms = 600000"),
    )
    .unwrap();
    site.all_fine().await;
    let (api, workers) = (site.serve(&["--api"]).await, site.serve(&["--workers"]).await);
    // The listeners are connections of their own, one in each half; once they listen, nobody has to poll.
    site.wait_for(
        "select count(*) from pg_stat_activity where datname = current_database() and query ilike 'listen %'",
        2,
    )
    .await;
    assert_eq!(site.submit(&api, "draft-0001").await.status(), 202);
    site.wait_for(LIVE, 0).await;
    api.terminate().await;
    workers.terminate().await;
    site.done().await;
}

#[tokio::test]
async fn losing_every_connection_is_survived() {
    let site = Site::new("").await;
    site.all_fine().await;
    let process = site.serve(&[]).await;
    assert_eq!(site.submit(&process, "draft-0001").await.status(), 202);
    let kill = "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";
    site.count(kill).await;
    let deadline = Instant::now() + PATIENCE;
    while site.submit(&process, "draft-0002").await.status() != 202 {
        assert!(Instant::now() < deadline);
    }
    site.wait_for(LIVE, 0).await;
    process.terminate().await;
    site.done().await;
}

#[tokio::test]
async fn a_wake_up_is_not_lost_with_the_connection_that_was_to_carry_it() {
    let site = Site::new("").await;
    let config = std::fs::read_to_string(&site.config).unwrap();
    std::fs::write(&site.config, config.replace("poll_ms = 200", "poll_ms = 600000")).unwrap();
    site.all_fine().await;
    let (api, workers) = (site.serve(&["--api"]).await, site.serve(&["--workers"]).await);
    let listening =
        "select count(*) from pg_stat_activity where datname = current_database() and query ilike 'listen %'";
    site.wait_for(listening, 2).await;
    // As a restart of the server does it; each of them is gone when this returns.
    let cut = "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";
    assert!(site.count(cut).await >= 4);
    assert_eq!(site.submit(&api, "draft-0001").await.status(), 202);
    site.wait_for(LIVE, 0).await;
    api.terminate().await;
    workers.terminate().await;
    site.done().await;
}

/// Whether a process has this folder's cluster open.
fn postgres_runs_in(dir: &std::path::Path) -> bool {
    let data = dir.join("data");
    let of = |pid: std::fs::DirEntry| std::fs::read_link(pid.path().join("cwd")).is_ok_and(|cwd| cwd == data);
    std::fs::read_dir("/proc").unwrap().flatten().any(of)
}

fn embedded(dir: &std::path::Path) -> Command {
    let mut command = Command::new(BINARY);
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--internal-addr", "127.0.0.1:0", "--embedded"])
        .arg(dir)
        .current_dir(dir.parent().unwrap())
        .env_remove("DATABASE_URL");
    command
}

#[tokio::test]
async fn an_embedded_database_ends_with_its_owner_and_recovers() {
    let parent = std::env::temp_dir().join(format!("crvs-outbox-embedded-{}", std::process::id()));
    std::fs::create_dir_all(&parent).unwrap();
    let dir = parent.join("pg");
    let mut first = Process::start(embedded(&dir)).await;
    let second: Child = embedded(&dir).stderr(Stdio::piped()).spawn().unwrap();
    let refused = second.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains(&format!("pid {}", first.pid())), "{said}");
    assert!(postgres_runs_in(&dir));
    first.kill();
    let deadline = Instant::now() + PATIENCE;
    while postgres_runs_in(&dir) {
        assert!(Instant::now() < deadline, "postgres outlives its owner");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let again = Process::start(embedded(&dir)).await;
    assert!(again.terminate().await.success());
    assert!(!postgres_runs_in(&dir));
    std::fs::remove_dir_all(&parent).unwrap();
}
