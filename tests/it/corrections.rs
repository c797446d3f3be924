//! A registration whose verdict does not come is asked for again; one that was corrected is not, and its late verdict
//! changes nothing; one that was rejected can be corrected and registered.

use std::sync::Arc;
use std::time::Duration;

use crvs_outbox::records::model::Status;
use crvs_outbox::workers::callbacks;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};
use wiremock::ResponseTemplate;

use crate::harness::{PATIENCE, Submitted, TestApp, birth};
use crate::peers::{by_hand, destination, peer, reply};

const COUNTRY: &str = "/country-config/event-registration";

/// Corrects a record's declaration.
async fn correct(app: &TestApp, of: &Submitted, transaction_id: &str) {
    let token = app.token("registrar", &["register"]);
    let corrected = json!({ "declaration": birth("declare")["declaration"] });
    let answer = app.post(&format!("/records/{}/declare", of.record_id), &token, transaction_id, &corrected).await;
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
}

/// Asks for the registration of a declared record.
async fn register(app: &TestApp, of: &Submitted, transaction_id: &str) -> Submitted {
    let token = app.token("registrar", &["register"]);
    let path = format!("/records/{}/register", of.record_id);
    let answer = app.post(&path, &token, transaction_id, &json!({})).await;
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    let action_id = sqlx::query_scalar("select awaiting_action_id from record where id = $1")
        .bind(of.record_id)
        .fetch_one(&app.db)
        .await
        .unwrap();
    Submitted { record_id: of.record_id, action_id, body: answer.json().await.unwrap() }
}

/// Lets the time of every promised callback pass.
async fn let_it_pass(app: &TestApp) {
    app.execute(
        "update record_action set callback_due_at = now() - interval '1 second' where callback_due_at is not null",
    )
    .await;
}

#[tokio::test]
async fn a_verdict_in_the_answer_to_a_superseded_request_finishes_its_message_and_nothing_else() {
    for answer in [r#"{"registrationNumber":"2026BSUPER1"}"#, r#"{"reason":"no such village"}"#] {
        let status = if answer.contains("reason") { "400 Bad Request" } else { "200 OK" };
        let (arrived, mut arrivals) = mpsc::channel::<()>(1);
        let (release, released) = mpsc::channel::<()>(1);
        let released = Arc::new(Mutex::new(released));
        let url = peer(move |_, stream| {
            let (arrived, released) = (arrived.clone(), Arc::clone(&released));
            async move {
                arrived.send(()).await.unwrap();
                released.lock().await.recv().await;
                reply(stream, status, answer).await;
            }
        })
        .await;
        let app = TestApp::with(by_hand(move |settings| {
            let country = destination(settings, "country-config");
            country.definition.url = url;
            country.definition.timeout = PATIENCE;
        }))
        .await;
        let birth = app.register_birth("superseded").await;
        let mut lane = app.lane("country-config");
        let running = tokio::spawn(async move { lane.run_until_idle().await });
        arrivals.recv().await.unwrap();
        // Corrected while the country thinks.
        correct(&app, &birth, "correction").await;
        release.send(()).await.unwrap();
        running.await.unwrap();
        let message = app.told("country-config", "event-registration__register_superseded").await;
        assert_eq!((message.state.as_str(), message.attempts), ("delivered", 1));
        assert_eq!(app.status(birth.record_id).await, Status::Declared);
        assert_eq!(app.count("select count(*) from record_action where requested_action_id is not null").await, 0);
        assert_eq!(app.confirm(&birth, "2026BSUPER1").await.status(), StatusCode::CONFLICT);
        assert_eq!(app.reject(&birth, "no").await.status(), StatusCode::CONFLICT);
        app.drain().await;
        app.done().await;
    }
}

#[tokio::test]
async fn a_dead_message_of_a_superseded_request_does_not_hold_up_the_new_one() {
    let app = TestApp::with(by_hand(|_| {})).await;
    let malformed = json!({ "statusCode": 400, "error": "Bad Request", "message": "Invalid request payload" });
    app.country_answers(ResponseTemplate::new(400).set_body_json(malformed)).await;
    let birth = app.register_birth("malformed1").await;
    app.drain().await;
    assert_eq!(app.told("country-config", "event-registration__register_malformed1").await.state, "dead");
    // The registrar corrects what the country could not read, and registers it again.
    correct(&app, &birth, "correction").await;
    app.peers.reset().await;
    app.default_peers().await;
    let again = register(&app, &birth, "well-formed").await;
    app.drain().await;
    assert_eq!(app.told("country-config", "event-registration__register_well-formed").await.state, "delivered");
    assert_eq!(app.confirm(&again, "2026BAGAIN1").await.status(), StatusCode::ACCEPTED);
    app.drain().await;
    assert_eq!(app.status(birth.record_id).await, Status::Registered);
    app.done().await;
}

#[tokio::test]
async fn a_rejected_record_keeps_its_reason_and_can_be_corrected_and_registered() {
    let app = TestApp::start().await;
    let birth = app.register_birth("rejected-1").await;
    app.drain().await;
    assert_eq!(app.reject(&birth, "the village is misspelt").await.status(), StatusCode::ACCEPTED);
    app.drain().await;
    assert_eq!(app.status(birth.record_id).await, Status::Rejected);
    correct(&app, &birth, "correction").await;
    let again = register(&app, &birth, "register-again").await;
    app.drain().await;
    assert_eq!(
        app.received().await[&(COUNTRY.to_owned(), "event-registration__register_register-again".to_owned())],
        1
    );
    // The token of the first request decides the second as little as the second's decides the first.
    assert_eq!(app.confirm(&birth, "2026BREJ001").await.status(), StatusCode::CONFLICT);
    assert_eq!(app.confirm(&again, "2026BREJ001").await.status(), StatusCode::ACCEPTED);
    assert_eq!(app.reject(&birth, "the village is misspelt").await.status(), StatusCode::ACCEPTED);
    app.drain().await;
    let token = app.token("registrar", &["register"]);
    let history: Value = app.get(&format!("/records/{}/history", birth.record_id), &token).await.json().await.unwrap();
    let told: Vec<(&str, &str, &str)> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            let text = |name: &str| entry[name].as_str().unwrap_or_default();
            (text("action"), text("status"), text("reason"))
        })
        .collect();
    assert_eq!(
        told,
        [
            ("declare", "accepted", ""),
            ("register", "requested", ""),
            ("register", "rejected", "the village is misspelt"),
            ("declare", "accepted", ""),
            ("register", "requested", ""),
            ("register", "accepted", ""),
        ]
    );
    assert_eq!(app.status(birth.record_id).await, Status::Registered);
    app.done().await;
}

#[tokio::test]
async fn an_overdue_callback_is_asked_for_with_the_same_id_and_bytes_in_sight_of_everybody() {
    let app = TestApp::with(by_hand(|settings| settings.workers.callback_deadline = Duration::from_mins(10))).await;
    let birth = app.register_birth("overdue-01").await;
    let waiting = || async {
        sqlx::query_as::<_, (String, bool, i32)>("select waits_because, overdue, redeliveries from records_waiting")
            .fetch_one(&app.db)
            .await
            .unwrap()
    };
    let because = |why: &str, overdue, redeliveries| (why.to_owned(), overdue, redeliveries);
    assert_eq!(waiting().await, because("the message to country-config is queued", false, 0));
    app.drain().await;
    assert_eq!(waiting().await, because("the callback is due", false, 0));
    assert_eq!(callbacks::run_once(&app.app().context).await.unwrap(), 0, "not yet");
    for turn in 1..=3 {
        let_it_pass(&app).await;
        assert_eq!(waiting().await, because("the callback is overdue", true, turn - 1));
        let (one, two) = tokio::join!(callbacks::run_once(&app.app().context), callbacks::run_once(&app.app().context));
        assert_eq!(one.unwrap() + two.unwrap(), 1, "two instances send it once");
        assert_eq!(waiting().await, because("the message to country-config is queued", true, turn));
        app.drain().await;
        assert_eq!(waiting().await, because("the callback is due", true, turn));
        let due = "select round(extract(epoch from callback_due_at - now()) / 600)::bigint from record_action where callback_due_at is not null";
        assert_eq!(app.count(due).await, 1 << turn, "twice as long each time");
    }
    let sent: Vec<_> =
        app.peers.received_requests().await.unwrap().into_iter().filter(|r| r.url.path() == COUNTRY).collect();
    assert_eq!(sent.len(), 4);
    assert!(
        sent.iter()
            .all(|r| r.body == sent[0].body && r.headers["idempotency-key"] == sent[0].headers["idempotency-key"])
    );
    let redeliveries: Vec<i32> =
        sqlx::query_scalar("select redelivery from outbox_history where destination = 'country-config' order by id")
            .fetch_all(&app.db)
            .await
            .unwrap();
    assert_eq!(redeliveries, [0, 1, 2, 3]);
    // The callback comes at last, while the next redelivery is queued: it need not be sent any more.
    let_it_pass(&app).await;
    assert_eq!(callbacks::run_once(&app.app().context).await.unwrap(), 1);
    assert_eq!(app.confirm(&birth, "2026BOVER01").await.status(), StatusCode::ACCEPTED);
    app.drain().await;
    assert_eq!(app.received().await[&(COUNTRY.to_owned(), "event-registration__register_overdue-01".to_owned())], 4);
    assert_eq!(app.count("select count(*) from records_waiting").await, 0);
    assert_eq!(app.count("select count(*) from record_action where callback_due_at is not null").await, 0);
    app.done().await;
}

#[tokio::test]
async fn nothing_is_asked_again_of_a_record_that_waits_no_more() {
    let app = TestApp::start().await;
    let births = [
        app.register_birth("waits-not-1").await,
        app.register_birth("waits-not-2").await,
        app.register_birth("waits-not-3").await,
    ];
    app.drain().await;
    let_it_pass(&app).await;
    assert_eq!(app.count("select count(*) from records_waiting where overdue").await, 3);
    assert_eq!(app.confirm(&births[0], "2026BNOT001").await.status(), StatusCode::ACCEPTED);
    assert_eq!(app.reject(&births[1], "no").await.status(), StatusCode::ACCEPTED);
    correct(&app, &births[2], "correction").await;
    assert_eq!(callbacks::run_once(&app.app().context).await.unwrap(), 0);
    app.drain().await;
    app.done().await;
}
