//! Verdicts by GraphQL (1.7, 1.8, the queue's branch) and by `POST /confirm/registration` (1.6): both shapes of the input,
//! repetitions, and refusals that make the peer be asked again.

use std::fmt::Display;

use crvs_outbox::records::model::Status;
use serde_json::{Value, json};
use uuid::Uuid;

use super::wire::post;
use crate::harness::{Setup, Submitted, TestApp, birth};

const CONFIRM: &str = "\n      mutation confirmRegistration(\n        $id: ID!\n        $details: ConfirmRegistrationInput!\n      ) {\n        confirmRegistration(id: $id, details: $details)\n      }\n    ";
const REJECT: &str = "\n      mutation rejectRegistration(\n        $id: ID!\n        $details: RejectRegistrationInput!\n      ) {\n        rejectRegistration(id: $id, details: $details)\n      }\n    ";

/// The three identifiers that a stock country config names for a birth, without a value.
fn empty_identifiers() -> Value {
    (1..=3).map(|n| json!({ "type": format!("BIRTH_CONFIGURABLE_IDENTIFIER_{n}"), "value": "" })).collect()
}

pub(super) fn confirmation(id: impl Display + Copy, details: Value) -> Value {
    request(CONFIRM, id, details)
}

fn rejection(id: impl Display + Copy, details: Value) -> Value {
    request(REJECT, id, details)
}

fn request(query: &str, id: impl Display + Copy, details: Value) -> Value {
    let mut request = json!({ "variables": { "id": id.to_string() }, "query": query });
    request["variables"]["details"] = details;
    request
}

fn confirmed(of: &Submitted) -> Value {
    json!({ "data": { "confirmRegistration": of.record_id.to_string() } })
}

pub(super) async fn number(app: &TestApp, of: &Submitted) -> Option<String> {
    let number = sqlx::query_scalar("select registration_number from record where id = $1").bind(of.record_id);
    number.fetch_one(&app.db).await.unwrap()
}

pub(super) async fn verdicts(app: &TestApp) -> i64 {
    app.count("select count(*) from record_action where requested_action_id is not null").await
}

#[tokio::test]
async fn a_country_config_of_the_queues_branch_confirms_and_the_first_number_stays() {
    let app = TestApp::start().await;
    let birth = app.register_birth("draft-0001").await;
    let token = app.record_token(birth.record_id, birth.action_id);
    let tracking_id = &birth.body["record"]["trackingId"];
    for drawn in ["2026B3VUXES", "2026B3VUXES", "2027B3VUXES"] {
        let details = json!({
            "childIdentifiers": empty_identifiers(), "registrationNumber": drawn, "trackingId": tracking_id,
        });
        let answer = post(&app, "/graphql", &token, &confirmation(birth.record_id, details)).await;
        assert_eq!((answer.status, &answer.json), (200, &confirmed(&birth)), "{drawn}");
        assert!(answer.head.contains("content-type: application/json"));
    }
    assert_eq!(number(&app, &birth).await.as_deref(), Some("2026B3VUXES"));
    assert_eq!(verdicts(&app).await, 1);
    assert_eq!(app.count("select version::bigint from record").await, 1, "identifiers without a value are none");
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn a_country_config_of_1_7_confirms_without_a_tracking_id() {
    let app = TestApp::start().await;
    let birth = app.register_birth("draft-0001").await;
    let token = app.record_token(birth.record_id, birth.action_id);
    let identifiers = json!([{ "type": "BIRTH_CONFIGURABLE_IDENTIFIER_1", "value": "77-1" }]);
    let details = json!({ "identifiers": identifiers, "registrationNumber": "2026B1", "comment": "by hand" });
    let answer = post(&app, "/graphql", &token, &confirmation(birth.record_id, details)).await;
    assert_eq!((answer.status, &answer.json), (200, &confirmed(&birth)));
    let registrar = app.token("registrar", &["register"]);
    let record: Value = app.get(&format!("/records/{}", birth.record_id), &registrar).await.json().await.unwrap();
    assert_eq!((&record["status"], &record["version"]), (&json!("registered"), &json!(2)));
    assert!(record["declaration"].to_string().contains("77-1"));
    let death = app.register_birth("draft-0002").await;
    let token = app.record_token(death.record_id, death.action_id);
    let answer =
        post(&app, "/graphql", &token, &confirmation(death.record_id, json!({ "registrationNumber": "2026B2" }))).await;
    assert_eq!((answer.status, &answer.json), (200, &confirmed(&death)));
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn a_rejection_keeps_the_words_that_people_can_read() {
    let app = TestApp::start().await;
    let birth = app.register_birth("draft-0001").await;
    let token = app.record_token(birth.record_id, birth.action_id);
    let details = json!({ "reason": "other", "comment": "Mother NID not found" });
    for _ in 0..2 {
        let answer = post(&app, "/graphql", &token, &rejection(birth.record_id, details.clone())).await;
        let expected = json!({ "data": { "rejectRegistration": birth.record_id.to_string() } });
        assert_eq!((answer.status, &answer.json), (200, &expected));
    }
    let late = confirmation(birth.record_id, json!({ "registrationNumber": "2026B1" }));
    let answer = post(&app, "/graphql", &token, &late).await;
    assert_eq!((answer.status, &answer.json), (200, &confirmed(&birth)), "a verdict stands: to repeat this is no use");
    assert_eq!(app.status(birth.record_id).await, Status::Rejected);
    let kept: (String, String) = sqlx::query_as("select reason, comment from record_action where status = 'rejected'")
        .fetch_one(&app.db)
        .await
        .unwrap();
    assert_eq!(kept, ("Mother NID not found".to_owned(), "other".to_owned()));
    assert_eq!(verdicts(&app).await, 1);
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn a_rejection_after_a_confirmation_and_a_verdict_on_what_was_superseded_are_answered_and_change_nothing() {
    let app = TestApp::start().await;
    let one = app.register_birth("draft-0001").await;
    let token = app.record_token(one.record_id, one.action_id);
    let confirm = confirmation(one.record_id, json!({ "registrationNumber": "2026B1" }));
    assert_eq!(post(&app, "/graphql", &token, &confirm).await.status, 200);
    let reject = rejection(one.record_id, json!({ "reason": "DUPLICATE" }));
    assert_eq!(post(&app, "/graphql", &token, &reject).await.status, 200);
    assert_eq!(app.status(one.record_id).await, Status::Registered);

    let two = app.register_birth("draft-0002").await;
    let registrar = app.token("registrar", &["register"]);
    let corrected = json!({ "declaration": birth("declare")["declaration"] });
    let path = format!("/records/{}/declare", two.record_id);
    assert_eq!(app.post(&path, &registrar, "fix-00001", &corrected).await.status(), 202);
    let token = app.record_token(two.record_id, two.action_id);
    let late =
        post(&app, "/graphql", &token, &confirmation(two.record_id, json!({ "registrationNumber": "2026B2" }))).await;
    assert_eq!((late.status, &late.json), (200, &confirmed(&two)));
    assert_eq!(app.status(two.record_id).await, Status::Declared);
    assert_eq!(verdicts(&app).await, 1);
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn a_refusal_has_a_status_that_makes_the_country_config_fail_and_nothing_is_written() {
    let app = TestApp::start().await;
    let (one, two) = (app.register_birth("draft-0001").await, app.register_birth("draft-0002").await);
    let taken = confirmation(two.record_id, json!({ "registrationNumber": "TAKEN-77" }));
    let own = app.record_token(one.record_id, one.action_id);
    let others = app.record_token(two.record_id, two.action_id);
    assert_eq!(post(&app, "/graphql", &others, &taken).await.status, 200);
    let (nowhere, nothing) = (Uuid::now_v7(), Uuid::now_v7());
    let lost = app.record_token(nowhere, nothing);
    let user = app.token("registrar", &["register", "record.confirm-registration"]);
    let of = |details: Value| confirmation(one.record_id, details);
    let good = of(json!({ "registrationNumber": "SECRET-77" }));
    let nul = json!({ "query": format!(
        r#"mutation {{ confirmRegistration(id: "{}", details: {{ registrationNumber: "SECRET-77", comment: "\u0000" }}) }}"#,
        one.record_id
    ) });
    for (token, body, status, code) in [
        ("no.valid.token", good.clone(), 401, "UNAUTHENTICATED"),
        (&others, good.clone(), 403, "FORBIDDEN"),
        (&user, good, 403, "FORBIDDEN"),
        (&lost, confirmation(nowhere, json!({ "registrationNumber": "SECRET-77" })), 404, "NOT_FOUND"),
        (&own, of(json!({ "comment": "SECRET-77" })), 400, "BAD_USER_INPUT"),
        (&own, of(json!({ "registrationNumber": " SECRET-77" })), 400, "BAD_USER_INPUT"),
        (&own, nul, 400, "BAD_USER_INPUT"),
        (&own, confirmation("SECRET-77", json!({ "registrationNumber": "1" })), 400, "BAD_USER_INPUT"),
        (&own, rejection(one.record_id, json!({ "reason": " " })), 400, "BAD_USER_INPUT"),
        (&own, of(json!({ "registrationNumber": "2026B9", "trackingId": "SECRET-77" })), 409, "CONFLICT"),
        (&own, of(json!({ "registrationNumber": "TAKEN-77" })), 409, "CONFLICT"),
        (&own, of(json!({ "registrationNumber": { "SECRET-77": 1 } })), 400, "GRAPHQL_VALIDATION_FAILED"),
        (&own, json!({ "query": "mutation { secret77 }" }), 400, "GRAPHQL_VALIDATION_FAILED"),
        (&own, json!({ "query": "SECRET-77 {" }), 400, "GRAPHQL_VALIDATION_FAILED"),
        (&own, json!({ "variables": {} }), 400, "GRAPHQL_VALIDATION_FAILED"),
        (&own, json!([of(json!({ "registrationNumber": "SECRET-77" }))]), 400, "BAD_USER_INPUT"),
        (&own, json!({ "query": 77 }), 400, "BAD_USER_INPUT"),
    ] {
        let answer = post(&app, "/graphql", token, &body).await;
        let said = answer.json.to_string();
        assert_eq!(answer.status, status, "{body} {said}");
        assert_eq!(answer.json["errors"][0]["extensions"]["code"], code, "{body} {said}");
        assert!(answer.json["errors"][0]["message"].is_string() && answer.json["data"].is_null(), "{said}");
        assert!(answer.json.as_object().unwrap().contains_key("data"), "{said}");
        assert!(!said.to_ascii_lowercase().contains("secret") && !said.contains("TAKEN"), "{said}");
    }
    assert_eq!(app.status(one.record_id).await, Status::WaitingValidation);
    assert_eq!(verdicts(&app).await, 1);
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn a_verdict_that_the_database_could_not_take_has_to_be_sent_again() {
    let app = TestApp::start().await;
    let birth = app.register_birth("draft-0001").await;
    app.drain().await;
    let token = app.record_token(birth.record_id, birth.action_id);
    app.app().db.close().await;
    let body = confirmation(birth.record_id, json!({ "registrationNumber": "2026B1" }));
    let answer = post(&app, "/graphql", &token, &body).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json["errors"][0]["extensions"]["code"], "UNAVAILABLE");
    assert!(answer.head.contains("retry-after: "), "{}", answer.head);
    assert_eq!(app.status(birth.record_id).await, Status::WaitingValidation);
    app.done().await;
}

#[tokio::test]
async fn a_country_config_of_1_6_confirms_and_the_first_number_stays() {
    let app = TestApp::start().await;
    let birth = app.register_birth("draft-0001").await;
    let token = app.record_token(birth.record_id, birth.action_id);
    let body = |number: &str| {
        json!({
            "trackingId": birth.body["record"]["trackingId"], "registrationNumber": number,
            "compositionId": birth.record_id, "childIdentifiers": empty_identifiers(),
        })
    };
    let mut wrong = body("2026B0");
    wrong["trackingId"] = json!("BXXXXXX");
    let mut others = body("2026B0");
    others["compositionId"] = json!(Uuid::now_v7());
    for (refused, status) in [(wrong, 409), (others, 403), (json!({ "compositionId": birth.record_id }), 400)] {
        let answer = post(&app, "/confirm/registration", &token, &refused).await;
        assert_eq!(answer.status, status, "{refused}");
        assert!(answer.head.contains("application/problem+json"));
    }
    assert_eq!(verdicts(&app).await, 0);
    for drawn in ["2026B1", "2026B1", "2026B2"] {
        let answer = post(&app, "/confirm/registration", &token, &body(drawn)).await;
        assert_eq!((answer.status, &answer.json), (200, &json!({})), "{drawn}");
    }
    assert_eq!(number(&app, &birth).await.as_deref(), Some("2026B1"));
    assert_eq!(verdicts(&app).await, 1);
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn the_schema_is_told_only_where_a_setting_says_so() {
    let query =
        json!({ "query": "{ __schema { queryType { name } } __type(name: \"ConfirmRegistrationInput\") { name } }" });
    for (on, schema, of_type) in [
        (false, Value::Null, Value::Null),
        (true, json!({ "queryType": { "name": "Query" } }), json!({ "name": "ConfirmRegistrationInput" })),
    ] {
        let change = move |settings: &mut crvs_outbox::config::Settings| settings.handlers.opencrvs.introspection = on;
        let app = TestApp::with(Setup { change: Box::new(change), ..Setup::default() }).await;
        let answer = post(&app, "/graphql", &app.token("developer", &["declare"]), &query).await;
        assert_eq!(answer.json["data"]["__schema"], schema, "{}", answer.json);
        assert_eq!(answer.json["data"]["__type"], of_type, "{}", answer.json);
        let deep = format!("{{ __schema {} {{ name {} }} }}", "{ types { ofType ".repeat(9), "}}".repeat(9));
        let answer = post(&app, "/graphql", &app.token("developer", &["declare"]), &json!({ "query": deep })).await;
        assert_eq!(answer.status, 400, "{}", answer.json);
        app.done().await;
    }
}
