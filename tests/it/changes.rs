//! The feed of changes: whatever commits in whatever order is told to whose it is, once at least, and to nobody else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crvs_outbox::records::changes::{self, Cursor, Moment};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use reqwest::StatusCode;
use serde_json::Value;
use sqlx::{PgConnection, Postgres, Transaction};

use crate::harness::{TestApp, flat};

/// The path of a feed from a cursor on.
fn feed(cursor: &str, more: &str) -> String {
    format!("/changes?cursor={cursor}{more}")
}

/// The ids of a page's transactions.
fn ids(page: &Value) -> Vec<String> {
    let changes = page["changes"].as_array().unwrap();
    changes.iter().map(|c| c["transactionId"].as_str().unwrap().to_owned()).collect()
}

fn cursor(page: &Value) -> String {
    page["cursor"].as_str().unwrap().to_owned()
}

async fn json(app: &TestApp, path: &str, token: &str) -> Value {
    let response = app.get(path, token).await;
    assert_eq!(response.status(), StatusCode::OK);
    response.json().await.unwrap()
}

/// Transactions of `agent` that only these tables know: draft-000001 and so on.
const MANY: &str = "
    with new as (
        select n, gen_random_uuid() as record_id, gen_random_uuid() as action_id,
               'draft-' || lpad(n::text, 6, '0') as id from generate_series(1, 200) n
    ), records as (
        insert into record (id, event, status, tracking_id, version, created_by)
        select record_id, 'birth', 'declared', 'B' || lpad(n::text, 6, '0'), 1, 'agent' from new
    ), actions as (
        insert into record_action (id, record_id, transaction_id, action, status, version, record_status, created_by, scopes)
        select action_id, record_id, id, 'declare', 'accepted', 1, 'declared', 'agent', '{}' from new
    )
    insert into client_transaction (transaction_id, principal_id, fingerprint, reply_status, reply_body, record_id, action_id)
    select id, 'agent', sha256(id::bytea), 202, '{}', record_id, action_id from new";

async fn hint(conn: &mut PgConnection, transaction_id: &str) {
    sqlx::query(
        "insert into change (principal_id, record_id, action_id)
         select 'agent', record_id, action_id from client_transaction where transaction_id = $1",
    )
    .bind(transaction_id)
    .execute(conn)
    .await
    .unwrap();
}

#[tokio::test]
async fn what_commits_late_is_neither_skipped_nor_does_it_hold_up_others() {
    let app = TestApp::start().await;
    app.execute(MANY).await;
    let token = app.token("agent", &[]);
    let start = cursor(&json(&app, "/changes", &token).await);
    // Two are open, one of which never has anything to tell.
    let mut idle = app.db.begin().await.unwrap();
    sqlx::query("select pg_current_xact_id()").execute(&mut *idle).await.unwrap();
    let mut late = app.db.begin().await.unwrap();
    hint(&mut late, "draft-000001").await;
    let mut at = start.clone();
    for id in ["draft-000002", "draft-000003", "draft-000004"] {
        let mut tx = app.db.begin().await.unwrap();
        hint(&mut tx, id).await;
        tx.commit().await.unwrap();
        let page = json(&app, &feed(&at, ""), &token).await;
        assert_eq!(ids(&page), [id], "told while another is open");
        at = cursor(&page);
    }
    late.commit().await.unwrap();
    let page = json(&app, &feed(&at, ""), &token).await;
    assert_eq!(ids(&page), ["draft-000001"], "told though later ones were told before");
    assert!(ids(&json(&app, &feed(&cursor(&page), ""), &token).await).is_empty());
    assert_eq!(ids(&json(&app, &feed(&start, ""), &token).await).len(), 4, "the old cursor is good as ever");
    idle.rollback().await.unwrap();
    app.done_with_leftovers_of_nobody().await;
}

/// Those who write, and what each has written and not committed.
struct Writer {
    tx: Option<Transaction<'static, Postgres>>,
    wrote: BTreeSet<String>,
}

/// One who reads, and what they are still owed.
struct Reader {
    cursor: Cursor,
    owed: BTreeMap<String, usize>,
}

impl Reader {
    async fn read(&mut self, app: &TestApp, limit: u16) -> bool {
        let mut conn = app.db.acquire().await.unwrap();
        let page = changes::page(&mut conn, "agent", &self.cursor, limit, Duration::from_hours(1)).await.unwrap();
        for change in page.changes {
            self.owed.remove(&change.transaction_id);
        }
        // As it goes over the wire.
        self.cursor = page.cursor.to_string().parse().unwrap();
        page.more
    }
}

#[tokio::test]
async fn whatever_the_order_of_writers_and_readers_and_the_size_of_pages_nothing_is_missed() {
    let app = TestApp::start().await;
    app.execute(MANY).await;
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let writers = crvs_outbox::db::pool(&app.url, 6).await.unwrap();
    let mut open: Vec<Writer> = (0..6).map(|_| Writer { tx: None, wrote: BTreeSet::new() }).collect();
    let mut conn = app.db.acquire().await.unwrap();
    let mut tail: (Moment, BTreeSet<String>) = (changes::moment(&mut conn).await.unwrap(), BTreeSet::new());
    let start = changes::now(&mut conn).await.unwrap();
    let mut readers: Vec<Reader> = (0..3).map(|_| Reader { cursor: start.clone(), owed: BTreeMap::new() }).collect();
    for step in 0..600 {
        let writer = random.random_range(0..open.len());
        let writer = &mut open[writer];
        match (random.random_range(0..10), writer.tx.take()) {
            (0..3, Some(tx)) => {
                tx.commit().await.unwrap();
                for id in std::mem::take(&mut writer.wrote) {
                    for reader in &mut readers {
                        reader.owed.insert(id.clone(), step);
                    }
                    tail.1.insert(id);
                }
            }
            (3, Some(tx)) => {
                tx.rollback().await.unwrap();
                writer.wrote.clear();
            }
            (_, tx) => {
                let mut tx = match tx {
                    Some(tx) => tx,
                    None => writers.begin().await.unwrap(),
                };
                let id = format!("draft-{:06}", random.random_range(1..=200));
                hint(&mut tx, &id).await;
                writer.wrote.insert(id);
                writer.tx = Some(tx);
            }
        }
        let reader = random.random_range(0..9);
        if let Some(reader) = readers.get_mut(reader) {
            reader.read(&app, random.random_range(1..=5)).await;
        } else if reader == 3 {
            let moved = changes::tail(&mut conn, &tail.0).await.unwrap();
            tail.1.retain(|id| moved.transactions.iter().all(|(_, told)| told != id));
            tail.0 = moved.now;
        }
    }
    for reader in &mut readers {
        while reader.read(&app, 3).await {}
        // What was moved while a cut page was read out comes after it.
        while reader.read(&app, 3).await {}
        assert!(reader.owed.is_empty(), "missed, by the step of their commit: {:?}", reader.owed);
    }
    let moved = changes::tail(&mut conn, &tail.0).await.unwrap();
    tail.1.retain(|id| moved.transactions.iter().all(|(_, told)| told != id));
    assert!(tail.1.is_empty(), "the tail missed {:?}", tail.1);
    drop((open, conn));
    writers.close().await;
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn one_who_submitted_hears_of_every_step_that_others_take_by_their_own_transaction() {
    let app = TestApp::start().await;
    let agent = app.token("agent", &["declare"]);
    let start = cursor(&json(&app, "/changes", &agent).await);
    assert_eq!(app.post("/records", &agent, "draft-0001", &flat("declare")).await.status(), StatusCode::ACCEPTED);
    app.drain().await;
    let page = json(&app, &feed(&start, ""), &agent).await;
    assert_eq!(ids(&page), ["draft-0001"]);
    let declared = &page["changes"][0];
    assert_eq!((&declared["status"], &declared["settled"]), (&"declared".into(), &true.into()));
    let path = format!("/records/{}/register", declared["recordId"].as_str().unwrap());
    let registrar = app.token("registrar", &["register"]);
    assert_eq!(app.post(&path, &registrar, "registrar-0001", &serde_json::json!({})).await.status(), 202);
    let page = json(&app, &feed(&cursor(&page), ""), &agent).await;
    assert_eq!(ids(&page), ["draft-0001"], "by their own");
    let waits = &page["changes"][0];
    assert_eq!((&waits["status"], &waits["settled"]), (&"waiting_validation".into(), &false.into()));
    let record_id = declared["recordId"].as_str().unwrap().parse().unwrap();
    let action_id = sqlx::query_scalar("select awaiting_action_id from record").fetch_one(&app.db).await.unwrap();
    let of = crate::harness::Submitted { record_id, action_id, body: Value::Null };
    assert_eq!(app.confirm(&of, "2026-B-1").await.status(), StatusCode::ACCEPTED);
    app.drain().await;
    let page = json(&app, &feed(&cursor(&page), ""), &agent).await;
    assert_eq!(ids(&page), ["draft-0001"]);
    let registered = &page["changes"][0];
    assert_eq!((&registered["registrationNumber"], &registered["settled"]), (&"2026-B-1".into(), &true.into()));
    let theirs = json(&app, &feed(&start, ""), &registrar).await;
    assert_eq!(ids(&theirs), ["registrar-0001"], "each hears of their own");
    app.done().await;
}

#[tokio::test]
async fn somebody_elses_changes_are_never_shown_and_a_records_token_sees_none() {
    let app = TestApp::start().await;
    let stranger = app.token("stranger", &["record.read", "register"]);
    let start = cursor(&json(&app, "/changes", &stranger).await);
    let born = app.register_birth("draft-0001").await;
    app.drain().await;
    assert!(ids(&json(&app, &feed(&start, ""), &stranger).await).is_empty());
    // A cursor is a place, not a right: it is good for any caller, and shows each only their own.
    let registrar = app.token("registrar", &[]);
    assert_eq!(ids(&json(&app, &feed(&start, ""), &registrar).await), ["draft-0001"]);
    let record = app.record_token(born.record_id, born.action_id);
    assert_eq!(app.get("/changes", &record).await.status(), StatusCode::FORBIDDEN);
    assert_eq!(app.get(&feed(&start, "&wait=1"), &record).await.status(), StatusCode::FORBIDDEN);
    assert_eq!(app.http.get(format!("{}/changes", app.base)).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    app.done().await;
}

#[tokio::test]
async fn a_cut_page_is_read_on_and_what_moves_meanwhile_comes_after_it() {
    let app = TestApp::start().await;
    app.execute(MANY).await;
    let token = app.token("agent", &[]);
    let mut page = json(&app, "/changes", &token).await;
    let mut tx = app.db.begin().await.unwrap();
    for n in 1..=5 {
        hint(&mut tx, &format!("draft-{n:06}")).await;
    }
    tx.commit().await.unwrap();
    let mut seen = Vec::new();
    for more in [true, true, false] {
        page = json(&app, &feed(&cursor(&page), "&limit=2"), &token).await;
        assert_eq!(page["more"], more);
        seen.extend(ids(&page));
        if seen.len() == 2 {
            let mut conn = app.db.acquire().await.unwrap();
            hint(&mut conn, "draft-000006").await;
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, ["draft-000001", "draft-000002", "draft-000003", "draft-000004", "draft-000005"]);
    assert_eq!(ids(&json(&app, &feed(&cursor(&page), "&limit=2"), &token).await), ["draft-000006"]);
    app.done_with_leftovers_of_nobody().await;
}

async fn refused(app: &TestApp, path: &str) -> (u16, String) {
    let response = app.get(path, &app.token("agent", &[])).await;
    let status = response.status().as_u16();
    let problem: Value = response.json().await.unwrap();
    (status, problem["type"].as_str().unwrap().rsplit(':').next().unwrap().to_owned())
}

#[tokio::test]
async fn a_cursor_that_is_too_old_is_gone_and_one_that_is_none_is_bad() {
    let app = TestApp::start().await;
    let mut conn = app.db.acquire().await.unwrap();
    let now = changes::moment(&mut conn).await.unwrap();
    drop(conn);
    let days = |days: u64| Moment { at: now.at - days * 24 * 3600, ..now.clone() };
    let gone = (410, "cursor-expired".to_owned());
    assert_eq!(refused(&app, &feed(&Cursor::at(days(15)).to_string(), "")).await, gone);
    assert_eq!(refused(&app, &feed(&Cursor::at(days(15)).to_string(), "&wait=1")).await, gone);
    assert!(ids(&json(&app, &feed(&Cursor::at(days(13)).to_string(), ""), &app.token("agent", &[])).await).is_empty());
    // The database was put back to an earlier time: nothing new would ever be after this cursor.
    let ahead = Moment { snapshot: "99999999:99999999:".parse().unwrap(), at: now.at };
    assert_eq!(refused(&app, &feed(&Cursor::at(ahead).to_string(), "")).await, gone);
    for bad in ["x", "AQ", "%00", "AQEBAQEBAQEBAQEB", "\u{e9}"] {
        let (status, slug) = refused(&app, &feed(bad, "")).await;
        assert_eq!((status, slug.as_str()), (400, "invalid-cursor"), "{bad}");
    }
    for bad in ["?limit=0", "?limit=501", "?limit=x", "?wait=x", "?wait=-1", "?since=1", "?limit=1&limit=2"] {
        assert_eq!(refused(&app, &format!("/changes{bad}")).await, (400, "bad-request".to_owned()), "{bad}");
    }
    app.done().await;
}

#[tokio::test]
async fn what_moved_is_dropped_after_its_time_a_day_at_a_time() {
    use crvs_outbox::workers::housekeeping;
    let app = TestApp::start().await;
    sqlx::raw_sql(
        "create table change_20200101 partition of change for values from ('2020-01-01 00:00+00') to ('2020-01-02 00:00+00');
         insert into change (principal_id, record_id, action_id, at) values ('x', gen_random_uuid(), gen_random_uuid(), '2020-01-01 12:00+00')",
    )
    .execute(&app.db)
    .await
    .unwrap();
    app.register_birth("draft-0001").await;
    app.drain().await;
    // The service's own may have been first.
    housekeeping::run_once(&app.app().context).await.unwrap();
    assert_eq!(app.count("select count(*) from change where at < '2021-01-01'").await, 0);
    assert_eq!(app.count("select count(*) from change").await, 7, "a submission and six deliveries");
    assert_eq!(app.count("select count(*) from change_default").await, 0);
    app.done().await;
}
