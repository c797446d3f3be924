use std::net::SocketAddr;

use axum::routing::get;

use super::*;

const SETTINGS: Settings =
    Settings { connections: 1, idle: Duration::from_mins(1), stall: Duration::from_millis(200), head_max: 16 * 1024 };

async fn start(soft: &CancellationToken, hard: &CancellationToken) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let large = || async { vec![b'x'; 64 * 1024 * 1024] };
    let router = Router::new().route("/large", get(large)).route("/never", get(std::future::pending::<()>));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    (addr, tokio::spawn(run(listener, router, SETTINGS, soft.clone(), hard.clone())))
}

async fn ask(addr: SocketAddr, path: &str) -> TcpStream {
    let stream = TcpStream::connect(addr).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.writable().await.unwrap();
    assert_eq!(stream.try_write(request.as_bytes()).unwrap(), request.len());
    stream
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answer_is_cut() {
    let (soft, hard) = (CancellationToken::new(), CancellationToken::new());
    let (addr, server) = start(&soft, &hard).await;
    let greedy = ask(addr, "/large").await;
    // There is room for one only: the second is served once the first was cut.
    let second = ask(addr, "/nothing").await;
    tokio::time::timeout(Duration::from_secs(20), second.readable()).await.expect("it is never cut").unwrap();
    soft.cancel();
    tokio::time::timeout(Duration::from_secs(20), server).await.unwrap().unwrap();
    drop(greedy);
}

#[tokio::test]
async fn a_soft_stop_waits_for_what_is_open_and_a_hard_one_does_not() {
    let (soft, hard) = (CancellationToken::new(), CancellationToken::new());
    let (addr, mut server) = start(&soft, &hard).await;
    let open = ask(addr, "/never").await;
    tokio::time::timeout(Duration::from_millis(200), open.readable()).await.expect_err("it is answered");
    soft.cancel();
    tokio::time::timeout(Duration::from_millis(200), &mut server).await.expect_err("it does not wait");
    hard.cancel();
    tokio::time::timeout(Duration::from_secs(20), server).await.unwrap().unwrap();
}
