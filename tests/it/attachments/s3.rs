//! Bytes in S3: a stub that speaks as much of it as is needed, and a process with credentials in its environment.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use http_body_util::BodyExt as _;

use super::{pdf, sha256};
use crate::harness::{BINARY, Process, Site, user_token};

/// Objects by path, and the parts of those that are not whole, by upload.
#[derive(Default)]
struct Bucket {
    objects: BTreeMap<String, Vec<u8>>,
    parts: BTreeMap<String, BTreeMap<u32, Bytes>>,
    unsigned: usize,
}

type Shared = Arc<Mutex<Bucket>>;

async fn answer(State(bucket): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let path = parts.uri.path().to_owned();
    let query: BTreeMap<String, String> = parts
        .uri
        .query()
        .unwrap_or_default()
        .split('&')
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name.to_owned(), value.to_owned())
        })
        .collect();
    let mut bucket = bucket.lock().unwrap();
    let signed =
        parts.headers.get("authorization").is_some_and(|v| v.to_str().unwrap().starts_with("AWS4-HMAC-SHA256"));
    bucket.unsigned += usize::from(!signed);
    let upload = query.get("uploadId").cloned();
    match (parts.method, upload) {
        (Method::POST, None) => {
            let id = format!("upload-{}", bucket.parts.len());
            bucket.parts.insert(id.clone(), BTreeMap::new());
            format!("<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>").into_response()
        }
        (Method::PUT, Some(id)) => {
            let number: u32 = query["partNumber"].parse().unwrap();
            bucket.parts.get_mut(&id).unwrap().insert(number, bytes);
            [(header::ETAG, format!("\"part-{number}\""))].into_response()
        }
        (Method::POST, Some(id)) => {
            let parts = bucket.parts[&id].clone();
            let last = parts.len();
            let small = parts.values().take(last - 1).any(|p| p.len() < 5 << 20);
            assert!(!small, "S3 refuses small parts");
            bucket.objects.insert(path, parts.values().flatten().copied().collect());
            "<CompleteMultipartUploadResult><Bucket>b</Bucket><Key>k</Key><ETag>\"whole\"</ETag></CompleteMultipartUploadResult>".into_response()
        }
        (Method::GET, None) => {
            let Some(object) = bucket.objects.get(&path) else { return StatusCode::NOT_FOUND.into_response() };
            let range = parts.headers["range"].to_str().unwrap().trim_start_matches("bytes=");
            let (first, last) = range.split_once('-').unwrap();
            let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
            let last = last.min(object.len() - 1);
            let part = Bytes::copy_from_slice(&object[first..=last]);
            let headers = [
                (header::CONTENT_RANGE, format!("bytes {first}-{last}/{}", object.len())),
                (header::ETAG, "\"whole\"".to_owned()),
                (header::LAST_MODIFIED, "Tue, 24 Nov 2026 08:00:00 GMT".to_owned()),
            ];
            (StatusCode::PARTIAL_CONTENT, headers, part).into_response()
        }
        _ => (StatusCode::NO_CONTENT, Body::empty()).into_response(),
    }
}

#[tokio::test]
async fn a_bucket_keeps_the_bytes_under_its_prefix() {
    let bucket = Shared::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(answer).with_state(Arc::clone(&bucket));
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let site = Site::new("[attachments]\nstore = \"s3://scans/crvs\"").await;
    let mut command = Command::new(BINARY);
    command.args(["serve", "--api", "--listen", "127.0.0.1:0", "--internal-addr", "127.0.0.1:0", "--config"]);
    command
        .arg(&site.config)
        .env("DATABASE_URL", &site.url)
        .env("AWS_ENDPOINT", &endpoint)
        .env("AWS_ALLOW_HTTP", "true");
    command.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "secret").env("AWS_REGION", "us-east-1");
    let process = Process::start(command).await;
    let bytes = pdf(12_000_000, 60);
    let url = format!("http://{}/attachments/{}", process.public(), sha256(&bytes));
    let (client, token) = (reqwest::Client::new(), user_token());
    let put = || client.put(&url).bearer_auth(&token).body(bytes.clone()).send();
    assert_eq!(put().await.unwrap().status(), StatusCode::CREATED);
    assert_eq!(put().await.unwrap().status(), StatusCode::OK);
    let read = client.get(&url).bearer_auth(&token).send().await.unwrap();
    assert!(read.bytes().await.unwrap() == bytes);
    {
        let bucket = bucket.lock().unwrap();
        assert_eq!((bucket.objects.len(), bucket.unsigned), (1, 0));
        let (path, object) = bucket.objects.first_key_value().unwrap();
        assert!(path.starts_with(&format!("/scans/crvs/{}/{}/", &sha256(&bytes)[..2], sha256(&bytes))), "{path}");
        assert!(*object == bytes);
    }
    assert_eq!(site.count("select count(*) from attachment_chunk").await, 0);
    assert!(process.terminate().await.success());
    server.abort();
    site.done().await;
}
