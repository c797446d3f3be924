//! P3 and P4: the trace that each attempt leaves, what stays the same from one to the next, and that what one destination
//! does delays no other.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::Value;
use wiremock::matchers::{header, method, path};
use wiremock::{Mock, Request, ResponseTemplate};

use crate::harness::{Setup, TestApp, flat};
use crate::peers::{Told, by_hand, destination, peer};

/// Declares a flat birth; its index message is `index__declare_{transaction_id}`.
async fn declare(app: &TestApp, transaction_id: &str) {
    let token = app.token("clerk", &["declare"]);
    let response = app.post("/records", &token, transaction_id, &flat("declare")).await;
    assert_eq!(response.status(), StatusCode::ACCEPTED);
}

fn told(state: &str, attempts: i32, because: &str) -> Told {
    Told { state: state.to_owned(), attempts, because: Some(because.to_owned()) }
}

#[tokio::test]
async fn each_exchange_leaves_its_attempt_and_reads_as_a_sentence_whatever_others_get() {
    let table = [
        (200, "delivered"),
        (204, "delivered"),
        (301, "dead"),
        (400, "dead"),
        (401, "retrying"),
        (404, "dead"),
        (408, "retrying"),
        (409, "retrying"),
        (425, "retrying"),
        (429, "retrying"),
        (500, "retrying"),
        (503, "retrying"),
    ];
    let app = TestApp::with(by_hand(|_| {})).await;
    for (code, _) in table {
        let answer = ResponseTemplate::new(code).insert_header("location", "/elsewhere");
        let key = format!("index__declare_status-{code}");
        let mock = Mock::given(method("POST")).and(path("/search")).and(header("idempotency-key", key));
        mock.respond_with(answer).mount(&app.peers).await;
        declare(&app, &format!("status-{code}")).await;
    }
    app.drain().await;
    let received = app.received().await;
    for (code, state) in table {
        let key = format!("index__declare_status-{code}");
        assert_eq!(app.told("search", &key).await, told(state, 1, &format!("http-{code}")), "{code}");
        assert_eq!(received[&("/search".to_owned(), key.clone())], 1, "{code}");
        // The other destinations of the same record do not care.
        assert_eq!(
            app.told("audit", &format!("DECLARED__declare_status-{code}")).await,
            told("delivered", 1, "http-200")
        );
        let attempts: Vec<(String, i16, Option<String>, bool)> = sqlx::query_as(
            "select a.outcome::text, a.status, a.error, a.duration > interval '0' from outbox_attempts a
             join outbox o on o.id = a.message_id where o.transaction_id = $1",
        )
        .bind(&key)
        .fetch_all(&app.db)
        .await
        .unwrap();
        let outcome = if state == "retrying" { "retry" } else { state };
        assert_eq!(attempts, [(outcome.to_owned(), i16::try_from(code).unwrap(), None, true)], "{code}");
    }
    assert!(!received.keys().any(|(path, _)| path == "/elsewhere"), "a redirect was followed");
    // Retried by the clock, not at once; the dead wait for an operator and are in plain sight.
    assert_eq!(
        app.count("select count(*) from outbox_message where state = 'retrying' and available_at > now()").await,
        7
    );
    assert_eq!(app.count("select count(*) from outbox_stuck").await, 3);
    app.make_due().await;
    app.drain().await;
    assert_eq!(app.told("search", "index__declare_status-500").await, told("retrying", 2, "http-500"));
    assert_eq!(app.told("search", "index__declare_status-404").await, told("dead", 1, "http-404"));
    app.done_with_leftovers().await;
}

/// 503 to the first two requests of each path and key, then 200.
fn third_time_lucky() -> impl Fn(&Request) -> ResponseTemplate {
    let seen: Mutex<HashMap<(String, String), u32>> = Mutex::new(HashMap::new());
    move |request| {
        let key = request.headers["idempotency-key"].to_str().unwrap().to_owned();
        let mut seen = seen.lock().unwrap();
        let count = seen.entry((request.url.path().to_owned(), key)).or_default();
        *count += 1;
        ResponseTemplate::new(if *count > 2 { 200 } else { 503 })
    }
}

#[tokio::test]
async fn every_attempt_has_the_same_bytes_though_the_record_moved_on_in_between() {
    let app = TestApp::with(by_hand(|_| {})).await;
    Mock::given(method("POST")).respond_with(third_time_lucky()).with_priority(1).mount(&app.peers).await;
    let birth = app.register_birth("same-bytes").await;
    app.drain().await;
    app.make_due().await;
    app.drain().await;
    // Between the attempts the record is registered, under a new version.
    let token = app.record_token(birth.record_id, birth.action_id);
    let verdict = serde_json::json!({
        "registrationNumber": "2026BSAME01",
        "childIdentifiers": [{ "type": "BIRTH_CONFIGURABLE_IDENTIFIER_1", "value": "X1" }],
    });
    let confirmed = app.post(&format!("/records/{}/confirm", birth.record_id), &token, "same-verdict", &verdict).await;
    assert_eq!(confirmed.status(), StatusCode::ACCEPTED);
    for _ in 0..12 {
        app.make_due().await;
        app.drain().await;
    }
    let mut sent: HashMap<(String, String), Vec<Vec<u8>>> = HashMap::new();
    for request in app.peers.received_requests().await.unwrap() {
        let key = request.headers["idempotency-key"].to_str().unwrap().to_owned();
        sent.entry((request.url.path().to_owned(), key)).or_default().push(request.body);
    }
    assert_eq!(sent.len(), 9, "{:?}", sent.keys());
    for ((path, key), bodies) in sent {
        // The verdict came before the third attempt to ask for it.
        assert_eq!(bodies.len(), if path.starts_with("/country-config") { 2 } else { 3 }, "{path} {key}");
        assert!(bodies.iter().all(|body| body == &bodies[0]), "{path} {key}");
        serde_json::from_slice::<Value>(&bodies[0]).unwrap();
    }
    app.done().await;
}

#[tokio::test]
async fn another_answer_among_refusals_starts_their_fifteen_minutes_anew() {
    for code in [401, 409] {
        let app = TestApp::with(by_hand(|_| {})).await;
        Mock::given(path("/search")).respond_with(ResponseTemplate::new(code)).up_to_n_times(2).mount(&app.peers).await;
        Mock::given(path("/search")).respond_with(ResponseTemplate::new(503)).up_to_n_times(1).mount(&app.peers).await;
        Mock::given(path("/search")).respond_with(ResponseTemplate::new(code)).mount(&app.peers).await;
        declare(&app, "refused-1").await;
        let search = || app.told("search", "index__declare_refused-1");
        let again = async || {
            app.make_due().await;
            app.drain().await;
        };
        app.drain().await;
        app.execute("update outbox_message set refused_since = now() - interval '14 minutes'").await;
        again().await;
        assert_eq!(search().await.state, "retrying");
        let since = "select count(*) from outbox_message where refused_since < now() - interval '13 minutes'";
        assert_eq!(app.count(since).await, 1, "the clock goes on");
        // Another answer in between, and the clock starts anew.
        again().await;
        assert_eq!(app.count("select count(*) from outbox_message where refused_since is null").await, 1);
        again().await;
        assert_eq!(search().await.state, "retrying");
        app.execute("update outbox_message set refused_since = now() - interval '15 minutes'").await;
        again().await;
        assert_eq!(search().await, told("dead", 5, &format!("http-{code}")));
        app.done_with_leftovers().await;
    }
}

#[tokio::test]
async fn a_dead_and_a_hanging_destination_delay_no_other() {
    let hanging = peer(|_, stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let app = TestApp::with(Setup {
        workers: true,
        change: Box::new(move |settings| {
            settings.stop = Duration::from_millis(100);
            let search = destination(settings, "search");
            search.definition.url = hanging;
            search.definition.concurrency = 2;
            search.definition.timeout = Duration::from_mins(1);
            search.definition.lease = Duration::from_mins(2);
        }),
    })
    .await;
    Mock::given(path("/audit")).respond_with(ResponseTemplate::new(404)).with_priority(1).mount(&app.peers).await;
    let started = Instant::now();
    for n in 0..10 {
        declare(&app, &format!("aside-{n:04}")).await;
    }
    app.wait_for("select count(*) from outbox_history where destination in ('metrics', 'notification')", 20).await;
    app.wait_for("select count(*) from outbox_message where destination = 'audit' and state = 'dead'", 10).await;
    assert!(started.elapsed() < Duration::from_secs(15), "somebody waited for the destination that hangs");
    assert_eq!(
        app.count("select count(*) from outbox_message where destination = 'search' and state = 'delivering'").await,
        2
    );
    assert_eq!(
        app.count("select count(*) from outbox_message where destination = 'search' and state = 'queued'").await,
        8
    );
    let url = app.url.clone();
    app.done_with_leftovers().await;
    // What the stop cut short was given back and burned no attempt.
    let db = crvs_outbox::db::pool(&url, 1).await.unwrap();
    let attempts: Vec<(String, i64)> = sqlx::query_as(
        "select state::text, sum(attempt) from outbox_message where destination = 'search' group by 1 order by 1",
    )
    .fetch_all(&db)
    .await
    .unwrap();
    assert_eq!(attempts, [("queued".to_owned(), 0), ("retrying".to_owned(), 0)]);
    db.close().await;
}
