//! P5 and P6 where many act at once: what `queue.rs` shows step by step, shown with real concurrency, and with the very
//! statements of the code.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crvs_outbox::db;
use crvs_outbox::outbox::complete::{Outcome, Settlement, complete, finish_unleased};
use crvs_outbox::outbox::destination::{self, Auth, Definition};
use crvs_outbox::outbox::rescue::{Rescued, rescue};
use crvs_outbox::outbox::{Claimed, Effect, MessageState, NewMessage, enqueue, worker};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use uuid::Uuid;

use crate::harness::{PATIENCE, new_database, take};

const HOUR: Duration = Duration::from_hours(1);
const SEARCH: &str = "search";

/// The queue alone, with one destination that gets search, validation and webhook.
async fn queue() -> PgPool {
    let db = db::pool_pinned(&new_database().await, 12).await.unwrap();
    let search = Definition {
        name: SEARCH.to_owned(),
        url: "http://nowhere".to_owned(),
        effects: vec![Effect::Search, Effect::Validation, Effect::Webhook],
        auth: Auth::None,
        concurrency: 4,
        ..Definition::default()
    };
    destination::apply(&mut db.acquire().await.unwrap(), &[search]).await.unwrap();
    db
}

fn message(record_id: Uuid, effect: Effect, kind: &'static str, transaction_id: String) -> NewMessage {
    NewMessage {
        effect,
        kind,
        transaction_id,
        record_id,
        action_id: Uuid::now_v7(),
        initiator_id: "somebody".to_owned(),
        owner_id: None,
        initiator_scopes: vec!["declare".to_owned()],
        traceparent: None,
        redelivery: 0,
    }
}

async fn put(conn: &mut PgConnection, record_id: Uuid, transaction_id: &str) -> MessageState {
    let index = message(record_id, Effect::Search, "index", transaction_id.to_owned());
    enqueue::enqueue(conn, &[index]).await.unwrap().remove(0).state
}

async fn live_worker(db: &PgPool) -> Uuid {
    let id = Uuid::now_v7();
    worker::beat(&mut db.acquire().await.unwrap(), id, "races", HOUR).await.unwrap();
    id
}

async fn claim(db: &PgPool, worker: Uuid, limit: u16) -> Vec<Claimed> {
    take(&mut db.acquire().await.unwrap(), SEARCH, worker, limit).await
}

async fn settle(db: &PgPool, worker: Uuid, settlements: &[Settlement]) -> Vec<i64> {
    let mut tx = db.begin().await.unwrap();
    let settled = complete(&mut tx, worker, settlements).await.unwrap();
    tx.commit().await.unwrap();
    settled
}

async fn count(db: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(db).await.unwrap()
}

/// What several workers hold at the moment, and in which order each record's messages came.
#[derive(Default)]
struct Seen {
    held: HashSet<Uuid>,
    order: HashMap<Uuid, Vec<i64>>,
}

/// Claims and settles until nothing is left, every third message with a failure first.
async fn work(db: PgPool, seen: Arc<Mutex<Seen>>) {
    let me = live_worker(&db).await;
    let deadline = Instant::now() + PATIENCE;
    while count(&db, "select count(*) from outbox_message").await > 0 {
        assert!(Instant::now() < deadline, "the queue does not end");
        let claimed = claim(&db, me, 5).await;
        for message in &claimed {
            let mut seen = seen.lock().unwrap();
            assert!(seen.held.insert(message.record_id), "P5: two messages of one record are held");
            let order = seen.order.entry(message.record_id).or_default();
            if order.last() != Some(&message.id) {
                order.push(message.id);
            }
        }
        let ended = claimed.iter().map(|message| {
            let again = message.id % 3 == 0 && message.attempt == 1;
            let outcome = if again { Outcome::Retry(Duration::ZERO) } else { Outcome::Delivered };
            Settlement::without_exchange(message, outcome)
        });
        let settlements: Vec<Settlement> = ended.collect();
        // Before it is settled: afterwards another may hold the next at once.
        for message in &claimed {
            seen.lock().unwrap().held.remove(&message.record_id);
        }
        assert_eq!(settle(&db, me, &settlements).await.len(), claimed.len(), "a good lease is good");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_race_with_each_other_and_with_enqueuers_keep_every_records_order() {
    let db = queue().await;
    let records: Vec<Uuid> = (0..12).map(|_| Uuid::now_v7()).collect();
    let mut conn = db.acquire().await.unwrap();
    for record in &records {
        put(&mut conn, *record, &format!("{record} 0")).await;
    }
    drop(conn);
    let seen = Arc::new(Mutex::new(Seen::default()));
    let workers: Vec<_> = (0..4).map(|_| tokio::spawn(work(db.clone(), Arc::clone(&seen)))).collect();
    for n in 1..6 {
        for record in &records {
            let mut tx = db.begin().await.unwrap();
            enqueue::hold_predecessors(&mut tx, *record).await.unwrap();
            put(&mut tx, *record, &format!("{record} {n}")).await;
            tx.commit().await.unwrap();
        }
    }
    for worker in workers {
        worker.await.unwrap();
    }
    // Workers that found the queue empty in between have gone home.
    work(db.clone(), Arc::clone(&seen)).await;
    assert_eq!(count(&db, "select count(*) from outbox_history where state = 'delivered'").await, 12 * 6);
    for (record, order) in &seen.lock().unwrap().order {
        assert!(order.len() == 6 && order.is_sorted(), "P5: {record}: {order:?}");
    }
}

/// The whole row.
async fn row(db: &PgPool, id: i64) -> Value {
    let sql = "select to_jsonb(m) from outbox_message m where id = $1";
    sqlx::query_scalar(sql).bind(id).fetch_one(db).await.unwrap()
}

/// Every way to settle, singly and in a list with a good one.
async fn assert_fenced(db: &PgPool, worker: Uuid, lost: &Claimed) {
    let before = row(db, lost.id).await;
    let attempts = count(db, "select count(*) from outbox_attempt").await;
    for outcome in [Outcome::Delivered, Outcome::Retry(HOUR), Outcome::Dead, Outcome::Released(HOUR)] {
        let settlement = Settlement {
            status: Some(401),
            error: Some("http-401"),
            refused: true,
            duration: Some(Duration::from_secs(1)),
            ..Settlement::without_exchange(lost, outcome)
        };
        assert_eq!(settle(db, worker, &[settlement]).await, Vec::<i64>::new());
        assert_eq!(row(db, lost.id).await, before);
    }
    assert_eq!(count(db, "select count(*) from outbox_attempt").await, attempts);
    assert_eq!(count(db, "select count(*) from outbox_history").await, 0);
}

#[tokio::test]
async fn a_lost_lease_changes_not_a_byte_whatever_it_says() {
    let db = queue().await;
    let (old, new) = (live_worker(&db).await, live_worker(&db).await);
    let record = Uuid::now_v7();
    let mut conn = db.acquire().await.unwrap();
    put(&mut conn, record, "one").await;
    put(&mut conn, record, "two").await;
    let lost = claim(&db, old, 1).await.remove(0);
    worker::retire(&mut conn, old).await.unwrap();
    assert_eq!(rescue(&mut conn, 20).await.unwrap(), Rescued { retrying: 1, dead: 0 });
    assert_fenced(&db, old, &lost).await;
    let held = claim(&db, new, 1).await.remove(0);
    assert_eq!((held.id, held.attempt), (lost.id, 2));
    // Fenced by the number, not by the name: even the same worker may not use the old one.
    assert_fenced(&db, old, &lost).await;
    assert_fenced(&db, new, &lost).await;
    let dead = Settlement::without_exchange(&held, Outcome::Dead);
    assert_eq!(settle(&db, new, &[dead]).await, [held.id]);
    assert_fenced(&db, new, &held).await;
    assert_fenced(&db, old, &lost).await;
}

#[tokio::test]
async fn a_list_with_lost_leases_settles_the_good_ones() {
    let db = queue().await;
    let me = live_worker(&db).await;
    let mut conn = db.acquire().await.unwrap();
    for n in 0..4 {
        put(&mut conn, Uuid::now_v7(), &format!("message {n}")).await;
    }
    let claimed = claim(&db, me, 4).await;
    let outcomes = [Outcome::Delivered, Outcome::Retry(HOUR), Outcome::Delivered, Outcome::Dead];
    let mut settlements: Vec<Settlement> =
        claimed.iter().zip(outcomes).map(|(m, outcome)| Settlement::without_exchange(m, outcome)).collect();
    settlements[0].lease -= 1;
    settlements[1].lease -= 1;
    settlements.reverse();
    let mut settled = settle(&db, me, &settlements).await;
    settled.sort_unstable();
    assert_eq!(settled, [claimed[2].id, claimed[3].id]);
    assert_eq!(count(&db, "select count(*) from outbox_message where state = 'delivering'").await, 2);
}

#[tokio::test]
async fn a_lease_ends_at_its_hard_end_though_its_worker_lives_and_each_rescue_is_written_down() {
    let db = queue().await;
    let me = live_worker(&db).await;
    let mut conn = db.acquire().await.unwrap();
    put(&mut conn, Uuid::now_v7(), "late").await;
    put(&mut conn, Uuid::now_v7(), "in time").await;
    let late = claim(&db, me, 1).await.remove(0);
    assert_eq!(claim(&db, me, 1).await.len(), 1);
    let nothing = rescue(&mut conn, 20).await.unwrap();
    assert_eq!(nothing, Rescued::default(), "a living worker's leases are left alone");
    sqlx::query("update outbox_claim set lease_until = now() where lease = $1")
        .bind(late.lease)
        .execute(&db)
        .await
        .unwrap();
    assert_eq!(rescue(&mut conn, 20).await.unwrap(), Rescued { retrying: 1, dead: 0 });
    let written: (i64, i32, String, i64, Uuid) =
        sqlx::query_as("select message_id, attempt, outcome::text, lease, worker_id from outbox_attempt")
            .fetch_one(&db)
            .await
            .unwrap();
    assert_eq!(written, (late.id, 1, "lease_expired".to_owned(), late.lease, me));
    let rescued = row(&db, late.id).await;
    assert_eq!((&rescued["attempt"], &rescued["rescues"]), (&1.into(), &1.into()));
}

/// Waits until as many sessions wait for a lock.
async fn wait_until_waiting(db: &PgPool, sessions: i64) {
    let waiting =
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    let deadline = Instant::now() + PATIENCE;
    while count(db, waiting).await != sessions {
        assert!(Instant::now() < deadline, "not {sessions} wait");
        tokio::task::yield_now().await;
    }
}

/// A verdict finishes the blocked request of its record and adds what follows from it, while the request's predecessor
/// is being completed, which promotes the request.
#[tokio::test]
async fn a_verdict_and_the_completion_of_its_predecessor_neither_deadlock_nor_lose_the_promotion() {
    let db = queue().await;
    let (record, me) = (Uuid::now_v7(), live_worker(&db).await);
    let request = message(record, Effect::Validation, "event-registration", "request".to_owned());
    let mut conn = db.acquire().await.unwrap();
    put(&mut conn, record, "first").await;
    enqueue::enqueue(&mut conn, std::slice::from_ref(&request)).await.unwrap();
    let held = claim(&db, me, 1).await.remove(0);
    // The verdict, up to where it has finished the request; then the completion; then the rest of the verdict.
    let mut verdict = db.begin().await.unwrap();
    enqueue::hold_predecessors(&mut verdict, record).await.unwrap();
    assert_eq!(finish_unleased(&mut verdict, request.action_id, "event-registration").await.unwrap(), 1);
    let completing = db.clone();
    let completer = tokio::spawn(async move {
        let settlement = Settlement::without_exchange(&held, Outcome::Delivered);
        let mut tx = completing.begin().await.unwrap();
        let settled = complete(&mut tx, me, &[settlement]).await;
        tx.commit().await.unwrap();
        settled.map(|ids| ids.len())
    });
    wait_until_waiting(&db, 1).await;
    put(&mut verdict, record, "registered").await;
    verdict.commit().await.unwrap();
    assert_eq!(completer.await.unwrap().unwrap(), 1);
    let next = claim(&db, me, 1).await;
    assert_eq!(next.iter().map(|m| m.transaction_id.as_str()).collect::<Vec<_>>(), ["registered"]);
}

/// The claim as the code has it: the first statement of its file.
fn claim_statement() -> &'static str {
    let source = include_str!("../../src/outbox/claim.rs");
    source.split_once("r#\"").unwrap().1.split_once("\"#").unwrap().0
}

const THE_CLAIM: &str =
    "the_claim('search', '00000000-0000-0000-0000-000000000000', 100, 50, 60, '-infinity', 0, '{}')";

/// The plan of the code's own claim on a connection that has made it often, as a worker's has.
async fn plan_of_claim(conn: &mut PgConnection) -> String {
    let often = format!("execute {THE_CLAIM};").repeat(8);
    sqlx::raw_sql(AssertSqlSafe(format!("begin; {often} rollback"))).execute(&mut *conn).await.unwrap();
    let explain = format!("explain execute {THE_CLAIM}");
    let rows = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_all(&mut *conn).await.unwrap();
    rows.iter().map(|row| sqlx::Row::get::<String, _>(row, 0)).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_claim_never_reads_the_backlog_however_old_the_plan_and_the_statistics_are() {
    let db = queue().await;
    let fill = "insert into outbox_message (state, destination, kind, transaction_id, record_id, action_id, initiator_id, initiator_scopes)
                select (case when n % 10 = 0 then 'retrying' when n % 10 = 1 then 'dead' else 'queued' end)::message_state,
                       'search', 'index', n::text, gen_random_uuid(), gen_random_uuid(), 'x', '{}' from generate_series(1, 20000) n";
    let quiet = "alter table outbox_message set (autovacuum_enabled = off); analyze outbox_message";
    sqlx::raw_sql(quiet).execute(&db).await.unwrap();
    let mut conn = db.acquire().await.unwrap();
    let prepare = format!("prepare the_claim as {}", claim_statement());
    sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut *conn).await.unwrap();
    // What an idle worker plans is of no interest, but it must not be kept.
    plan_of_claim(&mut conn).await;
    for (statistics, step) in [("of an empty table", fill), ("fresh", "analyze outbox_message")] {
        sqlx::raw_sql(step).execute(&db).await.unwrap();
        let plan = plan_of_claim(&mut conn).await;
        assert!(
            plan.contains("outbox_message_retrying") && plan.contains("outbox_message_pkey"),
            "{statistics}\n{plan}"
        );
        let reads_all = plan.contains("Sort") || plan.contains("Seq Scan on outbox_message");
        assert!(!reads_all, "statistics: {statistics}\n{plan}");
    }
}
