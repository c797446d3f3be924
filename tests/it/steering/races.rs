//! Operators among enqueuers and workers: no promotion is lost, none is done twice, nobody waits for nobody.

use std::time::{Duration, Instant};

use crvs_outbox::outbox::complete::{Outcome, Settlement, complete};
use crvs_outbox::outbox::operate::{self, OperateError};
use crvs_outbox::outbox::rescue::Rescued;
use crvs_outbox::outbox::{Claimed, MessageState, enqueue};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{cancel, claim_all, dead, living, put, state};
use crate::harness::{PATIENCE, TestApp, message, take};

/// Waits until some session waits for a lock.
async fn somebody_waits(app: &TestApp) {
    let waiting =
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    let deadline = Instant::now() + PATIENCE;
    while app.count(waiting).await == 0 {
        assert!(Instant::now() < deadline, "nobody waits");
        tokio::task::yield_now().await;
    }
}

async fn delivered(db: PgPool, worker: Uuid, claimed: Claimed) {
    let mut tx = db.begin().await.unwrap();
    let settlement = Settlement::without_exchange(&claimed, Outcome::Delivered);
    assert_eq!(complete(&mut tx, worker, &[settlement]).await.unwrap(), [claimed.id]);
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_cancellation_waits_for_who_adds_behind_it_and_lets_that_one_go() {
    let app = TestApp::start().await;
    let record = Uuid::now_v7();
    let first = put(&app, record, "first").await;
    let mut enqueuer = app.db.begin().await.unwrap();
    enqueue::hold_predecessors(&mut enqueuer, record).await.unwrap();
    let second = enqueue::enqueue(&mut enqueuer, &[message(record, "second")]).await.unwrap().remove(0);
    assert_eq!(second.state, MessageState::Blocked);
    let db = app.db.clone();
    let canceller =
        tokio::spawn(async move { operate::cancel(&mut db.acquire().await.unwrap(), first, "why").await.unwrap() });
    somebody_waits(&app).await;
    enqueuer.commit().await.unwrap();
    assert_eq!(canceller.await.unwrap()[1].id, second.id);
    assert_eq!(state(&app, second.id).await, Some((MessageState::Queued, false)));
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn a_message_that_is_promoted_while_it_is_cancelled_passes_its_turn_on() {
    let app = TestApp::start().await;
    let (record, worker) = (Uuid::now_v7(), living(&app).await);
    let ids = [put(&app, record, "one").await, put(&app, record, "two").await, put(&app, record, "three").await];
    let leased = claim_all(&app, worker).await.remove(0);
    // The completer has promoted the second, but not committed.
    let mut completer = app.db.begin().await.unwrap();
    let settlement = Settlement::without_exchange(&leased, Outcome::Delivered);
    complete(&mut completer, worker, &[settlement]).await.unwrap();
    let (db, second) = (app.db.clone(), ids[1]);
    let canceller =
        tokio::spawn(async move { operate::cancel(&mut db.acquire().await.unwrap(), second, "why").await.unwrap() });
    somebody_waits(&app).await;
    completer.commit().await.unwrap();
    assert_eq!(canceller.await.unwrap()[1].id, ids[2]);
    assert_eq!(state(&app, ids[2]).await, Some((MessageState::Queued, false)));
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn a_message_that_is_cancelled_while_its_predecessor_finishes_is_passed_over() {
    let app = TestApp::start().await;
    let (record, worker) = (Uuid::now_v7(), living(&app).await);
    let ids = [put(&app, record, "one").await, put(&app, record, "two").await, put(&app, record, "three").await];
    let leased = claim_all(&app, worker).await.remove(0);
    let mut canceller = app.db.begin().await.unwrap();
    assert_eq!(operate::cancel(&mut canceller, ids[1], "why").await.unwrap().len(), 1, "the first is on its way");
    let completer = tokio::spawn(delivered(app.db.clone(), worker, leased));
    somebody_waits(&app).await;
    canceller.commit().await.unwrap();
    completer.await.unwrap();
    assert_eq!(state(&app, ids[2]).await, Some((MessageState::Queued, false)));
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn a_message_that_goes_back_in_line_while_the_one_ahead_finishes_is_not_forgotten() {
    let app = TestApp::start().await;
    app.execute("update destination set on_dead = 'skip' where name = 'search'").await;
    let (record, worker) = (Uuid::now_v7(), living(&app).await);
    let aside = dead(&app, record, "aside").await;
    put(&app, record, "ahead").await;
    let leased = claim_all(&app, worker).await.remove(0);
    let mut operator = app.db.begin().await.unwrap();
    let changes = operate::retry(&mut operator, aside, None).await.unwrap();
    assert_eq!(changes[0].state_after, MessageState::Blocked);
    let completer = tokio::spawn(delivered(app.db.clone(), worker, leased));
    somebody_waits(&app).await;
    operator.commit().await.unwrap();
    completer.await.unwrap();
    assert_eq!(state(&app, aside).await, Some((MessageState::Queued, false)));
    app.done_with_leftovers_of_nobody().await;
}

/// Sets a leased message aside.
async fn set_aside(db: PgPool, worker: Uuid, claimed: Claimed) {
    let mut tx = db.begin().await.unwrap();
    let settlement = Settlement::without_exchange(&claimed, Outcome::Dead);
    assert_eq!(complete(&mut tx, worker, &[settlement]).await.unwrap(), [claimed.id]);
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_message_that_is_set_aside_while_one_is_added_behind_it_lets_that_one_go() {
    let app = TestApp::start().await;
    app.execute("update destination set on_dead = 'skip' where name = 'search'").await;
    let (record, worker) = (Uuid::now_v7(), living(&app).await);
    put(&app, record, "aside").await;
    let leased = claim_all(&app, worker).await.remove(0);
    let mut enqueuer = app.db.begin().await.unwrap();
    enqueue::hold_predecessors(&mut enqueuer, record).await.unwrap();
    let behind = enqueue::enqueue(&mut enqueuer, &[message(record, "behind")]).await.unwrap().remove(0);
    assert_eq!(behind.state, MessageState::Blocked);
    let completer = tokio::spawn(set_aside(app.db.clone(), worker, leased));
    somebody_waits(&app).await;
    enqueuer.commit().await.unwrap();
    completer.await.unwrap();
    assert_eq!(state(&app, behind.id).await, Some((MessageState::Queued, false)));
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn a_message_that_goes_back_in_line_while_the_one_ahead_is_set_aside_is_not_forgotten() {
    let app = TestApp::start().await;
    app.execute("update destination set on_dead = 'skip' where name = 'search'").await;
    let (record, worker) = (Uuid::now_v7(), living(&app).await);
    let back = dead(&app, record, "back").await;
    put(&app, record, "ahead").await;
    let leased = claim_all(&app, worker).await.remove(0);
    let mut operator = app.db.begin().await.unwrap();
    assert_eq!(operate::retry(&mut operator, back, None).await.unwrap()[0].state_after, MessageState::Blocked);
    let completer = tokio::spawn(set_aside(app.db.clone(), worker, leased));
    somebody_waits(&app).await;
    operator.commit().await.unwrap();
    completer.await.unwrap();
    assert_eq!(state(&app, back).await, Some((MessageState::Queued, false)));
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn a_message_that_kills_its_workers_is_set_aside_once_nobody_adds_behind_it() {
    let app = TestApp::start().await;
    app.execute("update destination set on_dead = 'skip' where name = 'search'").await;
    let (record, worker) = (Uuid::now_v7(), living(&app).await);
    let first = put(&app, record, "kills").await;
    claim_all(&app, worker).await;
    app.execute("update outbox_message set rescues = 1000").await;
    app.expire_leases().await;
    let mut enqueuer = app.db.begin().await.unwrap();
    enqueue::hold_predecessors(&mut enqueuer, record).await.unwrap();
    let behind = enqueue::enqueue(&mut enqueuer, &[message(record, "behind")]).await.unwrap().remove(0);
    assert_eq!(app.rescue().await, Rescued::default(), "it waits for nobody: the next turn does it");
    enqueuer.commit().await.unwrap();
    assert_eq!(app.rescue().await, Rescued { dead: 1, ..Rescued::default() });
    assert_eq!(state(&app, first).await, Some((MessageState::Dead, true)));
    assert_eq!(state(&app, behind.id).await, Some((MessageState::Queued, false)));
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn an_operator_does_not_wait_for_ever_for_who_holds_a_message() {
    let app = TestApp::start().await;
    let id = put(&app, Uuid::now_v7(), "held").await;
    let mut holder = app.db.begin().await.unwrap();
    sqlx::query("select from outbox_message for update").execute(&mut *holder).await.unwrap();
    let refused = super::refusal(cancel(&app, id, "why").await);
    assert!(refused.contains("somebody else is changing message"), "{refused}");
    holder.rollback().await.unwrap();
    assert!(cancel(&app, id, "why").await.is_ok());
    app.done().await;
}

/// A record that is locked as the domain locks it.
async fn record(app: &TestApp) -> Uuid {
    let id = Uuid::now_v7();
    let insert = "insert into record (id, event, status, tracking_id, version, created_by) values ($1, 'birth', 'declared', 'BABCDEF', 1, 'x')";
    sqlx::query(insert).bind(id).execute(&app.db).await.unwrap();
    id
}

async fn add(db: &PgPool, record: Uuid, transaction_id: &str) {
    let mut tx = db.begin().await.unwrap();
    sqlx::query("select from record where id = $1 for no key update").bind(record).execute(&mut *tx).await.unwrap();
    enqueue::hold_predecessors(&mut tx, record).await.unwrap();
    enqueue::enqueue(&mut tx, &[message(record, transaction_id)]).await.unwrap();
    tx.commit().await.unwrap();
}

/// One of the record's messages by chance, in one of the states.
async fn any(conn: &mut PgConnection, states: &[&str]) -> Option<i64> {
    let sql = "select id from outbox_message where state::text = any ($1) order by random() limit 1";
    sqlx::query_scalar(sql).bind(states).fetch_optional(conn).await.unwrap()
}

/// A refusal is fine, a deadlock is not.
fn fine<T>(result: Result<T, OperateError>) {
    let failed = matches!(result, Err(OperateError::Database(_)));
    assert!(!failed, "{:?}", result.err());
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "four at once, and what they must leave")]
async fn operators_enqueuers_and_workers_at_once_leave_no_message_behind() {
    let app = TestApp::start().await;
    app.execute("update destination set on_dead = 'skip' where name = 'search'").await;
    let record = record(&app).await;
    let until = Instant::now() + Duration::from_secs(3);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..2 {
        let db = app.db.clone();
        tasks.spawn(async move {
            for i in 0.. {
                if Instant::now() > until {
                    return;
                }
                add(&db, record, &format!("{n}-{i}")).await;
            }
        });
    }
    let worker = living(&app).await;
    let db = app.db.clone();
    tasks.spawn(async move {
        for n in 0_u32.. {
            if Instant::now() > until {
                return;
            }
            let mut tx = db.begin().await.unwrap();
            let claimed = take(&mut tx, "search", worker, 4).await;
            tx.commit().await.unwrap();
            for claimed in claimed {
                let outcome = if n.is_multiple_of(2) { Outcome::Dead } else { Outcome::Delivered };
                let mut tx = db.begin().await.unwrap();
                complete(&mut tx, worker, &[Settlement::without_exchange(&claimed, outcome)]).await.unwrap();
                tx.commit().await.unwrap();
            }
        }
    });
    let db = app.db.clone();
    tasks.spawn(async move {
        while Instant::now() < until {
            let mut conn = db.acquire().await.unwrap();
            if let Some(id) = any(&mut conn, &["queued", "blocked", "dead"]).await {
                fine(operate::cancel(&mut conn, id, "why").await);
            }
            if let Some(id) = any(&mut conn, &["dead"]).await {
                fine(operate::retry(&mut conn, id, None).await);
            }
            fine(
                operate::retry_where(
                    &mut conn,
                    &operate::Filter { at_most: Some(3), ..Default::default() },
                    None,
                    false,
                )
                .await,
            );
        }
    });
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let stuck = "select count(*) from outbox_message b where b.state = 'blocked' and not exists (
        select from outbox_message a where a.record_id = b.record_id and a.destination = b.destination and a.state <> 'blocked' and not a.skipped)";
    assert_eq!(app.count(stuck).await, 0, "a promotion was lost");
    let counted: (i64, i64, i64) = sqlx::query_as(
        "select (select count(*) from outbox_history where state = 'cancelled'), (select count(*) from outbox_history where state = 'delivered'),
                (select count(*) from operator_action where action = 'retry')",
    )
    .fetch_one(&app.db)
    .await
    .unwrap();
    assert!(counted.0 > 0 && counted.1 > 0 && counted.2 > 0, "{counted:?}");
    app.done_with_leftovers_of_nobody().await;
}
