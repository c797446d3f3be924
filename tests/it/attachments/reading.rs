//! `GET` and `HEAD /attachments/{sha256}`.

use reqwest::{Method, StatusCode};

use super::{pdf, sha256};
use crate::harness::TestApp;

#[tokio::test]
async fn one_range_is_answered_alone_and_anything_else_whole() {
    let app = TestApp::start().await;
    let (token, bytes) = (app.token("mary", &["declare"]), pdf(700_000, 20));
    assert_eq!(app.upload(&token, &bytes).await.status(), StatusCode::CREATED);
    let url = format!("{}/attachments/{}", app.base, sha256(&bytes));
    let get = |range: &str| app.http.get(&url).bearer_auth(&token).header("range", range);
    for (range, from, to) in [
        ("bytes=0-0", 0, 1),
        ("bytes=262143-262144", 262_143, 262_145),
        ("bytes=100000-", 100_000, 700_000),
        ("bytes=-5", 699_995, 700_000),
    ] {
        let part = get(range).send().await.unwrap();
        assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT, "{range}");
        assert_eq!(part.headers()["content-range"], format!("bytes {from}-{}/700000", to - 1));
        assert_eq!(part.headers()["content-length"], (to - from).to_string());
        assert!(part.bytes().await.unwrap() == bytes[from..to], "{range}");
    }
    let none = get("bytes=700000-").send().await.unwrap();
    assert_eq!(none.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(none.headers()["content-range"], "bytes */700000");
    let tag = format!("\"{}\"", sha256(&bytes));
    for (if_range, status) in [(tag.as_str(), StatusCode::PARTIAL_CONTENT), ("\"older\"", StatusCode::OK)] {
        let answer = get("bytes=0-9").header("if-range", if_range).send().await.unwrap();
        assert_eq!(answer.status(), status, "{if_range}");
    }
    let several = get("bytes=0-1,4-5").send().await.unwrap();
    assert_eq!(several.status(), StatusCode::OK);
    assert!(several.bytes().await.unwrap() == bytes);
    app.done().await;
}

#[tokio::test]
async fn who_has_it_is_told_so_without_the_bytes() {
    let app = TestApp::start().await;
    let (token, bytes) = (app.token("mary", &["declare"]), pdf(700_000, 21));
    assert_eq!(app.upload(&token, &bytes).await.status(), StatusCode::CREATED);
    let (url, tag) = (format!("{}/attachments/{}", app.base, sha256(&bytes)), format!("\"{}\"", sha256(&bytes)));
    let ask = |method: Method| app.http.request(method, &url).bearer_auth(&token);
    for method in [Method::GET, Method::HEAD] {
        let known = ask(method.clone()).header("if-none-match", &tag).send().await.unwrap();
        assert_eq!(known.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(known.headers()["etag"], tag);
        let other = ask(method).header("if-none-match", "\"other\"").send().await.unwrap();
        assert_eq!(other.status(), StatusCode::OK);
        assert_eq!(other.headers()["content-length"], "700000");
        assert_eq!(other.headers()["accept-ranges"], "bytes");
        assert_eq!(other.headers()["content-type"], "application/pdf");
    }
    let eve = app.http.head(&url).bearer_auth(app.token("eve", &["declare"])).send().await.unwrap();
    assert_eq!(eve.status(), StatusCode::NOT_FOUND);
    app.done().await;
}

#[tokio::test]
async fn slow_readers_and_slow_senders_hold_no_connection() {
    let app = TestApp::start().await;
    let (token, bytes) = (app.token("mary", &["declare"]), pdf(8_000_000, 22));
    assert_eq!(app.upload(&token, &bytes).await.status(), StatusCode::CREATED);
    // More than there are connections.
    let (mut open, mut senders) = (Vec::new(), Vec::new());
    for n in 0..16 {
        open.push(app.get(&format!("/attachments/{}", sha256(&bytes)), &token).await);
        let (pieces, body) = tokio::sync::mpsc::channel::<Result<Vec<u8>, std::io::Error>>(4);
        pieces.send(Ok(pdf(300_000, 100 + n))).await.unwrap();
        let body = futures_util::stream::unfold(body, |mut body| async { Some((body.recv().await?, body)) });
        let request = app.put(&token, &sha256(&n.to_le_bytes()), Vec::new()).body(reqwest::Body::wrap_stream(body));
        senders.push(tokio::spawn(async move {
            tokio::select! { _ = request.send() => {}, () = pieces.closed() => {} }
        }));
    }
    app.wait_for("select count(*) from attachment_chunk", 31 + 16).await;
    app.register_birth("while-they-wait").await;
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    while app.app().db.size() != u32::try_from(app.app().db.num_idle()).unwrap() {
        assert!(std::time::Instant::now() < deadline, "connections are in use");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    drop(open);
    senders.iter().for_each(tokio::task::JoinHandle::abort);
    app.drain().await;
    app.done().await;
}
