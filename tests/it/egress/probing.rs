//! What a probe tells an operator.

use crvs_outbox::workers::egress::{Client, probe};
use serde_json::{Value, json};
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{allowing, client, client_with, here, port};

async fn told(client: &Client, url: &str) -> Value {
    let mut told = serde_json::to_value(probe(client, url).await).unwrap();
    for duration in ["lookupMs", "requestMs"] {
        assert!(told[duration].take().is_u64());
    }
    told
}

#[tokio::test]
async fn a_probe_asks_for_options_without_a_body_and_any_answer_is_one() {
    let peers = MockServer::start().await;
    for status in [204, 302, 401, 405, 503] {
        peers.reset().await;
        Mock::given(method("OPTIONS")).respond_with(ResponseTemplate::new(status)).mount(&peers).await;
        let url = format!("http://user:secret@127.0.0.1:{}/hook?key=secret", peers.address().port());
        let found = probe(&client(), &url).await;
        assert!(found.reached());
        assert_eq!((found.status, found.error, found.tls), (Some(status), None, None));
        assert!(!serde_json::to_string(&found).unwrap().contains("secret"), "{found:?}");
        let requests = peers.received_requests().await.unwrap();
        assert_eq!(requests.len(), 1);
        assert!(requests[0].body.is_empty() && requests[0].headers.get("idempotency-key").is_none());
    }
}

#[tokio::test]
async fn a_probe_tells_each_address_and_what_would_allow_it() {
    let (mixed, _) = client_with(&here(), |_| vec!["127.0.0.1", "10.1.2.3", "::ffff:10.1.2.4", "169.254.169.254"]);
    let expected = json!({
        "origin": "https://destination.example",
        "foundBy": "lookup",
        "addresses": [
            { "address": "127.0.0.1", "range": "loopback", "refused": false, "allow": null },
            { "address": "10.1.2.3", "range": "private use", "refused": true, "allow": "10.1.2.3/32" },
            { "address": "::ffff:10.1.2.4", "range": "private use", "refused": true, "allow": "10.1.2.4/32" },
            { "address": "169.254.169.254", "range": "cloud metadata", "refused": true, "allow": null },
        ],
        "lookupMs": null, "tls": null, "status": null, "error": "refused-address", "requestMs": null,
    });
    assert_eq!(told(&mixed, "https://destination.example/hook").await, expected);
    let literal = told(&client_with(&allowing(&[]), |_| Vec::new()).0, "http://[::1]:8080/hook").await;
    assert_eq!(literal["foundBy"], "url");
    assert_eq!(literal["addresses"][0]["allow"], "::1/128");
    assert_eq!(literal["error"], "refused-address");
}

#[tokio::test]
async fn a_probe_tells_which_step_failed() {
    let (nameless, _) = client_with(&here(), |_| Vec::new());
    assert_eq!(told(&nameless, "http://destination.example/").await["error"], "dns");
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let refused = told(&client(), &format!("https://{closed}/")).await;
    assert_eq!((&refused["error"], &refused["tls"]), (&json!("connect"), &Value::Null));
    assert_eq!(refused["addresses"][0]["refused"], false);
    let nothing = told(&client(), "mailto:somebody").await;
    assert_eq!((&nothing["origin"], &nothing["error"]), (&Value::Null, &json!("unsendable-request")));
    let (url, _) = super::recorder().await;
    let (moving, _) = client_with(&here(), |n| vec![if n == 0 { "127.0.0.1" } else { "10.0.0.1" }]);
    let moved = told(&moving, &format!("http://destination.example:{}/", port(&url))).await;
    assert_eq!(moved["error"], "refused-address", "the request's own lookup is vetted as well");
}
