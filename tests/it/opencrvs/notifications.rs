//! The country config's `GET /record-notification` decides which notifications are sent.

use std::sync::Arc;
use std::time::Duration;

use crvs_outbox::outbox::destination::Format;
use crvs_outbox::workers::wanted::{Settings, Wanted};
use jsonwebtoken::dangerous::insecure_decode_claims;
use reqwest::StatusCode;
use serde_json::{Value, json};
use wiremock::matchers::{method, path, path_regex};
use wiremock::{Mock, Request, ResponseTemplate};

use crate::harness::{TestApp, flat};
use crate::peers::{Told, by_hand, destination};

/// A service that asks the country config; `fresh` is how long an answer is good, and a failure is tried again at once.
async fn asking(fresh: Duration) -> TestApp {
    let app = TestApp::with(by_hand(move |settings| {
        let notification = destination(settings, "notification");
        notification.definition.format = Format::OpencrvsNotification;
        let url = notification.definition.url.replace("/notification", "/record-notification");
        let audience = Some("country-config".to_owned());
        notification.wanted = Some(Arc::new(Wanted::new(Settings { url, audience, fresh, pause: Duration::ZERO })));
    }))
    .await;
    let taken = Mock::given(method("POST")).and(path_regex("^/notification/")).respond_with(ResponseTemplate::new(200));
    taken.mount(&app.peers).await;
    app
}

/// What the country config says from now on.
async fn country_says(app: &TestApp, answer: ResponseTemplate, times: Option<u64>) {
    let mock = Mock::given(method("GET")).and(path("/record-notification")).respond_with(answer);
    match times {
        Some(times) => mock.up_to_n_times(times).with_priority(1).mount(&app.peers).await,
        None => mock.with_priority(9).mount(&app.peers).await,
    }
}

fn wants(flags: &Value) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(flags)
}

async fn declare(app: &TestApp, transaction_id: &str) {
    let token = app.token("clerk", &["declare"]);
    assert_eq!(app.post("/records", &token, transaction_id, &flat("declare")).await.status(), StatusCode::ACCEPTED);
}

async fn requests(app: &TestApp, prefix: &str) -> Vec<Request> {
    let mut requests = app.peers.received_requests().await.unwrap();
    requests.retain(|request| request.url.path().starts_with(prefix));
    requests
}

async fn review(app: &TestApp, transaction_id: &str) -> Told {
    app.told("notification", &format!("sent-notification-for-review__declare_{transaction_id}")).await
}

fn is(state: &str, attempts: i32, because: &str) -> Told {
    Told { state: state.to_owned(), attempts, because: Some(because.to_owned()) }
}

#[tokio::test]
async fn one_that_is_switched_off_is_done_without_an_exchange_and_the_history_says_so() {
    let app = asking(Duration::from_mins(5)).await;
    let flags = json!({ "BIRTH": { "sent-notification-for-review": false, "registered": true }, "DEATH": {} });
    country_says(&app, wants(&flags), None).await;
    declare(&app, "draft-0001").await;
    let birth = app.register_birth("draft-0002").await;
    app.drain().await;
    assert_eq!(app.confirm(&birth, "2026B1").await.status(), StatusCode::ACCEPTED);
    app.drain().await;
    assert_eq!(review(&app, "draft-0001").await, is("delivered", 0, "not-wanted"));
    let exchanges = "select count(*) from outbox_attempts where destination = 'notification'";
    assert_eq!(app.count(exchanges).await, 1);
    let sent = requests(&app, "/notification/").await;
    assert_eq!(sent.iter().map(|r| r.url.path()).collect::<Vec<_>>(), ["/notification/birth/registered"]);
    app.done().await;
}

#[tokio::test]
async fn what_the_answer_does_not_name_is_not_wanted() {
    let app = asking(Duration::from_mins(5)).await;
    country_says(&app, wants(&json!({ "DEATH": { "sent-notification-for-review": true } })), None).await;
    declare(&app, "draft-0003").await;
    app.drain().await;
    assert_eq!(review(&app, "draft-0003").await, is("delivered", 0, "not-wanted"));
    assert!(requests(&app, "/notification/").await.is_empty());
    app.done().await;
}

#[tokio::test]
async fn it_is_asked_once_with_a_token_for_the_country_config_that_grants_nothing() {
    let app = asking(Duration::from_mins(5)).await;
    let flags = json!({ "BIRTH": { "sent-notification-for-review": true } });
    country_says(&app, wants(&flags).set_delay(Duration::from_millis(100)), None).await;
    for number in 0..10 {
        declare(&app, &format!("together-{number}")).await;
    }
    app.drain().await;
    assert_eq!(requests(&app, "/notification/birth/sent-notification-for-review").await.len(), 10);
    let asked = requests(&app, "/record-notification").await;
    let [asked] = asked.as_slice() else { panic!("asked {} times", asked.len()) };
    let token = asked.headers["authorization"].to_str().unwrap().strip_prefix("Bearer ").unwrap();
    let claims: Value = insecure_decode_claims(token).unwrap();
    assert_eq!(
        (&claims["aud"], &claims["scope"], &claims["sub"]),
        (&json!("country-config"), &json!([]), &json!("clerk"))
    );
    assert!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap() <= 300);
    app.done().await;
}

#[tokio::test]
async fn nothing_is_sent_and_nothing_is_dropped_while_it_was_never_read() {
    let app = asking(Duration::from_mins(5)).await;
    let hostile = [
        ResponseTemplate::new(503),
        ResponseTemplate::new(401).set_body_json(json!({ "statusCode": 401, "error": "Unauthorized" })),
        ResponseTemplate::new(200).set_body_string("<html>"),
        ResponseTemplate::new(200).set_body_json(json!({ "BIRTH": true })),
        ResponseTemplate::new(200).set_body_json(json!({ "BIRTH": { "x": "x".repeat(65 * 1024) } })),
        ResponseTemplate::new(302).insert_header("location", "/search"),
    ];
    declare(&app, "draft-0004").await;
    for (turn, answer) in hostile.into_iter().enumerate() {
        country_says(&app, answer, Some(1)).await;
        app.make_due().await;
        app.drain().await;
        assert_eq!(review(&app, "draft-0004").await, is("retrying", 0, "not-sent"), "{turn}");
    }
    assert!(requests(&app, "/record-notification").await.len() >= 6);
    assert!(requests(&app, "/notification/").await.is_empty());
    country_says(&app, wants(&json!({ "BIRTH": { "sent-notification-for-review": true } })), None).await;
    app.make_due().await;
    app.drain().await;
    assert_eq!(review(&app, "draft-0004").await, is("delivered", 1, "http-200"));
    app.done().await;
}

#[tokio::test]
async fn an_old_answer_serves_on_while_it_cannot_be_read_anew() {
    let app = asking(Duration::ZERO).await;
    country_says(&app, wants(&json!({ "BIRTH": { "sent-notification-for-review": true } })), Some(1)).await;
    country_says(&app, ResponseTemplate::new(500), None).await;
    for id in ["draft-0005", "draft-0006"] {
        declare(&app, id).await;
        app.drain().await;
        assert_eq!(review(&app, id).await, is("delivered", 1, "http-200"), "{id}");
    }
    assert_eq!(requests(&app, "/record-notification").await.len(), 2);
    // Once it can be read, the country's new will is done.
    country_says(&app, wants(&json!({})), Some(1)).await;
    declare(&app, "draft-0007").await;
    app.drain().await;
    assert_eq!(review(&app, "draft-0007").await, is("delivered", 0, "not-wanted"));
    app.done().await;
}
