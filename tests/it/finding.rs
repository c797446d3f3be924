//! `GET /records` and its counts: who finds what, page by page, at the cost of a page.
//!
//! `CRVS_FIND_ROWS` is how many records the plans are pinned with (20,000).

use std::collections::BTreeSet;

use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};

use crate::harness::{TestApp, flat};

async fn find(app: &TestApp, token: &str, query: &str) -> Value {
    let answer = app.get(&format!("/records?{query}"), token).await;
    let status = answer.status();
    let body: Value = answer.json().await.unwrap();
    assert_eq!(status, StatusCode::OK, "{query}: {body}");
    body
}

fn tracking_ids(page: &Value) -> Vec<String> {
    page["records"].as_array().unwrap().iter().map(|r| r["trackingId"].as_str().unwrap().to_owned()).collect()
}

async fn submit(app: &TestApp, who: &str, event: &str, action: &str, id: &str) -> Value {
    let mut body = flat(action);
    body["event"] = json!(event);
    let answer = app.post("/records", &app.token(who, &["register"]), id, &body).await;
    answer.json::<Value>().await.unwrap()["record"].clone()
}

#[tokio::test]
async fn each_filter_finds_what_it_says_and_everybody_what_they_may() {
    let app = TestApp::start().await;
    let one = submit(&app, "ann", "birth", "declare", "draft-0001").await;
    let two = submit(&app, "ann", "death", "register", "draft-0002").await;
    let three = submit(&app, "joe", "birth", "register", "draft-0003").await;
    let id = |record: &Value| record["trackingId"].as_str().unwrap().to_owned();
    let all = app.token("clerk", &["record.read"]);
    let births = app.token("clerk", &["record.read[event=birth]"]);
    let ann = app.token("ann", &["declare"]);
    let cases: [(&str, String, Vec<&Value>); 17] = [
        (&all, String::new(), vec![&three, &two, &one]),
        (&all, "order=asc".to_owned(), vec![&one, &two, &three]),
        (&all, "status=declared".to_owned(), vec![&one]),
        (&all, "status=declared&status=waiting_validation&order=asc".to_owned(), vec![&one, &two, &three]),
        (&all, "event=birth&status=waiting_validation".to_owned(), vec![&three]),
        (&all, "event=marriage".to_owned(), vec![]),
        (&all, "createdBy=joe".to_owned(), vec![&three]),
        (&all, format!("trackingId={}", id(&two).to_lowercase()), vec![&two]),
        (&all, format!("trackingId={}&event=birth", id(&two)), vec![]),
        (&all, format!("q={}", id(&one).to_lowercase()), vec![&one]),
        (&all, "registrationNumber=none-such".to_owned(), vec![]),
        (&all, "waitingLongerThan=0&order=asc".to_owned(), vec![&two, &three]),
        (&all, "waitingLongerThan=PT1H".to_owned(), vec![]),
        (&births, String::new(), vec![&three, &one]),
        (&births, format!("q={}", id(&two)), vec![]),
        (&ann, "createdBy=ann".to_owned(), vec![&two, &one]),
        (&ann, "createdBy=ann&status=declared&event=birth&order=asc".to_owned(), vec![&one]),
    ];
    for (token, query, expected) in cases {
        let page = find(&app, token, &query).await;
        let expected: Vec<String> = expected.into_iter().map(id).collect();
        assert_eq!(tracking_ids(&page), expected, "{query}");
        assert_eq!(page["cursor"], Value::Null);
    }
    let record = &find(&app, &all, &format!("trackingId={}", id(&one))).await["records"][0];
    assert_eq!((&record["createdBy"], &record["id"]), (&json!("ann"), &one["id"]));
    assert!(record["createdAt"].is_string() && record["updatedAt"].is_string());
    app.execute("update record_action set created_at = now() - interval '2 hours' where transaction_id = 'draft-0003'")
        .await;
    app.execute("update record set created_at = now() - interval '2 hours' where created_by = 'joe'").await;
    assert_eq!(tracking_ids(&find(&app, &all, "waitingLongerThan=PT1H").await), [id(&three)]);
    assert_eq!(tracking_ids(&find(&app, &all, &format!("waitingLongerThan=60&q={}", id(&two))).await), [""; 0]);

    let grant = app.record_token(three["id"].as_str().unwrap().parse().unwrap(), uuid::Uuid::now_v7());
    assert_eq!(tracking_ids(&find(&app, &grant, "").await), [id(&three)]);
    assert_eq!(tracking_ids(&find(&app, &grant, &format!("trackingId={}", id(&one))).await), [""; 0]);
    for (token, query) in
        [(&ann, ""), (&ann, "createdBy=joe"), (&births, "event=death"), (&births, "event=birth&event=death")]
    {
        assert_eq!(app.get(&format!("/records?{query}"), token).await.status(), StatusCode::FORBIDDEN, "{query}");
        assert_eq!(
            app.get(&format!("/records/counts?{query}"), token).await.status(),
            StatusCode::FORBIDDEN,
            "{query}"
        );
    }
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn counts_follow_the_same_filters_and_rules() {
    let app = TestApp::start().await;
    for (n, who) in ["ann", "ann", "joe"].into_iter().enumerate() {
        submit(&app, who, "birth", "declare", &format!("draft-{n:04}")).await;
    }
    submit(&app, "joe", "death", "register", "draft-0009").await;
    let all = app.token("clerk", &["record.read"]);
    let count = async |token: &str, query: &str| {
        let answer: Value = app.get(&format!("/records/counts?{query}"), token).await.json().await.unwrap();
        assert_eq!(answer["more"], json!([]), "{query}: {answer}");
        answer["counts"].clone()
    };
    let everything = count(&all, "").await;
    assert_eq!((&everything["declared"], &everything["waiting_validation"]), (&json!(3), &json!(1)));
    assert_eq!(everything["archived"], 0);
    assert_eq!(count(&all, "status=declared&event=birth").await, json!({ "declared": 3 }));
    assert_eq!(count(&all, "waitingLongerThan=0").await, json!({ "waiting_validation": 1 }));
    assert_eq!(count(&app.token("ann", &[]), "createdBy=ann&status=declared").await, json!({ "declared": 2 }));
    assert_eq!(count(&all, "q=nothing&status=declared").await, json!({ "declared": 0 }));
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn a_query_that_is_not_understood_is_refused() {
    let app = TestApp::start().await;
    let all = app.token("clerk", &["record.read"]);
    for query in [
        "sort=name",
        "status=lost",
        "status=",
        "event=Birth",
        "trackingId=B2",
        "registrationNumber=%20x",
        "q=",
        "q=a%00b",
        "createdBy=a%00",
        "q=a&q=b",
        "limit=0",
        "limit=201",
        "limit=x",
        "order=up",
        "cursor=x",
        "waitingLongerThan=P1M",
        "waitingLongerThan=1&status=declared",
    ] {
        let answer = app.get(&format!("/records?{query}"), &all).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{query}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
    }
    assert_eq!(app.get("/records/counts?limit=1", &all).await.status(), StatusCode::BAD_REQUEST);
    assert_eq!(app.http.get(format!("{}/records", app.base)).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    app.done().await;
}

/// Records without a past, `rows` of them: mostly registered births, many in the very same moment.
async fn fill(db: &PgPool, rows: i64) {
    sqlx::raw_sql(AssertSqlSafe(format!(
        "insert into record (id, event, status, tracking_id, registration_number, version, awaiting_action_id, created_by, created_at)
         select gen_random_uuid(), (array['birth', 'birth', 'death'])[1 + n % 3], s, 'B' || lpad(upper(to_hex(n)), 6, '0'),
                case when s = 'registered' then 'N' || n end, 1, case when s = 'waiting_validation' then gen_random_uuid() end,
                'agent' || n % 50, timestamptz '2026-01-01' + n / 4 * interval '1 second'
         from (select n, case when n % 10 > 2 then 'registered' when n % 10 = 2 then 'declared' when n % 10 = 1 then 'waiting_validation'
                              else 'rejected' end::record_status as s
               from generate_series(1, {rows}) n) x;
         insert into record_action (id, record_id, transaction_id, action, status, version, record_status, created_by, scopes, created_at)
         select awaiting_action_id, id, 'made-' || id, 'register', 'requested', 1, status, created_by, '{{}}', created_at
         from record where awaiting_action_id is not null;"
    )))
    .execute(db)
    .await
    .unwrap();
    for table in ["record", "record_action"] {
        sqlx::raw_sql(AssertSqlSafe(format!("vacuum analyze {table}"))).execute(db).await.unwrap();
    }
}

#[tokio::test]
async fn walking_from_page_to_page_shows_each_record_once_whatever_is_written_meanwhile() {
    let app = TestApp::start().await;
    fill(&app.db, 500).await;
    let all = app.token("clerk", &["record.read"]);
    for (query, expected) in [("", 500), ("order=asc&status=declared&status=rejected", 100), ("createdBy=agent7", 10)] {
        let (mut seen, mut cursor, mut pages) = (BTreeSet::new(), String::new(), 0);
        loop {
            let page = find(&app, &all, format!("{query}&limit=37{cursor}").trim_start_matches('&')).await;
            let ids = tracking_ids(&page);
            for id in ids {
                assert!(seen.insert(id.clone()), "{query}: {id} twice");
            }
            pages += 1;
            let Some(next) = page["cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
            let other = app.get(&format!("/records?event=death{cursor}"), &all).await;
            assert_eq!(other.status(), StatusCode::BAD_REQUEST, "a cursor is good for its own query");
            submit(&app, "ann", "birth", "notify", &format!("new-{}-{pages:04}", query.len())).await;
        }
        let old = seen.iter().filter(|id| id.as_bytes()[1..].iter().all(u8::is_ascii_hexdigit)).count();
        assert!(old >= expected, "{query}: {old} of {expected}");
    }
    app.execute("truncate outbox_message").await;
    app.done_with_leftovers_of_nobody().await;
}

fn rows() -> i64 {
    std::env::var("CRVS_FIND_ROWS").map_or(20_000, |text| text.parse().unwrap())
}

/// The statement of a function of `store/find.rs`.
fn statement(function: &str) -> &'static str {
    let source = include_str!("../../src/records/store/find.rs");
    let body = source.split_once(&format!("fn {function}(")).unwrap().1;
    body.split_once("r#\"").unwrap().1.split_once("\"#").unwrap().0
}

/// Pages touched and the plan, by EXPLAIN (ANALYZE, BUFFERS) of the code's own statement and of the plan that serves all
/// parameters.
async fn explain(conn: &mut PgConnection, function: &str, arguments: &str) -> (i64, f64, String) {
    // sqlx's names for columns are PostgreSQL's too.
    let prepare = format!(
        "deallocate all; set plan_cache_mode = force_generic_plan; prepare the_find as {}",
        statement(function)
    );
    sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut *conn).await.unwrap();
    let explain = format!("explain (analyze, buffers, format json) execute the_find({arguments})");
    let mut tx = conn.begin().await.unwrap();
    let rows = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_all(&mut *tx).await.unwrap();
    tx.rollback().await.unwrap();
    let text: String = sqlx::Row::get_unchecked(&rows[0], 0);
    let plan: Value = serde_json::from_str(&text).unwrap();
    let top = &plan[0]["Plan"];
    let pages = top["Shared Hit Blocks"].as_i64().unwrap() + top["Shared Read Blocks"].as_i64().unwrap();
    (pages, plan[0]["Execution Time"].as_f64().unwrap(), text)
}

const EVENTS: &str = "'{birth,death,marriage}'";
const ALL: &str = "'{in_progress,declared,validated,waiting_validation,registered,rejected,archived}'";
const LATER: &str = "'2026-01-01 00:10:00+00', '88888888-8888-8888-8888-888888888888'";

#[tokio::test]
async fn a_page_is_read_from_an_index_and_costs_the_same_however_many_records_there_are() {
    let app = TestApp::start().await;
    fill(&app.db, rows()).await;
    let mut conn = app.db.acquire().await.unwrap();
    let none = "null, null";
    let cases: [(&str, String, i64); 13] = [
        ("newest", format!("{EVENTS}, {ALL}, {none}, null, 51"), 700),
        ("newest", format!("{EVENTS}, {ALL}, {LATER}, null, 51"), 700),
        ("oldest", format!("{EVENTS}, {ALL}, {LATER}, null, 51"), 700),
        ("oldest", format!("{EVENTS}, '{{declared}}', {none}, null, 51"), 250),
        ("newest", format!("'{{birth}}', '{{registered}}', {LATER}, null, 51"), 200),
        ("oldest", format!("{EVENTS}, '{{waiting_validation}}', {none}, 3600, 51"), 900),
        ("newest", format!("{EVENTS}, '{{waiting_validation}}', {LATER}, 3600, 51"), 900),
        ("newest_of", format!("{EVENTS}, {ALL}, {none}, null, 51, 'agent7'"), 700),
        ("oldest_of", format!("{EVENTS}, '{{declared}}', {LATER}, null, 51, 'agent2'"), 250),
        ("counts", format!("{EVENTS}, '{{declared,waiting_validation,rejected}}', null, 1000"), 250),
        ("counts", format!("{EVENTS}, '{{waiting_validation}}', 3600, 500"), 8000),
        ("counts_of", format!("{EVENTS}, {ALL}, null, 10000, 'agent7'"), 250),
        ("named", "'B000007', 'N8', '88888888-8888-8888-8888-888888888888'".to_owned(), 30),
    ];
    for (function, arguments, most) in cases {
        let (pages, millis, plan) = explain(&mut conn, function, &arguments).await;
        println!("{function}({arguments}): {pages} pages, {millis} ms");
        assert!(!plan.contains("\"Seq Scan\""), "{function}({arguments}): {plan}");
        assert!(pages <= most, "{function}({arguments}): {pages} pages: {plan}");
        let whole = function.starts_with("counts") && arguments.contains("null,");
        assert!(!whole || plan.contains("\"Index Only Scan\""), "{function}({arguments}): {plan}");
    }
    drop(conn);
    app.done_with_leftovers_of_nobody().await;
}
