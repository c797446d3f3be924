//! The country's verdict: first one wins, whichever way it comes and in whatever order.

use crvs_outbox::records::model::Status;
use crvs_outbox::workers::callbacks;
use reqwest::StatusCode;
use serde_json::{Value, json};
use wiremock::ResponseTemplate;

use crate::harness::{Submitted, TestApp, birth};

/// The number that a record has.
async fn number(app: &TestApp, of: &Submitted) -> Option<String> {
    sqlx::query_scalar("select registration_number from record where id = $1")
        .bind(of.record_id)
        .fetch_one(&app.db)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_number_in_the_answer_registers() {
    let app = TestApp::start().await;
    app.country_answers(ResponseTemplate::new(200).set_body_json(json!({ "registrationNumber": "2026B1" }))).await;
    let birth = app.register_birth("draft-0001").await;
    app.drain().await;
    assert_eq!(app.status(birth.record_id).await, Status::Registered);
    assert_eq!(number(&app, &birth).await.as_deref(), Some("2026B1"));
    let received = app.received().await;
    for (path, id) in [
        ("/search", "index__confirm_"),
        ("/metrics", "registered__confirm_"),
        ("/notification", "registered__confirm_"),
    ] {
        assert_eq!(received[&(path.to_owned(), format!("{id}draft-0001"))], 1);
    }
    app.done().await;
}

#[tokio::test]
async fn a_reason_in_a_400_rejects_and_is_kept() {
    let app = TestApp::start().await;
    app.country_answers(ResponseTemplate::new(400).set_body_json(json!({ "reason": "no such village" }))).await;
    let birth = app.register_birth("draft-0001").await;
    app.drain().await;
    assert_eq!(app.status(birth.record_id).await, Status::Rejected);
    let token = app.token("registrar", &["register"]);
    let history: Value = app.get(&format!("/records/{}/history", birth.record_id), &token).await.json().await.unwrap();
    assert_eq!(history[2]["status"], "rejected");
    assert_eq!(history[2]["reason"], "no such village");
    // It can be corrected and sent again, under new transaction ids.
    let corrected = json!({ "declaration": crate::harness::birth("declare")["declaration"] });
    let path = format!("/records/{}", birth.record_id);
    assert_eq!(app.post(&format!("{path}/declare"), &token, "fix-00001", &corrected).await.status(), 202);
    assert_eq!(app.post(&format!("{path}/register"), &token, "again-0001", &json!({})).await.status(), 202);
    assert_eq!(app.status(birth.record_id).await, Status::WaitingValidation);
    app.drain().await;
    assert_eq!(app.count("select count(*) from record_action where status = 'rejected'").await, 2);
    app.done().await;
}

#[tokio::test]
async fn nothing_but_a_verdict_decides() {
    for (status, body, state) in [
        (400, "<html>Bad Request</html>", "dead"),
        (400, r#"{"statusCode":400,"error":"Bad Request"}"#, "dead"),
        (413, "", "dead"),
        (302, "", "dead"),
        (401, "", "retrying"),
        (500, r#"{"registrationNumber":"2026B1"}"#, "retrying"),
        (503, "", "retrying"),
    ] {
        let app = TestApp::start().await;
        app.country_answers(ResponseTemplate::new(status).set_body_string(body)).await;
        let birth = app.register_birth("draft-0001").await;
        app.drain().await;
        assert_eq!(app.status(birth.record_id).await, Status::WaitingValidation, "{status}");
        let left: String =
            sqlx::query_scalar("select state::text from outbox_message").fetch_one(&app.db).await.unwrap();
        assert_eq!(left, state, "{status}");
        let why: String =
            sqlx::query_scalar("select waits_because from records_waiting").fetch_one(&app.db).await.unwrap();
        assert_eq!(why, format!("the message to country-config is {state}"));
        app.done_with_leftovers().await;
    }
}

#[tokio::test]
async fn a_callback_that_comes_before_the_answer_stands_whatever_the_answer_is() {
    for answer in [202, 500, 400, 200] {
        let app = TestApp::start().await;
        let birth = app.register_birth("draft-0001").await;
        // The peer calls confirm back while our request is open, and answers only then.
        app.country_calls_back(&birth, "2026B1", answer).await;
        app.drain().await;
        assert_eq!(app.status(birth.record_id).await, Status::Registered, "{answer}");
        assert_eq!(app.received().await[&("/search".to_owned(), "index__confirm_draft-0001".to_owned())], 1);
        app.done().await;
    }
}

#[tokio::test]
async fn a_callback_finishes_the_message_that_nobody_holds() {
    for state in ["queued", "retrying", "dead"] {
        let app = TestApp::start().await;
        if state != "queued" {
            app.country_answers(ResponseTemplate::new(if state == "dead" { 404 } else { 500 })).await;
        }
        let birth = app.register_birth("draft-0001").await;
        if state != "queued" {
            app.drain().await;
        }
        assert_eq!(app.confirm(&birth, "2026B1").await.status(), StatusCode::ACCEPTED);
        let live = "select count(*) from outbox_message where kind = 'event-registration'";
        assert_eq!(app.count(live).await, 0, "{state}");
        app.drain().await;
        let asked = app.received().await.get(&(COUNTRY.to_owned(), ASKED.to_owned())).copied().unwrap_or(0);
        assert_eq!(asked > 0, state != "queued", "{state}");
        app.done().await;
    }
}

const COUNTRY: &str = "/country-config/event-registration";
const ASKED: &str = "event-registration__register_draft-0001";

#[tokio::test]
async fn the_same_verdict_again_gets_the_same_answer_and_another_is_refused() {
    let app = TestApp::start().await;
    let birth = app.register_birth("draft-0001").await;
    let first = app.confirm(&birth, "2026B1").await;
    assert_eq!(first.status(), StatusCode::ACCEPTED);
    assert_eq!(first.headers()["location"], "/transactions/draft-0001");
    let first = first.bytes().await.unwrap();
    app.drain().await;
    let again = app.confirm(&birth, "2026B1").await;
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    assert_eq!(again.bytes().await.unwrap(), first);
    assert_eq!(app.confirm(&birth, "2026B2").await.status(), StatusCode::CONFLICT);
    assert_eq!(app.reject(&birth, "no").await.status(), StatusCode::CONFLICT);
    assert_eq!(number(&app, &birth).await.as_deref(), Some("2026B1"));

    let other = app.register_birth("draft-0002").await;
    assert_eq!(app.reject(&other, "no").await.status(), StatusCode::ACCEPTED);
    assert_eq!(app.reject(&other, "no, for another reason").await.status(), StatusCode::ACCEPTED);
    assert_eq!(app.confirm(&other, "2026B3").await.status(), StatusCode::CONFLICT);
    assert_eq!(app.status(other.record_id).await, Status::Rejected);
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn of_concurrent_verdicts_one_wins() {
    let app = TestApp::start().await;
    for round in 0..5 {
        let birth = app.register_birth(&format!("draft-{round:04}")).await;
        let (one, two) = (format!("A{round}"), format!("B{round}"));
        let answers = tokio::join!(app.confirm(&birth, &one), app.confirm(&birth, &two), app.reject(&birth, "no"));
        let statuses = [answers.0.status(), answers.1.status(), answers.2.status()];
        let won = statuses.iter().filter(|s| **s == StatusCode::ACCEPTED).count();
        assert_eq!(won, 1, "{statuses:?}");
        assert!(statuses.iter().all(|s| *s == StatusCode::ACCEPTED || *s == StatusCode::CONFLICT), "{statuses:?}");
    }
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn a_number_is_given_once() {
    let app = TestApp::start().await;
    let (one, two, three) = (
        app.register_birth("draft-0001").await,
        app.register_birth("draft-0002").await,
        app.register_birth("draft-0003").await,
    );
    let answers = tokio::join!(app.confirm(&one, "2026B1"), app.confirm(&two, "2026B1"));
    let mut statuses = [answers.0.status().as_u16(), answers.1.status().as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [202, 409]);
    // By answer: an operator must look.
    app.country_answers(ResponseTemplate::new(200).set_body_json(json!({ "registrationNumber": "2026B1" }))).await;
    app.drain().await;
    let why: Vec<String> = sqlx::query_scalar("select because from outbox_stuck").fetch_all(&app.db).await.unwrap();
    assert_eq!(why, ["registration-number-taken", "registration-number-taken"]);
    // And a callback with a good number still decides.
    assert_eq!(app.confirm(&three, "2026B3").await.status(), StatusCode::ACCEPTED);
    let loser = if statuses_of(&app, &one).await { &two } else { &one };
    assert_eq!(app.confirm(loser, "2026B2").await.status(), StatusCode::ACCEPTED);
    app.drain().await;
    app.done().await;
}

async fn statuses_of(app: &TestApp, of: &Submitted) -> bool {
    app.status(of.record_id).await == Status::Registered
}

#[tokio::test]
async fn a_verdict_needs_the_scope_and_the_record() {
    let app = TestApp::start().await;
    let (one, two) = (app.register_birth("draft-0001").await, app.register_birth("draft-0002").await);
    let path = format!("/records/{}/confirm", one.record_id);
    let body = json!({ "registrationNumber": "2026B1" });
    let user = app.token("registrar", &["register", "record.confirm-registration"]);
    assert_eq!(app.post(&path, &user, "k", &body).await.status(), StatusCode::FORBIDDEN);
    let others = app.record_token(two.record_id, two.action_id);
    assert_eq!(app.post(&path, &others, "k", &body).await.status(), StatusCode::FORBIDDEN);
    let mixed = app.record_token(one.record_id, two.action_id);
    assert_eq!(app.post(&path, &mixed, "k", &body).await.status(), StatusCode::NOT_FOUND);
    let own = app.record_token(one.record_id, one.action_id);
    let wrong = json!({ "registrationNumber": "2026B1", "trackingId": "BXXXXXX" });
    assert_eq!(app.post(&path, &own, "k", &wrong).await.status(), StatusCode::CONFLICT);
    for bad in [json!({}), json!({ "registrationNumber": "" }), json!({ "registrationNumber": "1", "extra": 1 })] {
        assert_eq!(app.post(&path, &own, "k", &bad).await.status(), StatusCode::BAD_REQUEST);
    }
    assert_eq!(app.status(one.record_id).await, Status::WaitingValidation);
    let right = json!({ "registrationNumber": "2026B1", "trackingId": one.body["record"]["trackingId"] });
    assert_eq!(app.post(&path, &own, "k", &right).await.status(), StatusCode::ACCEPTED);
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn confirmed_identifiers_make_a_new_version_of_the_child() {
    let app = TestApp::start().await;
    let birth = app.register_birth("draft-0001").await;
    let token = app.record_token(birth.record_id, birth.action_id);
    let body = json!({ "registrationNumber": "2026B1", "childIdentifiers": [{ "type": "BIRTH_CONFIGURABLE_IDENTIFIER_1", "value": "77-1" }] });
    let confirmed = app.post(&format!("/records/{}/confirm", birth.record_id), &token, "k", &body).await;
    let confirmed: Value = confirmed.json().await.unwrap();
    assert_eq!(confirmed["record"]["version"], 2);
    let registrar = app.token("registrar", &["register"]);
    let record: Value = app.get(&format!("/records/{}", birth.record_id), &registrar).await.json().await.unwrap();
    let text = record["declaration"].to_string();
    assert!(text.contains("77-1") && text.contains("birth-registration-number"), "{text}");
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn a_verdict_on_a_superseded_request_comes_too_late() {
    let app = TestApp::start().await;
    let first = app.register_birth("draft-0001").await;
    let token = app.token("registrar", &["register"]);
    let corrected = json!({ "declaration": birth("declare")["declaration"] });
    let declared = app.post(&format!("/records/{}/declare", first.record_id), &token, "fix-00001", &corrected).await;
    assert_eq!(declared.status(), StatusCode::ACCEPTED);
    assert_eq!(app.confirm(&first, "2026B1").await.status(), StatusCode::CONFLICT);
    assert_eq!(app.reject(&first, "no").await.status(), StatusCode::CONFLICT);
    app.drain().await;
    assert_eq!(app.status(first.record_id).await, Status::Declared);
    // It was not even asked any more.
    assert!(!app.received().await.contains_key(&(COUNTRY.to_owned(), ASKED.to_owned())));
    app.done().await;
}

#[tokio::test]
async fn a_promised_callback_that_does_not_come_is_asked_for_again() {
    let app = TestApp::start().await;
    app.register_birth("draft-0001").await;
    app.drain().await;
    let mut patience = Vec::new();
    for redelivery in 1..=3 {
        patience.push(app.count("select extract(epoch from callback_due_at - now())::bigint from record_action where callback_due_at is not null").await);
        app.execute(
            "update record_action set callback_due_at = now() - interval '1 second' where callback_due_at is not null",
        )
        .await;
        assert_eq!(app.count("select count(*) from records_waiting where overdue").await, 1);
        assert_eq!(callbacks::run_once(&app.app().context).await.unwrap(), 1);
        assert_eq!(callbacks::run_once(&app.app().context).await.unwrap(), 0, "it is on its way already");
        app.drain().await;
        assert_eq!(app.received().await[&(COUNTRY.to_owned(), ASKED.to_owned())], redelivery + 1);
        assert_eq!(
            app.count("select redeliveries::bigint from record_action where status = 'requested'").await,
            i64::try_from(redelivery).unwrap()
        );
    }
    assert!(patience.windows(2).all(|pair| pair[1] > pair[0] * 3 / 2), "{patience:?}");
    app.done().await;
}

#[tokio::test]
async fn a_corrected_record_is_not_held_up_by_the_message_that_it_supersedes() {
    for status in [404, 500] {
        let app = TestApp::start().await;
        app.country_answers_once(ResponseTemplate::new(status)).await;
        let first = app.register_birth("draft-0001").await;
        app.drain().await;
        let token = app.token("registrar", &["register"]);
        let path = format!("/records/{}", first.record_id);
        let corrected = json!({ "declaration": birth("declare")["declaration"] });
        assert_eq!(app.post(&format!("{path}/declare"), &token, "fix-00001", &corrected).await.status(), 202);
        assert_eq!(app.post(&format!("{path}/register"), &token, "again-0001", &json!({})).await.status(), 202);
        app.drain().await;
        let asked = "event-registration__register_again-0001";
        assert_eq!(app.received().await[&(COUNTRY.to_owned(), asked.to_owned())], 1, "{status}");
        app.done().await;
    }
}

#[tokio::test]
async fn a_registration_that_nobody_was_there_to_validate_is_sent_once_somebody_is() {
    let app = TestApp::start().await;
    app.execute("update destination set enabled = false where name = 'country-config'").await;
    app.register_birth("draft-0001").await;
    app.drain().await;
    app.execute("update destination set enabled = true").await;
    app.execute("update record_action set callback_due_at = now() where callback_due_at is not null").await;
    assert_eq!(callbacks::run_once(&app.app().context).await.unwrap(), 1);
    app.drain().await;
    assert_eq!(app.received().await[&(COUNTRY.to_owned(), ASKED.to_owned())], 1);
    app.done().await;
}
