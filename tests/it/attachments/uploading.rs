//! `PUT /attachments/{sha256}`.

use futures_util::stream;
use reqwest::{Body, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{pdf, sha256};
use crate::harness::{Setup, TestApp};

const NOTHING: (i64, i64, i64, i64) = (0, 0, 0, 0);

#[tokio::test]
async fn an_upload_is_stored_once_and_repeating_it_is_fine() {
    let app = TestApp::start().await;
    let (token, bytes) = (app.token("mary", &["declare"]), pdf(20_000_000, 1));
    let first = app.upload(&token, &bytes).await;
    assert_eq!(first.status(), StatusCode::CREATED);
    assert_eq!(first.headers()["etag"], format!("\"{}\"", sha256(&bytes)));
    assert_eq!(first.headers()["location"], format!("/attachments/{}", sha256(&bytes)));
    let told = json!({ "sha256": sha256(&bytes), "size": bytes.len(), "contentType": "application/pdf" });
    assert_eq!(first.json::<Value>().await.unwrap(), told);
    let second = app.upload(&token, &bytes).await;
    assert_eq!(second.status(), StatusCode::OK);
    assert_eq!(second.json::<Value>().await.unwrap(), told);
    assert_eq!(app.stored().await, (1, 1, 77, 1));
    let read = app.get(&format!("/attachments/{}", sha256(&bytes)), &token).await;
    assert!(read.bytes().await.unwrap() == bytes);
    app.done().await;
}

#[tokio::test]
async fn copies_that_come_at_the_same_moment_are_all_fine_and_one_stays() {
    let app = TestApp::start().await;
    let bytes = pdf(2_000_000, 2);
    let uploads = (0..6).map(|n| {
        let (app, bytes, token) = (&app, &bytes, app.token(&format!("user-{}", n / 2), &["validate"]));
        async move { app.upload(&token, bytes).await.status() }
    });
    let answers = futures_util::future::join_all(uploads).await;
    assert!(answers.iter().all(|s| [StatusCode::OK, StatusCode::CREATED].contains(s)), "{answers:?}");
    assert_eq!(answers.iter().filter(|s| **s == StatusCode::CREATED).count(), 1, "{answers:?}");
    assert_eq!(app.stored().await, (1, 1, 8, 3));
    app.done().await;
}

#[tokio::test]
async fn what_breaks_off_is_not_seen_and_is_stored_when_it_is_sent_again() {
    let app = TestApp::start().await;
    let (token, bytes) = (app.token("mary", &["declare"]), pdf(3_000_000, 3));
    let half: Vec<Result<Vec<u8>, std::io::Error>> =
        bytes[..1_500_000].chunks(100_000).map(|c| Ok(c.to_vec())).collect();
    let broken = half.into_iter().chain([Err(std::io::Error::other("cut"))]);
    let request = app.put(&token, &sha256(&bytes), Vec::new()).header("content-length", bytes.len());
    assert!(request.body(Body::wrap_stream(stream::iter(broken))).send().await.is_err());
    let path = format!("/attachments/{}", sha256(&bytes));
    assert_eq!(app.get(&path, &token).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(app.upload(&token, &bytes).await.status(), StatusCode::CREATED);
    assert!(app.get(&path, &token).await.bytes().await.unwrap() == bytes);
    app.done().await;
}

#[tokio::test]
async fn bytes_of_another_digest_leave_nothing() {
    let app = TestApp::start().await;
    let (token, bytes) = (app.token("mary", &["declare"]), pdf(1_000_000, 4));
    let other = app.put(&token, &sha256(b"something else"), bytes).send().await.unwrap();
    assert_eq!(other.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(other.json::<Value>().await.unwrap()["type"], "urn:crvs-outbox:problem:digest-mismatch");
    assert_eq!(app.stored().await, NOTHING);
    app.done().await;
}

#[tokio::test]
async fn the_bytes_decide_what_it_is_and_a_header_may_not_disagree() {
    let app = TestApp::start().await;
    let (token, bytes) = (app.token("mary", &["declare"]), pdf(300_000, 5));
    for (sent, content_type, status, slug) in [
        (bytes.clone(), "image/png", 400, "invalid-attachment"),
        (b"#!/bin/sh".to_vec(), "application/octet-stream", 400, "invalid-attachment"),
        (b"PK\x03\x04 an archive".to_vec(), "application/zip", 400, "invalid-attachment"),
        (Vec::new(), "application/pdf", 400, "invalid-attachment"),
    ] {
        let answer = app.put(&token, &sha256(&sent), sent).header("content-type", content_type).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status);
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["type"], format!("urn:crvs-outbox:problem:{slug}"));
    }
    assert_eq!(app.stored().await, NOTHING);
    for content_type in ["application/octet-stream", "application/pdf", "Application/PDF; x=y"] {
        let answer = app.put(&token, &sha256(&bytes), bytes.clone()).header("content-type", content_type);
        assert!(answer.send().await.unwrap().status().is_success(), "{content_type}");
    }
    app.done().await;
}

#[tokio::test]
async fn who_declares_nothing_uploads_nothing_and_too_much_is_refused() {
    let change = |settings: &mut crvs_outbox::config::Settings| settings.handlers.attachments.max = 100_000;
    let app = TestApp::with(Setup { change: Box::new(change), ..Setup::default() }).await;
    let bytes = pdf(100_001, 6);
    assert_eq!(app.upload(&app.token("auditor", &["record.read"]), &bytes).await.status(), StatusCode::FORBIDDEN);
    let token = app.token("mary", &["declare"]);
    let pieces: Vec<Result<Vec<u8>, std::io::Error>> = bytes.chunks(1000).map(|c| Ok(c.to_vec())).collect();
    let unannounced = app.put(&token, &sha256(&bytes), Vec::new()).body(Body::wrap_stream(stream::iter(pieces)));
    assert_eq!(unannounced.send().await.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
    let announced = raw(&app, &token, &sha256(&bytes), "Content-Length: 100001\r\nExpect: 100-continue\r\n").await;
    assert!(announced.starts_with("HTTP/1.1 413"), "{announced}");
    assert_eq!(app.stored().await, NOTHING);
    assert_eq!(app.upload(&token, &bytes[..100_000]).await.status(), StatusCode::CREATED);
    app.done().await;
}

/// What is answered to a request whose body is not sent, until the connection is closed.
async fn raw(app: &TestApp, token: &str, digest: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(app.base.trim_start_matches("http://")).await.unwrap();
    let head =
        format!("PUT /attachments/{digest} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn who_asks_first_and_has_it_already_sends_nothing() {
    let app = TestApp::start().await;
    let (token, bytes) = (app.token("mary", &["declare"]), pdf(300_000, 7));
    assert_eq!(app.upload(&token, &bytes).await.status(), StatusCode::CREATED);
    let headers = "Content-Length: 300000\r\nExpect: 100-continue\r\n";
    let answer = raw(&app, &token, &sha256(&bytes), headers).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    app.done().await;
}
