//! Outcomes that OpenCRVS gets wrong and this service does not, one each. The numbers are of issues of opencrvs-core.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crvs_outbox::records::model::Status;
use crvs_outbox::workers::callbacks;
use reqwest::StatusCode;
use serde_json::{Value, json};
use wiremock::ResponseTemplate;

use crate::harness::{TestApp, birth};
use crate::peers::{Request, by_hand, destination, peer, reply, reset};

const MESSAGE: &str = "event-registration__register_draft-0001";
const CONFIRM: &str = "mutation confirmRegistration($id: ID!, $details: ConfirmRegistrationInput!) { confirmRegistration(id: $id, details: $details) }";

type Base = Arc<OnceLock<String>>;

/// Confirms as a country config of 1.7 does, with the token that came.
async fn confirm(base: &str, request: &Request, number: &str) -> (StatusCode, Value) {
    let bundle: Value = serde_json::from_slice(&request.body).unwrap();
    let details = json!({"registrationNumber": number});
    let variables = json!({"id": bundle["entry"][0]["resource"]["id"], "details": details});
    let call = reqwest::Client::new().post(format!("{base}/graphql")).bearer_auth(request.bearer());
    let call = call.header("idempotency-key", request.header("idempotency-key").unwrap());
    let answer = call.json(&json!({"variables": variables, "query": CONFIRM})).send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

async fn number(app: &TestApp) -> Option<String> {
    sqlx::query_scalar("select registration_number from record").fetch_one(&app.db).await.unwrap()
}

/// #11588, #12813, #13827: there a country config that fails rejects the registration (1.7) or strands it for ever (1.9).
#[tokio::test]
async fn a_5xx_or_a_timeout_never_rejects_and_never_strands_a_registration() {
    let app = TestApp::with(by_hand(|settings| {
        destination(settings, "country-config").definition.timeout = Duration::from_millis(300);
    }))
    .await;
    let birth = app.register_birth("draft-0001").await;
    let late = ResponseTemplate::new(200).set_delay(Duration::from_secs(3));
    for failing in [ResponseTemplate::new(500), ResponseTemplate::new(502), ResponseTemplate::new(503), late] {
        app.country_answers_once(failing).await;
        app.drain().await;
        assert_eq!(app.status(birth.record_id).await, Status::WaitingValidation);
        assert_eq!(app.told("country-config", MESSAGE).await.state, "retrying");
        app.make_due().await;
    }
    app.country_answers_once(ResponseTemplate::new(200).set_body_json(json!({"registrationNumber": "2026B0000001"})))
        .await;
    app.drain().await;
    assert_eq!(number(&app).await.as_deref(), Some("2026B0000001"));
    app.done().await;
}

/// There a second confirmation with another number is taken and forgotten, or made a second time.
#[tokio::test]
async fn a_confirmation_whose_answer_was_lost_is_repeated_without_harm() {
    let base = Base::default();
    let known = Arc::clone(&base);
    let url = peer(move |request, stream| {
        let base = Arc::clone(&base);
        async move {
            let base = base.get().unwrap();
            for _ in 0..2 {
                // The first answer is lost on its way; the country config sends it again, and then draws another number.
                let (status, answer) = confirm(base, &request, "2026B0000001").await;
                assert_eq!(status, StatusCode::OK, "{answer}");
            }
            let (status, answer) = confirm(base, &request, "2026B0000002").await;
            assert_eq!(
                (status, &answer["data"]["confirmRegistration"].is_string()),
                (StatusCode::OK, &true),
                "{answer}"
            );
            reset(stream);
        }
    })
    .await;
    let app =
        TestApp::with(by_hand(move |settings| destination(settings, "country-config").definition.url = url)).await;
    known.set(app.base.clone()).unwrap();
    app.register_birth("draft-0001").await;
    app.drain().await;
    assert_eq!(number(&app).await.as_deref(), Some("2026B0000001"));
    assert_eq!(
        app.count("select count(*) from record_action where action = 'register' and status = 'accepted'").await,
        1
    );
    assert_eq!(app.told("country-config", MESSAGE).await.state, "delivered");
    app.done().await;
}

/// There the callback meets a record that is being worked on: it is refused, waits for ever, or is overwritten.
#[tokio::test]
async fn a_callback_that_arrives_before_the_deliverys_answer_stands() {
    for ending in ["202 Accepted", "500 Internal Server Error", ""] {
        let base = Base::default();
        let known = Arc::clone(&base);
        let url = peer(move |request, stream| {
            let base = Arc::clone(&base);
            async move {
                assert_eq!(confirm(base.get().unwrap(), &request, "2026B0000001").await.0, StatusCode::OK);
                if ending.is_empty() { reset(stream) } else { reply(stream, ending, "").await }
            }
        })
        .await;
        let app =
            TestApp::with(by_hand(move |settings| destination(settings, "country-config").definition.url = url)).await;
        known.set(app.base.clone()).unwrap();
        let birth = app.register_birth("draft-0001").await;
        app.drain().await;
        assert_eq!(app.status(birth.record_id).await, Status::Registered, "{ending}");
        assert_eq!(app.told("country-config", MESSAGE).await.state, "delivered", "{ending}");
        app.done().await;
    }
}

/// A country config that confirms every registration and answers 500 to every delivery does its work.
#[tokio::test]
async fn a_peer_that_calls_back_and_then_fails_is_not_left_alone() {
    let base = Base::default();
    let known = Arc::clone(&base);
    let url = peer(move |request, stream| {
        let base = Arc::clone(&base);
        async move {
            let bundle: Value = serde_json::from_slice(&request.body).unwrap();
            let number = format!("2026-{}", bundle["entry"][0]["resource"]["id"].as_str().unwrap());
            assert_eq!(confirm(base.get().unwrap(), &request, &number).await.0, StatusCode::OK);
            reply(stream, "500 Internal Server Error", "").await;
        }
    })
    .await;
    let app = TestApp::with(by_hand(move |settings| {
        let country = &mut destination(settings, "country-config").definition;
        country.url = url;
        country.breaker.failures = 2;
    }))
    .await;
    known.set(app.base.clone()).unwrap();
    for n in 0..6 {
        app.register_birth(&format!("draft-{n:04}")).await;
    }
    app.drain().await;
    assert_eq!(app.count("select count(*) from record where status = 'registered'").await, 6);
    assert_eq!(
        app.count("select count(*) from destination where name = 'country-config' and circuit = 'closed'").await,
        1
    );
    app.done().await;
}

/// #2743: a bundle that is too large for the country config was sent again and again for ever, and nobody saw.
#[tokio::test]
async fn what_will_never_be_taken_does_not_loop_for_ever() {
    for status in [413, 400, 403, 404, 422] {
        let app = TestApp::with(by_hand(|_| {})).await;
        app.country_answers(ResponseTemplate::new(status).set_body_json(json!({"message": "no"}))).await;
        let birth = app.register_birth("draft-0001").await;
        app.drain().await;
        let message = app.told("country-config", MESSAGE).await;
        assert_eq!((message.state.as_str(), message.attempts), ("dead", 1), "{status}");
        // It is not rejected either, and whoever looks sees why it waits.
        assert_eq!(app.status(birth.record_id).await, Status::WaitingValidation, "{status}");
        let why: String =
            sqlx::query_scalar("select waits_because from records_waiting").fetch_one(&app.db).await.unwrap();
        assert_eq!(why, "the message to country-config is dead", "{status}");
        app.done_with_leftovers().await;
    }
}

/// A country config fetches our keys anew once a minute at most: for so long a 401 says nothing.
#[tokio::test]
async fn a_401_is_tried_for_a_bounded_time() {
    let app = TestApp::with(by_hand(|_| {})).await;
    app.country_answers(ResponseTemplate::new(401)).await;
    app.register_birth("draft-0001").await;
    for _ in 0..3 {
        app.drain().await;
        assert_eq!(app.told("country-config", MESSAGE).await.state, "retrying");
        app.make_due().await;
    }
    app.execute("update outbox_message set refused_since = refused_since - interval '16 minutes' where refused_since is not null")
        .await;
    app.drain().await;
    assert_eq!(app.told("country-config", MESSAGE).await.state, "dead");
    app.done_with_leftovers().await;
}

/// #12272, #11588: there the reason is lost, and the declaration stays for review as if nobody had said anything.
#[tokio::test]
async fn a_rejected_registration_keeps_its_reason_and_can_be_corrected_and_sent_again() {
    let app = TestApp::with(by_hand(|_| {})).await;
    let submitted = app.register_birth("draft-0001").await;
    app.drain().await;
    let token = app.record_token(submitted.record_id, submitted.action_id);
    let details = json!({"reason": "other", "comment": "Mother NID not found"});
    let query = "mutation rejectRegistration($id: ID!, $details: RejectRegistrationInput!) { rejectRegistration(id: $id, details: $details) }";
    let body = json!({"variables": {"id": submitted.record_id, "details": details}, "query": query});
    let answer = app.http.post(format!("{}/graphql", app.base)).bearer_auth(&token).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(app.status(submitted.record_id).await, Status::Rejected);
    let told: (String, Option<String>) =
        sqlx::query_as("select reason, comment from record_action where status = 'rejected'")
            .fetch_one(&app.db)
            .await
            .unwrap();
    assert!(told.0.contains("Mother NID not found") || told.1.is_some_and(|c| c.contains("Mother NID not found")));
    let registrar = app.token("registrar", &["register"]);
    let corrected = json!({"declaration": birth("declare")["declaration"]});
    for (step, id, body) in [("declare", "correct-0001", &corrected), ("register", "again-0001", &json!({}))] {
        let path = format!("/records/{}/{step}", submitted.record_id);
        assert_eq!(app.post(&path, &registrar, id, body).await.status(), StatusCode::ACCEPTED, "{step}");
    }
    app.country_answers(ResponseTemplate::new(200).set_body_json(json!({"registrationNumber": "2026B0000001"}))).await;
    app.drain().await;
    assert_eq!(number(&app).await.as_deref(), Some("2026B0000001"));
    app.done().await;
}

/// #4602, #6386: there a record waits for the country's validation "as long as possible", and nobody is told.
#[tokio::test]
async fn nothing_waits_for_ever_unseen() {
    let app = TestApp::with(by_hand(|_| {})).await;
    app.register_birth("draft-0001").await;
    app.drain().await;
    let waits = "select waits_because from records_waiting";
    let why: String = sqlx::query_scalar(waits).fetch_one(&app.db).await.unwrap();
    assert_eq!(why, "the callback is due");
    app.execute(
        "update record_action set callback_due_at = now() - interval '1 second' where callback_due_at is not null",
    )
    .await;
    let overdue: bool = sqlx::query_scalar("select overdue from records_waiting").fetch_one(&app.db).await.unwrap();
    assert!(overdue);
    assert_eq!(callbacks::run_once(&app.app().context).await.unwrap(), 1);
    assert!(metric(&app).await >= 1.0, "an alert can see it");
    let first = app.received().await[&("/country-config/event-registration".to_owned(), MESSAGE.to_owned())];
    app.drain().await;
    let again = app.received().await[&("/country-config/event-registration".to_owned(), MESSAGE.to_owned())];
    assert_eq!((first, again), (1, 2), "it is asked again, under the same id");
    let times: i32 = sqlx::query_scalar("select redeliveries from records_waiting").fetch_one(&app.db).await.unwrap();
    assert_eq!(times, 1);
    app.done().await;
}

async fn metric(app: &TestApp) -> f64 {
    let url = format!("http://{}/metrics", app.app().internal_addr);
    let text = app.http.get(url).send().await.unwrap().text().await.unwrap();
    let line = text.lines().find(|line| line.starts_with("crvs_outbox_validation_overdue")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}
