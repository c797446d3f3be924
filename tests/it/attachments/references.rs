//! What was uploaded becomes part of a record, for who has it.

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{pdf, sha256};
use crate::harness::{TestApp, birth, flat};

fn beside(action: &str, digest: &str) -> Value {
    let mut body = flat(action);
    body["attachments"] = json!([{ "type": "PROOF", "contentType": "application/pdf", "sha256": digest }]);
    body
}

/// The sample birth with a URL in the place of its picture.
fn in_bundle(action: &str, url: &str) -> Value {
    let mut body = birth(action);
    let entries = body["declaration"]["entry"].as_array_mut().unwrap();
    let document = entries.iter_mut().find(|e| e["resource"]["resourceType"] == "DocumentReference").unwrap();
    document["resource"]["content"][0]["attachment"] = json!({ "url": url });
    body
}

#[tokio::test]
async fn an_uploaded_attachment_is_referred_to_beside_the_declaration_and_inside_a_bundle() {
    let app = TestApp::start().await;
    let (token, bytes) = (app.token("mary", &["declare"]), pdf(600_000, 10));
    let digest = sha256(&bytes);
    assert_eq!(app.upload(&token, &bytes).await.status(), StatusCode::CREATED);
    let absolute = format!("https://crvs.example/api/attachments/{digest}");
    for (n, body) in [
        beside("declare", &digest),
        in_bundle("declare", &format!("/attachments/{digest}")),
        in_bundle("declare", &absolute),
    ]
    .iter()
    .enumerate()
    {
        let answer = app.post("/records", &token, &format!("draft-000{n}"), body).await;
        assert_eq!(answer.status(), StatusCode::ACCEPTED, "{n}");
        let answer: Value = answer.json().await.unwrap();
        let path = format!("/records/{}", answer["record"]["id"].as_str().unwrap());
        let record: Value = app.get(&path, &token).await.json().await.unwrap();
        assert_eq!(record["attachments"][0]["sha256"], digest);
        assert_eq!(record["attachments"][0]["size"], bytes.len());
    }
    let stored: String = sqlx::query_scalar(
        "select declaration::text from record_version where declaration::text like '%crvs.example/api%'",
    )
    .fetch_one(&app.db)
    .await
    .unwrap();
    assert!(stored.contains(&absolute), "a URL stays as it was sent");
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn to_know_a_digest_is_not_to_have_the_bytes() {
    let app = TestApp::start().await;
    let (mary, eve) = (app.token("mary", &["declare"]), app.token("eve", &["declare"]));
    let bytes = pdf(600_000, 11);
    let digest = sha256(&bytes);
    let path = format!("/attachments/{digest}");
    assert_eq!(app.upload(&mary, &bytes).await.status(), StatusCode::CREATED);
    assert_eq!(
        app.post("/records", &mary, "draft-0001", &beside("declare", &digest)).await.status(),
        StatusCode::ACCEPTED
    );
    for (body, pointer) in [
        (beside("declare", &digest), "/attachments/0/sha256"),
        (beside("declare", &"0".repeat(64)), "/attachments/0/sha256"),
        (in_bundle("declare", &path), "/declaration/entry/5/resource/content/0/attachment/url"),
    ] {
        let refused = app.post("/records", &eve, "draft-0002", &body).await;
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
        let problem: Value = refused.json().await.unwrap();
        assert_eq!(problem["type"], "urn:crvs-outbox:problem:unknown-attachment");
        let at = problem["errors"][0]["pointer"].as_str().unwrap();
        assert_eq!(at.rsplit_once('/').unwrap().1, pointer.rsplit_once('/').unwrap().1, "{at}");
        assert!(at.starts_with(pointer.split_at(12).0), "{at}");
    }
    assert_eq!(app.count("select count(*) from record").await, 1);
    assert_eq!(app.get(&path, &eve).await.status(), StatusCode::NOT_FOUND);
    // Other bytes under this digest are no proof; the bytes themselves are, and are not stored twice.
    let wrong = app.put(&eve, &digest, pdf(600_000, 12)).send().await.unwrap();
    assert_eq!(wrong.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        app.post("/records", &eve, "draft-0002", &beside("declare", &digest)).await.status(),
        StatusCode::BAD_REQUEST
    );
    assert_eq!(app.upload(&eve, &bytes).await.status(), StatusCode::OK);
    assert_eq!(app.stored().await, (1, 1, 3, 2));
    assert_eq!(app.get(&path, &eve).await.status(), StatusCode::OK);
    assert_eq!(
        app.post("/records", &eve, "draft-0002", &beside("declare", &digest)).await.status(),
        StatusCode::ACCEPTED
    );
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn more_attachments_than_a_declaration_has_are_one_problem() {
    let app = TestApp::start().await;
    let token = app.token("mary", &["declare"]);
    let one = json!({ "type": "PROOF", "contentType": "image/png", "data": "" });
    for (many, errors) in [(200, 100), (201, 1)] {
        let mut body = flat("declare");
        body["attachments"] = json!(vec![one.clone(); many]);
        let refused = app.post("/records", &token, "draft-0001", &body).await;
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
        let problem: Value = refused.json().await.unwrap();
        assert_eq!(problem["errors"].as_array().unwrap().len(), errors);
    }
    app.done().await;
}

#[tokio::test]
async fn who_may_not_correct_a_record_learns_nothing_of_its_attachments() {
    let app = TestApp::start().await;
    let (mary, eve) = (app.token("mary", &["declare"]), app.token("eve", &["declare"]));
    let bytes = pdf(10_000, 13);
    let digest = sha256(&bytes);
    assert_eq!(app.upload(&mary, &bytes).await.status(), StatusCode::CREATED);
    let answer = app.post("/records", &mary, "draft-0001", &beside("declare", &digest)).await;
    let answer: Value = answer.json().await.unwrap();
    let path = format!("/records/{}/declare", answer["record"]["id"].as_str().unwrap());
    for (n, digest) in [digest, "0".repeat(64)].iter().enumerate() {
        let mut body = beside("declare", digest);
        body.as_object_mut().unwrap().remove("event");
        body.as_object_mut().unwrap().remove("action");
        let refused = app.post(&path, &eve, &format!("eve-000{n}"), &body).await;
        assert_eq!(refused.status(), StatusCode::NOT_FOUND);
    }
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn a_reference_says_no_other_type_than_the_bytes() {
    let app = TestApp::start().await;
    let (token, bytes) = (app.token("mary", &["declare"]), pdf(1000, 13));
    assert_eq!(app.upload(&token, &bytes).await.status(), StatusCode::CREATED);
    for attachment in [
        json!({ "sha256": sha256(&bytes), "contentType": "image/png" }),
        json!({ "sha256": "abc" }),
        json!({ "sha256": sha256(&bytes), "data": "JVBERi0xLjQKJSVFT0YK" }),
        json!({ "type": "PROOF" }),
    ] {
        let mut body = flat("declare");
        body["attachments"] = json!([attachment]);
        let refused = app.post("/records", &token, "draft-0001", &body).await;
        let problem: Value = refused.json().await.unwrap();
        assert_eq!(problem["type"], "urn:crvs-outbox:problem:invalid-attachment", "{attachment}");
    }
    app.done().await;
}

#[tokio::test]
async fn a_correction_keeps_what_it_names_of_an_earlier_version() {
    let app = TestApp::start().await;
    let registered = app.register_birth("draft-0001").await;
    app.drain().await;
    let path = format!("/records/{}", registered.record_id);
    // Who may correct it without having uploaded anything, nor a scope to read.
    let other = app.token("other-registrar", &["register"]);
    let owner = app.token("registrar", &["register"]);
    let record: Value = app.get(&path, &owner).await.json().await.unwrap();
    assert_eq!(record["attachments"].as_array().unwrap().len(), 1);
    let correction = json!({ "declaration": record["declaration"] });
    let corrected = app.post(&format!("{path}/declare"), &other, "correct-0001", &correction).await;
    assert_eq!(corrected.status(), StatusCode::ACCEPTED);
    let now: Value = app.get(&path, &owner).await.json().await.unwrap();
    assert_eq!(now["version"], 2);
    assert_eq!(now["attachments"], record["attachments"]);
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn a_version_that_confirmed_identifiers_make_keeps_its_attachments() {
    let app = TestApp::start().await;
    let birth = app.register_birth("draft-0001").await;
    app.drain().await;
    let token = app.record_token(birth.record_id, birth.action_id);
    let body =
        json!({ "registrationNumber": "2026B1", "childIdentifiers": [{ "type": "NATIONAL_ID", "value": "17" }] });
    let path = format!("/records/{}", birth.record_id);
    assert_eq!(
        app.post(&format!("{path}/confirm"), &token, "any-key-at-all", &body).await.status(),
        StatusCode::ACCEPTED
    );
    let now: Value = app.get(&path, &app.token("registrar", &["register"])).await.json().await.unwrap();
    assert_eq!((now["version"].as_i64(), now["attachments"].as_array().unwrap().len()), (Some(2), 1));
    app.drain().await;
    app.done().await;
}
