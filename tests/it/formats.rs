//! What the formats put on the wire, at peers that answer as OpenCRVS's services would.

use crvs_outbox::outbox::destination::Format;
use reqwest::StatusCode;
use serde_json::{Value, json};
use wiremock::matchers::{header, method, path};
use wiremock::{Mock, Request, ResponseTemplate};

use crate::harness::{Submitted, TestApp, flat};
use crate::peers::{by_hand, destination};

const OPENCRVS: [(&str, Format); 4] = [
    ("search", Format::OpencrvsSearch),
    ("metrics", Format::OpencrvsMetrics),
    ("audit", Format::OpencrvsAudit),
    ("notification", Format::OpencrvsNotification),
];

const PATHS: [&str; 7] = [
    "/search/record",
    "/metrics/events/birth/sent-notification-for-review",
    "/metrics/events/birth/waiting-external-validation",
    "/metrics/events/birth/registered",
    "/audit/audit/events",
    "/notification/birth/registered",
    "/country-config/event-registration",
];

/// Every service of OpenCRVS in its own format. Each takes a message at its second attempt, at its own addresses; what
/// comes to another gets 404, which is final.
async fn opencrvs() -> TestApp {
    let app = TestApp::with(by_hand(|settings| {
        for (name, format) in OPENCRVS {
            destination(settings, name).definition.format = format;
        }
    }))
    .await;
    app.peers.reset().await;
    for at in PATHS {
        let first = Mock::given(method("POST")).and(path(at)).and(header("webhook-attempt", "1"));
        first.respond_with(ResponseTemplate::new(503)).mount(&app.peers).await;
        let later = Mock::given(method("POST")).and(path(at)).respond_with(ResponseTemplate::new(202));
        later.mount(&app.peers).await;
    }
    app
}

/// Delivers everything, retries included.
async fn deliver_all(app: &TestApp) {
    // A destination gets a record's messages one after the other, and each of them twice.
    for _ in 0..8 {
        app.drain().await;
        app.make_due().await;
    }
    assert_eq!(app.count("select count(*) from outbox_message").await, 0);
}

/// A message as it came: its path, what it correlates with, and its body.
#[derive(Debug)]
struct Came {
    path: String,
    correlation: Option<String>,
    body: Value,
}

fn value<'r>(request: &'r Request, name: &str) -> Option<&'r str> {
    request.headers.get(name).map(|value| value.to_str().unwrap())
}

/// The two requests of a message: the same address, headers of the format, and bytes.
async fn came(app: &TestApp, to: &str, key: &str) -> Came {
    let mut requests = app.peers.received_requests().await.unwrap();
    let prefix = format!("/{to}/");
    requests.retain(|r| r.url.path().starts_with(&prefix) && value(r, "idempotency-key") == Some(key));
    let [first, second] = <[Request; 2]>::try_from(requests).unwrap();
    assert_eq!((value(&first, "webhook-attempt"), value(&second, "webhook-attempt")), (Some("1"), Some("2")));
    assert_eq!((&first.url, &first.body), (&second.url, &second.body), "{to} {key}");
    for name in ["content-type", "content-length", "x-correlation-id"] {
        assert_eq!(value(&first, name), value(&second, name), "{to} {key} {name}");
    }
    assert_eq!(value(&first, "content-type"), Some("application/json"));
    let correlation = value(&first, "x-correlation-id").map(str::to_owned);
    Came { path: first.url.path().to_owned(), correlation, body: serde_json::from_slice(&first.body).unwrap() }
}

/// The bundle of the record, stamped with the status after an action and the number that was given with it.
fn assert_stamped(bundle: &Value, birth: &Submitted, status: &str, number: Option<&str>) {
    assert_eq!((&bundle["resourceType"], &bundle["type"]), (&json!("Bundle"), &json!("document")));
    assert_eq!(bundle["entry"][0]["resource"]["id"], json!(birth.record_id));
    let entries = bundle["entry"].as_array().unwrap();
    let task = entries.iter().map(|e| &e["resource"]).find(|r| r["resourceType"] == "Task").unwrap();
    assert_eq!(task["businessStatus"]["coding"][0]["code"], status);
    let identifier = |system: &str| {
        let system = format!("http://opencrvs.org/specs/id/{system}");
        let found = task["identifier"].as_array().unwrap().iter().find(|i| i["system"] == system.as_str());
        found.map(|i| i["value"].clone())
    };
    assert_eq!(identifier("birth-tracking-id"), Some(birth.body["record"]["trackingId"].clone()));
    assert_eq!(identifier("birth-registration-number"), number.map(|n| json!(n)));
}

#[tokio::test]
async fn opencrvs_services_get_its_workflows_requests_and_the_same_bytes_at_a_retry() {
    let app = opencrvs().await;
    let birth = app.register_birth("draft-0001").await;
    deliver_all(&app).await;
    assert_eq!(app.confirm(&birth, "2026B0000001").await.status(), StatusCode::ACCEPTED);
    deliver_all(&app).await;

    for (step, status, number) in
        [("register", "WAITING_VALIDATION", None), ("confirm", "REGISTERED", Some("2026B0000001"))]
    {
        let search = came(&app, "search", &format!("index__{step}_draft-0001")).await;
        assert_eq!((search.path.as_str(), search.correlation), ("/search/record", None));
        assert_eq!(search.body["transactionId"], format!("{step}_draft-0001"));
        assert_stamped(&search.body["record"], &birth, status, number);
    }
    for (kind, step, status, number) in [
        ("sent-notification-for-review", "register", "DECLARED", None),
        ("waiting-external-validation", "register", "WAITING_VALIDATION", None),
        ("registered", "confirm", "REGISTERED", Some("2026B0000001")),
    ] {
        let key = format!("{kind}__{step}_draft-0001");
        let metrics = came(&app, "metrics", &key).await;
        assert_eq!(metrics.path, format!("/metrics/events/birth/{kind}"));
        assert_eq!(metrics.correlation, Some(format!("{step}_draft-0001")));
        assert_eq!(metrics.body["transactionId"], key);
        assert_stamped(&metrics.body["record"], &birth, status, number);
    }
    for action in ["DECLARED", "REGISTERED"] {
        let key = format!("{action}__register_draft-0001");
        let audit = came(&app, "audit", &key).await;
        assert_eq!(
            (audit.path.as_str(), audit.correlation.as_deref()),
            ("/audit/audit/events", Some("register_draft-0001"))
        );
        let ids = json!({ "compositionId": birth.record_id, "trackingId": birth.body["record"]["trackingId"] });
        assert_eq!(audit.body, json!({ "action": action, "transactionId": key, "additionalData": ids }));
    }
    let notification = came(&app, "notification", "registered__confirm_draft-0001").await;
    assert_eq!((notification.path.as_str(), notification.correlation), ("/notification/birth/registered", None));
    assert_stamped(&notification.body, &birth, "REGISTERED", Some("2026B0000001"));
    let country = came(&app, "country-config", "event-registration__register_draft-0001").await;
    assert_eq!((country.path.as_str(), country.correlation), ("/country-config/event-registration", None));
    assert_stamped(&country.body, &birth, "WAITING_VALIDATION", None);
    assert_eq!(app.peers.received_requests().await.unwrap().len(), 18, "nothing else was sent");
    app.done().await;
}

#[tokio::test]
async fn a_flat_declaration_goes_to_opencrvs_services_as_a_cloud_events_data() {
    let app = opencrvs().await;
    let token = app.token("registrar", &["register"]);
    assert_eq!(app.post("/records", &token, "flat-0001", &flat("register")).await.status(), StatusCode::ACCEPTED);
    deliver_all(&app).await;
    let country = came(&app, "country-config", "event-registration__register_flat-0001").await.body;
    assert_eq!(country["declaration"], flat("register")["declaration"]);
    assert_eq!((&country["event"], &country["action"]["action"]), (&json!("birth"), &json!("register")));
    let search = came(&app, "search", "index__register_flat-0001").await.body;
    assert_eq!(search, json!({ "record": country, "transactionId": "register_flat-0001" }));
    app.done().await;
}

#[tokio::test]
async fn a_cloud_event_is_one_event_at_each_of_its_attempts() {
    let app = TestApp::with(by_hand(|_| {})).await;
    let first = Mock::given(method("POST")).and(path("/search")).respond_with(ResponseTemplate::new(503));
    first.up_to_n_times(1).with_priority(1).mount(&app.peers).await;
    let birth = app.register_birth("draft-0002").await;
    deliver_all(&app).await;
    let mut requests = app.peers.received_requests().await.unwrap();
    requests.retain(|r| r.url.path() == "/search");
    let [first, second] = <[Request; 2]>::try_from(requests).unwrap();
    assert_eq!(first.body, second.body);
    assert_eq!(value(&first, "content-type"), Some("application/cloudevents+json"));
    let event: Value = serde_json::from_slice(&first.body).unwrap();
    for (name, expected) in [
        ("specversion", json!("1.0")),
        ("id", json!("index__register_draft-0002")),
        ("source", json!("/crvs-outbox")),
        ("type", json!("org.crvs.record.waiting-validation.v1")),
        ("subject", json!(birth.record_id)),
        ("time", event["data"]["action"]["createdAt"].clone()),
        ("datacontenttype", json!("application/json")),
        ("kind", json!("index")),
    ] {
        assert_eq!(event[name], expected, "{name}");
    }
    assert_stamped(&event["data"]["declaration"], &birth, "WAITING_VALIDATION", None);
    app.done().await;
}
