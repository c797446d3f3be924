//! Status without polling: a waiting client is told as soon as there is something to tell, and holds no connection.

use std::time::{Duration, Instant};

use crvs_outbox::app::{App, Halves};
use crvs_outbox::outbox::complete::{self, Outcome, Settlement};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::harness::{PATIENCE, Setup, TestApp, flat, settings, take};

/// A waiting request, on its way.
fn waits(base: &str, path: &str, token: &str, headers: &[(&str, &str)]) -> JoinHandle<Response> {
    let mut request = reqwest::Client::new().get(format!("{base}{path}")).bearer_auth(token);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    tokio::spawn(async move { request.send().await.unwrap() })
}

async fn until_waiting(app: &App, count: usize) {
    let deadline = Instant::now() + PATIENCE;
    while app.waiting.count() != count {
        assert!(Instant::now() < deadline, "{} wait, not {count}", app.waiting.count());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A service whose reader is woken or does not read: its poll makes nothing good.
async fn without_poll() -> TestApp {
    let change = Box::new(|s: &mut crvs_outbox::config::Settings| s.waiting.poll = Duration::from_hours(1));
    TestApp::with(Setup { workers: false, change }).await
}

async fn declare(app: &TestApp, id: &str) -> String {
    let token = app.token("agent", &["declare"]);
    assert_eq!(app.post("/records", &token, id, &flat("declare")).await.status(), StatusCode::ACCEPTED);
    token
}

fn header<'r>(response: &'r Response, name: &str) -> &'r str {
    response.headers().get(name).map_or("", |v| v.to_str().unwrap())
}

#[tokio::test]
async fn a_long_poll_returns_once_the_transaction_is_settled() {
    let app = without_poll().await;
    let token = declare(&app, "draft-0001").await;
    let started = Instant::now();
    let waiting = waits(&app.base, "/transactions/draft-0001", &token, &[("prefer", "wait=60")]);
    until_waiting(app.app(), 1).await;
    app.drain().await;
    let response = waiting.await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(started.elapsed() < Duration::from_secs(30), "it was told");
    assert_eq!(header(&response, "preference-applied"), "wait=60");
    assert_eq!(header(&response, "retry-after"), "");
    assert_eq!(header(&response, "etag").len(), 34);
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["settled"], true);
    assert!(body["deliveries"].as_array().unwrap().iter().all(|d| d["state"] == "delivered"), "{body}");
    until_waiting(app.app(), 0).await;
    app.done().await;
}

#[tokio::test]
async fn at_its_end_a_long_poll_tells_what_is_or_that_nothing_is_new() {
    let app = TestApp::start().await;
    let token = declare(&app, "draft-0001").await;
    let path = "/transactions/draft-0001";
    let response = waits(&app.base, path, &token, &[("prefer", "wait=1")]).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let (etag, after) = (header(&response, "etag").to_owned(), header(&response, "retry-after").to_owned());
    assert!((2..=8).contains(&after.parse::<u32>().unwrap()));
    assert_eq!(response.json::<Value>().await.unwrap()["settled"], false);
    let same = waits(&app.base, path, &token, &[("prefer", "wait=1"), ("if-none-match", &etag)]).await.unwrap();
    assert_eq!(same.status(), StatusCode::NOT_MODIFIED);
    assert_eq!((header(&same, "etag"), header(&same, "preference-applied")), (etag.as_str(), "wait=1"));
    assert!(same.bytes().await.unwrap().is_empty());
    let at_once = waits(&app.base, path, &token, &[("if-none-match", &etag)]).await.unwrap();
    assert_eq!(at_once.status(), StatusCode::NOT_MODIFIED);
    let other = waits(&app.base, path, &token, &[("prefer", "wait=60"), ("if-none-match", "\"other\"")]).await.unwrap();
    assert_eq!(other.status(), StatusCode::OK, "it differs already");
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn with_a_validator_a_long_poll_returns_as_soon_as_anything_moved() {
    let app = without_poll().await;
    let token = declare(&app, "draft-0001").await;
    let path = "/transactions/draft-0001";
    let (worker, wakeup) = (app.app().context.worker, app.app().context.wakeup.clone());
    let mut conn = app.db.acquire().await.unwrap();
    let search = take(&mut conn, "search", worker, 1).await.remove(0);
    let etag = header(&app.get(path, &token).await, "etag").to_owned();
    let waiting = waits(&app.base, path, &token, &[("prefer", "wait=60"), ("if-none-match", &etag)]);
    until_waiting(app.app(), 1).await;
    complete::complete(&mut conn, worker, &[Settlement::without_exchange(&search, Outcome::Dead)]).await.unwrap();
    wakeup.tell_moved();
    let response = waiting.await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["settled"], false, "one that is dead is not over");
    assert!(body["deliveries"].as_array().unwrap().iter().any(|d| d["state"] == "dead"));
    drop(conn);
    app.execute("select outbox_cancel(id, 'test') from outbox_message where state = 'dead'").await;
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn the_last_two_deliveries_that_finish_at_the_same_moment_settle_the_waiter() {
    let app = without_poll().await;
    let token = declare(&app, "draft-0001").await;
    let feed = format!(
        "/changes?wait=60&cursor={}",
        app.get("/changes", &token).await.json::<Value>().await.unwrap()["cursor"].as_str().unwrap()
    );
    let (worker, wakeup) = (app.app().context.worker, app.app().context.wakeup.clone());
    let mut conn = app.db.acquire().await.unwrap();
    let mut settlements = Vec::new();
    for name in ["search", "audit", "metrics", "notification"] {
        let message = take(&mut conn, name, worker, 1).await.remove(0);
        settlements.push(Settlement::without_exchange(&message, Outcome::Delivered));
    }
    complete::complete(&mut conn, worker, &settlements[..2]).await.unwrap();
    let waiting = waits(&app.base, "/transactions/draft-0001", &token, &[("prefer", "wait=60")]);
    until_waiting(app.app(), 1).await;
    let (mut one, mut two) = (app.db.begin().await.unwrap(), app.db.begin().await.unwrap());
    complete::complete(&mut one, worker, &settlements[2..3]).await.unwrap();
    complete::complete(&mut two, worker, &settlements[3..]).await.unwrap();
    one.commit().await.unwrap();
    wakeup.tell_moved();
    // The reader looks after the first and before the second.
    let page: Value = waits(&app.base, &feed, &token, &[]).await.unwrap().json().await.unwrap();
    assert_eq!(page["changes"][0]["settled"], false);
    assert!(!waiting.is_finished());
    two.commit().await.unwrap();
    wakeup.tell_moved();
    assert_eq!(waiting.await.unwrap().json::<Value>().await.unwrap()["settled"], true);
    drop(conn);
    app.done().await;
}

#[tokio::test]
async fn what_another_instance_settles_is_told_here() {
    let app = without_poll().await;
    let mut others = settings(app.url.clone(), &app.peers.uri());
    others.waiting.poll = Duration::from_hours(1);
    let other = App::start(others, Halves { api: true, workers: false }).await.unwrap();
    let listening =
        "select count(*) from pg_stat_activity where datname = current_database() and query ilike 'listen %'";
    app.wait_for(listening, 2).await;
    let token = declare(&app, "draft-0001").await;
    let there = format!("http://{}", other.public_addr.unwrap());
    let cursor: Value = app.get("/changes", &token).await.json().await.unwrap();
    let feed = format!("/changes?wait=60&cursor={}", cursor["cursor"].as_str().unwrap());
    let one = waits(&there, "/transactions/draft-0001", &token, &[("prefer", "wait=60")]);
    let all = waits(&there, &feed, &token, &[]);
    until_waiting(&other, 2).await;
    app.drain().await;
    assert_eq!(one.await.unwrap().json::<Value>().await.unwrap()["settled"], true);
    assert_eq!(all.await.unwrap().json::<Value>().await.unwrap()["changes"][0]["transactionId"], "draft-0001");
    other.stop(CancellationToken::new()).await;
    app.done().await;
}

#[tokio::test]
async fn a_feed_that_waits_is_told_and_at_its_end_keeps_its_place() {
    let app = TestApp::start().await;
    let token = app.token("agent", &["declare"]);
    let start: Value = app.get("/changes?wait=5", &token).await.json().await.unwrap();
    assert_eq!((&start["changes"], &start["more"]), (&json!([]), &false.into()));
    let path = |page: &Value, wait: u8| format!("/changes?wait={wait}&cursor={}", page["cursor"].as_str().unwrap());
    let quiet: Value = app.get(&path(&start, 1), &token).await.json().await.unwrap();
    assert_eq!(quiet["changes"], json!([]));
    let waiting = waits(&app.base, &path(&quiet, 60), &token, &[]);
    until_waiting(app.app(), 1).await;
    declare(&app, "draft-0001").await;
    let told: Value = waiting.await.unwrap().json().await.unwrap();
    assert_eq!(told["changes"][0]["transactionId"], "draft-0001", "{told}");
    assert_eq!(told["changes"][0]["settled"], false);
    app.drain().await;
    let told: Value = app.get(&path(&told, 60), &token).await.json().await.unwrap();
    assert_eq!(told["changes"][0]["settled"], true);
    app.done().await;
}

#[tokio::test]
async fn who_comes_after_everybody_has_left_is_told_too() {
    let app = without_poll().await;
    let token = declare(&app, "draft-0001").await;
    for id in ["draft-0002", "draft-0003"] {
        let left = waits(&app.base, "/transactions/draft-0001", &token, &[("prefer", "wait=1")]).await.unwrap();
        assert_eq!(left.status(), StatusCode::OK);
        until_waiting(app.app(), 0).await;
        // The reader hears of this, and finds that nobody waits.
        declare(&app, id).await;
    }
    let waiting = waits(&app.base, "/transactions/draft-0001", &token, &[("prefer", "wait=60")]);
    until_waiting(app.app(), 1).await;
    app.drain().await;
    assert_eq!(waiting.await.unwrap().json::<Value>().await.unwrap()["settled"], true);
    app.done().await;
}

#[tokio::test]
async fn a_reader_that_lost_its_connection_goes_on_where_it_was() {
    let app = without_poll().await;
    let token = declare(&app, "draft-0001").await;
    let waiting = waits(&app.base, "/transactions/draft-0001", &token, &[("prefer", "wait=60")]);
    until_waiting(app.app(), 1).await;
    // Whichever of its statements was its last; a connection of the pools that said the same is made anew.
    let reader = "select (count(*) > 0)::int::int8 from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
        and query ~ 'from (client_transaction t|record_duplicate|change)\\M'";
    app.wait_for(reader, 1).await;
    app.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
         and query ~ 'from (client_transaction t|record_duplicate|change)\\M'",
    )
    .await;
    app.drain().await;
    assert_eq!(waiting.await.unwrap().json::<Value>().await.unwrap()["settled"], true);
    app.done().await;
}

#[tokio::test]
async fn many_wait_and_hold_no_connection_and_more_than_may_are_refused() {
    let change = Box::new(|s: &mut crvs_outbox::config::Settings| s.waiting.max_waiting = 100);
    let app = TestApp::with(Setup { workers: false, change }).await;
    let token = declare(&app, "draft-0001").await;
    let waiting: Vec<_> =
        (0..100).map(|_| waits(&app.base, "/transactions/draft-0001", &token, &[("prefer", "wait=60")])).collect();
    until_waiting(app.app(), 100).await;
    let refused = waits(&app.base, "/transactions/draft-0001", &token, &[("prefer", "wait=60")]).await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(header(&refused, "retry-after").parse::<u32>().unwrap() >= 5);
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(problem["type"], "urn:crvs-outbox:problem:too-many-waiting");
    app.wait_for(
        "select count(*) from pg_stat_activity where datname = current_database() and state like '%in transaction%'",
        0,
    )
    .await;
    let deadline = Instant::now() + PATIENCE;
    while app.app().db.size() as usize != app.app().db.num_idle() {
        assert!(Instant::now() < deadline, "connections of the API are held");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(app.get("/transactions/draft-0001", &token).await.status(), StatusCode::OK, "not waiting is allowed");
    app.drain().await;
    for one in waiting {
        assert_eq!(one.await.unwrap().json::<Value>().await.unwrap()["settled"], true);
    }
    until_waiting(app.app(), 0).await;
    app.done().await;
}

#[tokio::test]
async fn a_stop_answers_all_who_wait() {
    let app = TestApp::start().await;
    let token = declare(&app, "draft-0001").await;
    let path = "/transactions/draft-0001";
    let first = app.get(path, &token).await;
    let etag = header(&first, "etag").to_owned();
    let cursor: Value = app.get("/changes", &token).await.json().await.unwrap();
    let feed = format!("/changes?wait=60&cursor={}", cursor["cursor"].as_str().unwrap());
    let one = waits(&app.base, path, &token, &[("prefer", "wait=60")]);
    let same = waits(&app.base, path, &token, &[("prefer", "wait=60"), ("if-none-match", &etag)]);
    let all = waits(&app.base, &feed, &token, &[]);
    let events = waits(&app.base, "/changes", &token, &[("accept", "text/event-stream")]);
    until_waiting(app.app(), 4).await;
    let stopping = Instant::now();
    app.done_with_leftovers().await;
    assert!(stopping.elapsed() < Duration::from_secs(4), "nobody was waited for");
    assert_eq!(one.await.unwrap().json::<Value>().await.unwrap()["settled"], false);
    assert_eq!(same.await.unwrap().status(), StatusCode::NOT_MODIFIED);
    let all: Value = all.await.unwrap().json().await.unwrap();
    assert_eq!(all["changes"], json!([]));
    assert!(all["cursor"].is_string(), "{all}");
    assert!(events.await.unwrap().text().await.unwrap().contains("\nid: "), "the stream ended in order");
}

#[tokio::test]
async fn up_to_500_transactions_are_asked_for_in_one_call_and_only_what_may_be_read_is_known() {
    let app = TestApp::start().await;
    let token = declare(&app, "draft-0001").await;
    app.register_birth("draft-0002").await;
    app.drain().await;
    let ids = json!({ "ids": ["draft-0002", "draft-0001", "draft-0001", "never-sent", "\u{0}", "verdict/draft-0002"] });
    let query = |token: String, body: Value| {
        let request = app.http.post(format!("{}/transactions/query", app.base)).bearer_auth(token).json(&body);
        async move { request.send().await.unwrap() }
    };
    let without_nul = json!({ "ids": ["draft-0002", "draft-0001", "draft-0001", "never-sent", "verdict/draft-0002"] });
    assert_eq!(query(token.clone(), ids).await.status(), StatusCode::BAD_REQUEST, "NUL is refused everywhere");
    let answer: Value = query(token.clone(), without_nul.clone()).await.json().await.unwrap();
    let known: Vec<&Value> = answer["transactions"].as_array().unwrap().iter().map(|t| &t["transactionId"]).collect();
    assert_eq!(known, ["draft-0001"]);
    assert_eq!(answer["transactions"][0]["settled"], true);
    assert_eq!(answer["unknown"], json!(["draft-0002", "never-sent", "verdict/draft-0002"]));
    let reader = app.token("auditor", &["record.read"]);
    let answer: Value = query(reader, without_nul).await.json().await.unwrap();
    let statuses: Vec<&Value> = answer["transactions"].as_array().unwrap().iter().map(|t| &t["status"]).collect();
    assert_eq!(statuses, ["waiting_validation", "declared"], "in the order asked");
    let many: Vec<String> = (0..500).map(|n| format!("draft-{n:04}")).collect();
    assert_eq!(query(token.clone(), json!({ "ids": many })).await.status(), StatusCode::OK);
    let more: Vec<String> = (0..501).map(|n| format!("draft-{n:04}")).collect();
    for bad in [json!({ "ids": more }), json!({ "ids": [] }), json!({}), json!({ "ids": [1] })] {
        assert_eq!(query(token.clone(), bad).await.status(), StatusCode::BAD_REQUEST);
    }
    app.done().await;
}
