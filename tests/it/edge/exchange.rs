//! Ids, traces, headers for browsers, and problems on every route.

use reqwest::{Method, Response, header};
use serde_json::Value;

use crate::harness::{Setup, TestApp, birth};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

async fn with_origins(origins: &'static [&'static str]) -> TestApp {
    let change = move |settings: &mut crvs_outbox::config::Settings| {
        settings.handlers.edge.origins = origins.iter().map(|o| o.parse().unwrap()).collect();
    };
    TestApp::with(Setup { change: Box::new(change), ..Setup::default() }).await
}

#[tokio::test]
async fn a_request_is_known_by_its_id_and_a_problem_names_it() {
    let app = TestApp::start().await;
    let get = |id: &'static str| app.http.get(format!("{}/nothing", app.base)).header("x-request-id", id).send();
    let named = get("4bf92f3577b34da6a3ce929d0e0e4736").await.unwrap();
    assert_eq!(named.headers()["x-request-id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    let problem: Value = named.json().await.unwrap();
    assert_eq!(problem["instance"], "urn:crvs-outbox:request:4bf92f3577b34da6a3ce929d0e0e4736");
    let unnamed = get("Wilhelmina").await.unwrap();
    let made = unnamed.headers()["x-request-id"].to_str().unwrap().to_owned();
    assert!(made.parse::<uuid::Uuid>().is_ok(), "{made}");
    app.done().await;
}

#[tokio::test]
async fn the_deliveries_of_a_request_share_its_trace_given_or_made() {
    let app = TestApp::start().await;
    let token = app.token("registrar", &["register"]);
    let post = |id: &'static str| {
        let request = app.http.post(format!("{}/records", app.base)).bearer_auth(&token).json(&birth("register"));
        request.header("idempotency-key", id)
    };
    let given = post("draft-0001").header("traceparent", TRACE).send().await.unwrap();
    let made = post("draft-0002").send().await.unwrap();
    assert_eq!(given.headers()["traceresponse"], TRACE);
    let made = made.headers()["traceresponse"].to_str().unwrap().to_owned();
    app.drain().await;
    let requests = app.peers.received_requests().await.unwrap();
    let traced = |trace: &str| requests.iter().filter(|r| r.headers["traceparent"] == trace).count();
    assert!(traced(TRACE) >= 4, "{}", traced(TRACE));
    assert_eq!(traced(&made), traced(TRACE));
    assert_eq!(requests.len(), traced(&made) * 2);
    app.done().await;
}

#[tokio::test]
async fn answers_are_not_kept_sniffed_or_framed_unless_a_route_says_so() {
    let app = TestApp::start().await;
    let answer = app.get("/nothing", "t").await;
    assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-store");
    assert_eq!(answer.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    assert_eq!(answer.headers()[header::REFERRER_POLICY], "no-referrer");
    assert!(answer.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().starts_with("default-src 'none'"));
    assert!(answer.headers().get(header::STRICT_TRANSPORT_SECURITY).is_none());
    let keys = app.get("/.well-known/jwks.json", "t").await;
    assert_eq!(keys.headers()[header::CACHE_CONTROL], "public, max-age=300");
    app.done().await;
}

async fn preflight(app: &TestApp, origin: &str) -> Response {
    let request = app.http.request(Method::OPTIONS, format!("{}/records", app.base)).header("origin", origin);
    let request = request.header("access-control-request-method", "POST");
    request.header("access-control-request-headers", "authorization,idempotency-key").send().await.unwrap()
}

#[tokio::test]
async fn only_pages_of_the_configured_origins_may_call() {
    let app = with_origins(&["https://register.example"]).await;
    let allowed = preflight(&app, "https://register.example").await;
    assert_eq!(allowed.status(), 200);
    assert_eq!(allowed.headers()["access-control-allow-origin"], "https://register.example");
    let names = allowed.headers()["access-control-allow-headers"].to_str().unwrap();
    assert!(names.contains("authorization") && names.contains("idempotency-key"));
    let other = preflight(&app, "https://elsewhere.example").await;
    assert!(other.headers().get("access-control-allow-origin").is_none());
    let call = app.http.get(format!("{}/nothing", app.base)).header("origin", "https://register.example");
    let call = call.send().await.unwrap();
    assert_eq!(call.headers()["access-control-allow-origin"], "https://register.example");
    assert!(call.headers()["access-control-expose-headers"].to_str().unwrap().contains("retry-after"));
    app.done().await;
    let app = with_origins(&[]).await;
    assert_eq!(preflight(&app, "https://register.example").await.status(), 405);
    app.done().await;
}

/// The routes, as the description of the API has them.
fn routes() -> Vec<String> {
    let description: Value = serde_json::from_str(include_str!("../../../docs/openapi.json")).unwrap();
    description["paths"].as_object().unwrap().keys().cloned().collect()
}

/// The peers of OpenCRVS are told in the words of their protocols.
fn told_otherwise(method: &Method, path: &str) -> bool {
    (path == "/graphql" && method == Method::POST)
        || (path.starts_with("/events/") && (method == Method::POST || method == Method::GET))
}

#[tokio::test]
async fn every_error_of_every_route_is_a_problem_and_405_says_what_is_allowed() {
    let app = TestApp::start().await;
    let token = app.token("nobody", &["performance"]);
    let mut refused = 0;
    for route in routes() {
        let path = ["{id}", "{transactionId}", "{sha256}", "{file}", "{procedures}"]
            .iter()
            .fold(route, |path, name| path.replace(name, "%ff"));
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS] {
            for authenticated in [false, true] {
                let mut request = app.http.request(method.clone(), format!("{}{path}", app.base)).body("{\"x\":");
                if authenticated {
                    request = request.bearer_auth(&token);
                }
                let answer = request.send().await.unwrap();
                let (status, what) = (answer.status().as_u16(), format!("{method} {path}"));
                assert!(status < 500, "{what}: {status}");
                if status < 400 {
                    continue;
                }
                refused += 1;
                if told_otherwise(&method, &path) {
                    assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/json", "{what}");
                    let said: Value = answer.json().await.unwrap();
                    assert!(
                        said["errors"][0]["message"].is_string() || said["error"]["json"]["code"].is_i64(),
                        "{said}"
                    );
                    continue;
                }
                // What is wrong with a request for a token is said as OAuth says it: `exchange.rs`.
                if path == "/token" && status == 400 {
                    continue;
                }
                assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/problem+json", "{what}");
                assert_eq!(answer.headers().contains_key(header::ALLOW), status == 405, "{what}");
                let problem: Value = answer.json().await.unwrap();
                assert_eq!(problem["status"], status, "{what}");
                assert!(problem["type"].as_str().unwrap().starts_with("urn:crvs-outbox:problem:"), "{what}");
                assert!(problem["instance"].as_str().unwrap().starts_with("urn:crvs-outbox:request:"), "{what}");
            }
        }
    }
    assert!(refused > 100, "{refused}");
    app.done().await;
}
