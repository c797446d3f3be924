//! What one destination does stays with it. `CRVS_ISOLATION_MESSAGES` is how many the good one gets at 100 a second
//! (200).

use std::sync::Arc;
use std::time::{Duration, Instant};

use crvs_outbox::outbox::destination::{Breaker, OnDead};
use crvs_outbox::outbox::worker;
use crvs_outbox::workers::Destination;
use reqwest::StatusCode;
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use uuid::Uuid;
use wiremock::matchers::path;
use wiremock::{Mock, ResponseTemplate};

use crate::harness::{PATIENCE, Setup, TestApp, birth, flat, take};

/// A peer that accepts and never answers.
async fn hanging() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let held = Arc::new(Mutex::new(Vec::new()));
        while let Ok((stream, _)) = listener.accept().await {
            held.lock().await.push(stream);
        }
    });
    url
}

/// A copy of a destination with another name and address.
fn like(destination: &Destination, name: &str, url: String) -> Destination {
    let mut copy = destination.clone();
    name.clone_into(&mut copy.definition.name);
    copy.definition.url = url;
    copy.definition.breaker = Breaker::default();
    copy
}

/// How old the oldest due message of `search` gets while it is sent `messages` at 100 a second, with two bad
/// destinations beside it or without.
async fn worst_age(messages: u32, with_bad_ones: bool) -> Duration {
    let hangs = hanging().await;
    let app = TestApp::with(Setup {
        workers: true,
        change: Box::new(move |settings| {
            let all = &mut settings.workers.destinations;
            all.retain(|d| d.definition.name == "search");
            if with_bad_ones {
                let broken = all[0].definition.url.replace("/search", "/broken");
                let bad = [like(&all[0], "hangs", hangs), like(&all[0], "broken", broken)];
                all.extend(bad);
            }
        }),
    })
    .await;
    Mock::given(path("/broken")).respond_with(ResponseTemplate::new(500)).mount(&app.peers).await;
    let (token, base, http) = (app.token("clerk", &["declare"]), app.base.clone(), app.http.clone());
    let load = tokio::spawn(async move {
        let started = Instant::now();
        let mut sent = tokio::task::JoinSet::new();
        for n in 0..messages {
            tokio::time::sleep((Duration::from_millis(10) * n).saturating_sub(started.elapsed())).await;
            let request = http.post(format!("{base}/records")).bearer_auth(&token).json(&flat("declare"));
            let request = request.header("idempotency-key", format!("isolated-{n:05}"));
            sent.spawn(async move { request.send().await.unwrap().status() });
        }
        while let Some(status) = sent.join_next().await {
            assert_eq!(status.unwrap(), StatusCode::ACCEPTED);
        }
    });
    let mut worst = 0.0_f64;
    let delivered = "select count(*) from outbox_history where destination = 'search'";
    let deadline = Instant::now() + PATIENCE + Duration::from_millis(20) * messages;
    while app.count(delivered).await < i64::from(messages) {
        assert!(Instant::now() < deadline, "not all are delivered");
        let sql = "select coalesce(extract(epoch from oldest_due_age)::float8, 0) from outbox_backlog where destination = 'search'";
        let age: f64 = sqlx::query_scalar(sql).fetch_one(&app.db).await.unwrap();
        worst = worst.max(age);
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    load.await.unwrap();
    if with_bad_ones {
        let opened = "select count(*) from destination where circuit <> 'closed' or circuit_failures > 0";
        app.wait_for(opened, 2).await;
    }
    app.done_with_leftovers().await;
    Duration::from_secs_f64(worst)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_that_hangs_and_one_that_fails_delay_no_other() {
    let messages = std::env::var("CRVS_ISOLATION_MESSAGES").map_or(200, |text| text.parse().unwrap());
    let (without, with) = (worst_age(messages, false).await, worst_age(messages, true).await);
    println!("{messages} messages; oldest due age at worst: {without:?} alone, {with:?} beside two bad destinations");
    assert!(with < Duration::from_secs(1), "{with:?}");
}

async fn attempts(db: &PgPool) -> i64 {
    sqlx::query_scalar("select coalesce(sum(attempt), 0) from outbox_message where destination = 'search'")
        .fetch_one(db)
        .await
        .unwrap()
}

#[tokio::test]
async fn an_open_circuit_burns_no_attempts_and_one_probe_closes_it() {
    let app = TestApp::with(Setup {
        change: Box::new(|settings| {
            let search = settings.workers.destinations.iter_mut().find(|d| d.definition.name == "search").unwrap();
            let short = Duration::from_millis(300);
            search.definition.breaker = Breaker { failures: 3, base: short, cap: short };
        }),
        ..Setup::default()
    })
    .await;
    Mock::given(path("/search"))
        .respond_with(ResponseTemplate::new(503))
        .up_to_n_times(8)
        .with_priority(1)
        .mount(&app.peers)
        .await;
    for n in 0..8 {
        app.register_birth(&format!("circuit-{n}")).await;
    }
    app.lane("search").run_until_idle().await;
    let open = "select count(*) from destination where name = 'search' and circuit = 'open' and circuit_probe_at > circuit_since";
    assert_eq!(app.count(open).await, 1);
    let burnt = attempts(&app.db).await;
    app.make_due().await;
    app.execute("update destination set circuit_probe_at = now() + interval '1 hour' where name = 'search'").await;
    app.lane("search").run_until_idle().await;
    assert_eq!(attempts(&app.db).await, burnt, "nothing is claimed while it is open");

    // Its time has come: two look at once, and one message goes.
    app.execute("update destination set circuit_probe_at = now() where name = 'search'").await;
    let worker = Uuid::now_v7();
    worker::beat(&mut app.db.acquire().await.unwrap(), worker, "other", Duration::from_mins(1)).await.unwrap();
    let (mut one, mut two) = (app.db.acquire().await.unwrap(), app.db.acquire().await.unwrap());
    let (first, second) = tokio::join!(take(&mut one, "search", worker, 5), take(&mut two, "search", worker, 5));
    assert_eq!(first.len() + second.len(), 1, "a single probe");
    drop((one, two));
    assert_eq!(app.count("select count(*) from destination where circuit = 'half_open'").await, 1);
    app.expire_leases().await;
    app.rescue().await;
    app.execute("update destination set circuit_probe_at = now() where name = 'search'").await;
    app.lane("search").run_until_idle().await;
    assert_eq!(app.count("select count(*) from destination where name = 'search' and circuit = 'closed'").await, 1);
    app.drain().await;
    assert_eq!(app.count("select count(*) from outbox_message where destination = 'search'").await, 0);
    app.done_with_leftovers().await;
}

#[tokio::test]
async fn a_rate_limit_is_one_for_all_instances() {
    let app = TestApp::start().await;
    app.execute("update destination set rate_limit = 20, rate_tokens = 20 where name = 'search'").await;
    app.execute(
        "insert into outbox_message (state, destination, kind, transaction_id, record_id, action_id, initiator_id, initiator_scopes)
         select 'queued', 'search', 'index', n::text, gen_random_uuid(), gen_random_uuid(), 'x', '{}' from generate_series(1, 500) n",
    )
    .await;
    let started = Instant::now();
    let instances = (0..2).map(|_| {
        let db = app.db.clone();
        tokio::spawn(async move {
            let (worker, mut taken) = (Uuid::now_v7(), 0);
            while started.elapsed() < Duration::from_millis(1500) {
                taken += take(&mut db.acquire().await.unwrap(), "search", worker, 100).await.len();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            taken
        })
    });
    let mut taken = 0;
    for instance in instances.collect::<Vec<_>>() {
        taken += instance.await.unwrap();
    }
    let most = 20.0 + 20.0 * started.elapsed().as_secs_f64();
    let taken = f64::from(u32::try_from(taken).unwrap());
    assert!(taken <= most && taken >= 40.0, "{taken} of {most}");
    app.done_with_leftovers_of_nobody().await;
}

/// A birth whose first message to `search` is refused for good, and the next of its record.
async fn after_a_dead_one(on_dead: OnDead) -> TestApp {
    let app = TestApp::with(Setup {
        change: Box::new(move |settings| {
            let search = settings.workers.destinations.iter_mut().find(|d| d.definition.name == "search").unwrap();
            search.definition.on_dead = on_dead;
        }),
        ..Setup::default()
    })
    .await;
    let refused = Mock::given(path("/search")).respond_with(ResponseTemplate::new(422));
    refused.up_to_n_times(1).with_priority(1).mount(&app.peers).await;
    let birth = app.register_birth("dead-or-skipped").await;
    app.drain().await;
    app.confirm(&birth, "2026B0000001").await;
    app.drain().await;
    app
}

#[tokio::test]
async fn a_dead_message_holds_its_record_or_is_set_aside_as_the_destination_says() {
    let waiting = "select count(*) from outbox_message where destination = 'search' and state = 'blocked'";
    let gone_on = "select count(*) from outbox_history where destination = 'search'";
    let held = after_a_dead_one(OnDead::Hold).await;
    assert_eq!((held.count(waiting).await, held.count(gone_on).await), (1, 0));
    held.done_with_leftovers().await;
    let skipped = after_a_dead_one(OnDead::Skip).await;
    assert_eq!((skipped.count(waiting).await, skipped.count(gone_on).await), (0, 1));
    assert_eq!(skipped.count("select count(*) from outbox_message where state = 'dead' and skipped").await, 1);
    skipped.done_with_leftovers().await;
}

#[tokio::test]
async fn gone_pauses_the_destination_and_its_message_waits_unburnt() {
    let app = TestApp::start().await;
    let gone = Mock::given(path("/search")).respond_with(ResponseTemplate::new(410));
    gone.up_to_n_times(1).with_priority(1).mount(&app.peers).await;
    let token = app.token("registrar", &["register"]);
    app.post("/records", &token, "gone-for-now", &birth("register")).await;
    app.drain().await;
    let paused = "select count(*) from destination where name = 'search' and paused_why = 'it answered 410 Gone'";
    assert_eq!(app.count(paused).await, 1);
    let unburnt =
        "select count(*) from outbox_message where destination = 'search' and attempt = 0 and last_status = 410";
    assert_eq!(app.count(unburnt).await, 1);
    assert_eq!(
        app.count("select count(*) from operator_action where action = 'pause' and by_name = 'crvs-outbox'").await,
        1
    );
    app.execute("update destination set paused_at = null, paused_by = null, paused_why = null").await;
    app.make_due().await;
    app.drain().await;
    assert_eq!(app.count("select count(*) from outbox_message").await, 0);
    app.done().await;
}

#[tokio::test]
async fn a_pause_that_is_committed_while_a_claim_waits_holds() {
    let app = TestApp::start().await;
    app.execute("update destination set rate_limit = 1000, rate_tokens = 1000 where name = 'search'").await;
    app.register_birth("pause-in-time").await;
    let mut pausing = app.db.begin().await.unwrap();
    sqlx::query("select from outbox_pause('search', 'they migrate')").execute(&mut *pausing).await.unwrap();
    let db = app.db.clone();
    let claim = tokio::spawn(async move { take(&mut db.acquire().await.unwrap(), "search", Uuid::now_v7(), 5).await });
    app.wait_for(
        "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()",
        1,
    )
    .await;
    pausing.commit().await.unwrap();
    assert!(claim.await.unwrap().is_empty());
    app.done_with_leftovers().await;
}

#[tokio::test]
async fn a_message_that_somebody_holds_delays_the_settlement_of_no_other() {
    let app = TestApp::start().await;
    for n in 0..6 {
        app.register_birth(&format!("held-up-{n}")).await;
    }
    let mut somebody = app.db.begin().await.unwrap();
    sqlx::query("select id from outbox_message where destination = 'search' order by id limit 1 for key share")
        .execute(&mut *somebody)
        .await
        .unwrap();
    let mut lane = app.lane("search");
    let delivering = tokio::spawn(async move { lane.run_until_idle().await });
    app.wait_for("select count(*) from outbox_history where destination = 'search'", 5).await;
    somebody.rollback().await.unwrap();
    delivering.await.unwrap();
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn where_there_is_room_for_one_at_a_time_fresh_messages_and_retries_take_turns() {
    let app = TestApp::start().await;
    app.execute(
        "insert into outbox_message (state, destination, kind, transaction_id, record_id, action_id, initiator_id, initiator_scopes)
         select (case when n % 2 = 0 then 'queued' else 'retrying' end)::message_state, 'search', 'index', n::text,
                gen_random_uuid(), gen_random_uuid(), 'x', '{}' from generate_series(1, 80) n",
    )
    .await;
    let mut conn = app.db.acquire().await.unwrap();
    let (mut old, mut fresh) = (0, 0);
    for _ in 0..30 {
        let one = "update destination set rate_limit = 0.001, rate_tokens = 1, rate_at = now() where name = 'search'";
        sqlx::query(one).execute(&mut *conn).await.unwrap();
        for message in take(&mut conn, "search", Uuid::now_v7(), 16).await {
            *if message.old { &mut old } else { &mut fresh } += 1;
        }
    }
    assert!(old + fresh == 30 && old > 0 && fresh > 0, "{old} old, {fresh} fresh");
    drop(conn);
    app.done_with_leftovers_of_nobody().await;
}
