//! P1 and P2: what is accepted is committed, once.

use reqwest::StatusCode;
use serde_json::Value;

use crate::harness::{TestApp, birth};

#[tokio::test]
async fn a_repeated_submission_gets_the_same_answer_byte_for_byte() {
    let app = TestApp::start().await;
    let token = app.token("registrar", &["register"]);
    let first = app.post("/records", &token, "draft-0001", &birth("register")).await;
    assert_eq!(first.status(), StatusCode::ACCEPTED);
    assert_eq!(first.headers()["location"], "/transactions/draft-0001");
    assert!(first.headers().get("idempotency-replayed").is_none());
    let first = first.bytes().await.unwrap();
    let again = app.post("/records", &token, "draft-0001", &birth("register")).await;
    assert_eq!(again.status(), StatusCode::ACCEPTED);
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    assert_eq!(again.bytes().await.unwrap(), first);
    let body: Value = serde_json::from_slice(&first).unwrap();
    assert_eq!(body["record"]["status"], "waiting_validation");
    assert_eq!(app.count("select count(*) from record").await, 1);
    assert_eq!(app.count("select count(*) from outbox_message").await, 6);
    app.drain().await;
    app.done().await;
}
