//! A claim costs the same however long the queue is, whatever rests in it, and whoever keeps its dead rows alive.
//!
//! `CRVS_LANES_ROWS` is how many messages are ready and how many are blocked (10,000; the figures of the documentation
//! are of 100,000).

use crvs_outbox::db;
use crvs_outbox::outbox::claim::{Ask, Floor, claim};
use crvs_outbox::outbox::complete::{Outcome, Settlement, complete};
use crvs_outbox::outbox::destination::{self, Definition};
use crvs_outbox::outbox::{Effect, worker};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};
use std::time::Duration;
use uuid::Uuid;

use crate::harness::new_database;

const HOUR: Duration = Duration::from_hours(1);

fn rows() -> i64 {
    std::env::var("CRVS_LANES_ROWS").map_or(10_000, |text| text.parse().unwrap())
}

async fn queue() -> (String, PgPool) {
    let url = new_database().await;
    let db = db::pool_pinned(&url, 4).await.unwrap();
    let search = Definition {
        name: "search".to_owned(),
        url: "http://nowhere".to_owned(),
        effects: vec![Effect::Search],
        ..Definition::default()
    };
    destination::apply(&mut db.acquire().await.unwrap(), &[search]).await.unwrap();
    (url, db)
}

/// `rows` dead messages with a blocked one behind each, and `rows` ready ones.
async fn fill(db: &PgPool, rows: i64) {
    for (state, records) in [("dead", "d"), ("blocked", "d"), ("queued", "q")] {
        sqlx::query(AssertSqlSafe(format!(
            "insert into outbox_message (state, destination, kind, transaction_id, record_id, action_id, initiator_id, initiator_scopes)
             select '{state}', 'search', 'index', '{state}-' || n, md5('{records}' || n)::uuid, gen_random_uuid(), 'x', '{{}}'
             from generate_series(1, {rows}) n"
        )))
        .execute(db)
        .await
        .unwrap();
    }
    sqlx::raw_sql("analyze outbox_message").execute(db).await.unwrap();
}

/// Pages that a claim of 100 touches, by EXPLAIN (ANALYZE, BUFFERS) of the code's own statement. Rolled back.
async fn pages(conn: &mut PgConnection, position: i64) -> i64 {
    let source = include_str!("../../src/outbox/claim.rs");
    let claim = source.split_once("r#\"").unwrap().1.split_once("\"#").unwrap().0;
    let prepare = format!("deallocate all; prepare the_claim as {claim}");
    sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut *conn).await.unwrap();
    let explain = format!(
        "explain (analyze, buffers, format json)
         execute the_claim('search', '00000000-0000-0000-0000-000000000000', 100, 50, 60, '-infinity', {position}, '{{}}')"
    );
    let mut tx = conn.begin().await.unwrap();
    let rows = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_all(&mut *tx).await.unwrap();
    tx.rollback().await.unwrap();
    let text: String = sqlx::Row::get_unchecked(&rows[0], 0);
    let plan: Value = serde_json::from_str(&text).unwrap();
    let plan = &plan[0]["Plan"];
    plan["Shared Hit Blocks"].as_i64().unwrap() + plan["Shared Read Blocks"].as_i64().unwrap()
}

/// Claims and delivers all that is ready; returns the floor at the end.
async fn drain(db: &PgPool, worker: Uuid) -> Floor {
    let mut from = Floor::default();
    loop {
        let ask = Ask { destination: "search", worker, limit: 1000, retries: 0, lease: HOUR, from, over: &[] };
        let batch = claim(&mut db.acquire().await.unwrap(), &ask).await.unwrap();
        from = batch.next;
        let done: Vec<Settlement> =
            batch.messages.iter().map(|m| Settlement::without_exchange(m, Outcome::Delivered)).collect();
        if done.is_empty() {
            return from;
        }
        let mut tx = db.begin().await.unwrap();
        assert_eq!(complete(&mut tx, worker, &done).await.unwrap().len(), done.len());
        tx.commit().await.unwrap();
    }
}

#[tokio::test]
async fn a_claim_touches_no_more_pages_however_much_is_ready_or_blocked() {
    let mut touched = Vec::new();
    for rows in [rows() / 10, rows()] {
        let (_, db) = queue().await;
        fill(&db, rows).await;
        touched.push(pages(&mut db.acquire().await.unwrap(), 0).await);
    }
    println!("pages of a claim of 100: {touched:?}");
    // A level more of a B-tree costs each of the hundred rows a few pages; ten times the rows would cost ten times.
    assert!(touched[1] < touched[0] + 100 * 8, "{touched:?}");
}

#[tokio::test]
async fn a_transaction_that_is_held_open_elsewhere_makes_no_claim_walk_over_what_was_taken() {
    let (url, db) = queue().await;
    fill(&db, rows()).await;
    let worker = Uuid::now_v7();
    worker::beat(&mut db.acquire().await.unwrap(), worker, "lanes", HOUR).await.unwrap();
    let before = pages(&mut db.acquire().await.unwrap(), 0).await;

    let mut elsewhere = db::connect(&url).await.unwrap();
    let mut held = elsewhere.begin().await.unwrap();
    sqlx::raw_sql("set transaction isolation level repeatable read; select count(*) from outbox_message")
        .execute(&mut *held)
        .await
        .unwrap();
    let floor = drain(&db, worker).await;
    fill_again(&db).await;
    sqlx::raw_sql("vacuum outbox_message").execute(&db).await.unwrap();
    let after = pages(&mut db.acquire().await.unwrap(), floor.position).await;
    let from_the_start = pages(&mut db.acquire().await.unwrap(), 0).await;
    println!("pages of a claim of 100: {before} before, {after} after, {from_the_start} from the start");
    held.rollback().await.unwrap();
    // What the floor is for: without it the claim reads every entry that the held transaction may still see.
    assert!(from_the_start - after > rows() / 50, "the transaction held nothing: {after}, {from_the_start}");
    assert!(after < before + 600, "{before} before, {after} after: more than the slack is read again");
}

/// A hundred more, behind all that was taken.
async fn fill_again(db: &PgPool) {
    sqlx::raw_sql(
        "insert into outbox_message (state, destination, kind, transaction_id, record_id, action_id, initiator_id, initiator_scopes)
         select 'queued', 'search', 'index', 'more-' || n, gen_random_uuid(), gen_random_uuid(), 'x', '{}' from generate_series(1, 100) n",
    )
    .execute(db)
    .await
    .unwrap();
}
