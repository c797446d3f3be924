//! Which headers a delivery has, and which a configuration cannot change.

use crvs_outbox::outbox::retry::Answer;
use crvs_outbox::workers::delivery::{self, may_configure};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use super::{DEADLINE, client, recorder, request};
use crate::peers::{peer, reply};

/// Headers that may never be configured.
const OURS: [&str; 20] = [
    "content-type",
    "content-length",
    "content-encoding",
    "transfer-encoding",
    "te",
    "trailer",
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "http2-settings",
    "upgrade",
    "expect",
    "host",
    "range",
    "accept-encoding",
    "idempotency-key",
    "traceparent",
    "webhook-attempt",
    "webhook-signature",
];

fn hostile_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    for name in OURS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static("overridden"));
    }
    headers.append("x-api-key", HeaderValue::from_static("first"));
    headers.append("x-api-key", HeaderValue::from_static("second"));
    headers.insert("user-agent", HeaderValue::from_static("registry of a country"));
    headers.insert(AUTHORIZATION, HeaderValue::from_static("Basic b3Zlcg=="));
    headers
}

#[tokio::test]
async fn a_destination_s_own_headers_are_sent_and_replace_none_of_ours() {
    let (url, seen) = recorder().await;
    for token in [Some("a-token"), None] {
        let mut request = request(&url);
        request.token = token.map(str::to_owned);
        request.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
        request.headers = hostile_headers();
        let exchange = delivery::exchange(&client(), request, DEADLINE).await;
        assert!(matches!(exchange.answer, Answer::Status { code: 200, .. }), "{exchange:?}");
    }
    let seen = seen.lock().unwrap().clone();
    for request in &seen {
        assert!(!request.head.contains("overridden"), "{}", request.head);
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert_eq!(request.header("content-length"), Some("2"));
        assert_eq!(request.header("idempotency-key"), Some("a-transaction"));
        assert_eq!(request.header("webhook-attempt"), Some("3"));
        assert_eq!(request.header("accept-encoding"), Some("gzip"));
        assert_eq!(request.header("user-agent"), Some("registry of a country"));
        assert_eq!(request.head.matches("x-api-key: ").count(), 2);
        assert_eq!(request.body, b"{}");
    }
    assert_eq!(seen[0].header("authorization"), Some("Bearer a-token"));
    assert_eq!(seen[1].header("authorization"), Some("Basic b3Zlcg=="), "without a token of ours it is theirs to set");
}

#[test]
fn a_configuration_can_ask_which_headers_it_may_have() {
    for name in OURS {
        let name = HeaderName::from_static(name);
        assert!(!may_configure(&name, true) && !may_configure(&name, false), "{name}");
    }
    for name in ["x-api-key", "user-agent", "cookie", "accept", "forwarded"] {
        assert!(may_configure(&HeaderName::from_static(name), true), "{name}");
    }
    assert!(may_configure(&AUTHORIZATION, false));
    assert!(!may_configure(&AUTHORIZATION, true));
}

#[tokio::test]
async fn a_request_shows_no_secret_and_no_person_when_it_is_printed() {
    let mut request = request("http://user:secret@destination.example/secret");
    request.token = Some("secret".to_owned());
    request.headers.insert("x-api-key", HeaderValue::from_static("secret"));
    request.body = b"secret".to_vec();
    assert!(!format!("{request:?}").contains("secret"));
}

#[tokio::test]
async fn a_retry_after_beyond_counting_is_as_long_as_can_be() {
    let url = peer(|_, stream| async move {
        reply(stream, "503 Busy\r\nRetry-After: 99999999999999999999999999", "").await;
    })
    .await;
    let exchange = super::exchange(&client(), &url).await;
    let Answer::Status { code: 503, retry_after: Some(hint) } = exchange.answer else { panic!("{exchange:?}") };
    assert_eq!(hint.as_secs(), u64::MAX);
}
