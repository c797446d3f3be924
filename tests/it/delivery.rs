//! P4, P7, P8 and P9: what goes over the wire, what becomes of each answer, and what is never kept.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use wiremock::matchers::{method, path};
use wiremock::{Mock, Request, ResponseTemplate};

use crate::harness::{PATIENCE, Setup, TestApp};

/// The state of the one message to search, its last status and error.
async fn search_message(app: &TestApp) -> (String, Option<i16>, Option<String>) {
    sqlx::query_as(
        "select state::text, last_status, last_error from outbox_message where destination = 'search'
         union all select state::text, last_status, last_error from outbox_history where destination = 'search'",
    )
    .fetch_one(&app.db)
    .await
    .unwrap()
}

async fn search_answers(app: &TestApp, response: ResponseTemplate) {
    Mock::given(method("POST")).and(path("/search")).respond_with(response).with_priority(100).mount(&app.peers).await;
}

#[tokio::test]
async fn every_answer_has_its_consequence() {
    let table = [
        (200, "delivered"),
        (204, "delivered"),
        (299, "delivered"),
        (301, "dead"),
        (307, "dead"),
        (400, "dead"),
        (401, "retrying"),
        (404, "dead"),
        (408, "retrying"),
        (409, "retrying"),
        (410, "retrying"),
        (422, "dead"),
        (425, "retrying"),
        (429, "retrying"),
        (500, "retrying"),
        (503, "retrying"),
    ];
    for (status, expected) in table {
        let app = TestApp::start().await;
        // A redirect is not followed, wherever it leads.
        search_answers(&app, ResponseTemplate::new(status).insert_header("location", "/audit")).await;
        app.register_birth("draft-0001").await;
        app.drain().await;
        let (state, last_status, _) = search_message(&app).await;
        assert_eq!((state.as_str(), last_status), (expected, i16::try_from(status).ok()), "{status}");
        let failed = app.count("select count(*) from outbox_attempt where destination = 'search'").await;
        assert_eq!(failed > 0, expected != "delivered", "{status}");
        app.done_with_leftovers().await;
    }
}

#[tokio::test]
async fn retry_after_is_heeded() {
    let app = TestApp::start().await;
    search_answers(&app, ResponseTemplate::new(429).insert_header("retry-after", "600")).await;
    app.register_birth("draft-0001").await;
    app.drain().await;
    let wait =
        "select extract(epoch from available_at - now())::bigint from outbox_message where destination = 'search'";
    assert!((590..=600).contains(&app.count(wait).await));
    app.done_with_leftovers().await;
}

#[tokio::test]
async fn a_refusal_is_retried_for_fifteen_minutes_and_then_dead() {
    for status in [401, 409] {
        let app = TestApp::start().await;
        search_answers(&app, ResponseTemplate::new(status)).await;
        app.register_birth("draft-0001").await;
        for (age, expected) in [("0 minutes", "retrying"), ("14 minutes", "retrying"), ("16 minutes", "dead")] {
            sqlx::query(sqlx::AssertSqlSafe(format!(
                "update outbox_message set refused_since = now() - interval '{age}' where refused_since is not null"
            )))
            .execute(&app.db)
            .await
            .unwrap();
            app.make_due().await;
            app.drain().await;
            assert_eq!(search_message(&app).await.0, expected, "{status} after {age}");
        }
        app.done_with_leftovers().await;
    }
}

#[tokio::test]
async fn every_attempt_has_the_same_id_and_the_same_bytes() {
    let app = TestApp::start().await;
    for name in ["search", "audit", "metrics", "country-config/event-registration"] {
        let fails_twice =
            Mock::given(method("POST")).and(path(format!("/{name}"))).respond_with(ResponseTemplate::new(503));
        fails_twice.up_to_n_times(2).with_priority(1).mount(&app.peers).await;
    }
    app.register_birth("draft-0001").await;
    for _ in 0..8 {
        app.drain().await;
        app.make_due().await;
    }
    let requests = app.peers.received_requests().await.unwrap();
    let key = |r: &Request| r.headers["idempotency-key"].to_str().unwrap().to_owned();
    let attempts: HashSet<(String, String, Vec<u8>)> =
        requests.iter().map(|r| (r.url.path().to_owned(), key(r), r.body.clone())).collect();
    assert_eq!(requests.len(), 6 + 8);
    assert_eq!(attempts.len(), 6, "one body for each id");
    assert!(
        requests
            .iter()
            .all(|r| r.headers.contains_key("content-length") && !r.headers.contains_key("transfer-encoding"))
    );
    app.done().await;
}

/// A peer of raw bytes: answers each connection with `answer`, a function of the open stream.
fn raw_peer(answer: impl Fn(std::net::TcpStream) + Send + Clone + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || {
                let mut stream = stream;
                let mut head = [0; 16 * 1024];
                if stream.read(&mut head).is_ok() {
                    answer(stream);
                }
            });
        }
    });
    url
}

async fn with_search_at(url: String, workers: bool) -> TestApp {
    TestApp::with(Setup {
        workers,
        change: Box::new(move |settings| {
            let search = settings.workers.destinations.iter_mut().find(|d| d.definition.name == "search").unwrap();
            search.definition.url = url;
            search.definition.timeout = Duration::from_millis(400);
        }),
    })
    .await
}

#[tokio::test]
async fn a_peer_that_misbehaves_costs_no_more_than_the_deadline() {
    let silent = raw_peer(|stream| {
        let _open = stream;
        std::thread::park();
    });
    let dripping = raw_peer(|mut stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").unwrap();
        while stream.write_all(b"x").is_ok() {
            std::thread::park_timeout(Duration::from_millis(50));
        }
    });
    let closing = raw_peer(drop);
    let broken = raw_peer(|mut stream| {
        stream.write_all(b"this is not HTTP\r\n\r\n").unwrap();
    });
    for (peer, class) in
        [(silent, "timeout"), (dripping, "timeout"), (closing, "connection-lost"), (broken, "connection-lost")]
    {
        let app = with_search_at(peer, false).await;
        app.register_birth("draft-0001").await;
        let started = Instant::now();
        app.drain().await;
        assert!(started.elapsed() < Duration::from_secs(3));
        let (state, status, error) = search_message(&app).await;
        assert_eq!((state.as_str(), status, error.as_deref()), ("retrying", None, Some(class)));
        app.done_with_leftovers().await;
    }
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let endless = raw_peer(|mut stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        while stream.write_all(chunk.as_bytes()).is_ok() {}
    });
    let app = with_search_at(endless, false).await;
    app.register_birth("draft-0001").await;
    app.drain().await;
    assert_eq!(search_message(&app).await.0, "delivered");
    app.done().await;
}

#[tokio::test]
async fn a_hanging_destination_delays_no_other_and_no_transaction_is_open_meanwhile() {
    let hanging = raw_peer(|stream| {
        let _open = stream;
        std::thread::park();
    });
    let app = TestApp::with(Setup {
        workers: true,
        change: Box::new(move |settings| {
            let search = settings.workers.destinations.iter_mut().find(|d| d.definition.name == "search").unwrap();
            search.definition.url = hanging;
            search.definition.timeout = PATIENCE;
        }),
    })
    .await;
    app.register_birth("draft-0001").await;
    app.wait_for("select count(*) from outbox_history where destination <> 'search'", 5).await;
    assert_eq!(search_message(&app).await.0, "delivering");
    app.wait_for(
        "select count(*) from pg_stat_activity where datname = current_database() and xact_start is not null and pid <> pg_backend_pid()",
        0,
    )
    .await;
    app.done_with_leftovers().await;
}

fn claims(request: &Request) -> Value {
    let token = request.headers["authorization"].to_str().unwrap().strip_prefix("Bearer ").unwrap();
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[tokio::test]
async fn a_delivery_carries_a_token_made_for_it() {
    let app = TestApp::start().await;
    let (one, two) = (app.register_birth("draft-0001").await, app.register_birth("draft-0002").await);
    app.drain().await;
    let requests = app.peers.received_requests().await.unwrap();
    let of = |name: &str| requests.iter().filter(|r| r.url.path() == name).collect::<Vec<_>>();
    for name in ["search", "audit", "metrics"] {
        let sent = of(&format!("/{name}"));
        let tokens: HashSet<_> = sent.iter().map(|r| r.headers["authorization"].clone()).collect();
        assert_eq!(tokens.len(), 1, "{name}: one signature serves the same initiator, scopes and destination");
        let claims = claims(sent[0]);
        assert_eq!(
            (&claims["aud"], &claims["sub"], &claims["act"]["sub"]),
            (&name.into(), &"registrar".into(), &"crvs-outbox".into())
        );
        assert!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap() <= 300);
    }
    let sent = of("/country-config/event-registration");
    assert_eq!(sent.len(), 2);
    for of in [&one, &two] {
        // They are sent side by side, and arrive in any order.
        let claims = sent.iter().map(|r| claims(r)).find(|c| c["recordId"] == of.record_id.to_string()).unwrap();
        assert_eq!(claims["actionId"], of.action_id.to_string());
        assert_eq!(claims["scope"], serde_json::json!(["record.confirm-registration", "record.reject-registration"]));
        assert_eq!(claims["aud"], serde_json::json!(["country-config", "opencrvs:gateway-user"]));
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 30 * 24 * 3600);
    }
    app.done().await;
}

#[tokio::test]
async fn no_credential_and_no_personal_data_is_in_a_job_table() {
    let app = TestApp::start().await;
    search_answers(&app, ResponseTemplate::new(500).set_body_string("Rosalind Achterberg failed")).await;
    app.register_birth("draft-0001").await;
    app.drain().await;
    let tables = ["outbox_message", "outbox_history", "outbox_attempt", "destination", "worker", "client_transaction"];
    let sample: Value = serde_json::from_str(crvs_outbox::samples::BIRTH).unwrap();
    let mut personal = Vec::new();
    for entry in sample["entry"].as_array().unwrap() {
        for name in entry["resource"]["name"].as_array().into_iter().flatten() {
            personal.extend(
                name["given"].as_array().into_iter().flatten().chain([&name["family"]]).filter_map(Value::as_str),
            );
        }
        personal.extend(entry["resource"]["birthDate"].as_str());
    }
    assert!(personal.len() > 4, "{personal:?}");
    for table in tables {
        let rows: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select t::text from {table} t")))
            .fetch_all(&app.db)
            .await
            .unwrap();
        for row in rows {
            assert!(!row.contains("eyJ"), "{table} holds a token: {row}");
            assert!(!row.contains("Rosalind"), "{table} holds what a peer said: {row}");
            assert!(personal.iter().all(|word| !row.contains(word)), "{table} holds personal data: {row}");
        }
    }
    let records: Vec<String> =
        sqlx::query_scalar("select t::text from record_action t union all select t::text from record t")
            .fetch_all(&app.db)
            .await
            .unwrap();
    assert!(records.iter().all(|row| !row.contains("eyJ")));
    app.done_with_leftovers().await;
}
