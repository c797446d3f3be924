//! `outbox_explain` names the cause, whatever it is.

use std::time::Duration;

use crvs_outbox::outbox::complete::Outcome;
use crvs_outbox::outbox::operate::{self, Reason};
use uuid::Uuid;

use super::{cancel, claim_all, dead, living, put, run, settle};
use crate::harness::TestApp;

async fn explain(app: &TestApp, id: i64) -> Vec<Reason> {
    operate::explain(&mut app.db.acquire().await.unwrap(), id).await.unwrap()
}

/// The words, and that every reason says something to do.
async fn words(app: &TestApp, id: i64) -> Vec<String> {
    let reasons = explain(app, id).await;
    assert!(reasons.iter().all(|r| !r.detail.is_empty() && !r.what_to_do.is_empty()), "{reasons:?}");
    reasons.into_iter().map(|r| r.reason).collect()
}

#[tokio::test]
async fn a_message_that_only_waits_for_a_slot_is_ready() {
    let app = TestApp::start().await;
    put(&app, Uuid::now_v7(), "ahead").await;
    let id = put(&app, Uuid::now_v7(), "waits").await;
    let reasons = explain(&app, id).await;
    assert_eq!(reasons.iter().map(|r| r.reason.as_str()).collect::<Vec<_>>(), ["ready"]);
    assert!(reasons[0].detail.contains("1 messages to \"search\" are ahead"), "{reasons:?}");
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn a_message_behind_another_names_it_and_its_cause() {
    let app = TestApp::start().await;
    let record = Uuid::now_v7();
    let first = dead(&app, record, "first").await;
    let second = put(&app, record, "second").await;
    let reasons = explain(&app, second).await;
    assert_eq!(reasons.iter().map(|r| r.reason.as_str()).collect::<Vec<_>>(), ["behind", "dead"]);
    assert!(reasons[0].detail.contains(&format!("message {first} of the same record is dead")), "{reasons:?}");
    assert!(reasons[1].detail.starts_with(&format!("message {first}: given up after 1 attempts")), "{reasons:?}");
    assert!(reasons[1].detail.contains("because of http-503; 1 later ones"), "{reasons:?}");
    assert!(reasons[1].what_to_do.contains(&format!("outbox_retry({first})")), "{reasons:?}");
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn a_pause_an_open_circuit_a_spent_rate_and_a_missing_destination_are_named_all_at_once() {
    let app = TestApp::start().await;
    let id = put(&app, Uuid::now_v7(), "waits").await;
    operate::pause(&mut app.db.acquire().await.unwrap(), "search", "they migrate").await.unwrap();
    let reasons = explain(&app, id).await;
    assert_eq!(reasons.len(), 1);
    assert!(reasons[0].detail.contains("by postgres: they migrate"), "{reasons:?}");
    assert_eq!(reasons[0].what_to_do, "select * from outbox_resume('search')");
    app.execute(
        "update destination set circuit = 'open', circuit_failures = 12, circuit_probe_at = now() + interval '1 minute',
            rate_limit = 0.001, rate_tokens = 0, enabled = false where name = 'search'",
    )
    .await;
    assert_eq!(words(&app, id).await, ["not-configured", "paused", "circuit-open", "rate-limited"]);
    let circuit = explain(&app, id).await.remove(2);
    assert!(
        circuit.detail.contains("failed 12 times in a row") && circuit.detail.contains("next probe"),
        "{circuit:?}"
    );
    app.execute("update destination set circuit = 'half_open', circuit_probe_at = now()").await;
    assert!(explain(&app, id).await[2].detail.contains("a probe has been on its way since"));
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn a_lease_is_told_by_whether_its_worker_lives() {
    let app = TestApp::start().await;
    let (record, worker) = (Uuid::now_v7(), living(&app).await);
    let id = put(&app, record, "leased").await;
    let behind = put(&app, record, "behind").await;
    claim_all(&app, worker).await;
    let reasons = explain(&app, id).await;
    assert_eq!(reasons[0].reason, "leased");
    assert!(reasons[0].detail.starts_with("host:1 is delivering it, attempt 1, until "), "{reasons:?}");
    assert_eq!(words(&app, behind).await, ["behind", "leased"]);

    // Silent for two intervals, while another lives.
    run(&app, format!("update worker set heartbeat_at = now() - 3 * interval where id = '{worker}'")).await;
    let reasons = explain(&app, id).await;
    assert_eq!(reasons.iter().map(|r| r.reason.as_str()).collect::<Vec<_>>(), ["lease-lost"]);
    assert!(reasons[0].detail.contains("host:1 had it and has been silent since"), "{reasons:?}");
    assert_eq!(reasons[0].what_to_do, "wait: a living worker takes it back within 00:01:00");

    app.execute("delete from worker").await;
    assert_eq!(words(&app, id).await, ["lease-lost", "no-worker"]);
    assert!(explain(&app, id).await[0].detail.contains("is gone"));

    app.beat().await;
    living_again(&app, worker).await;
    app.expire_leases().await;
    assert!(explain(&app, id).await[0].detail.contains("did not finish it until"));
    app.done_with_leftovers_of_nobody().await;
}

async fn living_again(app: &TestApp, id: Uuid) {
    let mut conn = app.db.acquire().await.unwrap();
    crvs_outbox::outbox::worker::beat(&mut conn, id, "host:1", Duration::from_mins(1)).await.unwrap();
}

#[tokio::test]
async fn a_waiting_retry_tells_when_and_because_of_what() {
    let app = TestApp::start().await;
    let worker = living(&app).await;
    let id = put(&app, Uuid::now_v7(), "retries").await;
    let claimed = claim_all(&app, worker).await.remove(0);
    settle(&app, worker, &claimed, Outcome::Retry(Duration::from_hours(1)), 503).await;
    let reasons = explain(&app, id).await;
    assert_eq!(reasons.iter().map(|r| r.reason.as_str()).collect::<Vec<_>>(), ["retrying"]);
    assert!(reasons[0].detail.starts_with("attempt 1 ended with http-503; the next one is due at "), "{reasons:?}");
    assert!(!reasons[0].detail.contains("refused"), "{reasons:?}");
    app.make_due().await;
    assert_eq!(words(&app, id).await, ["ready"]);
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn no_worker_is_said_and_when_the_last_one_was_heard() {
    let app = TestApp::start().await;
    let id = put(&app, Uuid::now_v7(), "waits").await;
    app.execute("update worker set heartbeat_at = now() - 3 * interval").await;
    let reasons = explain(&app, id).await;
    assert_eq!(reasons.iter().map(|r| r.reason.as_str()).collect::<Vec<_>>(), ["no-worker"]);
    assert!(reasons[0].detail.contains("the last one, test, was heard at"), "{reasons:?}");
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn what_is_finished_tells_when_and_by_whom_and_what_was_set_aside_is_dead() {
    let app = TestApp::start().await;
    let worker = living(&app).await;
    let delivered = put(&app, Uuid::now_v7(), "delivered").await;
    let claimed = claim_all(&app, worker).await.remove(0);
    settle(&app, worker, &claimed, Outcome::Delivered, 200).await;
    let reasons = explain(&app, delivered).await;
    assert_eq!(reasons[0].reason, "finished");
    assert!(
        reasons[0].detail.contains("\"search\" took it at")
            && reasons[0].detail.ends_with("answering 200 to attempt 1"),
        "{reasons:?}"
    );

    let cancelled = put(&app, Uuid::now_v7(), "cancelled").await;
    cancel(&app, cancelled, "sent by hand").await.unwrap();
    let reasons = explain(&app, cancelled).await;
    assert!(reasons[0].detail.ends_with("by postgres: sent by hand"), "{reasons:?}");

    app.execute("update destination set on_dead = 'skip' where name = 'search'").await;
    let aside = dead(&app, Uuid::now_v7(), "aside").await;
    let reasons = explain(&app, aside).await;
    assert!(reasons[0].reason == "dead" && reasons[0].detail.contains("it was set aside"), "{reasons:?}");
    assert_eq!(words(&app, 999_999).await, ["unknown"]);
    app.done_with_leftovers_of_nobody().await;
}
