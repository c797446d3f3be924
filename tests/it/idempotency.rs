//! `Idempotency-Key`, as the IETF draft has it, and what makes two requests one intention.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::harness::{TestApp, birth, flat};

#[tokio::test]
async fn sixty_four_copies_at_once_make_one_record_and_get_one_answer() {
    let app = TestApp::start().await;
    let token = app.token("registrar", &["register"]);
    let body = birth("register");
    let answers = join_all((0..64).map(|_| app.post("/records", &token, "draft-0001", &body))).await;
    let (mut originals, mut bodies) = (0, BTreeSet::new());
    for answer in answers {
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
        originals += usize::from(answer.headers().get("idempotency-replayed").is_none());
        bodies.insert(answer.bytes().await.unwrap());
    }
    assert_eq!((originals, bodies.len()), (1, 1));
    assert_eq!(app.count("select count(*) from record").await, 1);
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn an_id_in_the_header_and_in_the_body_is_the_same_intention() {
    let app = TestApp::start().await;
    let token = app.token("registrar", &["register"]);
    let mut named = flat("declare");
    named["transactionId"] = json!("draft-0001");
    let url = format!("{}/records", app.base);
    let by_body = app.http.post(&url).bearer_auth(&token).json(&named).send().await.unwrap();
    let by_body = by_body.bytes().await.unwrap();
    for body in [&flat("declare"), &named] {
        for key in ["draft-0001", "\"draft-0001\"", "\"draft-0001\";v=1"] {
            let again = app.post("/records", &token, key, body).await;
            assert_eq!(again.headers()["idempotency-replayed"], "true");
            assert_eq!(again.bytes().await.unwrap(), by_body);
        }
    }
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn what_an_earlier_release_saved_is_still_replayed() {
    let app = TestApp::start().await;
    let token = app.token("registrar", &["register"]);
    let mut named = flat("declare");
    named["transactionId"] = json!("draft-0001");
    let first = app.post("/records", &token, "draft-0001", &named).await.bytes().await.unwrap();
    // Earlier releases counted the member in.
    let text = serde_json::to_vec(&named).unwrap();
    let digest = crvs_outbox::json::digest(&text).unwrap();
    sqlx::query("update client_transaction set fingerprint = sha256('POST /records'::bytea || '\\x0a'::bytea || $1)")
        .bind(digest.as_slice())
        .execute(&app.db)
        .await
        .unwrap();
    let again = app.post("/records", &token, "draft-0001", &named).await;
    assert_eq!(again.status(), StatusCode::ACCEPTED);
    assert_eq!(again.bytes().await.unwrap(), first);
    named["comment"] = json!("changed");
    assert_eq!(app.post("/records", &token, "draft-0001", &named).await.status(), StatusCode::UNPROCESSABLE_ENTITY);
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn each_situation_of_the_draft_has_its_answer() {
    let app = TestApp::start().await;
    let token = app.token("registrar", &["register"]);
    let mut other = flat("declare");
    other["comment"] = json!("changed");
    let plain = flat("declare");
    let url = format!("{}/records", app.base);
    let cases: [(Option<&str>, &Value, u16, Option<&str>); 8] = [
        (None, &plain, 400, Some("idempotency-key-missing")),
        (Some("short"), &plain, 400, Some("idempotency-key-invalid")),
        (Some("\"draft-0001"), &plain, 400, Some("idempotency-key-invalid")),
        (Some("\"draft-0001\" x"), &plain, 400, Some("idempotency-key-invalid")),
        (Some(":ZHJhZnQtMDAwMQ==:"), &plain, 400, Some("idempotency-key-invalid")),
        (Some("\"draft-0001\""), &plain, 202, None),
        (Some("\"draft-0001\""), &plain, 202, None),
        (Some("\"draft-0001\""), &other, 422, Some("idempotency-key-reused")),
    ];
    for (key, body, status, slug) in cases {
        let mut request = app.http.post(&url).bearer_auth(&token).json(body);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{key:?}");
        let answer: Value = answer.json().await.unwrap();
        let expected = slug.map_or(Value::Null, |slug| format!("urn:crvs-outbox:problem:{slug}").into());
        assert_eq!(answer["type"], expected, "{key:?}");
    }
    app.drain().await;
    app.done().await;
}
