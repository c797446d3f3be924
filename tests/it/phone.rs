//! A phone that comes back from offline with 200 drafts, on a connection that breaks.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{PATIENCE, Setup, TestApp, flat};

const DRAFTS: usize = 200;
const PER_BATCH: usize = 100;

/// Draws its requests one by one, and counts them.
struct Phone<'a> {
    app: &'a TestApp,
    token: String,
    requests: usize,
}

impl Phone<'_> {
    fn head(&mut self, line: &str, more: &str) -> String {
        self.requests += 1;
        format!("{line} HTTP/1.1\r\nHost: phone\r\nAuthorization: Bearer {}\r\n{more}\r\n", self.token)
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.app.base.trim_start_matches("http://")).await.unwrap()
    }

    /// Sends a batch and reads so many bytes of its answer; then the connection is gone.
    async fn send_and_lose(&mut self, body: &str, read: usize) {
        let more = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        let head = self.head("POST /records/batch", &more);
        let mut socket = self.connect().await;
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(body.as_bytes()).await.unwrap();
        let mut answer = vec![0; read];
        socket.read_exact(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 207"), "{}", String::from_utf8_lossy(&answer));
    }

    async fn send(&mut self, body: &Value) -> Value {
        self.requests += 1;
        let request = self.app.http.post(format!("{}/records/batch", self.app.base)).bearer_auth(&self.token);
        let answer = request.json(body).send().await.unwrap();
        assert_eq!(answer.status(), 207);
        answer.json().await.unwrap()
    }

    /// One event stream, until every id is settled.
    async fn watch_until_settled(&mut self, cursor: &str, mut open: BTreeSet<String>) {
        let more = format!("Accept: text/event-stream\r\nLast-Event-ID: {cursor}\r\n");
        let head = self.head("GET /changes", &more);
        let mut socket = self.connect().await;
        socket.write_all(head.as_bytes()).await.unwrap();
        let (mut text, mut buffer) = (String::new(), vec![0; 64 * 1024]);
        while !open.is_empty() {
            let read = timeout(PATIENCE, socket.read(&mut buffer)).await.expect("something changes").unwrap();
            assert!(read > 0, "the stream ended; not settled: {open:?}");
            text += &String::from_utf8_lossy(&buffer[..read]);
            while let Some((line, rest)) = text.split_once('\n') {
                let change = line.trim_end().strip_prefix("data:").map(|data| data.trim_start().to_owned());
                let rest = rest.to_owned();
                if let Some(change) = change {
                    let change: Value = serde_json::from_str(&change).unwrap();
                    if change["settled"] == true {
                        open.remove(change["transactionId"].as_str().unwrap());
                    }
                }
                text = rest;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_drafts_over_a_broken_connection_are_two_hundred_records_seen_settled_through_one_stream() {
    let app = TestApp::with(Setup { workers: true, ..Setup::default() }).await;
    let mut phone = Phone { app: &app, token: app.token("agent", &["declare"]), requests: 0 };
    let ids: Vec<String> = (0..DRAFTS).map(|n| format!("phone-draft-{n:04}")).collect();
    let batches: Vec<Value> = ids
        .chunks(PER_BATCH)
        .map(|ids| {
            let item = |id: &String| {
                let mut item = flat("declare");
                item["transactionId"] = json!(id);
                item
            };
            json!({ "items": ids.iter().map(item).collect::<Vec<_>>() })
        })
        .collect();

    // It asks where the feed stands before it sends anything.
    phone.requests += 1;
    let feed: Value = app.get("/changes", &phone.token).await.json().await.unwrap();
    let cursor = feed["cursor"].as_str().unwrap().to_owned();
    // The connection breaks in the middle of each answer; everything is sent again.
    for batch in &batches {
        phone.send_and_lose(&batch.to_string(), 2000).await;
    }
    for batch in &batches {
        let answer = phone.send(batch).await;
        let items = answer["items"].as_array().unwrap();
        assert_eq!(items.len(), PER_BATCH);
        assert!(items.iter().all(|i| i["status"] == 202 && i["replayed"] == true), "{items:?}");
    }
    let open: BTreeSet<String> = ids.iter().cloned().collect();
    timeout(PATIENCE * 2, phone.watch_until_settled(&cursor, open)).await.expect("all settled in time");

    println!("{DRAFTS} drafts: {} requests", phone.requests);
    assert!(phone.requests < 10, "{}", phone.requests);
    let records = "select count(*) from record where created_by = 'agent'";
    assert_eq!(app.count(records).await, i64::try_from(DRAFTS).unwrap());
    let twice =
        "select count(*) from (select from record_action group by transaction_id, action having count(*) > 1) x";
    assert_eq!(app.count(twice).await, 0);
    app.wait_for("select count(*) from outbox_message", 0).await;
    let requests = app.received().await;
    assert!(requests.values().all(|n| *n == 1), "no effect was asked for twice");
    app.done().await;
}
