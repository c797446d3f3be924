//! Clients of HTTP/2 that take their time, or nothing.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use h2::client::SendRequest;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;

const LIMIT: Duration = Duration::from_secs(20);
const STALL: Duration = Duration::from_millis(300);

struct Bed {
    addr: SocketAddr,
    soft: CancellationToken,
    server: JoinHandle<()>,
}

impl Bed {
    async fn start() -> Self {
        let settings = Settings { connections: 1, idle: LIMIT, stall: STALL, head_max: 16 * 1024 };
        let large = || async { vec![b'x'; 300_000] };
        let waits = || async {
            let first = futures_util::stream::iter([Ok::<_, Infallible>("first")]);
            Body::from_stream(futures_util::StreamExt::chain(first, futures_util::stream::pending()))
        };
        let later = || async {
            tokio::time::sleep(STALL * 3).await;
            "it is later"
        };
        let router = Router::new()
            .route("/large", get(large))
            .route("/small", get(|| async { "small" }))
            .route("/waits", get(waits))
            .route("/later", get(later));
        let (soft, hard) = (CancellationToken::new(), CancellationToken::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let server = tokio::spawn(super::super::run(listener, router, settings, soft.clone(), hard));
        Self { addr, soft, server }
    }

    /// A client that opens so much of a window for each answer, and how its connection ends.
    async fn client(&self, window: u32) -> (SendRequest<Bytes>, JoinHandle<()>) {
        let tcp = TcpStream::connect(self.addr).await.unwrap();
        let (client, connection) = h2::client::Builder::new().initial_window_size(window).handshake(tcp).await.unwrap();
        (client, tokio::spawn(async { drop(connection.await) }))
    }

    async fn stop(self) {
        self.soft.cancel();
        tokio::time::timeout(LIMIT, self.server).await.expect("it never stops").unwrap();
    }
}

async fn ask(client: &mut SendRequest<Bytes>, path: &str) -> h2::RecvStream {
    let request = Request::get(format!("http://x{path}")).body(()).unwrap();
    let (answer, _) = client.send_request(request, true).unwrap();
    tokio::time::timeout(LIMIT, answer).await.expect("it is not answered").unwrap().into_body()
}

#[tokio::test]
async fn a_client_without_a_window_for_its_answer_is_cut() {
    for path in ["/large", "/waits"] {
        let bed = Bed::start().await;
        let (mut client, ended) = bed.client(0).await;
        let answer = ask(&mut client, path).await;
        tokio::time::timeout(LIMIT, ended).await.expect("it is never cut").unwrap();
        drop(answer);
        // Its place is free again: there is one only.
        let (mut next, _) = bed.client(65_535).await;
        ask(&mut next, "/small").await.data().await.unwrap().unwrap();
        drop(next);
        bed.stop().await;
    }
}

#[tokio::test]
async fn a_client_that_takes_its_answer_slowly_is_not_cut() {
    let bed = Bed::start().await;
    let (mut client, ended) = bed.client(32 * 1024).await;
    let mut answer = ask(&mut client, "/large").await;
    let mut taken = 0;
    while let Some(data) = answer.data().await {
        let data = data.unwrap();
        taken += data.len();
        // As a slow link does; ten times that is far more than the limit.
        tokio::time::sleep(STALL / 4).await;
        answer.flow_control().release_capacity(data.len()).unwrap();
    }
    assert_eq!(taken, 300_000);
    drop((client, answer));
    ended.await.unwrap();
    bed.stop().await;
}

#[tokio::test]
async fn a_client_that_waits_for_us_is_not_cut() {
    let bed = Bed::start().await;
    let (mut client, ended) = bed.client(65_535).await;
    let mut waits = ask(&mut client, "/waits").await;
    assert_eq!(waits.data().await.unwrap().unwrap(), "first");
    let mut later = ask(&mut client, "/later").await;
    assert_eq!(later.data().await.unwrap().unwrap(), "it is later");
    assert!(!ended.is_finished());
    drop((client, waits, later));
    ended.await.unwrap();
    bed.stop().await;
}

#[tokio::test]
async fn http2_is_known_by_a_preface_that_comes_in_pieces() {
    let bed = Bed::start().await;
    let mut tcp = TcpStream::connect(bed.addr).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    for piece in [b"P".as_slice(), b"RI * HT", b"TP/2.0\r\n\r\nSM\r\n\r\n", b"\0\0\0\x04\0\0\0\0\0"] {
        tcp.write_all(piece).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut head = [0; 4];
    tokio::time::timeout(LIMIT, tokio::io::AsyncReadExt::read_exact(&mut tcp, &mut head)).await.unwrap().unwrap();
    // The type of its first frame is SETTINGS (RFC 9113 §6.5).
    assert_eq!(head[3], 4);
    drop(tcp);
    let mut tcp = TcpStream::connect(bed.addr).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    for piece in ["P", "RI", "VATE /small HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"] {
        tcp.write_all(piece.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut said = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut tcp, &mut said).await.unwrap();
    assert!(said.starts_with("HTTP/1.1 405"), "{said}");
    bed.stop().await;
}
