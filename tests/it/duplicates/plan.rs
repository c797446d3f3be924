//! What the comparison costs: it reads an index and no table, however many records there are.
//!
//! `CRVS_DUPLICATES_ROWS` is how many births there are (20,000; the figures of the documentation are of 1,000,000), and
//! `CRVS_DUPLICATES_DAYS` over how many days they are spread (1825).

use std::time::{Duration, Instant};

use crvs_outbox::db;
use crvs_outbox::records::commands;
use crvs_outbox::records::duplicates::{Rules, prepare};
use crvs_outbox::records::model::Step;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::submission;
use crate::harness::new_database;

fn number(name: &str, usual: u32) -> u32 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

/// Births in the order of their days, more or less, as they come in: names of a few thousand words, some of them common.
async fn fill(conn: &mut PgConnection, rows: u32, days: u32) {
    let births = include_str!("../../../src/bench/duplicates.sql");
    let births = births.replace("{rows}", &rows.to_string()).replace("{days}", &days.to_string());
    sqlx::raw_sql(AssertSqlSafe(births)).execute(&mut *conn).await.unwrap();
    for statement in ["vacuum analyze record_match", "analyze record"] {
        sqlx::query(statement).execute(&mut *conn).await.unwrap();
    }
}

/// The plan of the code's own statement for one record, with what it did.
async fn explained(conn: &mut PgConnection) -> (String, f64) {
    let source = include_str!("../../../src/records/store/record_match.rs");
    let after = source.split_once("async fn candidates").unwrap().1;
    let statement = after.split_once("r#\"").unwrap().1.split_once("\"#").unwrap().0;
    let prepared =
        format!("deallocate all; prepare looking (uuid[], integer, double precision, bigint) as {statement}");
    sqlx::raw_sql(AssertSqlSafe(prepared)).execute(&mut *conn).await.unwrap();
    let one: uuid::Uuid =
        sqlx::query_scalar("select record_id from record_match order by md5(record_id::text) limit 1")
            .fetch_one(&mut *conn)
            .await
            .unwrap();
    let explain = format!("explain (analyze, buffers, format json) execute looking ('{{{one}}}', 3, 0.5, 200)");
    let rows = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_all(&mut *conn).await.unwrap();
    let text: String = sqlx::Row::get_unchecked(&rows[0], 0);
    let plan: Value = serde_json::from_str(&text).unwrap();
    (text, plan[0]["Execution Time"].as_f64().unwrap())
}

/// How long submissions of invented births take: median, and the 95th of a hundred.
async fn submitting(conn: &mut PgConnection, prefix: &str, enabled: bool) -> (Duration, Duration) {
    prepare(conn, &Rules { enabled, ..Rules::default() }).await.unwrap();
    let mut took = Vec::new();
    for n in 0..100_u32 {
        let name: String =
            (0..8).map(|at| char::from(b'a' + u8::try_from((n * 7 + at * 5 + n * at) % 26).unwrap())).collect();
        let declaration = json!({
            "child.name": format!("{name} wanjala"), "child.dob": format!("2026-02-{:02}", 1 + n % 20), "mother.name": format!("thandeka {name}"),
            "mother.nid": format!("9{n:09}"),
        });
        let list = [submission(&format!("{prefix}-{n:08}"), Step::Declare, &declaration)];
        let started = Instant::now();
        let mut tx = conn.begin().await.unwrap();
        commands::submit(&mut tx, &list).await.unwrap();
        tx.commit().await.unwrap();
        took.push(started.elapsed());
    }
    took.sort_unstable();
    (took[50], took[95])
}

#[tokio::test]
async fn the_comparison_reads_an_index_and_no_table() {
    let (rows, days) = (number("CRVS_DUPLICATES_ROWS", 20_000), number("CRVS_DUPLICATES_DAYS", 1825));
    let url = new_database().await;
    let mut conn = db::connect(&url).await.unwrap();
    fill(&mut conn, rows, days).await;
    let (plan, took) = explained(&mut conn).await;
    assert!(plan.contains("\"Index Only Scan\"") && plan.contains("record_match_day"), "{plan}");
    assert!(plan.contains("record_match_identifiers"), "{plan}");
    assert!(!plan.contains("\"Seq Scan\""), "{plan}");
    let without = submitting(&mut conn, "without", false).await;
    let with = submitting(&mut conn, "with", true).await;
    println!(
        "{rows} births over {days} days: the statement {took} ms; a submission without {without:?}, with {with:?} (median, 95th)"
    );
}
