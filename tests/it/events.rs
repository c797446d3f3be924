//! The feed as server-sent events: one connection tells everything, and one that is cut is taken up where it was.

use std::time::Duration;

use reqwest::{Response, StatusCode};
use serde_json::Value;

use crate::harness::{PATIENCE, TestApp, flat};

/// A stream of events, read event by event.
struct Events {
    response: Response,
    text: String,
    /// The last id that was sent: what a client resumes from.
    id: String,
}

impl Events {
    async fn open(app: &TestApp, token: &str, last_id: Option<&str>) -> Self {
        let mut request = app.http.get(format!("{}/changes", app.base)).bearer_auth(token);
        request = request.header("accept", "text/event-stream");
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new(), id: String::new() }
    }

    /// The next block: its data, if it has some.
    async fn block(&mut self) -> Option<Value> {
        loop {
            if let Some((block, rest)) = self.text.clone().split_once("\n\n") {
                let field = |name: &str| block.lines().find_map(|l| l.strip_prefix(name)).map(str::to_owned);
                let (id, data) = (field("id: "), field("data: "));
                assert_eq!(data.is_some(), field("event: ").is_some_and(|e| e == "change"));
                rest.clone_into(&mut self.text);
                self.id = id.unwrap_or(std::mem::take(&mut self.id));
                return data.map(|d| serde_json::from_str(&d).unwrap());
            }
            let chunk =
                tokio::time::timeout(PATIENCE, self.response.chunk()).await.expect("something is told").unwrap();
            self.text += std::str::from_utf8(&chunk.expect("the stream goes on")).unwrap();
        }
    }

    /// Reads until this transaction is told as settled.
    async fn until_settled(&mut self, id: &str) {
        loop {
            if self.block().await.is_some_and(|c| c["transactionId"] == id && c["settled"] == true) {
                return;
            }
        }
    }
}

async fn declare(app: &TestApp, token: &str, id: &str) {
    assert_eq!(app.post("/records", token, id, &flat("declare")).await.status(), StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_stream_tells_what_moves_and_one_that_was_cut_is_resumed_without_a_gap() {
    let app = TestApp::start().await;
    let token = app.token("agent", &["declare"]);
    let mut events = Events::open(&app, &token, None).await;
    assert_eq!(events.block().await, None, "it begins with a place to resume from");
    declare(&app, &token, "draft-0001").await;
    app.drain().await;
    events.until_settled("draft-0001").await;
    let id = events.id.clone();
    drop(events);
    declare(&app, &token, "draft-0002").await;
    declare(&app, &token, "draft-0003").await;
    app.drain().await;
    let mut events = Events::open(&app, &token, Some(&id)).await;
    let mut told = Vec::new();
    while told.len() < 2 {
        if let Some(change) = events.block().await {
            told.push((change["transactionId"].as_str().unwrap().to_owned(), change["settled"] == true));
        }
    }
    told.sort_unstable();
    assert_eq!(told, [("draft-0002".to_owned(), true), ("draft-0003".to_owned(), true)]);
    drop(events);
    app.done().await;
}

#[tokio::test]
async fn a_stream_that_is_cut_between_two_changes_of_a_moment_tells_them_again() {
    let app = TestApp::start().await;
    let token = app.token("agent", &["declare"]);
    let mut events = Events::open(&app, &token, None).await;
    events.block().await;
    let start = events.id.clone();
    drop(events);
    for n in 1..=3 {
        declare(&app, &token, &format!("draft-000{n}")).await;
    }
    app.drain().await;
    let mut missing: Vec<String> = (1..=3).map(|n| format!("draft-000{n}")).collect();
    let mut id = start;
    // Cut after each change: it takes as long as it takes, and none is lost.
    for _ in 0..3 {
        let mut events = Events::open(&app, &token, Some(&id)).await;
        for _ in 0..3 {
            let change = loop {
                if let Some(change) = events.block().await {
                    break change;
                }
            };
            missing.retain(|m| change["transactionId"] != *m);
            if events.id != id {
                break;
            }
        }
        id = events.id.clone();
        if missing.is_empty() {
            break;
        }
    }
    assert!(missing.is_empty(), "never told: {missing:?}");
    app.done().await;
}

#[tokio::test]
async fn a_stream_with_many_readers_and_many_changes_misses_none() {
    let app = TestApp::start().await;
    let token = app.token("agent", &["declare"]);
    let mut streams = Vec::new();
    for _ in 0..5 {
        streams.push(Events::open(&app, &token, None).await);
    }
    let ids: Vec<String> = (0..30).map(|n| format!("draft-{n:04}")).collect();
    for id in &ids {
        declare(&app, &token, id).await;
    }
    app.drain().await;
    for mut stream in streams {
        let mut missing = ids.clone();
        while !missing.is_empty() {
            if let Some(change) = stream.block().await {
                missing.retain(|id| change["transactionId"] != *id || change["settled"] != true);
            }
        }
    }
    app.done().await;
}

#[tokio::test]
async fn a_stream_from_a_cursor_that_is_none_is_refused_as_a_problem() {
    let app = TestApp::start().await;
    let request = app.http.get(format!("{}/changes", app.base)).bearer_auth(app.token("agent", &[]));
    let request = request.header("accept", "text/event-stream").header("last-event-id", "none");
    let response = request.timeout(Duration::from_secs(5)).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    app.done().await;
}
