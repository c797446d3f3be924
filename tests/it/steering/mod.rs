//! Steering by operators (P3, P10): from psql, from the command line, and by whom.

mod changes;
mod command_line;
mod explain;
mod races;
mod roles;

use std::time::Duration;

use crvs_outbox::outbox::complete::{Outcome, Settlement, complete};
use crvs_outbox::outbox::operate::{self, Change, OperateError};
use crvs_outbox::outbox::{Claimed, MessageState, enqueue, worker};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::harness::{TestApp, message, take};

/// Puts a message to search into the queue; returns its id.
async fn put(app: &TestApp, record: Uuid, transaction_id: &str) -> i64 {
    let mut conn = app.db.acquire().await.unwrap();
    enqueue::enqueue(&mut conn, &[message(record, transaction_id)]).await.unwrap().remove(0).id
}

/// A worker that lives.
async fn living(app: &TestApp) -> Uuid {
    let id = Uuid::now_v7();
    worker::beat(&mut app.db.acquire().await.unwrap(), id, "host:1", Duration::from_mins(1)).await.unwrap();
    id
}

async fn claim_all(app: &TestApp, worker: Uuid) -> Vec<Claimed> {
    take(&mut app.db.acquire().await.unwrap(), "search", worker, 100).await
}

/// Settles a claimed message as an exchange that was answered so.
async fn settle(app: &TestApp, worker: Uuid, claimed: &Claimed, outcome: Outcome, status: u16) {
    let settlement = Settlement {
        status: Some(status),
        duration: Some(Duration::from_millis(5)),
        ..Settlement::without_exchange(claimed, outcome)
    };
    let mut tx = app.db.begin().await.unwrap();
    assert_eq!(complete(&mut tx, worker, &[settlement]).await.unwrap(), [claimed.id]);
    tx.commit().await.unwrap();
}

/// A message that was given up because of a 503; returns its id.
async fn dead(app: &TestApp, record: Uuid, transaction_id: &str) -> i64 {
    let id = put(app, record, transaction_id).await;
    let worker = living(app).await;
    let claimed = claim_all(app, worker).await.into_iter().find(|c| c.id == id).unwrap();
    settle(app, worker, &claimed, Outcome::Dead, 503).await;
    id
}

/// The state of a live message, and whether it is set aside.
async fn state(app: &TestApp, id: i64) -> Option<(MessageState, bool)> {
    let sql = "select state, skipped from outbox_message where id = $1";
    sqlx::query_as(sql).bind(id).fetch_optional(&app.db).await.unwrap()
}

async fn retry(app: &TestApp, id: i64) -> Result<Vec<Change>, OperateError> {
    operate::retry(&mut app.db.acquire().await.unwrap(), id, Some("mended")).await
}

async fn cancel(app: &TestApp, id: i64, why: &str) -> Result<Vec<Change>, OperateError> {
    operate::cancel(&mut app.db.acquire().await.unwrap(), id, why).await
}

/// What a refusal says.
fn refusal<T: std::fmt::Debug>(result: Result<T, OperateError>) -> String {
    let error = result.unwrap_err();
    assert!(matches!(error, OperateError::Refused(_)), "{error:?}");
    error.to_string()
}

/// A statement that needs values of the test.
async fn run(app: &TestApp, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&app.db).await.unwrap();
}
