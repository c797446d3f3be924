//! Slow, hostile and silent clients cost little, and not for long.

use std::time::{Duration, Instant};

use crvs_outbox::config::Settings;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{PATIENCE, Setup, TestApp, flat};

async fn with(change: impl FnOnce(&mut Settings) + Send + 'static) -> TestApp {
    TestApp::with(Setup { change: Box::new(change), ..Setup::default() }).await
}

async fn connect(app: &TestApp) -> TcpStream {
    TcpStream::connect(app.base.strip_prefix("http://").unwrap()).await.unwrap()
}

/// All that the service says until it closes the connection.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    // A reset says that it is closed, too.
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("it is never closed");
    drop(read);
    String::from_utf8(said).unwrap()
}

/// Sends a piece again and again until the service closes the connection.
async fn drip(stream: &mut TcpStream, piece: &[u8]) -> Duration {
    let began = Instant::now();
    let mut byte = [0];
    loop {
        assert!(began.elapsed() < PATIENCE, "it is never closed");
        let read = tokio::time::timeout(Duration::from_millis(50), stream.read(&mut byte)).await;
        if read.is_ok_and(|read| read.is_err() || read.unwrap() == 0) || stream.write_all(piece).await.is_err() {
            return began.elapsed();
        }
    }
}

#[tokio::test]
async fn a_client_that_says_nothing_or_drips_its_header_is_cut() {
    let app = with(|settings| settings.serve.idle = Duration::from_millis(400)).await;
    assert_eq!(until_closed(&mut connect(&app).await).await, "");
    let mut preface = connect(&app).await;
    preface.write_all(b"PRI * HT").await.unwrap();
    assert_eq!(until_closed(&mut preface).await, "");
    let mut slow = connect(&app).await;
    slow.write_all(b"GET /.well-known HTTP/1.1\r\n").await.unwrap();
    assert!(drip(&mut slow, b"x: y\r\n").await >= Duration::from_millis(350));
    // One that is kept alive is closed too, after its answer.
    let mut kept = connect(&app).await;
    kept.write_all(b"GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(until_closed(&mut kept).await.starts_with("HTTP/1.1 404"));
    app.done().await;
}

/// A submission that announces a body and sends none of it.
async fn slow_body(app: &TestApp, token: &str) -> TcpStream {
    let mut stream = connect(app).await;
    let head = format!(
        "POST /records HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nidempotency-key: draft-slow\r\ncontent-length: 1000\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn slow_bodies_hold_no_database_connection_and_are_cut() {
    let app = with(|settings| settings.handlers.edge.body_idle = Duration::from_secs(2)).await;
    let token = app.token("registrar", &["register"]);
    let mut slow = Vec::new();
    for _ in 0..20 {
        slow.push(slow_body(&app, &token).await);
    }
    let accepted = app.post("/records", &token, "draft-0001", &flat("declare")).await;
    assert_eq!(accepted.status(), 202, "eight connections, twenty slow bodies");
    for mut stream in slow {
        let said = until_closed(&mut stream).await;
        assert!(said.starts_with("HTTP/1.1 408") && said.contains("body-too-slow"), "{said}");
    }
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn a_body_that_drips_is_cut_though_it_never_pauses() {
    let app = with(|settings| {
        settings.handlers.edge.body_idle = Duration::from_millis(500);
        settings.handlers.edge.body_rate = 1_000_000;
    })
    .await;
    let mut stream = slow_body(&app, &app.token("registrar", &["register"])).await;
    let took = drip(&mut stream, b" ").await;
    assert!(took >= Duration::from_millis(450) && took < PATIENCE);
    app.done().await;
}

#[tokio::test]
async fn a_header_beyond_the_limits_is_refused() {
    let app = with(|_| {}).await;
    let long = app.http.get(format!("{}/.well-known", app.base)).header("x-long", "x".repeat(20_000));
    let long = long.send().await.unwrap();
    assert_eq!(long.status(), 431);
    let problem: Value = long.json().await.unwrap();
    assert_eq!(problem["type"], "urn:crvs-outbox:problem:headers-too-large");
    let many = (0..80).fold(app.http.get(format!("{}/.well-known", app.base)), |r, n| r.header(format!("x-{n}"), "y"));
    assert_eq!(many.send().await.unwrap().status(), 431);
    // A flood is cut by the bytes that are read at all.
    let mut flood = connect(&app).await;
    flood.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    drip(&mut flood, "x: y\r\n".repeat(2000).as_bytes()).await;
    app.done().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_until_one_is_closed() {
    let app = with(|settings| settings.serve.connections = 2).await;
    let (one, _two) = (connect(&app).await, connect(&app).await);
    let mut third = connect(&app).await;
    third.write_all(b"GET /nothing HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut byte = [0];
    let early = tokio::time::timeout(Duration::from_millis(200), third.read(&mut byte)).await;
    assert!(early.is_err(), "it is answered though two are open");
    drop(one);
    assert!(until_closed(&mut third).await.starts_with("HTTP/1.1 404"));
    app.done().await;
}

#[tokio::test]
async fn http_2_is_spoken_without_tls() {
    let app = with(|_| {}).await;
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let answer = client.get(format!("{}/.well-known/jwks.json", app.base)).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, reqwest::Version::HTTP_2));
    app.done().await;
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_given_up_and_leaves_nothing() {
    let app = with(|settings| settings.handlers.edge.request = Duration::from_millis(300)).await;
    let token = app.token("registrar", &["register"]);
    let mut lock = app.db.begin().await.unwrap();
    sqlx::query("lock table record in exclusive mode").execute(&mut *lock).await.unwrap();
    let late = app.post("/records", &token, "draft-0001", &flat("declare")).await;
    assert_eq!(late.status(), 503);
    assert_eq!(late.headers()["retry-after"], "2");
    assert_eq!(late.json::<Value>().await.unwrap()["type"], "urn:crvs-outbox:problem:timed-out");
    lock.rollback().await.unwrap();
    let again = app.post("/records", &token, "draft-0001", &flat("declare")).await;
    assert_eq!(again.status(), 202);
    assert_eq!(app.count("select count(*) from record").await, 1);
    app.drain().await;
    app.done().await;
}
