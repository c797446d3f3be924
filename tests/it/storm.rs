//! P2 to P6 with two instances of which one is always dying. `CRVS_STORM_SECONDS` makes the storm longer (5).

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crvs_outbox::db;
use crvs_outbox::sandbox::{Mode, Sandbox, Settings};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use wiremock::ResponseTemplate;

use crate::harness::{BINARY, PATIENCE, Process, Site, assert_invariants, flat, key_file, new_database, user_token};

/// (destination, kind, the action's word in its id): what a confirmed registration has as its consequences.
const EFFECTS: [(&str, &str, &str); 9] = [
    ("metrics", "sent-notification-for-review", "register"),
    ("audit", "DECLARED", "register"),
    ("audit", "REGISTERED", "register"),
    ("metrics", "waiting-external-validation", "register"),
    ("search", "index", "register"),
    ("country-config", "event-registration", "register"),
    ("search", "index", "confirm"),
    ("metrics", "registered", "confirm"),
    ("notification", "registered", "confirm"),
];

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn configuration(sandbox: SocketAddr) -> PathBuf {
    let mut text = format!(
        "[duplicates]\nenabled = false\n[egress]\nallow = [\"127.0.0.0/8\"]\n[tokens]\nsigning_key_file = \"{}\"\n
         [workers]\nheartbeat_ms = 300\npoll_ms = 200\nmax_rescues = 1000\n",
        key_file().display()
    );
    for (name, effect, format) in [
        ("country-config", "validation", "opencrvs-event-registration"),
        ("search", "search", "cloudevents"),
        ("audit", "audit", "cloudevents"),
        ("metrics", "metrics", "cloudevents"),
        ("notification", "notification", "cloudevents"),
    ] {
        write!(
            text,
            "[[destinations]]\nname = \"{name}\"\nurl = \"http://{sandbox}/{name}\"\neffects = [\"{effect}\"]\nformat = \"{format}\"
             timeout_ms = 2000\nretry_base_ms = 50\nretry_cap_ms = 500\nbreaker_base_ms = 100\nbreaker_cap_ms = 300\n"
        )
        .unwrap();
    }
    let path = std::env::temp_dir().join(format!("crvs-outbox-storm-{}.toml", std::process::id()));
    std::fs::write(&path, text).unwrap();
    path
}

async fn serve(url: &str, config: &PathBuf, listen: SocketAddr) -> Process {
    let mut command = Command::new(BINARY);
    command.args(["serve", "--internal-addr", "127.0.0.1:0", "--listen", &listen.to_string(), "--config"]).arg(config);
    command.env("DATABASE_URL", url);
    Process::start(command).await
}

/// Submits a birth under this id to whoever lives, again and again, until it is accepted.
async fn submit(id: &str, instances: [SocketAddr; 2]) {
    let client = reqwest::Client::new();
    let deadline = Instant::now() + PATIENCE * 3;
    for instance in instances.into_iter().cycle() {
        let request = client.post(format!("http://{instance}/records")).bearer_auth(user_token());
        let request = request.header("idempotency-key", id).timeout(Duration::from_secs(3));
        if request.json(&flat("register")).send().await.is_ok_and(|answer| answer.status() == 202) {
            return;
        }
        assert!(Instant::now() < deadline, "{id} was never accepted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn wait_for(db: &PgPool, sql: &'static str, expected: i64) {
    let deadline = Instant::now() + PATIENCE * 3;
    loop {
        let now: i64 = sqlx::query_scalar(sql).fetch_one(db).await.unwrap();
        if now == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{sql}: {now}, not {expected}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::too_many_lines, reason = "one story")]
async fn instances_that_are_killed_and_come_back_do_everything_once_and_in_order() {
    let seconds: u64 = std::env::var("CRVS_STORM_SECONDS").map_or(5, |text| text.parse().unwrap());
    let url = new_database().await;
    let db = db::pool(&url, 12).await.unwrap();
    let instances = [free_address(), free_address()];
    let sandbox = Settings {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        gateway: format!("http://{}", instances[0]),
        mode: Mode::Confirm,
        delay: Duration::ZERO,
        failures: 0,
        fail_rate: 0.1,
    };
    let sandbox = Sandbox::bind(db.clone(), sandbox, None).await.unwrap();
    let config = configuration(sandbox.addr);
    let stop = CancellationToken::new();
    let receivers = tokio::spawn(sandbox.serve(stop.clone()));
    let mut processes = [serve(&url, &config, instances[0]).await, serve(&url, &config, instances[1]).await];

    let over = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..4)
        .map(|client| {
            let over = Arc::clone(&over);
            tokio::spawn(async move {
                let mut accepted = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let id = format!("storm-{client}-{:04}", accepted.len());
                    submit(&id, instances).await;
                    accepted.push(id);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                accepted
            })
        })
        .collect();
    let (started, mut kills) = (Instant::now(), 0);
    while started.elapsed() < Duration::from_secs(seconds) {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let victim = kills % 2;
        processes[victim].kill();
        kills += 1;
        processes[victim] = serve(&url, &config, instances[victim]).await;
    }
    over.store(true, Ordering::Relaxed);
    let mut accepted = Vec::new();
    for client in load {
        accepted.extend(client.await.unwrap());
    }
    wait_for(&db, "select count(*) from record where status <> 'registered'", 0).await;
    wait_for(&db, "select count(*) from outbox_message", 0).await;
    println!("{kills} kills, {} accepted", accepted.len());

    let expected: BTreeSet<(String, String)> = accepted
        .iter()
        .flat_map(|id| EFFECTS.map(|(to, kind, word)| (to.to_owned(), format!("{kind}__{word}_{id}"))))
        .collect();
    let happened: Vec<(String, String)> =
        sqlx::query_as("select destination, transaction_id from sandbox.effect").fetch_all(&db).await.unwrap();
    assert_eq!(happened.len(), expected.len());
    assert_eq!(happened.into_iter().collect::<BTreeSet<_>>(), expected);
    let once = "select count(*) - count(distinct id) from outbox_history";
    wait_for(&db, once, 0).await;
    wait_for(&db, "select count(*) from outbox_history", i64::try_from(expected.len()).unwrap()).await;
    let overtaken = "select count(*) from (
        select r.id as at, lag(r.id) over (partition by h.destination, h.record_id order by h.id) as before
        from sandbox.receipt r join outbox_history h on h.destination = r.destination and h.transaction_id = r.transaction_id
        where r.outcome = 'effect') o where before > at";
    wait_for(&db, overtaken, 0).await;
    assert_invariants(&db).await;
    for process in processes {
        assert!(process.terminate().await.success());
    }
    stop.cancel();
    receivers.await.unwrap().unwrap();
    db.close().await;
    std::fs::remove_file(config).unwrap();
}

#[tokio::test]
async fn a_process_that_stood_still_past_its_leases_writes_over_nothing() {
    let site = Site::new("").await;
    let slow = || ResponseTemplate::new(200).set_delay(Duration::from_secs(3));
    site.peers_answer("everything", slow(), Some(1)).await;
    site.peers_answer("country-config/event-registration", slow(), Some(1)).await;
    site.all_fine().await;
    let first = site.serve(&[]).await;
    assert_eq!(site.submit(&first, "draft-0001").await.status(), 202);
    site.wait_for("select count(*) from outbox_message where state = 'delivering'", 2).await;
    first.signal("STOP");
    let second = site.serve(&[]).await;
    site.wait_for("select count(*) from outbox_message", 0).await;
    first.signal("CONT");
    let metrics = format!("http://{}/metrics", first.internal());
    let deadline = Instant::now() + PATIENCE;
    let lost = loop {
        let text = reqwest::get(&metrics).await.unwrap().text().await.unwrap();
        let lines = text.lines().filter(|line| line.starts_with("crvs_outbox_lease_lost_total"));
        let lost: f64 = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
        if lost >= 2.0 {
            break lost;
        }
        assert!(Instant::now() < deadline, "{text}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    println!("{lost} leases lost");
    assert_eq!(site.count("select count(*) from outbox_history").await, 6);
    assert_eq!(site.count("select count(distinct id) from outbox_history").await, 6);
    assert!(first.terminate().await.success());
    assert!(second.terminate().await.success());
    site.done().await;
}

#[tokio::test]
async fn a_soft_stop_with_200_open_deliveries_finishes_them_all_and_claims_nothing_more() {
    let site = Site::new("").await;
    let config = std::fs::read_to_string(&site.config).unwrap();
    let config = config.replace("stop_seconds = 1\n", "stop_seconds = 20\n");
    std::fs::write(
        &site.config,
        config.replace("retry_base_ms = 50", "retry_base_ms = 50\nconcurrency = 200\nbatch = 200"),
    )
    .unwrap();
    site.peers_answer("everything", ResponseTemplate::new(200).set_delay(Duration::from_secs(2)), None).await;
    let api = site.serve(&["--api"]).await;
    let client = reqwest::Client::new();
    for n in 0..200 {
        let request = client.post(format!("http://{}/records", api.public())).bearer_auth(user_token());
        let request = request.header("idempotency-key", format!("draft-{n:04}")).json(&flat("declare"));
        assert_eq!(request.send().await.unwrap().status(), 202);
    }
    let worker = site.serve(&["--workers"]).await;
    site.wait_for("select count(*) from outbox_message where state = 'delivering'", 200).await;
    assert!(worker.terminate().await.success());
    assert_eq!(site.count("select count(*) from outbox_message where state = 'delivering'").await, 0);
    assert_eq!(site.count("select count(*) from outbox_history").await, 200, "those that were open, and no others");
    assert_eq!(site.count("select count(*) from outbox_attempt").await, 0);
    assert_eq!(site.count("select count(*) from outbox_message where attempt <> 0").await, 0);
    assert!(api.terminate().await.success());
    site.done().await;
}
