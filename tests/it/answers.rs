//! What each answer of the country config does to the record and to its message, who may give a verdict, and what it
//! leaves on the declaration.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use crvs_outbox::records::model::Status;
use crvs_outbox::samples;
use serde_json::{Value, json};
use wiremock::matchers::{header, path};
use wiremock::{Mock, ResponseTemplate};

use crate::harness::{PATIENCE, Setup, Submitted, TestApp};
use crate::peers::{by_hand, forged};

async fn answers(app: &TestApp, transaction_id: &str, answer: ResponseTemplate) {
    let key = format!("event-registration__register_{transaction_id}");
    let mock = Mock::given(path("/country-config/event-registration")).and(header("idempotency-key", key));
    mock.respond_with(answer).mount(&app.peers).await;
}

/// How often each effect of a verdict was queued, whatever became of it.
async fn effects_of(app: &TestApp, of: &Submitted, word: &str) -> Vec<(String, String, i64)> {
    sqlx::query_as(
        r#"select "to", message, count(*) from outbox where record_id = $1 and transaction_id like '%\_\_' || $2 || '\_%'
           group by 1, 2 order by 1, 2"#,
    )
    .bind(of.record_id)
    .bind(word)
    .fetch_all(&app.db)
    .await
    .unwrap()
}

fn once(effects: &[(&str, &str)]) -> Vec<(String, String, i64)> {
    effects.iter().map(|(to, kind)| ((*to).to_owned(), (*kind).to_owned(), 1)).collect()
}

const CONFIRMED: [(&str, &str); 3] = [("metrics", "registered"), ("notification", "registered"), ("search", "index")];
const REJECTED: [(&str, &str); 4] =
    [("audit", "REJECTED"), ("metrics", "rejected"), ("notification", "rejected"), ("search", "index")];

/// Each answer by its id, which begins with its status: the body, and what becomes of the record and of the message.
const ANSWERS: [(&str, &str, Status, &str); 9] = [
    ("200-number", r#"{"registrationNumber":"2026BANSW01"}"#, Status::Registered, "delivered"),
    ("200-nothing", "", Status::WaitingValidation, "delivered"),
    ("202-later", "", Status::WaitingValidation, "delivered"),
    ("204-later", "", Status::WaitingValidation, "delivered"),
    ("400-reason", r#"{"reason":"no such village"}"#, Status::Rejected, "delivered"),
    ("400-malformed", r#"{"statusCode":400,"message":"Invalid payload"}"#, Status::WaitingValidation, "dead"),
    ("400-proxy", "<h1>Bad Request</h1>", Status::WaitingValidation, "dead"),
    ("401-reason", r#"{"reason":"who are you"}"#, Status::WaitingValidation, "retrying"),
    ("500-number", r#"{"registrationNumber":"2026BANSW02"}"#, Status::WaitingValidation, "retrying"),
];

#[tokio::test]
async fn an_answer_registers_rejects_promises_or_says_nothing_and_only_a_reason_rejects() {
    let app = TestApp::with(by_hand(|_| {})).await;
    let mut births = Vec::new();
    for (id, body, ..) in ANSWERS {
        answers(&app, id, ResponseTemplate::new(id[..3].parse::<u16>().unwrap()).set_body_string(body)).await;
        births.push(app.register_birth(id).await);
    }
    app.drain().await;
    for ((id, _, status, state), birth) in ANSWERS.into_iter().zip(&births) {
        let told = app.told("country-config", &format!("event-registration__register_{id}")).await;
        let now = (app.status(birth.record_id).await, told.state.as_str(), told.attempts);
        assert_eq!(now, (status, state, 1), "{id}");
        let confirmed = if status == Status::Registered { once(&CONFIRMED) } else { vec![] };
        assert_eq!(effects_of(&app, birth, "confirm").await, confirmed, "{id}");
        let rejected = if status == Status::Rejected { once(&REJECTED) } else { vec![] };
        assert_eq!(effects_of(&app, birth, "reject").await, rejected, "{id}");
    }
    let decided: Vec<(String, Option<String>, Option<String>, String)> = sqlx::query_as(
        "select status::text, registration_number, reason, created_by from record_action
         where requested_action_id is not null order by ordinal",
    )
    .fetch_all(&app.db)
    .await
    .unwrap();
    let by = "destination/country-config".to_owned();
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(decided.len(), 2);
    assert!(decided.contains(&("accepted".to_owned(), text("2026BANSW01"), None, by.clone())));
    assert!(decided.contains(&("rejected".to_owned(), None, text("no such village"), by)));
    // "Later" is a promise with an end; the others made none.
    let waiting: Vec<(String, bool)> = sqlx::query_as(
        "select transaction_id, callback_due_at between now() + interval '59 minutes' and now() + interval '1 hour'
         from record_action where callback_due_at is not null order by 1",
    )
    .fetch_all(&app.db)
    .await
    .unwrap();
    let due = |id: &str| (id.to_owned(), true);
    assert_eq!(waiting, [due("200-nothing"), due("202-later"), due("204-later")]);
    app.done_with_leftovers().await;
}

#[tokio::test]
async fn a_verdict_needs_its_scope_and_a_token_for_that_record() {
    let app = TestApp::start().await;
    let (birth, other) = (app.register_birth("who-may-1").await, app.register_birth("who-may-2").await);
    let scopes = ["record.confirm-registration", "record.reject-registration"];
    let of = |record: uuid::Uuid, scopes: &[&str]| json!({ "recordId": record, "actionId": birth.action_id, "scope": scopes });
    let expired =
        json!({ "recordId": birth.record_id, "actionId": birth.action_id, "scope": scopes, "exp": 1_700_000_000 });
    let others_action = json!({ "recordId": birth.record_id, "actionId": other.action_id, "scope": scopes });
    let table = [
        ("a user's scope without a record", app.token("registrar", &scopes), [403, 403]),
        ("another record's token", app.record_token(other.record_id, other.action_id), [403, 403]),
        ("the record without the scope", forged(&of(birth.record_id, &["register", "validate"])), [403, 403]),
        ("another record by claims", forged(&of(other.record_id, &scopes)), [403, 403]),
        ("an action of another record", forged(&others_action), [404, 404]),
        ("expired", forged(&expired), [401, 401]),
        ("none", String::new(), [401, 401]),
    ];
    for (what, token, [confirm, reject]) in &table {
        let verdict = json!({ "registrationNumber": "2026BWHO001" });
        let response = app.post(&format!("/records/{}/confirm", birth.record_id), token, "who-may-k", &verdict).await;
        assert_eq!(response.status(), *confirm, "confirm: {what}");
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{what}");
        let verdict = json!({ "reason": "no" });
        let response = app.post(&format!("/records/{}/reject", birth.record_id), token, "who-may-k", &verdict).await;
        assert_eq!(response.status(), *reject, "reject: {what}");
    }
    // Each scope for its own verdict.
    let confirm_only = forged(&of(birth.record_id, &scopes[..1]));
    let path = format!("/records/{}/reject", birth.record_id);
    assert_eq!(app.post(&path, &confirm_only, "who-may-k", &json!({ "reason": "no" })).await.status(), 403);
    for of in [&birth, &other] {
        assert_eq!(app.status(of.record_id).await, Status::WaitingValidation);
    }
    // A forged token that says what the genuine one says is one: the table above failed for its claims alone.
    let genuine = forged(&of(birth.record_id, &scopes));
    let path = format!("/records/{}/confirm", birth.record_id);
    let verdict = json!({ "registrationNumber": "2026BWHO001" });
    assert_eq!(app.post(&path, &genuine, "who-may-k", &verdict).await.status(), 202);
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn identifiers_of_a_verdict_make_a_new_version_with_them_on_the_child() {
    let app = TestApp::start().await;
    let birth = app.register_birth("identifiers").await;
    let token = app.record_token(birth.record_id, birth.action_id);
    let verdict = json!({
        "registrationNumber": "2026BIDENT1",
        "childIdentifiers": [
            { "type": "BIRTH_CONFIGURABLE_IDENTIFIER_1", "value": "4-11" },
            { "type": "BIRTH_CONFIGURABLE_IDENTIFIER_2", "value": "" },
        ],
    });
    let response = app.post(&format!("/records/{}/confirm", birth.record_id), &token, "identify-1", &verdict).await;
    assert_eq!(response.json::<Value>().await.unwrap()["record"]["version"], 2);
    let versions: Vec<String> = sqlx::query_scalar("select declaration::text from record_version order by version")
        .fetch_all(&app.db)
        .await
        .unwrap();
    let [before, after] = versions.as_slice() else { unreachable!("two versions: {}", versions.len()) };
    assert!(!before.contains("BIRTH_CONFIGURABLE_IDENTIFIER"));
    let bundle: Value = serde_json::from_str(after).unwrap();
    let patients = bundle["entry"].as_array().unwrap().iter().map(|entry| &entry["resource"]);
    let holders: Vec<&Value> =
        patients.filter(|resource| resource.to_string().contains("BIRTH_CONFIGURABLE_IDENTIFIER")).collect();
    let [child] = holders.as_slice() else { unreachable!("one holder: {}", holders.len()) };
    assert_eq!(child["name"][0]["given"][0], "Liseli");
    let value = |code: &str| {
        let of = |i: &&Value| i["type"]["coding"][0]["code"] == code;
        child["identifier"].as_array().unwrap().iter().find(of).unwrap()["value"].clone()
    };
    assert_eq!(
        (value("BIRTH_CONFIGURABLE_IDENTIFIER_1"), value("BIRTH_CONFIGURABLE_IDENTIFIER_2")),
        (json!("4-11"), json!(""))
    );
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn a_death_is_confirmed_without_identifiers_and_keeps_its_version() {
    let app = TestApp::start().await;
    let declaration: Value = serde_json::from_str(samples::DEATH).unwrap();
    let body = json!({ "event": "death", "action": "register", "declaration": declaration });
    let response = app.post("/records", &app.token("registrar", &["register"]), "death-0001", &body).await;
    let body: Value = response.json().await.unwrap();
    let record_id = body["record"]["id"].as_str().unwrap().parse().unwrap();
    let action_id = sqlx::query_scalar("select awaiting_action_id from record").fetch_one(&app.db).await.unwrap();
    let death = Submitted { record_id, action_id, body };
    app.drain().await;
    let reply: Value = app.confirm(&death, "2026DDEATH1").await.json().await.unwrap();
    assert_eq!((&reply["record"]["status"], &reply["record"]["version"]), (&json!("registered"), &json!(1)));
    app.drain().await;
    assert_eq!(effects_of(&app, &death, "confirm").await, once(&CONFIRMED));
    app.done().await;
}

/// Statements that wait for a lock, by when they began.
const WAITING: &str =
    "select query_start::text from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";

#[tokio::test]
async fn no_more_is_asked_than_there_are_places_while_answers_wait_to_be_written() {
    let app = TestApp::with(Setup {
        workers: true,
        change: Box::new(|settings| {
            let mut all = settings.workers.destinations.iter_mut();
            let country = all.find(|d| d.definition.name == "country-config").unwrap();
            country.definition.concurrency = 3;
        }),
    })
    .await;
    app.country_answers(ResponseTemplate::new(202)).await;
    app.execute("update destination set paused_at = now(), paused_by = 'test', paused_why = 'test' where name = 'country-config'")
        .await;
    for n in 0..12 {
        app.register_birth(&format!("draft-{n:04}")).await;
    }
    let mut held = app.db.begin().await.unwrap();
    sqlx::query("select id from record order by id for update").execute(&mut *held).await.unwrap();
    app.execute(
        "update destination set paused_at = null, paused_by = null, paused_why = null where name = 'country-config'",
    )
    .await;
    // Settlements wait for the records, give up after a moment, and begin anew.
    let (mut waits, deadline) = (HashSet::new(), Instant::now() + PATIENCE);
    while waits.len() < 4 {
        waits.extend(sqlx::query_scalar::<_, String>(WAITING).fetch_all(&app.db).await.unwrap());
        assert!(Instant::now() < deadline, "{waits:?}");
    }
    let asked = |received: &HashMap<(String, String), usize>| {
        received
            .iter()
            .filter(|((path, _), _)| path.ends_with("/event-registration"))
            .map(|(_, times)| *times)
            .collect::<Vec<_>>()
    };
    assert_eq!(asked(&app.received().await), [1, 1, 1]);
    held.rollback().await.unwrap();
    app.wait_for("select count(*) from record_action where callback_due_at is not null", 12).await;
    assert_eq!(asked(&app.received().await), [1; 12]);
    app.done().await;
}
