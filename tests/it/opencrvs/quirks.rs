//! What stock country configs do to a request on its way back to us: they copy all headers of ours.

use serde_json::json;

use super::callbacks::{confirmation, number};
use super::wire::{Answer, send};
use crate::harness::TestApp;

/// Confirms a birth of its own with these lines in the header of the callback.
async fn confirm(app: &TestApp, draft: &str, lines: &[&str], chunked: bool) -> Answer {
    let birth = app.register_birth(draft).await;
    let details = json!({ "registrationNumber": format!("2026-{draft}") });
    let text = confirmation(birth.record_id, details).to_string();
    let authorization = format!("Authorization: Bearer {}", app.record_token(birth.record_id, birth.action_id));
    let length = format!("Content-Length: {}", text.len());
    let mut head =
        vec!["POST /graphql HTTP/1.1", &authorization, &length, "Host: countryconfig:3040", "Connection: close"];
    head.extend(lines);
    let body = if chunked { format!("{:x}\r\n{text}\r\n0\r\n\r\n", text.len()) } else { text };
    let answer = send(app, &head, body.as_bytes()).await;
    let registered = number(app, &birth).await;
    assert_eq!(registered.is_some(), answer.status == 200, "{}", answer.json);
    answer
}

#[tokio::test]
async fn one_content_type_of_several_has_to_be_json_and_none_is_too() {
    let app = TestApp::start().await;
    let json = "Content-Type: application/json; charset=utf-8";
    for (draft, lines, status) in [
        ("draft-0001", vec![json, "Content-Type: application/fhir+json"], 200),
        ("draft-0002", vec!["Content-Type: text/plain;charset=UTF-8", json], 200),
        ("draft-0003", vec![], 200),
        ("draft-0004", vec!["Content-Type: text/plain"], 415),
    ] {
        assert_eq!(confirm(&app, draft, &lines, false).await.status, status, "{lines:?}");
    }
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn a_body_in_chunks_beside_a_length_and_one_that_waits_to_be_asked_for_are_read() {
    let app = TestApp::start().await;
    let chunked = ["Content-Type: application/json", "Transfer-Encoding: chunked"];
    let answer = confirm(&app, "draft-0001", &chunked, true).await;
    assert_eq!(answer.status, 200, "{}", answer.head);
    let expecting = ["Content-Type: application/json", "Expect: 100-continue"];
    assert_eq!(confirm(&app, "draft-0002", &expecting, false).await.status, 200);
    app.drain().await;
    app.done().await;
}
