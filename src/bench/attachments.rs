//! 32 clients send 40 MB each at the same time: streamed to `PUT /attachments/{sha256}`, then inline as base64 in
//! `POST /records`. Measured: the most memory that the service ever had, each in a process of its own.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use axum::body::Bytes;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::bed::Bed;
use super::figures::{count, megabytes};
use super::sink::Sink;
use super::{BenchError, Figure, Options};
use crate::records::attachments::hex;

const NAME: &str = "attachments";
const USUAL: usize = 32;
/// Bytes of one upload; of an inline one, its whole body.
const SIZE: usize = 40 * 1000 * 1000;
const PIECE: usize = 64 * 1024;
/// How often an inline submission that was put off is sent again.
const AGAIN: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_mins(5);

pub(super) async fn run(
    options: &Options,
    bed: &Bed<'_>,
    report: &mut (dyn FnMut(Figure) + Send),
) -> Result<(), BenchError> {
    let clients = options.size.unwrap_or(USUAL);
    let sink = Sink::start()?;
    for (variant, inline) in [("streamed", false), ("inline", true)] {
        let service = bed.serve(sink.addr, "[limits]\nrequests_per_second = 0\n").await?;
        report(Figure::value(NAME, format!("{variant}: memory before"), megabytes(service.memory()?.now), "MB"));
        let token: Arc<str> = bed.token("bench-agent", "declare")?.into();
        let http = reqwest::Client::builder().no_proxy().build()?;
        let (started, mut tasks) = (Instant::now(), JoinSet::new());
        for n in 0..clients {
            let (http, base, token) = (http.clone(), service.at(""), Arc::clone(&token));
            if inline {
                tasks.spawn(async move { submit(&http, &base, &token, n).await });
            } else {
                tasks.spawn(async move { upload(&http, &base, &token, n).await });
            }
        }
        let mut put_off = 0;
        while let Some(one) = tasks.join_next().await {
            put_off += one??;
        }
        let seconds = started.elapsed().as_secs_f64();
        let most = megabytes(service.memory()?.most);
        report(Figure::value(NAME, format!("{variant}: memory at most, {clients} at once"), most, "MB"));
        report(Figure::value(NAME, format!("{variant}: taken in"), count(clients * SIZE) / 1e6 / seconds, "MB/s"));
        if inline {
            report(Figure::value(NAME, "inline: answered 503 and sent again", count(put_off), "requests"));
        }
    }
    Ok(())
}

/// A PDF of noise; `n` makes it another one.
fn document(n: usize, size: usize) -> Vec<u8> {
    let mut bytes = b"%PDF-1.7\n".to_vec();
    let mut state = (u64::try_from(n).unwrap_or_default() + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

async fn upload(http: &reqwest::Client, base: &str, token: &str, n: usize) -> Result<usize, BenchError> {
    let bytes = Bytes::from(tokio::task::spawn_blocking(move || document(n, SIZE)).await?);
    let url = format!("{base}/attachments/{}", hex(digest(&SHA256, &bytes).as_ref()));
    let pieces = (0..bytes.len()).step_by(PIECE).map(move |at| bytes.slice(at..(at + PIECE).min(bytes.len())));
    let body = reqwest::Body::wrap_stream(stream::iter(pieces.map(Ok::<_, std::io::Error>)));
    let request = http.put(url).bearer_auth(token).header("content-type", "application/pdf");
    let status = request.header("content-length", SIZE).body(body).send().await?.status().as_u16();
    if status == 201 { Ok(0) } else { Err(BenchError::Answer("PUT /attachments/{sha256}", status)) }
}

/// Returns how often it was put off.
async fn submit(http: &reqwest::Client, base: &str, token: &str, n: usize) -> Result<usize, BenchError> {
    let body = tokio::task::spawn_blocking(move || {
        let data = STANDARD.encode(document(n, SIZE / 4 * 3 - 300));
        Bytes::from(format!(
            r#"{{"event":"birth","action":"declare","declaration":{{"child.firstName":"Bench"}},"attachments":[{{"type":"PROOF","contentType":"application/pdf","data":"{data}"}}]}}"#
        ))
    })
    .await?;
    let deadline = Instant::now() + PATIENCE;
    for put_off in 0.. {
        let request =
            http.post(format!("{base}/records")).bearer_auth(token).header("content-type", "application/json");
        let request = request.header("idempotency-key", format!("bench-inline-{n:04}")).body(body.clone());
        match request.send().await?.status().as_u16() {
            202 => return Ok(put_off),
            503 if Instant::now() < deadline => tokio::time::sleep(AGAIN).await,
            status => return Err(BenchError::Answer("POST /records", status)),
        }
    }
    Ok(0)
}
