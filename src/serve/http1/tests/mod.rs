//! What a client sees of a connection that is parked, and what it costs the others.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use futures_util::stream;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;

mod streams;

const LIMIT: Duration = Duration::from_secs(20);

/// What the handlers share with the test.
struct Inside {
    /// One answer of `/later` each.
    told: Semaphore,
    frames: Mutex<Option<mpsc::UnboundedReceiver<Vec<u8>>>>,
    /// Handlers and bodies that are alive.
    alive: AtomicUsize,
    /// Frames that were taken.
    taken: AtomicUsize,
}

struct Alive(Arc<Inside>);

impl Alive {
    fn new(inside: &Arc<Inside>) -> Self {
        inside.alive.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(inside))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn later(State(inside): State<Arc<Inside>>) -> &'static str {
    let alive = Alive::new(&inside);
    alive.0.told.acquire().await.unwrap().forget();
    "it is later"
}

async fn panics(State(inside): State<Arc<Inside>>) {
    let alive = Alive::new(&inside);
    alive.0.told.acquire().await.unwrap().forget();
    panic!("it panics after it was parked");
}

async fn events(State(inside): State<Arc<Inside>>) -> impl IntoResponse {
    let frames = inside.frames.lock().unwrap().take().unwrap();
    let body = stream::unfold((frames, Alive::new(&inside)), |(mut frames, alive)| async move {
        let frame = frames.recv().await?;
        alive.0.taken.fetch_add(1, Ordering::Relaxed);
        Some((Ok::<_, Infallible>(frame), (frames, alive)))
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(body))
}

struct Bed {
    addr: SocketAddr,
    server: Arc<Server>,
    inside: Arc<Inside>,
    frames: Option<mpsc::UnboundedSender<Vec<u8>>>,
    ended: JoinHandle<()>,
}

impl Bed {
    async fn start(patience: Duration, stall: Duration) -> Self {
        let settings = Settings { connections: 1, idle: Duration::from_mins(1), stall, head_max: 16 * 1024 };
        Self::with(patience, settings).await
    }

    async fn with(patience: Duration, settings: Settings) -> Self {
        let (frames, receiver) = mpsc::unbounded_channel();
        let (alive, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let inside = Inside { told: Semaphore::new(0), frames: Mutex::new(Some(receiver)), alive, taken };
        let inside = Arc::new(inside);
        let router = Router::new()
            .route("/later", get(later))
            .route("/panics", get(panics))
            .route("/now", get(|| async { "it is now" }))
            .route("/events", get(events))
            .route("/body", post(|body: String| async move { body }).get(|body: String| async move { body }))
            .with_state(Arc::clone(&inside));
        let mut server = Server::new(router, settings, CancellationToken::new(), CancellationToken::new());
        server.patience = patience;
        let server = Arc::new(server);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let ended = tokio::spawn(Arc::clone(&server).run(listener));
        Self { addr, server, inside, frames: Some(frames), ended }
    }

    /// Everything that waits is parked at once.
    async fn parking() -> Self {
        Self::start(Duration::ZERO, LIMIT).await
    }

    async fn ask(&self, requests: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        stream.write_all(requests.as_bytes()).await.unwrap();
        stream
    }

    fn parked(&self) -> usize {
        self.server.parked.load(Ordering::Relaxed)
    }

    fn alive(&self) -> usize {
        self.inside.alive.load(Ordering::Relaxed)
    }

    fn tell(&self, frame: impl Into<Vec<u8>>) {
        self.frames.as_ref().unwrap().send(frame.into()).unwrap();
    }

    async fn stop(self) {
        self.server.soft.cancel();
        tokio::time::timeout(LIMIT, self.ended).await.expect("it never stops").unwrap();
    }
}

async fn until(what: &str, is: impl Fn() -> bool) {
    let wait = async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("not within the limit: {what}"));
}

/// All that is said until the connection is closed, but for when it is said.
async fn rest(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    tokio::time::timeout(LIMIT, stream.read_to_end(&mut said)).await.expect("it is never closed").unwrap();
    let said = String::from_utf8(said).unwrap();
    said.split_inclusive('\n').filter(|line| !line.starts_with("date: ")).collect()
}

async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut said = Vec::new();
    while !said.ends_with(end.as_bytes()) {
        let byte = tokio::time::timeout(LIMIT, stream.read_u8()).await.expect("nothing more is said");
        said.push(byte.unwrap_or_else(|error| panic!("{error} after {}", String::from_utf8_lossy(&said))));
    }
    String::from_utf8(said).unwrap()
}

/// What is in chunks, and what comes after them.
fn unchunked(mut said: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut data = Vec::new();
    loop {
        let line = said.windows(2).position(|two| two == b"\r\n").expect("a chunk's size");
        let size = usize::from_str_radix(std::str::from_utf8(&said[..line]).unwrap(), 16).unwrap();
        let chunk = &said[line + 2..];
        assert_eq!(&chunk[size..size + 2], b"\r\n");
        data.extend_from_slice(&chunk[..size]);
        said = &chunk[size + 2..];
        if size == 0 {
            return (data, said);
        }
    }
}

const KINDS: [&str; 8] = [
    "GET /later HTTP/1.1\r\nhost: x\r\n\r\n",
    "GET /later HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: Keep-Alive\r\n\r\n",
    "HEAD /later HTTP/1.1\r\nhost: x\r\n\r\n",
    "GET /later HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    "HEAD /later HTTP/1.1\r\nhost: x\r\nconnection: foo, close\r\n\r\n",
    "GET /later HTTP/1.0\r\n\r\n",
    "GET /later HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
    "GET /later HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n\r\n",
];

const LAST: &str = "GET /now HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn an_answer_that_was_waited_for_has_the_same_bytes_whether_it_was_parked_or_not() {
    for kind in KINDS {
        let mut said = Vec::new();
        for (patience, parked) in [(Duration::ZERO, 1), (LIMIT, 0)] {
            let bed = Bed::start(patience, LIMIT).await;
            let mut stream = bed.ask(&[kind, LAST].concat()).await;
            until("it waits", || bed.alive() == 1 && bed.parked() == parked).await;
            bed.inside.told.add_permits(1);
            said.push(rest(&mut stream).await);
            assert_eq!(bed.parked(), parked, "{kind}");
            bed.stop().await;
        }
        assert_eq!(said[0], said[1], "{kind}");
        assert!(said[0].starts_with("HTTP/1.") && said[0].contains("content-length: 11\r\n"), "{}", said[0]);
    }
}

#[tokio::test]
async fn requests_behind_a_parked_one_are_answered_in_order() {
    let bed = Bed::parking().await;
    let (first, second) = (KINDS[0], "GET /now HTTP/1.1\r\nhost: x\r\n\r\n");
    let mut stream = bed.ask(&[first, second, first].concat()).await;
    until("it is parked", || bed.parked() == 1).await;
    stream.write_all(LAST.as_bytes()).await.unwrap();
    bed.inside.told.add_permits(1);
    assert!(read_until(&mut stream, "it is later").await.starts_with("HTTP/1.1 200"));
    assert!(read_until(&mut stream, "it is now").await.starts_with("HTTP/1.1 200"));
    until("it is parked again", || bed.parked() == 2).await;
    bed.inside.told.add_permits(1);
    assert!(read_until(&mut stream, "it is later").await.starts_with("HTTP/1.1 200"));
    assert!(rest(&mut stream).await.ends_with("it is now"));
    bed.stop().await;
}

#[tokio::test]
async fn a_connection_is_used_again_after_it_was_parked() {
    let bed = Bed::parking().await;
    let mut stream = bed.ask("").await;
    for parked in 1..=5 {
        stream.write_all(KINDS[0].as_bytes()).await.unwrap();
        until("it is parked", || bed.parked() == parked).await;
        bed.inside.told.add_permits(1);
        read_until(&mut stream, "it is later").await;
    }
    stream.write_all(LAST.as_bytes()).await.unwrap();
    assert!(rest(&mut stream).await.ends_with("it is now"));
    bed.stop().await;
}

#[tokio::test]
async fn who_goes_away_while_parked_is_forgotten() {
    let mut bed = Bed::parking().await;
    for (parked, path) in [(1, "/later"), (2, "/events")] {
        bed.tell("data: 1\n\n");
        let stream = bed.ask(&format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        until("it is parked", || bed.parked() == parked && bed.alive() == 1).await;
        drop(stream);
        until("it is forgotten", || bed.alive() == 0).await;
    }
    bed.frames = None;
    // There is room for one only.
    assert!(rest(&mut bed.ask(LAST).await).await.ends_with("it is now"));
    bed.stop().await;
}

/// A client that has said all it will say is gone, as hyper has it.
#[tokio::test]
async fn who_closes_its_half_while_parked_is_forgotten() {
    let bed = Bed::parking().await;
    let mut stream = bed.ask(KINDS[0]).await;
    until("it is parked", || bed.parked() == 1 && bed.alive() == 1).await;
    stream.shutdown().await.unwrap();
    until("it is forgotten", || bed.alive() == 0).await;
    assert_eq!(rest(&mut stream).await, "");
    bed.stop().await;
}

#[tokio::test]
async fn a_handler_that_panics_while_parked_ends_its_own_connection_only() {
    let bed = Bed::parking().await;
    let mut stream = bed.ask("GET /panics HTTP/1.1\r\nhost: x\r\n\r\n").await;
    until("it is parked", || bed.parked() == 1 && bed.alive() == 1).await;
    bed.inside.told.add_permits(1);
    assert_eq!(rest(&mut stream).await, "");
    // There is room for one only.
    assert!(rest(&mut bed.ask(LAST).await).await.ends_with("it is now"));
    bed.stop().await;
}

#[tokio::test]
async fn a_soft_stop_lets_what_is_parked_be_answered() {
    let bed = Bed::parking().await;
    let mut stream = bed.ask(KINDS[0]).await;
    until("it is parked", || bed.parked() == 1).await;
    bed.server.soft.cancel();
    bed.inside.told.add_permits(1);
    let said = rest(&mut stream).await;
    assert!(said.contains("connection: close\r\n") && said.ends_with("it is later"), "{said}");
    bed.stop().await;
    let mut bed = Bed::parking().await;
    let mut stream = bed.ask("GET /events HTTP/1.1\r\nhost: x\r\n\r\n").await;
    until("it is parked", || bed.parked() == 1).await;
    bed.server.soft.cancel();
    bed.tell("data: 1\n\n");
    bed.frames = None;
    assert!(rest(&mut stream).await.ends_with("\r\n\r\n9\r\ndata: 1\n\n\r\n0\r\n\r\n"));
    bed.stop().await;
}

#[tokio::test]
async fn a_hard_stop_drops_what_is_parked() {
    for path in ["/later", "/events"] {
        let bed = Bed::parking().await;
        let mut stream = bed.ask(&format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        until("it is parked", || bed.parked() == 1).await;
        bed.server.hard.cancel();
        assert!(!rest(&mut stream).await.ends_with("0\r\n\r\n"), "it is not taken for the end");
        until("it is dropped", || bed.alive() == 0).await;
        bed.stop().await;
    }
}

#[tokio::test]
async fn a_request_with_a_body_is_never_parked() {
    for method in ["POST", "GET"] {
        let bed = Bed::parking().await;
        let head = format!(
            "{method} /body HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 4\r\nconnection: close\r\n\r\n"
        );
        let mut stream = bed.ask(&head).await;
        assert_eq!(read_until(&mut stream, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(b"ab").await.unwrap();
        tokio::task::yield_now().await;
        stream.write_all(b"cd").await.unwrap();
        assert!(rest(&mut stream).await.ends_with("\r\n\r\nabcd"));
        assert_eq!(bed.parked(), 0);
        bed.stop().await;
    }
}
