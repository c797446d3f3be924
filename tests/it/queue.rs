//! P5 and P6: in order per record and destination, held by the schema; fenced, whoever believes what.

use std::time::{Duration, Instant};

use crvs_outbox::outbox::complete::{Outcome, Settlement, complete, finish_unleased};
use crvs_outbox::outbox::rescue::Rescued;
use crvs_outbox::outbox::{Claimed, MessageState, enqueue, worker};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::harness::{PATIENCE, TestApp, message, take};

const HOUR: Duration = Duration::from_hours(1);

async fn enqueue_one(conn: &mut PgConnection, record_id: Uuid, transaction_id: &str) -> MessageState {
    enqueue::enqueue(conn, &[message(record_id, transaction_id)]).await.unwrap().remove(0).state
}

async fn live_worker(app: &TestApp) -> Uuid {
    let id = Uuid::now_v7();
    worker::beat(&mut app.db.acquire().await.unwrap(), id, "queue", HOUR).await.unwrap();
    id
}

async fn claim_all(db: &PgPool, worker: Uuid) -> Vec<Claimed> {
    take(&mut db.acquire().await.unwrap(), "search", worker, 100).await
}

async fn settle(db: &PgPool, worker: Uuid, message: &Claimed, outcome: Outcome) -> bool {
    let settlement = Settlement::without_exchange(message, outcome);
    let mut tx = db.begin().await.unwrap();
    let settled = complete(&mut tx, worker, &[settlement]).await.unwrap();
    tx.commit().await.unwrap();
    settled == [message.id]
}

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

#[tokio::test]
async fn a_record_has_one_active_message_per_destination_whoever_claims() {
    let app = TestApp::start().await;
    let record = Uuid::now_v7();
    let mut conn = app.db.acquire().await.unwrap();
    let states = [
        enqueue_one(&mut conn, record, "one").await,
        enqueue_one(&mut conn, record, "two").await,
        enqueue_one(&mut conn, Uuid::now_v7(), "other record").await,
    ];
    drop(conn);
    assert_eq!(states, [MessageState::Queued, MessageState::Blocked, MessageState::Queued]);
    let (a, b) = (live_worker(&app).await, live_worker(&app).await);
    let (of_a, of_b) = tokio::join!(claim_all(&app.db, a), claim_all(&app.db, b));
    let mut ids: Vec<&str> = of_a.iter().chain(&of_b).map(|m| m.transaction_id.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["one", "other record"]);
    let violated =
        sqlx::query("update outbox_message set state = 'queued' where transaction_id = 'two'").execute(&app.db).await;
    let violated = violated.unwrap_err().into_database_error().unwrap();
    assert_eq!(violated.constraint(), Some("outbox_message_one_active"));
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn a_dead_message_holds_its_own_successors_and_nobody_elses() {
    let app = TestApp::start().await;
    let (stuck, other) = (Uuid::now_v7(), Uuid::now_v7());
    let me = live_worker(&app).await;
    let mut conn = app.db.acquire().await.unwrap();
    enqueue_one(&mut conn, stuck, "stuck").await;
    enqueue_one(&mut conn, other, "fine").await;
    drop(conn);
    for message in claim_all(&app.db, me).await {
        let outcome = if message.record_id == stuck { Outcome::Dead } else { Outcome::Delivered };
        assert!(settle(&app.db, me, &message, outcome).await);
    }
    let mut conn = app.db.acquire().await.unwrap();
    assert_eq!(enqueue_one(&mut conn, stuck, "behind").await, MessageState::Blocked);
    assert_eq!(enqueue_one(&mut conn, other, "next").await, MessageState::Queued);
    drop(conn);
    let claimed = claim_all(&app.db, me).await;
    assert_eq!(claimed.iter().map(|m| m.transaction_id.as_str()).collect::<Vec<_>>(), ["next"]);
    assert_eq!(app.count("select holds_up from outbox_stuck").await, 1);
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn a_promotion_is_not_lost_when_the_successor_is_inserted_first() {
    let app = TestApp::start().await;
    let (record, me) = (Uuid::now_v7(), live_worker(&app).await);
    enqueue_one(&mut app.db.acquire().await.unwrap(), record, "one").await;
    let held = claim_all(&app.db, me).await.remove(0);
    // The enqueuer holds the predecessor and has inserted, but not committed.
    let mut enqueuer = app.db.begin().await.unwrap();
    enqueue::hold_predecessors(&mut enqueuer, record).await.unwrap();
    assert_eq!(enqueue_one(&mut enqueuer, record, "two").await, MessageState::Blocked);
    let db = app.db.clone();
    let completer = tokio::spawn(async move { settle(&db, me, &held, Outcome::Delivered).await });
    somebody_waits(&app).await;
    enqueuer.commit().await.unwrap();
    assert!(completer.await.unwrap());
    assert_eq!(claim_all(&app.db, me).await.remove(0).transaction_id, "two");
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn a_promotion_is_not_lost_when_the_predecessor_is_finished_first() {
    let app = TestApp::start().await;
    let (record, me) = (Uuid::now_v7(), live_worker(&app).await);
    enqueue_one(&mut app.db.acquire().await.unwrap(), record, "one").await;
    let held = claim_all(&app.db, me).await.remove(0);
    // The completer has deleted and promoted, but not committed.
    let mut completer = app.db.begin().await.unwrap();
    let settlement = Settlement::without_exchange(&held, Outcome::Delivered);
    complete(&mut completer, me, &[settlement]).await.unwrap();
    let db = app.db.clone();
    let enqueuer = tokio::spawn(async move {
        let mut tx = db.begin().await.unwrap();
        enqueue::hold_predecessors(&mut tx, record).await.unwrap();
        let state = enqueue_one(&mut tx, record, "two").await;
        tx.commit().await.unwrap();
        state
    });
    somebody_waits(&app).await;
    completer.commit().await.unwrap();
    assert_eq!(enqueuer.await.unwrap(), MessageState::Queued);
    assert_eq!(claim_all(&app.db, me).await.len(), 1);
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn a_predecessor_that_vanishes_while_it_is_waited_for_leaves_the_older_one_to_be_held() {
    let app = TestApp::start().await;
    let (record, me) = (Uuid::now_v7(), live_worker(&app).await);
    let mut conn = app.db.acquire().await.unwrap();
    enqueue_one(&mut conn, record, "one").await;
    enqueue_one(&mut conn, record, "two").await;
    drop(conn);
    // An operator's transaction takes the newest out.
    let mut operator = app.db.begin().await.unwrap();
    sqlx::query("delete from outbox_message where transaction_id = 'two'").execute(&mut *operator).await.unwrap();
    let db = app.db.clone();
    let enqueuer = tokio::spawn(async move {
        let mut tx = db.begin().await.unwrap();
        enqueue::hold_predecessors(&mut tx, record).await.unwrap();
        let state = enqueue_one(&mut tx, record, "three").await;
        (tx, state)
    });
    somebody_waits(&app).await;
    operator.commit().await.unwrap();
    let (tx, state) = enqueuer.await.unwrap();
    assert_eq!(state, MessageState::Blocked);
    // "one" is held now: who completes it waits, and then promotes "three".
    let held = claim_all(&app.db, me).await.remove(0);
    let db = app.db.clone();
    let completer = tokio::spawn(async move { settle(&db, me, &held, Outcome::Delivered).await });
    somebody_waits(&app).await;
    tx.commit().await.unwrap();
    assert!(completer.await.unwrap());
    assert_eq!(claim_all(&app.db, me).await.remove(0).transaction_id, "three");
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn a_lost_lease_moves_nothing() {
    let app = TestApp::start().await;
    let (old, new) = (live_worker(&app).await, live_worker(&app).await);
    enqueue_one(&mut app.db.acquire().await.unwrap(), Uuid::now_v7(), "one").await;
    let lost = claim_all(&app.db, old).await.remove(0);
    app.expire_leases().await;
    assert_eq!(app.rescue().await, Rescued { retrying: 1, dead: 0 });
    let outcomes = [Outcome::Delivered, Outcome::Retry(HOUR), Outcome::Dead, Outcome::Released(HOUR)];
    for outcome in outcomes.clone() {
        assert!(!settle(&app.db, old, &lost, outcome).await, "after the rescue");
    }
    let held = claim_all(&app.db, new).await.remove(0);
    assert!(held.lease > lost.lease);
    for outcome in outcomes {
        assert!(!settle(&app.db, old, &lost, outcome).await, "after the next claim");
    }
    assert!(settle(&app.db, new, &held, Outcome::Delivered).await);
    assert!(!settle(&app.db, new, &held, Outcome::Delivered).await, "twice");
    assert_eq!(app.count("select count(*) from outbox_attempt where outcome = 'lease_expired'").await, 1);
    // The one that was lost: the last settlement was of no exchange.
    assert_eq!(app.count("select attempt::bigint from outbox_history").await, 1);
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn a_dead_workers_leases_are_taken_back_and_a_living_ones_are_not() {
    let app = TestApp::start().await;
    let (silent, unknown, alive) = (live_worker(&app).await, Uuid::now_v7(), live_worker(&app).await);
    for worker in [silent, unknown, alive] {
        enqueue_one(&mut app.db.acquire().await.unwrap(), Uuid::now_v7(), &worker.to_string()).await;
        assert_eq!(claim_all(&app.db, worker).await.len(), 1);
    }
    let back_date = "update worker set heartbeat_at = now() - 2 * interval where id = $1";
    sqlx::query(back_date).bind(silent).execute(&app.db).await.unwrap();
    assert_eq!(app.rescue().await, Rescued { retrying: 2, dead: 0 });
    let left: Uuid = sqlx::query_scalar("select lease_holder from outbox_message where state = 'delivering'")
        .fetch_one(&app.db)
        .await
        .unwrap();
    assert_eq!(left, alive);
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn a_message_that_kills_its_workers_ends_dead() {
    let app = TestApp::start().await;
    let me = live_worker(&app).await;
    enqueue_one(&mut app.db.acquire().await.unwrap(), Uuid::now_v7(), "poison").await;
    for round in 0..=20 {
        assert_eq!(claim_all(&app.db, me).await.len(), 1, "round {round}");
        app.expire_leases().await;
        let dead = usize::from(round == 20);
        assert_eq!(app.rescue().await, Rescued { retrying: 1 - dead, dead }, "round {round}");
    }
    assert_eq!(claim_all(&app.db, me).await.len(), 0);
    let because: String = sqlx::query_scalar("select because from outbox_stuck").fetch_one(&app.db).await.unwrap();
    assert_eq!(because, "lease-expired");
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn a_release_burns_no_attempt_and_retries_get_at_most_half_of_a_claim() {
    let app = TestApp::start().await;
    let me = live_worker(&app).await;
    for n in 0..8 {
        enqueue_one(&mut app.db.acquire().await.unwrap(), Uuid::now_v7(), &format!("first {n}")).await;
    }
    for message in claim_all(&app.db, me).await {
        assert!(settle(&app.db, me, &message, Outcome::Released(Duration::ZERO)).await);
    }
    assert_eq!(
        app.count(
            "select count(*) from outbox_message where attempt = 0 and state = 'retrying' and last_error is null"
        )
        .await,
        8
    );
    for n in 0..8 {
        enqueue_one(&mut app.db.acquire().await.unwrap(), Uuid::now_v7(), &format!("fresh {n}")).await;
    }
    let claimed = take(&mut app.db.acquire().await.unwrap(), "search", me, 6).await;
    let fresh = claimed.iter().filter(|m| m.transaction_id.starts_with("fresh")).count();
    assert_eq!((claimed.len(), fresh), (6, 3));
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn a_lane_with_one_free_slot_at_a_time_starves_neither_retries_nor_fresh_messages() {
    let app = TestApp::start().await;
    let me = live_worker(&app).await;
    for n in 0..40 {
        enqueue_one(&mut app.db.acquire().await.unwrap(), Uuid::now_v7(), &format!("message {n}")).await;
    }
    app.execute("update outbox_message set state = 'retrying' where id % 2 = 0").await;
    let mut first_half = Vec::new();
    for _ in 0..20 {
        let claimed = take(&mut app.db.acquire().await.unwrap(), "search", me, 1).await;
        assert_eq!(claimed.len(), 1, "there is always something");
        first_half.push(claimed[0].id % 2 == 0);
    }
    // Twenty tosses of a coin: both sides come, but for one time in half a million.
    assert!(first_half.contains(&true) && first_half.contains(&false));
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn nothing_is_claimed_for_a_paused_destination() {
    let app = TestApp::start().await;
    let me = live_worker(&app).await;
    enqueue_one(&mut app.db.acquire().await.unwrap(), Uuid::now_v7(), "one").await;
    app.execute(
        "update destination set paused_at = now(), paused_by = 'dba', paused_why = 'upgrade' where name = 'search'",
    )
    .await;
    assert_eq!(claim_all(&app.db, me).await.len(), 0);
    app.execute("update destination set paused_at = null, paused_by = null, paused_why = null").await;
    assert_eq!(claim_all(&app.db, me).await.len(), 1);
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn what_commits_late_with_a_lower_id_is_claimed_too() {
    let app = TestApp::start().await;
    let me = live_worker(&app).await;
    let mut late = app.db.begin().await.unwrap();
    enqueue_one(&mut late, Uuid::now_v7(), "late").await;
    enqueue_one(&mut app.db.acquire().await.unwrap(), Uuid::now_v7(), "early").await;
    assert_eq!(claim_all(&app.db, me).await.remove(0).transaction_id, "early");
    late.commit().await.unwrap();
    assert_eq!(claim_all(&app.db, me).await.remove(0).transaction_id, "late");
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn finishing_what_nobody_holds_leaves_a_leased_message_alone_and_promotes_the_next() {
    let app = TestApp::start().await;
    let (record, me) = (Uuid::now_v7(), live_worker(&app).await);
    let first = message(record, "one");
    let mut conn = app.db.acquire().await.unwrap();
    enqueue::enqueue(&mut conn, std::slice::from_ref(&first)).await.unwrap();
    enqueue_one(&mut conn, record, "two").await;
    let held = claim_all(&app.db, me).await.remove(0);
    assert_eq!(finish_unleased(&mut conn, first.action_id, "index").await.unwrap(), 0);
    assert!(settle(&app.db, me, &held, Outcome::Retry(HOUR)).await);
    assert_eq!(finish_unleased(&mut conn, first.action_id, "index").await.unwrap(), 1);
    drop(conn);
    assert_eq!(claim_all(&app.db, me).await.remove(0).transaction_id, "two");
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn a_claim_reads_its_partial_indexes_in_order() {
    let app = TestApp::start().await;
    app.execute(
        "insert into outbox_message (state, destination, kind, transaction_id, record_id, action_id, initiator_id, initiator_scopes)
         select (case when n % 10 = 0 then 'retrying' else 'queued' end)::message_state, 'search', 'index', n::text, gen_random_uuid(), gen_random_uuid(), 'x', '{}'
         from generate_series(1, 20000) n",
    )
    .await;
    for (query, index) in [
        (
            "select id from outbox_message where destination = 'search' and base_state = 'queued' and state = 'queued' order by position limit 100 for no key update skip locked",
            "outbox_message_queued",
        ),
        (
            "select id from outbox_message where destination = 'search' and base_state = 'retrying' and state = 'retrying' and available_at <= now() order by available_at, id limit 50 for no key update skip locked",
            "outbox_message_retrying",
        ),
    ] {
        let plan: Vec<String> =
            sqlx::query_scalar(sqlx::AssertSqlSafe(format!("explain {query}"))).fetch_all(&app.db).await.unwrap();
        let plan = plan.join("\n");
        assert!(plan.contains(index) && !plan.contains("Sort"), "{plan}");
    }
    app.done_with_leftovers_of_nobody().await;
}
