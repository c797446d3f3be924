//! Back-pressure: too much waiting refuses what is new, and nothing else.

use std::time::Duration;

use crvs_outbox::outbox::pressure::Limits;
use reqwest::StatusCode;
use serde_json::Value;

use crate::harness::{Setup, TestApp, birth};

/// A service that refuses once more than five messages are ready.
async fn with_a_small_limit() -> TestApp {
    TestApp::with(Setup {
        change: Box::new(|settings| {
            settings.pressure = Limits { ready: 5, age: None };
            settings.pressure_check = Duration::from_millis(20);
        }),
        ..Setup::default()
    })
    .await
}

async fn refused(app: &TestApp, id: &str) -> Option<Value> {
    let token = app.token("registrar", &["register"]);
    let answer = app.post("/records", &token, id, &birth("register")).await;
    if answer.status() == StatusCode::ACCEPTED {
        return None;
    }
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    let wait: u32 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((15..=60).contains(&wait), "{wait}");
    Some(answer.json().await.unwrap())
}

/// Submits until it is refused; returns how many were accepted.
async fn until_refused(app: &TestApp) -> usize {
    let mut n = 0;
    loop {
        if let Some(problem) = refused(app, &format!("draft-{n:04}")).await {
            assert_eq!(problem["type"], "urn:crvs-outbox:problem:overloaded");
            return n;
        }
        n += 1;
        assert!(n < 200, "never refused");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn too_much_waiting_refuses_what_is_new_and_writes_nothing() {
    let app = with_a_small_limit().await;
    let accepted = until_refused(&app).await;
    let written = i64::try_from(accepted).unwrap();
    assert_eq!(app.count("select count(*) from record").await, written);
    assert_eq!(app.count("select count(*) from client_transaction").await, written);
    app.done_with_leftovers().await;
}

#[tokio::test]
async fn while_too_much_waits_repetitions_and_callbacks_pass_and_then_everything_does() {
    let app = with_a_small_limit().await;
    let first = app.register_birth("first-draft").await;
    until_refused(&app).await;
    let token = app.token("registrar", &["register"]);
    let again = app.post("/records", &token, "first-draft", &birth("register")).await;
    assert_eq!(again.status(), StatusCode::ACCEPTED, "it was accepted before");
    assert_eq!(app.confirm(&first, "2026B0000001").await.status(), StatusCode::ACCEPTED);

    app.drain().await;
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    while refused(&app, "afterwards").await.is_some() {
        assert!(std::time::Instant::now() < deadline, "still refused");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn one_destinations_backlog_refuses_nothing_unless_it_is_configured_to() {
    for (backpressure, expected) in [(false, StatusCode::ACCEPTED), (true, StatusCode::SERVICE_UNAVAILABLE)] {
        let app = with_a_small_limit().await;
        sqlx::query("update destination set backpressure = $1 where name = 'notification'")
            .bind(backpressure)
            .execute(&app.db)
            .await
            .unwrap();
        app.execute(
            "insert into outbox_message (state, destination, kind, transaction_id, record_id, action_id, initiator_id, initiator_scopes)
             select 'queued', 'notification', 'registered', 'sms-' || n, gen_random_uuid(), gen_random_uuid(), 'x', '{}'
             from generate_series(1, 50) n",
        )
        .await;
        let db = app.app().db.clone();
        let pressure = crvs_outbox::pressure::Pressure::default();
        pressure.look(&db, Limits { ready: 5, age: None }).await.unwrap();
        assert_eq!(pressure.is_on(), expected != StatusCode::ACCEPTED, "backpressure = {backpressure}");
        drop(db);
        app.done_with_leftovers_of_nobody().await;
    }
}
