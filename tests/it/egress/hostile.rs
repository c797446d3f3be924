//! Peers that want our memory or our time: what they get of it is bounded.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crvs_outbox::workers::delivery::{self, BODY_MAX, Exchange};
use crvs_outbox::workers::egress::{ClientSettings, build};
use flate2::{Compression, FlushCompress};
use tokio::io::AsyncWriteExt as _;

use super::tls_peer::{Authority, http2_peer};
use super::{alone, client, here, request, word};
use crate::peers::peer;

/// Head of a compressed answer of unknown length.
const COMPRESSED: &str = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n";
/// Head of a gzip member (RFC 1952 §2.3).
const MEMBER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// More than all buffers between two sockets of this machine and in the client.
const BUFFERS: usize = 32 * 1024 * 1024;

/// A peer that answers with `start`, and then with `more` again and again, at once or every `pause`, until nobody
/// listens. Its URL, and how many bytes it got rid of.
async fn endless(start: Vec<u8>, more: Vec<u8>, pause: Option<Duration>) -> (String, Arc<AtomicUsize>) {
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let url = peer(move |_, mut stream| {
        let (start, more, count) = (start.clone(), more.clone(), Arc::clone(&count));
        async move {
            let mut pace = pause.map(tokio::time::interval);
            drop(stream.write_all(&start).await);
            while stream.write_all(&more).await.is_ok() {
                count.fetch_add(more.len(), Ordering::SeqCst);
                if let Some(pace) = &mut pace {
                    pace.tick().await;
                }
            }
        }
    })
    .await;
    (url, written)
}

async fn within(timeout: Duration, url: &str) -> Exchange {
    let started = Instant::now();
    let exchange = delivery::exchange(&client(), request(url), timeout).await;
    assert!(started.elapsed() < timeout + Duration::from_secs(2), "{exchange:?}");
    exchange
}

/// A deflate block that is a thousandth of what it becomes, and can follow itself.
fn mebibyte_of_zeros() -> Vec<u8> {
    let mut compress = flate2::Compress::new(Compression::best(), false);
    let mut block = Vec::with_capacity(64 * 1024);
    compress.compress_vec(&vec![0; 1024 * 1024], &mut block, FlushCompress::Full).unwrap();
    assert!(block.len() < 2048, "{}", block.len());
    block
}

fn gzipped(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// The most memory that this process ever held, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

async fn in_bounded_memory(test: &'static str, attack: impl AsyncFnOnce()) {
    // A process of its own, since other tests use memory too.
    if alone(test, Vec::new()).await {
        return;
    }
    // The first client reads the system's authorities.
    let (warm, _) = super::recorder().await;
    assert_eq!(word(&within(Duration::from_secs(10), &warm).await), "200");
    let before = peak();
    attack().await;
    let grown = peak() - before;
    assert!(grown < BUFFERS, "{grown} bytes");
}

#[tokio::test]
async fn a_compressed_answer_is_read() {
    let verdict = br#"{"registrationNumber":"2026BGZIP01"}"#;
    let head = |length| {
        format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")
    };
    for (body, expected) in [(gzipped(verdict), &verdict[..]), (gzipped(b""), b""), (Vec::new(), b"")] {
        let answer = [head(body.len()).into_bytes(), body].concat();
        let url = peer(move |_, mut stream| {
            let answer = answer.clone();
            async move { stream.write_all(&answer).await.unwrap() }
        })
        .await;
        let exchange = within(Duration::from_secs(10), &url).await;
        assert_eq!((word(&exchange).as_str(), exchange.body.as_slice()), ("200", expected));
    }
}

#[tokio::test]
async fn an_answer_that_is_not_what_it_says_it_is_counts_as_none() {
    let cut = &gzipped(&[b'x'; 4096])[..30];
    for body in [&b"this is no gzip"[..], cut] {
        let answer = [COMPRESSED.as_bytes(), body].concat();
        let url = peer(move |_, mut stream| {
            let answer = answer.clone();
            async move { stream.write_all(&answer).await.unwrap() }
        })
        .await;
        assert_eq!(word(&within(Duration::from_secs(10), &url).await), "connection-lost");
    }
}

#[tokio::test]
async fn a_gzip_bomb_costs_little() {
    in_bounded_memory("egress::hostile::a_gzip_bomb_costs_little", async || {
        let start = [COMPRESSED.as_bytes(), &MEMBER].concat();
        // Without an end: whoever reads on reads for ever.
        let (url, written) = endless(start, mebibyte_of_zeros(), None).await;
        let exchange = within(Duration::from_secs(10), &url).await;
        assert_eq!((word(&exchange).as_str(), exchange.body.len()), ("200", BODY_MAX));
        assert!(exchange.body.iter().all(|byte| *byte == 0));
        assert!(exchange.duration < Duration::from_secs(5), "{exchange:?}");
        assert!(written.load(Ordering::SeqCst) < BUFFERS);
    })
    .await;
}

#[tokio::test]
async fn compression_that_never_becomes_anything_ends_at_the_deadline() {
    in_bounded_memory("egress::hostile::compression_that_never_becomes_anything_ends_at_the_deadline", async || {
        // An empty stored block (RFC 1951 §3.2.4).
        let nothing = [0, 0, 0, 0xff, 0xff];
        let mut long_name = MEMBER;
        long_name[3] = 8;
        let blocks = [COMPRESSED.as_bytes(), &MEMBER].concat();
        let name = [COMPRESSED.as_bytes(), &long_name].concat();
        for (what, start, more) in [
            ("empty blocks", blocks, nothing.repeat(1000)),
            ("empty members", COMPRESSED.into(), gzipped(b"").repeat(1000)),
            ("a member's name", name, vec![b'n'; 65536]),
        ] {
            let (url, _) = endless(start, more, None).await;
            let word = word(&within(Duration::from_millis(500), &url).await);
            // Where the decoder loses patience first, the better.
            assert!(["timeout", "connection-lost"].contains(&word.as_str()), "{what}: {word}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_body_without_an_end_is_cut_off() {
    in_bounded_memory("egress::hostile::a_body_without_an_end_is_cut_off", async || {
        let chunk = [b"10000\r\n".to_vec(), vec![b'x'; 65536], b"\r\n".to_vec()].concat();
        let raw = vec![b'x'; 65536];
        for (framing, more) in [
            ("Connection: close", raw.clone()),
            ("Content-Length: 1099511627776", raw),
            ("Transfer-Encoding: chunked", chunk),
        ] {
            let head = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n");
            let (url, written) = endless(head.into_bytes(), more, None).await;
            let exchange = within(Duration::from_secs(10), &url).await;
            assert_eq!((word(&exchange).as_str(), exchange.body.len()), ("200", BODY_MAX), "{framing}");
            assert!(written.load(Ordering::SeqCst) < BUFFERS, "{framing}");
        }
    })
    .await;
}

#[tokio::test]
async fn heads_without_an_end_break_the_connection_off() {
    in_bounded_memory("egress::hostile::heads_without_an_end_break_the_connection_off", async || {
        let field = |value: &str| format!("X-Fill: {value}\r\n").into_bytes();
        let ok = b"HTTP/1.1 200 OK\r\n".to_vec();
        let trailers = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n".to_vec();
        for (what, start, more) in [
            ("many headers", ok.clone(), field("x").repeat(1000)),
            ("large headers", ok.clone(), field(&"x".repeat(65536))),
            ("one header", [&ok[..], b"X-Fill: "].concat(), vec![b'x'; 65536]),
            ("a status line", b"HTTP/1.1 200 ".to_vec(), vec![b'x'; 65536]),
            ("no line at all", Vec::new(), vec![b'x'; 65536]),
            ("nothing but ends of lines", Vec::new(), b"\r\n".repeat(1000)),
            ("trailers", trailers, field("x").repeat(1000)),
            (
                "a chunk's extension",
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;".to_vec(),
                vec![b'x'; 65536],
            ),
        ] {
            let (url, written) = endless(start, more, None).await;
            assert_eq!(word(&within(Duration::from_secs(10), &url).await), "connection-lost", "{what}");
            assert!(written.load(Ordering::SeqCst) < BUFFERS, "{what}");
        }
        // Interim answers are each complete; only the deadline ends them.
        let (url, _) = endless(Vec::new(), b"HTTP/1.1 103 Early Hints\r\nX-Fill: x\r\n\r\n".repeat(1000), None).await;
        assert_eq!(word(&within(Duration::from_millis(500), &url).await), "timeout");
    })
    .await;
}

/// A frame of HTTP/2 on stream 1 (RFC 9113 §4.1).
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, 0, 0, 0, 0, 1], payload].concat()
}

#[tokio::test]
async fn heads_without_an_end_break_the_connection_off_over_http2_too() {
    let test = "egress::hostile::heads_without_an_end_break_the_connection_off_over_http2_too";
    in_bounded_memory(test, async || {
        let ours = Authority::new("ours");
        let settings = ClientSettings { ca_pem: Some(ours.pem()), ..here() };
        let client = build(&settings).unwrap();
        // HEADERS with the status and no end, then CONTINUATION frames: of many fields, and of nothing.
        let field = [&[0, 1, b'x', 100], &[b'x'; 100][..]].concat();
        for more in [frame(9, &field.repeat(100)), frame(9, &[]).repeat(100)] {
            let issued = ours.issue("127.0.0.1", |_| {});
            let (port, written) = http2_peer(&issued, frame(1, &[0x88]), more).await;
            let url = format!("https://127.0.0.1:{port}/");
            let exchange = delivery::exchange(&client, request(&url), Duration::from_secs(10)).await;
            assert_eq!(word(&exchange), "connection-lost");
            assert!(written.load(Ordering::SeqCst) < BUFFERS);
        }
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_drips_is_left_at_the_deadline() {
    for start in ["", "HTTP/1.1 200 OK\r\nX-Fill: ", "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", COMPRESSED] {
        let (url, _) = endless(start.into(), b"x".to_vec(), Some(Duration::from_millis(20))).await;
        let exchange = within(Duration::from_millis(300), &url).await;
        // One byte that cannot be the beginning of anything is seen at once.
        let expected = if start.is_empty() || start == COMPRESSED { "connection-lost" } else { "timeout" };
        assert_eq!(word(&exchange), expected, "{start:?}");
        assert!(exchange.body.is_empty() && exchange.duration < Duration::from_secs(2));
    }
}
