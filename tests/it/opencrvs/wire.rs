//! Requests of bytes, for what no HTTP client would send.

use std::io::Read as _;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::TestApp;

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) json: Value,
}

/// A request with these lines in its header, as they are. It has to say `connection: close`.
pub(super) async fn send(app: &TestApp, lines: &[&str], body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(app.base.strip_prefix("http://").unwrap()).await.unwrap();
    let head = lines.join("\r\n") + "\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    read(&bytes)
}

/// As node-fetch 2 sends what stock country configs up to 1.8 send: `Content-Type` twice, and their own `Host`.
pub(super) async fn post(app: &TestApp, path: &str, token: &str, body: &Value) -> Answer {
    let text = body.to_string();
    let lines = [
        &format!("POST {path} HTTP/1.1"),
        "Content-Type: application/json",
        "Content-Type: application/json",
        &format!("authorization: Bearer {token}"),
        "idempotency-key: event-registration__register_draft-0001",
        "x-transaction-id: event-registration__register_draft-0001",
        "x-correlation-id: draft-0001",
        "webhook-id: event-registration__register_draft-0001",
        "webhook-timestamp: 1764264000",
        "webhook-signature: v1,bm90IG91cnM=",
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "accept: */*",
        &format!("content-length: {}", text.len()),
        "user-agent: node-fetch/1.0 (+https://github.com/bitinn/node-fetch)",
        "accept-encoding: gzip,deflate",
        "connection: close",
        "host: 127.0.0.1:3142",
    ];
    send(app, &lines, text.as_bytes()).await
}

fn read(bytes: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(bytes);
    // What was said before the answer proper.
    let interim = "HTTP/1.1 100 Continue\r\n\r\n";
    let bytes = if text.starts_with(interim) { &bytes[interim.len()..] } else { bytes };
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("an answer");
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_ascii_lowercase();
    let mut body = bytes[end + 4..].to_vec();
    if head.contains("transfer-encoding: chunked") {
        body = joined(&body);
    }
    if head.contains("content-encoding: gzip") {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(body.as_slice()).read_to_end(&mut plain).unwrap();
        body = plain;
    }
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Answer { status, head, json }
}

fn joined(mut chunks: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let end = chunks.windows(2).position(|w| w == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&chunks[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            return whole;
        }
        whole.extend_from_slice(&chunks[end + 2..end + 2 + size]);
        chunks = &chunks[end + 4 + size..];
    }
}
