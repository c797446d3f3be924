//! Actions on a record that exists: allowed by the table of transitions, once, by who may.

use crvs_outbox::records::model::Status;
use reqwest::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{TestApp, birth, flat};

/// Submits a flat declaration as `mary`, who only declares; returns its id.
async fn declared(app: &TestApp, id: &str, action: &str) -> Uuid {
    let token = app.token("mary", &["declare"]);
    let answer: Value = app.post("/records", &token, id, &flat(action)).await.json().await.unwrap();
    answer["record"]["id"].as_str().unwrap().parse().unwrap()
}

/// The consequences that a transaction queued.
async fn consequences(app: &TestApp, id: &str) -> Vec<String> {
    sqlx::query_scalar("select destination || ' ' || transaction_id from outbox_message where transaction_id like '%' || $1 order by id")
        .bind(id)
        .fetch_all(&app.db)
        .await
        .unwrap()
}

#[tokio::test]
async fn each_action_moves_the_record_once_and_sends_its_consequences() {
    let correction = || json!({ "declaration": flat("x")["declaration"] });
    let none = || json!({});
    let table = [
        ("notify", "notify", correction(), Status::InProgress, 4),
        ("declare", "declare", correction(), Status::Declared, 4),
        ("declare", "validate", none(), Status::Validated, 4),
        ("declare", "register", none(), Status::WaitingValidation, 4),
        ("declare", "reject", json!({ "reason": "unreadable" }), Status::Rejected, 4),
        ("declare", "archive", json!({ "reason": "entered twice" }), Status::Archived, 3),
    ];
    let app = TestApp::start().await;
    let registrar = app.token("registrar", &["register"]);
    for (n, (first, action, body, status, messages)) in table.into_iter().enumerate() {
        let record = declared(&app, &format!("draft-{n:04}"), first).await;
        app.drain().await;
        let (path, id) = (format!("/records/{record}/{action}"), format!("act-{n:06}"));
        let answer = app.post(&path, &registrar, &id, &body).await;
        assert_eq!(answer.status(), StatusCode::ACCEPTED, "{action}");
        assert_eq!(answer.headers()["location"], format!("/transactions/{id}"));
        let answer = answer.bytes().await.unwrap();
        assert_eq!(app.status(record).await, status, "{action}");
        assert_eq!(consequences(&app, &id).await.len(), messages, "{action}");
        let again = app.post(&path, &registrar, &id, &body).await;
        assert_eq!(again.headers()["idempotency-replayed"], "true", "{action}");
        assert_eq!(again.bytes().await.unwrap(), answer, "{action}");
        assert_eq!(consequences(&app, &id).await.len(), messages, "{action}");
    }
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn what_the_status_does_not_allow_is_refused_with_its_reason_and_writes_nothing() {
    let app = TestApp::start().await;
    let registrar = app.token("registrar", &["register"]);
    let record = declared(&app, "draft-0001", "declare").await;
    let path = |action: &str| format!("/records/{record}/{action}");
    let reason = json!({ "reason": "x" });
    let refused = app.post(&path("not-duplicate"), &registrar, "act-000001", &json!({})).await;
    assert_eq!(refused.status(), StatusCode::CONFLICT);
    assert!(refused.text().await.unwrap().contains("not held as a possible duplicate"));
    assert_eq!(app.post(&path("archive"), &registrar, "act-000002", &reason).await.status(), StatusCode::ACCEPTED);
    for (n, action) in
        ["notify", "declare", "validate", "register", "reject", "not-duplicate", "archive"].into_iter().enumerate()
    {
        let body = match action {
            "notify" | "declare" => json!({ "declaration": {} }),
            "reject" => reason.clone(),
            _ => json!({}),
        };
        let before = app.count("select count(*) from client_transaction").await;
        let refused = app.post(&path(action), &registrar, &format!("act-00001{n}"), &body).await;
        assert_eq!(refused.status(), StatusCode::CONFLICT, "{action}");
        assert_eq!(app.count("select count(*) from client_transaction").await, before, "{action}");
    }
    for (action, body) in [
        ("declare", json!({})),
        ("validate", json!({ "declaration": {} })),
        ("reject", json!({})),
        ("reject", json!({ "reason": " " })),
        ("register", json!({ "reason": "x" })),
    ] {
        assert_eq!(
            app.post(&path(action), &registrar, "act-000099", &body).await.status(),
            StatusCode::BAD_REQUEST,
            "{action}"
        );
    }
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn who_only_declares_works_on_their_own_records() {
    let app = TestApp::start().await;
    let record = declared(&app, "draft-0001", "declare").await;
    let correction = json!({ "declaration": { "child.firstName": "Ada" } });
    let path = |action: &str| format!("/records/{record}/{action}");
    let (mary, joe) = (app.token("mary", &["declare"]), app.token("joe", &["declare"]));
    assert_eq!(app.post(&path("declare"), &joe, "act-000001", &correction).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(app.post(&path("declare"), &mary, "act-000002", &correction).await.status(), StatusCode::ACCEPTED);
    for (action, body) in
        [("validate", json!({})), ("register", json!({})), ("reject", json!({ "reason": "x" })), ("archive", json!({}))]
    {
        let refused = app.post(&path(action), &mary, "act-000003", &body).await;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{action}");
    }
    let reader = app.token("joe", &["declare", "record.read"]);
    let refused = app.post(&path("declare"), &reader, "act-000005", &correction).await;
    assert_eq!(refused.status(), StatusCode::NOT_FOUND, "who may read may not therefore correct");
    let sender_back = app.token("joe", &["record.declaration-reject"]);
    let rejected = app.post(&path("reject"), &sender_back, "act-000006", &json!({ "reason": "x" })).await;
    assert_eq!(rejected.status(), StatusCode::ACCEPTED, "a right is good for everybody's records");
    let nowhere = "/records/0197a000-0000-7000-8000-000000000000/declare";
    assert_eq!(app.post(nowhere, &mary, "act-000004", &correction).await.status(), StatusCode::NOT_FOUND);
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn a_correction_is_a_new_version_of_the_same_record() {
    let app = TestApp::start().await;
    let first = app.register_birth("draft-0001").await;
    let token = app.token("registrar", &["register"]);
    let corrected = json!({ "declaration": birth("declare")["declaration"] });
    let answer = app.post(&format!("/records/{}/declare", first.record_id), &token, "fix-000001", &corrected).await;
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["record"]["version"], 2);
    assert_eq!(answer["record"]["trackingId"], first.body["record"]["trackingId"]);
    let record: Value = app.get(&format!("/records/{}", first.record_id), &token).await.json().await.unwrap();
    assert_eq!(record["declaration"]["entry"][0]["resource"]["id"], first.record_id.to_string());
    assert!(record["declaration"].to_string().contains(first.body["record"]["trackingId"].as_str().unwrap()));
    assert_eq!(app.count("select count(*) from attachment").await, 1, "the same picture is stored once");
    assert_eq!(app.count("select count(*) from record_attachment").await, 2);
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn a_held_record_resumes_what_was_held_back() {
    let app = TestApp::start().await;
    let registrar = app.token("registrar", &["register"]);
    for (n, (held, status)) in
        [("declare", Status::Declared), ("validate", Status::Validated), ("register", Status::WaitingValidation)]
            .into_iter()
            .enumerate()
    {
        let record = declared(&app, &format!("draft-{n:04}"), "declare").await;
        app.drain().await;
        sqlx::query(sqlx::AssertSqlSafe(format!("update record set held_action = '{held}' where id = '{record}'")))
            .execute(&app.db)
            .await
            .unwrap();
        let path = |action: &str| format!("/records/{record}/{action}");
        let correction = json!({ "declaration": flat("x")["declaration"] });
        let corrected = app.post(&path("declare"), &registrar, &format!("fix-{n:05}"), &correction).await;
        assert_eq!(corrected.status(), StatusCode::ACCEPTED);
        for action in ["validate", "register"] {
            let refused = app.post(&path(action), &registrar, "act-000001", &json!({})).await;
            assert_eq!(refused.status(), StatusCode::CONFLICT);
        }
        let id = format!("not-dup-{n:04}");
        let answer = app.post(&path("not-duplicate"), &registrar, &id, &json!({})).await;
        assert_eq!(answer.status(), StatusCode::ACCEPTED, "{held}");
        assert_eq!(app.status(record).await, status, "{held}");
        let asks =
            consequences(&app, &id).await.iter().any(|c| c.starts_with("country-config event-registration__register_"));
        assert_eq!(asks, held == "register");
    }
    app.drain().await;
    app.done().await;
}
