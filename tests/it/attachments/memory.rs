//! How much memory attachments take: a measure of the running process, printed.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use reqwest::StatusCode;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use uuid::Uuid;

use super::{pdf, sha256};
use crate::harness::{PATIENCE, Process, Setup, Site, TestApp, flat, user_token};

/// The largest resident set of a process so far, in bytes.
fn peak(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

/// So many uploads of so many bytes each, at once.
async fn upload_at_once(process: &Process, count: u64, size: usize) {
    let url = format!("http://{}/attachments/", process.public());
    let (client, token) = (reqwest::Client::new(), user_token());
    let uploads = (0..count).map(|n| {
        let bytes = Arc::new(pdf(size, n));
        let pieces = (0..size).step_by(64 * 1024).map({
            let bytes = Arc::clone(&bytes);
            move |at| Ok::<_, std::io::Error>(bytes[at..(at + 64 * 1024).min(size)].to_vec())
        });
        let request = client.put(format!("{url}{}", sha256(&bytes))).bearer_auth(&token);
        let request = request.body(reqwest::Body::wrap_stream(stream::iter(pieces)));
        async move { request.send().await.unwrap().status() }
    });
    let answers: Vec<StatusCode> = stream::iter(uploads).buffer_unordered(64).collect().await;
    assert!(answers.iter().all(|s| *s == StatusCode::CREATED), "{answers:?}");
}

#[tokio::test]
async fn many_uploads_at_once_take_a_few_megabytes() {
    let site = Site::new("listen = \"127.0.0.1:0\"").await;
    let process = site.serve(&["--api"]).await;
    let before = peak(&process);
    upload_at_once(&process, 16, 6_000_000).await;
    let after = peak(&process);
    println!("16 uploads of 6 MB at once: {} MB before, {} MB at most", before >> 20, after >> 20);
    assert!(after < 200 << 20, "{} MB", after >> 20);
    assert!(process.terminate().await.success());
    site.done().await;
}

#[tokio::test]
async fn who_brings_more_than_there_is_room_for_is_told_to_come_again() {
    let change = |settings: &mut crvs_outbox::config::Settings| settings.handlers.inline_bytes = 100_000;
    let app = TestApp::with(Setup { change: Box::new(change), ..Setup::default() }).await;
    let token = app.token("mary", &["declare"]);
    let mut body = flat("declare");
    body["comment"] = "x".repeat(100_000).into();
    // Somebody has announced as much, and takes their time.
    let mut slow = TcpStream::connect(app.base.trim_start_matches("http://")).await.unwrap();
    let head = format!(
        "POST /records HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 150000\r\n\r\n{{"
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    slow.write_all(&vec![b' '; 80_000]).await.unwrap();
    let deadline = std::time::Instant::now() + PATIENCE;
    let refused = loop {
        assert!(std::time::Instant::now() < deadline);
        let answer = app.post("/records", &token, &Uuid::now_v7().to_string(), &body).await;
        if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
            break answer;
        }
    };
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(refused.json::<serde_json::Value>().await.unwrap()["type"], "urn:crvs-outbox:problem:busy");
    let small = app.post("/records", &token, "small-0001", &flat("declare")).await;
    assert_eq!(small.status(), StatusCode::ACCEPTED, "small ones wait for no large ones");
    drop(slow);
    assert_eq!(app.post("/records", &token, "draft-0001", &body).await.status(), StatusCode::ACCEPTED);
    app.drain().await;
    app.done().await;
}

/// The figure of issue 4; run it with `--ignored --nocapture`.
#[tokio::test]
#[ignore = "takes a minute"]
async fn thirty_two_uploads_of_forty_megabytes_stay_under_256_mb() {
    let site = Site::new("listen = \"127.0.0.1:0\"").await;
    let process = site.serve(&["--api"]).await;
    let before = peak(&process);
    upload_at_once(&process, 32, 40_000_000).await;
    let after = peak(&process);
    println!("32 uploads of 40 MB at once: {} MB before, {} MB at most", before >> 20, after >> 20);
    assert!(after < 256 << 20, "{} MB", after >> 20);
    assert!(process.terminate().await.success());
    site.done().await;
}

/// The figure of issue 4 for bodies of JSON; run it with `--ignored --nocapture`.
#[tokio::test]
#[ignore = "takes a minute"]
async fn thirty_two_inline_attachments_of_thirty_megabytes_stay_within_their_bound() {
    use base64::Engine as _;
    let site = Site::new("listen = \"127.0.0.1:0\"").await;
    let process = site.serve(&["--api"]).await;
    let before = peak(&process);
    let data = base64::engine::general_purpose::STANDARD.encode(pdf(30_000_000, 1));
    let (url, client) = (format!("http://{}/records", process.public()), reqwest::Client::new());
    let submissions = (0..32).map(|n| {
        // Other bytes in each, so that each is stored.
        let head = base64::engine::general_purpose::STANDARD.encode(format!("%PDF-1.7\nnumber {n:03}\n."));
        let data = format!("{head}{}", &data[head.len()..]);
        let body = format!(r#"{{"event":"birth","declaration":{{}},"attachments":[{{"data":"{data}"}}]}}"#);
        let request = client.post(&url).bearer_auth(user_token()).header("idempotency-key", format!("draft-{n:04}"));
        let request = request.header("content-type", "application/json").body(body);
        async move { request.send().await.map(|answer| answer.status()) }
    });
    let answers: Vec<_> = stream::iter(submissions).buffer_unordered(32).collect().await;
    let accepted = answers.iter().filter(|a| a.as_ref().is_ok_and(|s| *s == StatusCode::ACCEPTED)).count();
    let after = peak(&process);
    println!(
        "32 bodies of 40 MB at once: {} MB before, {} MB at most; {accepted} accepted, the others told to come again",
        before >> 20,
        after >> 20
    );
    assert!(accepted >= 5);
    assert!(after < 1024 << 20, "{} MB", after >> 20);
    assert!(process.terminate().await.success());
    site.done().await;
}
