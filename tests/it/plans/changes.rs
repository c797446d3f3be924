//! Reading what moved costs what moved, however much was kept and whoever holds a transaction open.

use crvs_outbox::db;
use sqlx::PgConnection;

use super::{Plan, Statement, statement};
use crate::harness::new_database;

/// Planned for what the tables are now.
async fn plan(conn: &mut PgConnection, statement: Statement, arguments: &str) -> Plan {
    run(conn, "deallocate all").await;
    statement.prepare(conn, arguments).await;
    statement.plan(conn, "", arguments).await
}

async fn run(conn: &mut PgConnection, sql: &'static str) {
    sqlx::raw_sql(sql).execute(conn).await.unwrap();
}

#[tokio::test]
async fn a_transaction_that_stays_open_makes_no_page_and_no_turn_longer() {
    let db = db::pool(&new_database().await, 3).await.unwrap();
    let mut conn = db.acquire().await.unwrap();
    let mut open = db.begin().await.unwrap();
    run(&mut open, "select pg_current_xact_id()").await;
    for _ in 0..200 {
        run(
            &mut conn,
            "insert into change (principal_id, record_id, action_id)
             select 'agent-' || n % 10, gen_random_uuid(), gen_random_uuid() from generate_series(1, 100) n",
        )
        .await;
    }
    let since: String = sqlx::query_scalar("select pg_current_snapshot()::text").fetch_one(&mut *conn).await.unwrap();
    let open_then = since.split(':').nth(2).unwrap();
    assert_ne!(open_then, "", "{since} has the open one in it");
    // Each that was open in the whole cluster, other tests' included, is looked up in each day's index.
    let most = 60 + 30 * i64::try_from(open_then.split(',').count()).unwrap();
    run(&mut conn, "insert into change (principal_id, record_id, action_id) select 'agent-1', gen_random_uuid(), gen_random_uuid()").await;
    for statistics in ["", "analyze change"] {
        run(&mut conn, statistics).await;
        let tail = plan(&mut conn, statement!("records/store/change.rs", "tail"), &format!("'{since}', 20000")).await;
        assert!(tail.pages() < most, "{} pages for one change; {statistics}", tail.pages());
        let arguments = format!("'agent-1', '{since}', null, null, null, 100");
        let page = plan(&mut conn, statement!("records/store/change.rs", "page"), &arguments).await;
        assert!(page.pages() < most, "{} pages for one change; {statistics}", page.pages());
    }
    open.rollback().await.unwrap();
}

#[tokio::test]
async fn many_transactions_are_read_by_indexes_and_no_history_of_days_before_them() {
    let db = db::pool(&new_database().await, 2).await.unwrap();
    let mut conn = db.acquire().await.unwrap();
    run(
        &mut conn,
        "create table outbox_history_20200101 partition of outbox_history for values from ('2020-01-01 00:00+00') to ('2020-01-02 00:00+00');
         create temp table new as select n, gen_random_uuid() as record_id, gen_random_uuid() as action_id, 'draft-' || lpad(n::text, 6, '0') as id
             from generate_series(1, 5000) n;
         insert into record (id, event, status, tracking_id, version, created_by)
             select record_id, 'birth', 'declared', 'B' || lpad(n::text, 6, '0'), 1, 'agent' from new;
         insert into record_action (id, record_id, transaction_id, action, status, version, record_status, created_by, scopes)
             select action_id, record_id, id, 'declare', 'accepted', 1, 'declared', 'agent', '{}' from new;
         insert into client_transaction (transaction_id, principal_id, fingerprint, reply_status, reply_body, record_id, action_id)
             select id, 'agent', sha256(id::bytea), 202, '{}', record_id, action_id from new;
         insert into outbox_message (state, destination, kind, transaction_id, record_id, action_id, initiator_id, initiator_scopes)
             select 'queued', 'search', 'index', 'index__declare_' || id, record_id, action_id, 'agent', '{}' from new where n % 2 = 0;
         insert into outbox_history (id, state, destination, kind, transaction_id, record_id, action_id, attempt, rescues, redelivery, initiator_id, created_at)
             select -n, 'delivered', 'audit', 'DECLARED', 'DECLARED__declare_' || id, record_id, action_id, 1, 0, 0, 'agent', now() from new;
         analyze",
    )
    .await;
    let ids: Vec<String> = (1..=10).map(|n| format!("'draft-{n:06}'")).collect();
    let ids = format!("array[{}]", ids.join(","));
    let statements = [
        (statement!("records/store/transaction.rs", "states"), 250),
        (statement!("records/store/transaction.rs", "deliveries"), 450),
    ];
    for (statement, most) in statements {
        let (name, plan) = (statement.name, plan(&mut conn, statement, &ids).await);
        let run = plan.nodes();
        let scans: Vec<_> =
            run.iter().filter(|n| n["Node Type"] == "Seq Scan" && n["Actual Rows"].as_f64() != Some(0.0)).collect();
        // A day that has not begun is empty, and may be looked through.
        assert!(scans.is_empty(), "{name}: {scans:#?}");
        assert!(run.iter().all(|n| n["Relation Name"] != "outbox_history_20200101"), "{name} looks into 2020");
        assert!(plan.pages() < most, "{name}: {} pages for ten", plan.pages());
    }
}
