//! A callback and the delivery that asked for it meet in every order: the first verdict stands, its effects are queued
//! once, and the message is finished, whatever the open exchange comes to.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crvs_outbox::records::model::Status;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc};

use crate::harness::{PATIENCE, Setup, Submitted, TestApp};
use crate::peers::{Request, by_hand, destination, peer, reply, reset};

const KEY: &str = "event-registration__register_";

/// Where the service listens; known only after the peer, whose URL is in the service's settings.
type Base = Arc<OnceLock<String>>;

/// Confirms as a country config does: the record is the Composition's id, the token the one that came.
async fn call_back(base: &Base, request: &Request, number: &str) -> StatusCode {
    let bundle: Value = serde_json::from_slice(&request.body).unwrap();
    let record_id = bundle["entry"][0]["resource"]["id"].as_str().unwrap();
    let url = format!("{}/records/{record_id}/confirm", base.get().unwrap());
    let call = reqwest::Client::new().post(url).bearer_auth(request.bearer());
    // The stock country config copies our own headers into its callback.
    let call = call.header("idempotency-key", request.header("idempotency-key").unwrap());
    call.json(&json!({ "registrationNumber": number })).send().await.unwrap().status()
}

/// A service whose country config calls back with a number and then ends the exchange as `end` says.
async fn with_country<F, R>(number: &'static str, end: F) -> TestApp
where
    F: Fn(TcpStream) -> R + Clone + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let base = Base::default();
    let known = Arc::clone(&base);
    let url = peer(move |request, stream| {
        let (base, end) = (Arc::clone(&base), end.clone());
        async move {
            assert_eq!(call_back(&base, &request, number).await, StatusCode::ACCEPTED);
            end(stream).await;
        }
    })
    .await;
    let app = TestApp::with(by_hand(move |settings| {
        let country = destination(settings, "country-config");
        country.definition.url = url;
        country.definition.timeout = Duration::from_secs(1);
    }))
    .await;
    known.set(app.base.clone()).unwrap();
    app
}

/// Registered under this number; the message is finished after one exchange; the effects of confirm are there once.
async fn assert_registered(app: &TestApp, of: &Submitted, id: &str, number: &str) {
    assert_eq!(app.status(of.record_id).await, Status::Registered, "{id}");
    let stands: String = sqlx::query_scalar("select registration_number from record where id = $1")
        .bind(of.record_id)
        .fetch_one(&app.db)
        .await
        .unwrap();
    assert_eq!(stands, number, "{id}");
    let message = app.told("country-config", &format!("{KEY}{id}")).await;
    assert_eq!(message.state, "delivered", "{id}");
    let effects: Vec<i64> = sqlx::query_scalar(
        r"select count(*) from outbox where record_id = $1 and transaction_id like '%\_\_confirm\_%' group by transaction_id, message",
    )
    .bind(of.record_id)
    .fetch_all(&app.db)
    .await
    .unwrap();
    assert_eq!(effects.iter().sum::<i64>(), 3, "{id}");
}

#[tokio::test]
async fn a_callback_stands_though_the_exchange_it_came_in_times_out_or_breaks_off() {
    let timeout = with_country("2026BOPEN01", |stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    });
    let reset = with_country("2026BOPEN01", |stream| async move { reset(stream) });
    let error = with_country("2026BOPEN01", |stream| reply(stream, "500 Internal Server Error", "{}"));
    let other = with_country("2026BOPEN01", |s| reply(s, "200 OK", r#"{"registrationNumber":"2026BOPEN02"}"#));
    let reason = with_country("2026BOPEN01", |s| reply(s, "400 Bad Request", r#"{"reason":"changed my mind"}"#));
    let unauthorized = with_country("2026BOPEN01", |s| reply(s, "401 Unauthorized", ""));
    for app in [timeout.await, reset.await, error.await, other.await, reason.await, unauthorized.await] {
        let birth = app.register_birth("still-open").await;
        app.drain().await;
        assert_registered(&app, &birth, "still-open", "2026BOPEN01").await;
        assert_eq!(app.count("select count(*) from record_action where requested_action_id is not null").await, 1);
        app.done().await;
    }
}

#[tokio::test]
async fn a_message_that_is_claimed_again_after_its_verdict_is_finished_without_asking() {
    let (arrived, mut arrivals) = mpsc::channel::<()>(8);
    let (release, released) = mpsc::channel::<()>(1);
    let released = Arc::new(Mutex::new(released));
    let app = with_country("2026BLATE01", move |stream| {
        let (arrived, released) = (arrived.clone(), Arc::clone(&released));
        async move {
            arrived.send(()).await.unwrap();
            released.lock().await.recv().await;
            reply(stream, "500 Internal Server Error", "").await;
        }
    })
    .await;
    let birth = app.register_birth("late-worker").await;
    let mut lane = app.lane("country-config");
    let running = tokio::spawn(async move { lane.run_until_idle().await });
    arrivals.recv().await.unwrap();
    // Confirmed, and the worker loses its lease before its exchange ends.
    app.expire_leases().await;
    assert_eq!(app.rescue().await.retrying, 1);
    app.drain().await;
    assert_registered(&app, &birth, "late-worker", "2026BLATE01").await;
    release.send(()).await.unwrap();
    running.await.unwrap();
    assert!(arrivals.try_recv().is_err(), "the country was asked again though its verdict stands");
    assert_registered(&app, &birth, "late-worker", "2026BLATE01").await;
    app.done().await;
}

#[tokio::test]
async fn many_confirmations_at_once_are_one_and_get_one_answer() {
    let app = TestApp::start().await;
    let birth = app.register_birth("at-once-01").await;
    let calls = (0..8).map(|_| app.confirm(&birth, "2026BONCE01"));
    let mut answers = Vec::new();
    for answer in futures_util::future::join_all(calls).await {
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
        let replayed = answer.headers().contains_key("idempotency-replayed");
        answers.push((replayed, answer.bytes().await.unwrap()));
    }
    assert_eq!(answers.iter().filter(|(replayed, _)| !replayed).count(), 1);
    assert!(answers.iter().all(|(_, body)| *body == answers[0].1));
    app.drain().await;
    assert_registered(&app, &birth, "at-once-01", "2026BONCE01").await;
    app.done().await;
}

#[tokio::test]
async fn of_two_callbacks_and_an_answer_with_three_numbers_one_stands_with_its_effects() {
    let base = Base::default();
    let known = Arc::clone(&base);
    let (told, mut callbacks) = mpsc::unbounded_channel();
    let url = peer(move |request, stream| {
        let (base, told) = (Arc::clone(&base), told.clone());
        async move {
            let key = request.header("idempotency-key").unwrap().trim_start_matches(KEY).to_owned();
            let numbers = ["A", "B", "C"].map(|which| format!("{which}-{key}"));
            let answer = json!({ "registrationNumber": numbers[2] }).to_string();
            let (first, second, ()) = tokio::join!(
                call_back(&base, &request, &numbers[0]),
                call_back(&base, &request, &numbers[1]),
                reply(stream, "200 OK", &answer)
            );
            told.send([first, second]).unwrap();
        }
    })
    .await;
    let app = TestApp::with(Setup {
        workers: true,
        change: Box::new(move |settings| destination(settings, "country-config").definition.url = url),
    })
    .await;
    known.set(app.base.clone()).unwrap();
    let started = std::time::Instant::now();
    let mut births = Vec::new();
    for n in 0..12 {
        let id = format!("three-{n:04}");
        births.push((app.register_birth(&id).await, id));
    }
    app.wait_for("select count(*) from record where status = 'registered'", 12).await;
    app.wait_for("select count(*) from outbox_message", 0).await;
    assert!(started.elapsed() < PATIENCE);
    for _ in &births {
        let statuses: [StatusCode; 2] = callbacks.recv().await.unwrap();
        let won = statuses.iter().filter(|status| **status == StatusCode::ACCEPTED).count();
        let lost = statuses.iter().filter(|status| **status == StatusCode::CONFLICT).count();
        assert!(won <= 1 && won + lost == 2, "{statuses:?}");
    }
    for (birth, id) in &births {
        let number: String = sqlx::query_scalar("select registration_number from record where id = $1")
            .bind(birth.record_id)
            .fetch_one(&app.db)
            .await
            .unwrap();
        assert!(["A", "B", "C"].iter().any(|which| number == format!("{which}-{id}")), "{number}");
        assert_registered(&app, birth, id, &number).await;
    }
    // One verdict each, and the three effects of it went out once under their ids.
    assert_eq!(app.count("select count(*) from record_action where requested_action_id is not null").await, 12);
    let sent = app.received().await;
    let confirmed: Vec<usize> =
        sent.iter().filter(|((_, key), _)| key.contains("__confirm_")).map(|(_, times)| *times).collect();
    assert_eq!((confirmed.len(), confirmed.iter().sum::<usize>()), (36, 36));
    app.done().await;
}
