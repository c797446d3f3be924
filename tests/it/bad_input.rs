//! Bad input gets a problem of its own, and nothing is written; no problem echoes what was sent.

use std::time::Duration;

use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::harness::{GATEWAY, Setup, TestApp, birth, expired_token, flat};

/// A name that no answer may repeat.
const NAME: &str = "Wilhelmina";

const ROWS: &str = "
    select (select count(*) from client_transaction) + (select count(*) from record) + (select count(*) from record_version)
         + (select count(*) from record_action) + (select count(*) from attachment) + (select count(*) from attachment_chunk)
         + (select count(*) from record_attachment) + (select count(*) from outbox_message) + (select count(*) from outbox_history)";

async fn refused(app: &TestApp, request: RequestBuilder, status: u16, slug: &str) -> Value {
    let response = request.send().await.unwrap();
    refusal(app, response, status, slug).await
}

/// A problem of this status and type, with nothing written.
async fn refusal(app: &TestApp, response: Response, status: u16, slug: &str) -> Value {
    assert_eq!(response.status().as_u16(), status, "{slug}");
    assert_eq!(response.headers()["content-type"], "application/problem+json", "{slug}");
    let text = response.text().await.unwrap();
    assert!(!text.contains(NAME), "{slug}: {text}");
    let problem: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(problem["type"], format!("urn:crvs-outbox:problem:{slug}"), "{text}");
    assert_eq!(problem["status"], status);
    assert_eq!(app.count(ROWS).await, 0, "{slug}: something was written");
    problem
}

/// A submission of this text, by somebody who may.
fn submission(app: &TestApp, body: impl Into<reqwest::Body>) -> RequestBuilder {
    app.http
        .post(format!("{}/records", app.base))
        .bearer_auth(app.token("registrar", &["register"]))
        .header("idempotency-key", "draft-0001")
        .header("content-type", "application/json")
        .body(body)
}

#[tokio::test]
async fn a_body_that_is_not_acceptable_json_is_refused() {
    let app = TestApp::start().await;
    refused(&app, submission(&app, ""), 400, "body-missing").await;
    refused(&app, submission(&app, " \n"), 400, "body-missing").await;
    let bodies = [
        format!("{NAME} is not JSON"),
        format!(r#"{{"event":"birth","declaration":{{"name":"{NAME}"}}"#),
        format!(r#"{{"event":"birth","event":"birth","declaration":{{"name":"{NAME}"}}}}"#),
        format!(r#"{{"event":"birth","declaration":{{"name":"{NAME}","name":"{NAME}"}}}}"#),
        format!(r#"{{"event":"birth","declaration":{{"name":"{NAME}\u0000"}}}}"#),
        format!(r#"{{"event":"birth","declaration":{{"{NAME}":{}1{}}}}}"#, "[".repeat(200), "]".repeat(200)),
        format!(r#"{{"event":"birth","declaration":{{"name":"{NAME}"}}}} trailing"#),
        r#"{"event":"birth","declaration":{"name":"\ud800"}}"#.to_owned(),
    ];
    for body in bodies {
        refused(&app, submission(&app, body.clone()), 400, "not-json").await;
    }
    let mut latin = br#"{"event":"birth","declaration":{"name":""#.to_vec();
    latin.extend([0xe9, b'"', b'}', b'}']);
    refused(&app, submission(&app, latin), 400, "not-json").await;
    app.done().await;
}

#[tokio::test]
async fn a_body_that_says_something_else_is_refused() {
    let app = TestApp::start().await;
    let unknown = json!({ "event": "birth", "declaration": { "name": NAME }, "priority": 1 });
    let problem = refused(&app, submission(&app, unknown.to_string()), 400, "bad-request").await;
    assert!(problem["detail"].as_str().unwrap().contains("priority"));
    for body in [
        json!({ "declaration": { "name": NAME } }),
        json!({ "event": "birth" }),
        json!({ "event": 7, "declaration": { "name": NAME } }),
        json!({ "event": "birth", "action": "baptise", "declaration": { "name": NAME } }),
        json!([]),
    ] {
        refused(&app, submission(&app, body.to_string()), 400, "bad-request").await;
    }
    let event = json!({ "event": "adoption", "declaration": { "name": NAME } });
    refused(&app, submission(&app, event.to_string()), 400, "unknown-event").await;
    app.done().await;
}

#[tokio::test]
async fn a_declaration_that_is_none_is_refused() {
    let app = TestApp::start().await;
    let declarations = [
        json!(NAME),
        json!([NAME]),
        json!({ "resourceType": "Bundle", "type": "collection", "entry": [{ "resource": { "resourceType": "Composition" } }] }),
        json!({ "resourceType": "Bundle", "type": "document", "entry": [] }),
        json!({ "resourceType": "Bundle", "type": "document" }),
        json!({ "resourceType": "Bundle", "type": "document", "entry": [{ "resource": { "resourceType": "Patient", "name": NAME } }] }),
        json!({ "resourceType": "Bundle", "type": "document",
                "entry": [{ "resource": { "resourceType": "Composition" } }, { "resource": { "resourceType": "Task", "identifier": NAME } }] }),
    ];
    for declaration in declarations {
        let body = json!({ "event": "birth", "declaration": declaration });
        refused(&app, submission(&app, body.to_string()), 400, "invalid-declaration").await;
    }
    app.done().await;
}

#[tokio::test]
async fn an_attachment_that_is_not_what_it_says_is_refused() {
    const PNG: &str =
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";
    let app = TestApp::start().await;
    let with = |content_type: &str, data: &str| {
        let mut body = flat("declare");
        body["attachments"] = json!([{ "type": "PROOF", "contentType": content_type, "data": data }]);
        body.to_string()
    };
    for (content_type, data) in
        [("image/png", "%%% no base64"), ("image/png", ""), ("application/pdf", PNG), ("image/png", "V2lsaGVsbWluYQ==")]
    {
        refused(&app, submission(&app, with(content_type, data)), 400, "invalid-attachment").await;
    }
    let mut inside = birth("declare");
    let entries = inside["declaration"]["entry"].as_array_mut().unwrap();
    let document = entries.iter_mut().find(|e| e["resource"]["resourceType"] == "DocumentReference").unwrap();
    document["resource"]["content"][0]["attachment"]["data"] = json!("not base64 either");
    refused(&app, submission(&app, inside.to_string()), 400, "invalid-attachment").await;
    app.done().await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_announced_or_not() {
    let app =
        TestApp::with(Setup { change: Box::new(|settings| settings.handlers.body_max = 2048), ..Setup::default() })
            .await;
    let mut body = flat("declare");
    body["comment"] = json!("x".repeat(4096));
    refused(&app, submission(&app, body.to_string()), 413, "body-too-large").await;
    let pieces: Vec<Result<String, std::io::Error>> = body.to_string().chars().map(|c| Ok(c.to_string())).collect();
    let stream = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    refused(&app, submission(&app, stream), 413, "body-too-large").await;
    app.done().await;
}

#[tokio::test]
async fn an_id_that_is_none_is_refused() {
    let app = TestApp::start().await;
    let token = app.token("registrar", &["register"]);
    for path in [
        "/records/7",
        "/records/not-a-uuid/history",
        "/transactions/short",
        "/transactions/sl%2Fash-sl%2Fash",
        "/attachments/abc",
        "/transactions/%ff",
        "/attachments/%ff",
    ] {
        refusal(&app, app.get(path, &token).await, 400, "invalid-id").await;
    }
    let post = || app.http.post(format!("{}/records", app.base)).bearer_auth(&token).json(&flat("declare"));
    refused(&app, post(), 400, "idempotency-key-missing").await;
    for key in ["short", "with spaces in it", "slash/slash/slash", &"x".repeat(129)] {
        refused(&app, post().header("idempotency-key", key), 400, "idempotency-key-invalid").await;
    }
    let twice = post().header("idempotency-key", "draft-0001").header("idempotency-key", "draft-0001");
    refused(&app, twice, 400, "idempotency-key-invalid").await;
    let mut body = flat("declare");
    body["transactionId"] = json!("draft-0002");
    let differ =
        app.http.post(format!("{}/records", app.base)).bearer_auth(&token).header("idempotency-key", "draft-0001");
    refused(&app, differ.json(&body), 400, "idempotency-key-mismatch").await;
    app.done().await;
}

#[tokio::test]
async fn a_token_that_is_not_good_is_refused() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let app = TestApp::start().await;
    let minter = &app.app().context.minter;
    let scopes = ["register".to_owned()];
    let good = minter.for_user("u", &scopes, GATEWAY, Duration::from_mins(1)).unwrap();
    let parts: Vec<&str> = good.split('.').collect();
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
    let hmac = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let tampered = URL_SAFE_NO_PAD.encode(
        r#"{"iss":"crvs-outbox","sub":"u","aud":"opencrvs:gateway-user","exp":9999999999,"scope":["register"]}"#,
    );
    let foreign =
        URL_SAFE_NO_PAD.encode(r#"{"iss":"somebody","sub":"u","aud":"opencrvs:gateway-user","exp":9999999999}"#);
    let expired = expired_token();
    let bad = [
        expired,
        minter.for_user("u", &scopes, "another-audience", Duration::from_mins(1)).unwrap(),
        format!("{none}.{}.", parts[1]),
        format!("{none}.{}.{}", parts[1], parts[2]),
        format!("{hmac}.{}.{}", parts[1], parts[2]),
        format!("{}.{tampered}.{}", parts[0], parts[2]),
        format!("{}.{foreign}.{}", parts[0], parts[2]),
        format!("{}.{}.", parts[0], parts[1]),
        "no-token-at-all".to_owned(),
    ];
    for token in bad {
        let response = app.post("/records", &token, "draft-0001", &flat("declare")).await;
        let challenge = response.headers()["www-authenticate"].to_str().unwrap().to_owned();
        assert!(challenge.starts_with("Bearer error=\"invalid_token\""), "{challenge}");
        refusal(&app, response, 401, "unauthorized").await;
    }
    let without = app.http.post(format!("{}/records", app.base)).json(&flat("declare")).send().await.unwrap();
    assert_eq!(without.headers()["www-authenticate"], "Bearer");
    refusal(&app, without, 401, "unauthorized").await;
    let weak = app.post("/records", &app.token("u", &["performance"]), "draft-0001", &flat("declare")).await;
    assert!(weak.headers()["www-authenticate"].to_str().unwrap().contains("insufficient_scope"));
    refusal(&app, weak, 403, "forbidden").await;
    app.done().await;
}

#[tokio::test]
async fn what_is_not_here_is_said_as_a_problem() {
    let app = TestApp::start().await;
    let plain = app.http.post(format!("{}/records", app.base)).bearer_auth(app.token("r", &["register"]));
    refused(&app, plain.header("content-type", "text/plain").body("x"), 415, "unsupported-media-type").await;
    refusal(&app, app.get("/nothing", "t").await, 404, "not-found").await;
    refusal(&app, app.get("/records/batch", "t").await, 405, "method-not-allowed").await;
    refusal(&app, app.get("/metrics", "t").await, 404, "not-found").await;
    let somebody = app.token("somebody", &["declare"]);
    let unknown = app.get("/records/0197a000-0000-7000-8000-000000000000", &somebody).await;
    assert_eq!(refusal(&app, unknown, 404, "not-found").await["status"], StatusCode::NOT_FOUND.as_u16());
    app.done().await;
}
