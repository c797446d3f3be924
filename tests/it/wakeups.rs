//! The wake-up: a hint that may be lost on the way, made good by the claim at the reconnect; or not used at all.

use std::time::{Duration, Instant};

use crvs_outbox::app::{App, Halves};
use crvs_outbox::config::Settings;
use crvs_outbox::db;
use crvs_outbox::wakeup::Wakeup;
use sqlx::postgres::PgListener;
use sqlx::{AssertSqlSafe, PgPool};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::harness::{PATIENCE, Setup, TestApp, new_database, settings};

const LISTENERS: &str =
    "select count(*) from pg_stat_activity where datname = current_database() and query ilike 'listen %'";

const WAKE_UPS: &str = "select count(*) from pg_stat_activity where datname = current_database() \
    and (query ilike 'listen %' or query ilike '%pg_notify(%') and pid <> pg_backend_pid()";

async fn execute(db: &PgPool, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(db).await.unwrap();
}

async fn wait_for(db: &PgPool, sql: &'static str, expected: i64) {
    let deadline = Instant::now() + PATIENCE;
    while sqlx::query_scalar::<_, i64>(sql).fetch_one(db).await.unwrap() != expected {
        assert!(Instant::now() < deadline, "{sql} is not {expected}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A listener that connects as a user of its own, who can be locked out.
async fn listener(db: &PgPool, url: &str) -> (Wakeup, String) {
    let user = format!("listener_{}", Uuid::now_v7().simple());
    execute(db, format!("create role {user} login")).await;
    let wakeup = Wakeup::default();
    let url = url.replace("user=postgres", &format!("user={user}"));
    tokio::spawn(wakeup.clone().listen(url, CancellationToken::new()));
    wait_for(db, LISTENERS, 1).await;
    (wakeup, user)
}

#[tokio::test]
async fn a_notification_that_nobody_could_hear_is_made_good_at_the_reconnect() {
    let url = new_database().await;
    let db = db::pool(&url, 2).await.unwrap();
    let (wakeup, user) = listener(&db, &url).await;
    let mut heard = wakeup.subscribe();
    execute(&db, "notify crvs_outbox, 'somebody'".to_owned()).await;
    tokio::time::timeout(PATIENCE, heard.changed()).await.expect("heard while connected").unwrap();
    execute(&db, format!("alter role {user} nologin")).await;
    execute(&db, format!("select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = '{user}'"))
        .await;
    heard.mark_unchanged();
    execute(&db, "notify crvs_outbox, 'somebody'".to_owned()).await;
    wait_for(&db, LISTENERS, 0).await;
    assert!(!heard.has_changed().unwrap(), "it was sent to nobody");
    execute(&db, format!("alter role {user} login")).await;
    tokio::time::timeout(PATIENCE, heard.changed()).await.expect("made good").unwrap();
}

#[tokio::test]
async fn ones_own_notification_wakes_nobody_and_many_wake_ups_are_one_notification() {
    let url = new_database().await;
    let db = db::pool(&url, 2).await.unwrap();
    let (wakeup, _) = listener(&db, &url).await;
    let mut heard = PgListener::connect_with(&db).await.unwrap();
    heard.listen("crvs_outbox").await.unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(wakeup.clone().announce(url, stop.clone()));
    wait_for(&db, "select count(*) from pg_stat_activity where query like '%lock_timeout%' and state = 'idle'", 1)
        .await;
    let mut here = wakeup.subscribe();
    for _ in 0..10_000 {
        wakeup.wake();
    }
    here.mark_unchanged();
    heard.recv().await.unwrap();
    let mut more = 0;
    while let Ok(again) = tokio::time::timeout(Duration::from_millis(200), heard.recv()).await {
        again.unwrap();
        more += 1;
    }
    assert!(more < 20, "{more} notifications for one burst");
    assert!(!here.has_changed().unwrap(), "an instance was woken by itself");
    stop.cancel();
}

#[tokio::test]
async fn connections_that_wait_for_wake_ups_hold_back_no_vacuum() {
    let app = TestApp::with(Setup { workers: true, ..Setup::default() }).await;
    app.wait_for(LISTENERS, 1).await;
    app.register_birth("draft-0001").await;
    app.wait_for("select count(*) from outbox_message", 0).await;
    app.wait_for(WAKE_UPS, 2).await;
    let holding = "select count(*) from pg_stat_activity where datname = current_database() \
        and (query ilike 'listen %' or query ilike '%pg_notify(%') and pid <> pg_backend_pid() \
        and (state <> 'idle' or backend_xmin is not null or backend_xid is not null)";
    app.wait_for(holding, 0).await;
    app.done().await;
}

#[tokio::test]
async fn an_instance_that_does_not_listen_polls_and_opens_no_connection_for_wake_ups() {
    let quiet = |settings: &mut Settings| {
        settings.workers.listen = false;
        settings.workers.poll = Duration::from_millis(50);
    };
    let app = TestApp::with(Setup { workers: false, change: Box::new(quiet) }).await;
    let mut others = settings(app.url.clone(), &app.peers.uri());
    quiet(&mut others);
    let workers = App::start(others, Halves { api: false, workers: true }).await.unwrap();
    app.register_birth("draft-0001").await;
    app.wait_for("select count(*) from outbox_message", 0).await;
    assert_eq!(app.count(WAKE_UPS).await, 0);
    workers.stop(CancellationToken::new()).await;
    app.done().await;
}
