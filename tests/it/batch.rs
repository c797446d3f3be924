//! `POST /records/batch`: an answer per item, each an intention of its own, whatever becomes of its neighbours.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use proptest::prelude::{Strategy, any};
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{POISON, TestApp, flat};

fn item(id: &str) -> Value {
    let mut item = flat("declare");
    item["transactionId"] = json!(id);
    item
}

fn items(range: std::ops::Range<usize>) -> Vec<Value> {
    range.map(|n| item(&format!("draft-{n:04}"))).collect()
}

async fn send(app: &TestApp, base: &str, body: String) -> Response {
    let request = app.http.post(format!("{base}/records/batch")).bearer_auth(app.token("agent", &["declare"]));
    request.header("content-type", "application/json").body(body).send().await.unwrap()
}

async fn batch(app: &TestApp, items: &[Value]) -> Vec<Value> {
    let answer = send(app, &app.base, json!({ "items": items }).to_string()).await;
    results(answer).await
}

async fn results(answer: Response) -> Vec<Value> {
    assert_eq!(answer.status(), StatusCode::MULTI_STATUS);
    let answer: Value = answer.json().await.unwrap();
    answer["items"].as_array().unwrap().clone()
}

fn statuses(results: &[Value]) -> Vec<u64> {
    results.iter().map(|r| r["status"].as_u64().unwrap()).collect()
}

async fn finish(app: TestApp) {
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn a_batch_that_was_cut_off_and_sent_again_makes_each_record_once() {
    let app = TestApp::start().await;
    let body = json!({ "items": items(0..200) }).to_string();
    // A phone that hears the first bytes of the answer and no more.
    let mut stream = tokio::net::TcpStream::connect(app.base.strip_prefix("http://").unwrap()).await.unwrap();
    let head = format!(
        "POST /records/batch HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        app.token("agent", &["declare"]),
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut first = [0; 200];
    stream.read_exact(&mut first).await.unwrap();
    assert!(first.starts_with(b"HTTP/1.1 207"), "{}", String::from_utf8_lossy(&first));
    drop(stream);
    let again = batch(&app, &items(0..200)).await;
    assert!(again.iter().all(|r| r["status"] == 202 && r["replayed"] == true));
    let ids: BTreeSet<&str> = again.iter().map(|r| r["body"]["record"]["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 200);
    let parts = [batch(&app, &items(50..70)).await, batch(&app, &items(190..210)).await];
    assert_eq!(parts[0], again[50..70]);
    assert_eq!(parts[1][..10], again[190..]);
    assert!(parts[1][10..].iter().all(|r| r["replayed"] == false), "the new ones of a list that is half known");
    assert_eq!(app.count("select count(*) from record").await, 210);
    finish(app).await;
}

#[tokio::test]
async fn copies_of_one_batch_at_once_make_each_record_once() {
    let app = TestApp::start().await;
    let body = json!({ "items": items(0..20) }).to_string();
    let answers = join_all((0..64).map(|_| send(&app, &app.base, body.clone()))).await;
    let mut bodies = BTreeSet::new();
    for answer in answers {
        let results = results(answer).await;
        assert!(results.iter().all(|r| r["status"] == 202), "{results:?}");
        bodies.insert(results.iter().map(|r| r["body"].to_string()).collect::<Vec<_>>());
    }
    assert_eq!(bodies.len(), 1, "all were told the same");
    assert_eq!(app.count("select count(*) from record").await, 20);
    finish(app).await;
}

/// Items that are refused: text, status, problem, the transaction id that is shown.
const BAD: [(&str, u64, &str, Option<&str>); 12] = [
    (
        r#"{"transactionId":"twice-key","event":"birth","declaration":{"a":1,"a":2}}"#,
        400,
        "not-json",
        Some("twice-key"),
    ),
    (
        r#"{"transactionId":"nul-value","event":"birth","declaration":{"a":"\u0000"}}"#,
        400,
        "not-json",
        Some("nul-value"),
    ),
    (
        r#"{"transactionId":"surrogate","event":"birth","declaration":{"a":"\ud800"}}"#,
        400,
        "not-json",
        Some("surrogate"),
    ),
    (r#"{"transactionId":"too-deep-x","event":"birth","declaration":{"a":DEEP}}"#, 400, "not-json", Some("too-deep-x")),
    (r#"{"event":"birth","declaration":{}}"#, 400, "idempotency-key-missing", None),
    (r#"{"transactionId":"short","event":"birth","declaration":{}}"#, 400, "idempotency-key-invalid", None),
    (r#"{"transactionId":"wrong-type","event":7,"declaration":{}}"#, 400, "bad-request", Some("wrong-type")),
    (
        r#"{"transactionId":"unknown-x","event":"birth","declaration":{},"more":1}"#,
        400,
        "bad-request",
        Some("unknown-x"),
    ),
    (r#"{"transactionId":"no-event-x","event":"adoption","declaration":{}}"#, 400, "unknown-event", Some("no-event-x")),
    (
        r#"{"transactionId":"no-bundle","event":"birth","declaration":[]}"#,
        400,
        "invalid-declaration",
        Some("no-bundle"),
    ),
    (
        r#"{"transactionId":"no-scope-x","event":"birth","action":"register","declaration":{}}"#,
        403,
        "forbidden",
        Some("no-scope-x"),
    ),
    ("7", 400, "bad-request", None),
];

#[tokio::test]
async fn an_item_that_is_bad_gets_its_own_problem_and_harms_no_other() {
    let app = TestApp::start().await;
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let bad = BAD.map(|(text, status, slug, id)| (text.replace("DEEP", &deep), status, slug, id));
    let good = |n: usize| item(&format!("good-{n:05}")).to_string();
    let mut texts = vec![good(0)];
    for (n, (text, ..)) in bad.iter().enumerate() {
        texts.extend([text.clone(), good(n + 1)]);
    }
    let body = format!(r#"{{"items":[{}]}}"#, texts.join(","));
    let results = results(send(&app, &app.base, body).await).await;
    assert_eq!(results.len(), 25);
    for (n, (text, status, slug, id)) in bad.iter().enumerate() {
        let result = &results[2 * n + 1];
        assert_eq!(result["status"], *status, "{text}: {result}");
        assert_eq!(result["problem"]["type"], format!("urn:crvs-outbox:problem:{slug}"), "{text}");
        assert_eq!(result["transactionId"].as_str(), *id, "{text}");
    }
    assert!(results.iter().step_by(2).all(|r| r["status"] == 202), "{results:?}");
    assert_eq!(app.count("select count(*) from record").await, 13);
    finish(app).await;
}

#[tokio::test]
async fn what_the_database_refuses_costs_its_neighbours_little_and_harms_none() {
    let app = TestApp::start().await;
    sqlx::raw_sql(POISON).execute(&app.db).await.unwrap();
    let mut one = items(0..200);
    one[77]["comment"] = json!("poison");
    let results = batch(&app, &one).await;
    let expected: Vec<u64> = (0..200).map(|n| if n == 77 { 500 } else { 202 }).collect();
    assert_eq!(statuses(&results), expected);
    let tries = app.count("select last_value from tries").await;
    println!("transactions for 200 items with one poisoned: {tries}");
    assert!(tries <= 17, "{tries}");
    // Any of them, wherever they stand.
    let mut runner = TestRunner::deterministic();
    for round in 0..6 {
        let poisoned = proptest::collection::vec(any::<bool>(), 1..24).new_tree(&mut runner).unwrap().current();
        let list: Vec<Value> = poisoned
            .iter()
            .enumerate()
            .map(|(n, poison)| {
                let mut item = item(&format!("round-{round}-{n:04}"));
                item["comment"] = json!(if *poison { "poison" } else { "fine" });
                item
            })
            .collect();
        let expected: Vec<u64> = poisoned.iter().map(|p| if *p { 500 } else { 202 }).collect();
        assert_eq!(statuses(&batch(&app, &list).await), expected);
    }
    finish(app).await;
}

#[tokio::test]
async fn an_item_that_somebody_else_works_on_is_in_progress_and_the_others_are_done() {
    let app = TestApp::start().await;
    let mut open = app.db.begin().await.unwrap();
    sqlx::query("insert into client_transaction (transaction_id, principal_id, fingerprint) values ('draft-0005', 'agent', sha256('x'))")
        .execute(&mut *open)
        .await
        .unwrap();
    let results = batch(&app, &items(0..16)).await;
    open.rollback().await.unwrap();
    let expected: Vec<u64> = (0..16).map(|n| if n == 5 { 409 } else { 202 }).collect();
    assert_eq!(statuses(&results), expected);
    assert_eq!(results[5]["retryAfter"], 1);
    finish(app).await;
}

#[tokio::test]
async fn a_repetition_replays_even_behind_an_item_that_has_its_id_by_mistake() {
    let app = TestApp::start().await;
    assert_eq!(statuses(&batch(&app, &items(0..1)).await), [202]);
    let mut mistaken = item("draft-0000");
    mistaken["comment"] = json!("another");
    let results = batch(&app, &[mistaken, item("draft-0000"), item("draft-0001")]).await;
    assert_eq!(statuses(&results), [422, 202, 202]);
    assert_eq!((&results[1]["replayed"], &results[2]["replayed"]), (&json!(true), &json!(false)));
    assert_eq!(app.count("select count(*) from record").await, 2);
    finish(app).await;
}

#[tokio::test]
async fn an_item_and_a_single_submission_are_one_intention() {
    let app = TestApp::start().await;
    let token = app.token("agent", &["declare"]);
    let results_first = batch(&app, &items(0..1)).await;
    let single = app.post("/records", &token, "draft-0000", &flat("declare")).await;
    assert_eq!(single.headers()["idempotency-replayed"], "true");
    assert_eq!(single.json::<Value>().await.unwrap(), results_first[0]["body"]);
    let first: Value = app.post("/records", &token, "draft-0001", &item("draft-0001")).await.json().await.unwrap();
    let again = batch(&app, &items(1..2)).await;
    assert_eq!((&again[0]["body"], &again[0]["replayed"]), (&first, &json!(true)));
    // Twins in one request: the second is a repetition, or something else under the same id.
    let mut other = item("draft-0002");
    other["comment"] = json!("changed");
    let twins = batch(&app, &[item("draft-0002"), item("draft-0002"), other]).await;
    assert_eq!(statuses(&twins), [202, 202, 422]);
    assert_eq!((&twins[0]["replayed"], &twins[1]["replayed"]), (&json!(false), &json!(true)));
    assert_eq!(twins[0]["body"], twins[1]["body"]);
    assert_eq!(app.count("select count(*) from record").await, 3);
    finish(app).await;
}

#[tokio::test]
async fn the_envelope_has_problems_of_its_own() {
    let app = TestApp::start().await;
    let many = json!({ "items": items(0..501) }).to_string();
    for (body, status, slug) in [
        ("", 400, "body-missing"),
        ("{\"items\":[{}", 400, "not-json"),
        ("{\"items\":[\"\n\"]}", 400, "not-json"),
        ("[]", 400, "bad-request"),
        ("{}", 400, "bad-request"),
        (r#"{"items":[]}"#, 400, "bad-request"),
        (r#"{"items":7}"#, 400, "bad-request"),
        (r#"{"items":[],"items":[]}"#, 400, "bad-request"),
        (r#"{"items":[],"more":1}"#, 400, "bad-request"),
        (many.as_str(), 413, "too-many-items"),
    ] {
        let answer = send(&app, &app.base, body.to_owned()).await;
        assert_eq!(answer.status().as_u16(), status, "{slug}");
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["type"], format!("urn:crvs-outbox:problem:{slug}"));
    }
    assert_eq!(batch(&app, &items(0..500)).await.len(), 500);
    app.execute("truncate outbox_message").await;
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn while_too_much_waits_what_is_known_replays_and_what_is_new_is_overloaded() {
    let app = TestApp::with(crate::harness::Setup {
        change: Box::new(|settings| {
            settings.pressure = crvs_outbox::outbox::pressure::Limits { ready: 5, age: None };
            settings.pressure_check = std::time::Duration::from_millis(20);
        }),
        ..Default::default()
    })
    .await;
    batch(&app, &items(0..4)).await;
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    let mut next = 4;
    let results = loop {
        let results = batch(&app, &items(0..next + 1)).await;
        if results[next]["status"] == 503 {
            break results;
        }
        next += 1;
        assert!(std::time::Instant::now() < deadline, "never refused");
    };
    assert!(results[..next].iter().all(|r| r["replayed"] == true));
    assert_eq!(results[next]["problem"]["type"], "urn:crvs-outbox:problem:overloaded");
    assert!((15..=60).contains(&results[next]["retryAfter"].as_u64().unwrap()));
    finish(app).await;
}
