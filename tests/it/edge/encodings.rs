//! gzip in and out.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use reqwest::{RequestBuilder, header};
use serde_json::{Value, json};

use crate::harness::{Setup, TestApp, birth, flat};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn submission(app: &TestApp, id: &str, encoding: &str, body: Vec<u8>) -> RequestBuilder {
    let request = app.http.post(format!("{}/records", app.base)).bearer_auth(app.token("registrar", &["register"]));
    let request = request.header("idempotency-key", id).header("content-type", "application/json");
    request.header("content-encoding", encoding).body(body)
}

#[tokio::test]
async fn a_packed_body_is_the_same_request_as_the_unpacked_one() {
    let app = TestApp::start().await;
    let body = flat("declare").to_string();
    let first = submission(&app, "draft-0001", "gzip", gzip(body.as_bytes())).send().await.unwrap();
    assert_eq!(first.status(), 202);
    let again = submission(&app, "draft-0001", "identity", body.into_bytes()).send().await.unwrap();
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn an_unknown_encoding_and_what_is_no_gzip_are_refused() {
    let app = TestApp::start().await;
    for encoding in ["br", "gzip, gzip", "zstd", "deflate"] {
        let refused = submission(&app, "draft-0001", encoding, b"{}".to_vec()).send().await.unwrap();
        assert_eq!(refused.status(), 415, "{encoding}");
        assert_eq!(refused.headers()["accept-encoding"], "gzip");
        assert_eq!(refused.json::<Value>().await.unwrap()["type"], "urn:crvs-outbox:problem:unsupported-encoding");
    }
    let plain = flat("declare").to_string().into_bytes();
    let broken = submission(&app, "draft-0001", "gzip", plain).send().await.unwrap();
    assert_eq!(broken.status(), 400);
    assert_eq!(broken.json::<Value>().await.unwrap()["type"], "urn:crvs-outbox:problem:body-unreadable");
    app.done().await;
}

#[tokio::test]
async fn what_a_body_unpacks_to_counts_against_the_limit() {
    let change = |settings: &mut crvs_outbox::config::Settings| settings.handlers.body_max = 64 * 1024;
    let app = TestApp::with(Setup { change: Box::new(change), ..Setup::default() }).await;
    let bomb = gzip(&vec![b' '; 64 * 1024 * 1024]);
    // Small enough to be let in by its own size, if that were all that is looked at.
    let start = bomb.get(..60_000).unwrap().to_vec();
    let refused = submission(&app, "draft-0001", "gzip", start).send().await.unwrap();
    assert_eq!(refused.status(), 413);
    app.done().await;
}

#[tokio::test]
async fn a_large_answer_is_packed_for_who_takes_it() {
    let app = TestApp::start().await;
    let submitted = app.register_birth("draft-0001").await;
    let url = format!("{}/records/{}", app.base, submitted.record_id);
    // The client of these tests unpacks by itself.
    let client = reqwest::Client::builder().no_gzip().build().unwrap();
    let get = || client.get(&url).bearer_auth(app.token("registrar", &["register"]));
    let plain = get().header(header::ACCEPT_ENCODING, "identity;q=0, br").send().await.unwrap();
    assert_eq!(plain.status(), 200);
    assert!(plain.headers().get(header::CONTENT_ENCODING).is_none());
    let plain = plain.bytes().await.unwrap();
    let packed = get().header(header::ACCEPT_ENCODING, "br, gzip;q=0.8").send().await.unwrap();
    assert_eq!(packed.headers()[header::CONTENT_ENCODING], "gzip");
    assert!(packed.headers()[header::VARY].to_str().unwrap().contains("accept-encoding"));
    let packed = packed.bytes().await.unwrap();
    let mut unpacked = Vec::new();
    GzDecoder::new(packed.as_ref()).read_to_end(&mut unpacked).unwrap();
    assert!(packed.len() < plain.len() && unpacked == plain);
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn all_that_is_wrong_with_a_submission_is_said_at_once() {
    let app = TestApp::start().await;
    let token = app.token("registrar", &["register"]);
    let mut body = flat("baptise");
    body["event"] = json!("adoption");
    body["attachments"] = json!([
        { "type": "A", "contentType": "image/png", "data": "%%%" },
        { "type": "B", "contentType": "image/png", "data": "" }
    ]);
    let problem: Value = app.post("/records", &token, "draft-0001", &body).await.json().await.unwrap();
    assert_eq!(problem["type"], "urn:crvs-outbox:problem:bad-request");
    let pointers: Vec<&str> =
        problem["errors"].as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap()).collect();
    assert_eq!(pointers, ["/event", "/action", "/attachments/0", "/attachments/1"]);
    let mut typed = birth("register");
    typed["attachments"] = json!([{ "type": "A", "contentType": "image/png", "data": 7 }]);
    let problem: Value = app.post("/records", &token, "draft-0001", &typed).await.json().await.unwrap();
    assert_eq!(problem["errors"][0]["pointer"], "/attachments/0/data");
    app.done().await;
}
