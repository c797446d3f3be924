//! Event streams.

use super::*;

#[tokio::test]
async fn a_parked_stream_is_told_whole_and_its_connection_used_again() {
    let mut bed = Bed::parking().await;
    let mut stream = bed.ask("GET /events HTTP/1.1\r\nhost: x\r\n\r\n").await;
    bed.tell("data: first\n\n");
    until("it is parked", || bed.parked() == 1 && bed.inside.taken.load(Ordering::Relaxed) == 1).await;
    let head = read_until(&mut stream, "\r\n\r\n").await;
    assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
    stream.write_all(LAST.as_bytes()).await.unwrap();
    let mut told = b"data: first\n\n".to_vec();
    for size in [1, 0, 15, 16, 17, 4096, 5_000_000, 0, 3] {
        let frame = vec![b'a'; size];
        told.extend(&frame);
        bed.tell(frame);
    }
    bed.frames = None;
    let said = rest(&mut stream).await.into_bytes();
    let (data, after) = unchunked(&said);
    assert!(data == told, "{} bytes of {}", data.len(), told.len());
    let after = String::from_utf8_lossy(after);
    assert!(after.starts_with("HTTP/1.1 200 OK") && after.ends_with("it is now"), "{after}");
    assert_eq!((bed.parked(), bed.alive()), (1, 0));
    bed.stop().await;
}

#[tokio::test]
async fn a_parked_stream_of_who_asked_to_close_is_closed_at_its_end() {
    let mut bed = Bed::parking().await;
    let mut stream = bed.ask("GET /events HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    until("it is parked", || bed.parked() == 1).await;
    read_until(&mut stream, "\r\n\r\n").await;
    bed.tell("data: 1\n\n");
    assert_eq!(read_until(&mut stream, "\n\n\r\n").await, "9\r\ndata: 1\n\n\r\n");
    bed.frames = None;
    assert_eq!(rest(&mut stream).await, "0\r\n\r\n");
    bed.stop().await;
}

#[tokio::test]
async fn an_old_clients_stream_and_a_head_of_one_are_left_to_hyper() {
    for request in ["GET /events HTTP/1.0\r\n\r\n", "HEAD /events HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"] {
        let mut bed = Bed::parking().await;
        let mut stream = bed.ask(request).await;
        bed.tell("data: 1\n\n");
        bed.frames = None;
        let said = rest(&mut stream).await;
        assert!(said.starts_with("HTTP/1.") && said.ends_with("\n\n") == request.starts_with("GET"), "{said}");
        assert_eq!(bed.parked(), 0);
        bed.stop().await;
    }
}

#[tokio::test]
async fn who_takes_nothing_of_a_parked_stream_is_cut() {
    let bed = Bed::start(Duration::ZERO, Duration::from_millis(200)).await;
    let stream = bed.ask("GET /events HTTP/1.1\r\nhost: x\r\n\r\n").await;
    until("it is parked", || bed.parked() == 1).await;
    bed.tell(vec![b'a'; 64 * 1024 * 1024]);
    until("it is cut", || bed.alive() == 0).await;
    drop(stream);
    bed.stop().await;
}

#[tokio::test]
async fn nothing_is_parked_while_a_part_of_an_answer_is_unwritten() {
    const SIZE: usize = 32 * 1024 * 1024;
    // hyper takes as much as this before it has written it, and so looks for more meanwhile.
    let settings = Settings { connections: 1, idle: LIMIT, stall: LIMIT, head_max: 2 * SIZE };
    let mut bed = Bed::with(Duration::ZERO, settings).await;
    let mut stream = bed.ask("GET /events HTTP/1.1\r\nhost: x\r\n\r\n").await;
    bed.tell(vec![b'a'; SIZE]);
    until("it is taken", || bed.inside.taken.load(Ordering::Relaxed) == 1).await;
    // Its first bytes are there, so hyper has gone on as far as it gets.
    read_until(&mut stream, "\r\n\r\n").await;
    stream.read_u8().await.unwrap();
    assert_eq!(bed.parked(), 0);
    let mut said = vec![0; SIZE];
    stream.read_exact(&mut said).await.unwrap();
    until("it is parked", || bed.parked() == 1).await;
    bed.tell("b");
    bed.frames = None;
    bed.server.soft.cancel();
    assert!(rest(&mut stream).await.ends_with("a\r\n1\r\nb\r\n0\r\n\r\n"));
    bed.stop().await;
}

#[tokio::test]
async fn what_a_client_says_behind_a_stream_that_ends_with_a_stop_costs_it_nothing() {
    let mut bed = Bed::parking().await;
    let mut stream = bed.ask("GET /events HTTP/1.1\r\nhost: x\r\n\r\n").await;
    until("it is parked", || bed.parked() == 1).await;
    stream.write_all(LAST.repeat(20).as_bytes()).await.unwrap();
    bed.server.soft.cancel();
    bed.tell("data: 1\n\n");
    bed.frames = None;
    until("it has ended", || bed.alive() == 0).await;
    assert!(rest(&mut stream).await.ends_with("\r\n\r\n9\r\ndata: 1\n\n\r\n0\r\n\r\n"));
    drop(stream);
    bed.stop().await;
}
