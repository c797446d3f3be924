//! A client that waits for long is parked (`serve::http1`): what it is told, and that it is forgotten once it goes, stay as
//! they were. Everything here takes longer than a connection waits before it is parked.

use std::time::{Duration, Instant};

use reqwest::{Response, StatusCode};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::harness::{PATIENCE, Setup, TestApp, flat};

/// Longer than a connection waits before it is parked.
const LONGER: Duration = Duration::from_millis(600);

async fn until_waiting(app: &TestApp, count: usize) {
    let deadline = Instant::now() + PATIENCE;
    while app.app().waiting.count() != count {
        assert!(Instant::now() < deadline, "{} wait, not {count}", app.app().waiting.count());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn ask(app: &TestApp, path: &str, token: &str, accept: &str) -> reqwest::RequestBuilder {
    app.http.get(format!("{}{path}", app.base)).bearer_auth(token).header("accept", accept)
}

async fn cursor(app: &TestApp, token: &str) -> String {
    let now: Value = app.get("/changes", token).await.json().await.unwrap();
    now["cursor"].as_str().unwrap().to_owned()
}

async fn declare(app: &TestApp, token: &str, id: &str) {
    assert_eq!(app.post("/records", token, id, &flat("declare")).await.status(), StatusCode::ACCEPTED);
}

/// Waits, and is not answered for as long as it takes to be parked.
async fn parked(app: &TestApp, path: &str, token: &str) -> JoinHandle<Response> {
    let request = ask(app, path, token, "application/json");
    let mut waiting = tokio::spawn(async move { request.send().await.unwrap() });
    tokio::time::timeout(LONGER, &mut waiting).await.expect_err("it waits");
    waiting
}

/// The text of a stream up to where it ends with this.
async fn until_told(stream: &mut Response, what: &str) -> String {
    let mut text = String::new();
    while !text.contains(what) || !text.ends_with("\n\n") {
        let chunk = tokio::time::timeout(PATIENCE, stream.chunk()).await.expect("something is told").unwrap();
        text += std::str::from_utf8(&chunk.expect("the stream goes on")).unwrap();
    }
    text
}

#[tokio::test]
async fn a_parked_poll_is_answered_and_one_whose_client_goes_is_forgotten() {
    let app = TestApp::with(Setup { workers: false, ..Setup::default() }).await;
    let token = app.token("agent", &["declare"]);
    let path = format!("/changes?wait=60&cursor={}", cursor(&app, &token).await);
    let gone = parked(&app, &path, &token).await;
    until_waiting(&app, 1).await;
    gone.abort();
    until_waiting(&app, 0).await;
    let waiting = parked(&app, &path, &token).await;
    declare(&app, &token, "draft-0001").await;
    let answer = waiting.await.unwrap();
    assert!(answer.headers().contains_key("x-request-id") && answer.headers()["cache-control"] == "no-store");
    let page: Value = answer.json().await.unwrap();
    assert_eq!(page["changes"][0]["transactionId"], "draft-0001");
    until_waiting(&app, 0).await;
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn a_parked_stream_tells_what_moves_again_and_again_and_one_whose_client_goes_is_forgotten() {
    let app = TestApp::start().await;
    let token = app.token("agent", &["declare"]);
    let mut stream = ask(&app, "/changes", &token, "text/event-stream").send().await.unwrap();
    until_told(&mut stream, "retry: ").await;
    for n in 0..3 {
        tokio::time::timeout(LONGER, stream.chunk()).await.expect_err("there is nothing to tell");
        let ids: Vec<String> = (0..10).map(|m| format!("draft-{n}-{m:04}")).collect();
        for id in &ids {
            declare(&app, &token, id).await;
        }
        app.drain().await;
        let mut told = String::new();
        for id in &ids {
            let settled = |text: &str| {
                let mut told = text.lines().filter(|l| l.starts_with("data: ") && l.contains(id));
                told.next_back().is_some_and(|l| l.contains(r#""settled":true"#))
            };
            while !settled(&told) {
                told += &until_told(&mut stream, "\n\n").await;
            }
        }
    }
    until_waiting(&app, 1).await;
    drop(stream);
    until_waiting(&app, 0).await;
    app.done().await;
}

#[tokio::test]
async fn a_stop_ends_what_is_parked_in_order() {
    let app = TestApp::start().await;
    let token = app.token("agent", &[]);
    let path = format!("/changes?wait=60&cursor={}", cursor(&app, &token).await);
    let stream = ask(&app, "/changes", &token, "text/event-stream").send().await.unwrap();
    let poll = parked(&app, &path, &token).await;
    let stopping = Instant::now();
    app.done().await;
    assert!(stopping.elapsed() < Duration::from_secs(4), "nobody was waited for");
    assert_eq!(poll.await.unwrap().status(), StatusCode::OK);
    assert!(stream.text().await.unwrap().contains("\nid: "), "the stream ended in order");
}
