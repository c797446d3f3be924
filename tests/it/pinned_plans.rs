//! The hot paths plan once for a connection: a plan that was made while every table was empty, and without statistics,
//! has to go by keys when they have grown.

use crvs_outbox::db;
use crvs_outbox::outbox::Effect;
use crvs_outbox::outbox::destination::{self, Definition};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};

use crate::harness::new_database;

const NIL: &str = "'00000000-0000-0000-0000-000000000000'";

/// A statement of the code, with its arguments, and the most pages it may touch.
struct Pinned {
    source: &'static str,
    function: &'static str,
    arguments: String,
    most: i64,
}

impl Pinned {
    async fn prepare(&self, conn: &mut PgConnection) {
        let after = self.source.split_once(&format!("async fn {}(", self.function)).unwrap().1;
        let statement = after.split_once("r#\"").unwrap().1.split_once("\"#").unwrap().0;
        run(conn, &format!("prepare {} as {statement}", self.function)).await;
        // Planned now, and kept.
        run(conn, &format!("explain execute {}({})", self.function, self.arguments)).await;
    }

    /// What it does to the tables is rolled back.
    async fn hold(&self, conn: &mut PgConnection) {
        let mut tx = conn.begin().await.unwrap();
        let sql = format!("explain (analyze, buffers, format json) execute {}({})", self.function, self.arguments);
        let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut *tx).await.unwrap();
        tx.rollback().await.unwrap();
        let text: String = rows[0].get_unchecked(0);
        let plan = &serde_json::from_str::<Value>(&text).unwrap()[0]["Plan"];
        let pages = plan["Shared Hit Blocks"].as_i64().unwrap() + plan["Shared Read Blocks"].as_i64().unwrap();
        assert!(pages <= self.most, "{}: {pages} pages\n{}", self.function, outline(plan, 0));
    }
}

/// A plan in a line per node: what it is, of what, rows and pages.
fn outline(plan: &Value, depth: usize) -> String {
    let of = plan["Index Name"].as_str().or(plan["Relation Name"].as_str()).unwrap_or_default();
    let (node, rows, pages) = (&plan["Node Type"], &plan["Actual Rows"], &plan["Shared Hit Blocks"]);
    let below = plan["Plans"].as_array().into_iter().flatten().map(|child| outline(child, depth + 1));
    format!("{:depth$}{node} {of} rows {rows} pages {pages}\n{}", "", below.collect::<String>())
}

async fn run(conn: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(conn).await.unwrap();
}

/// 20,000 records, each with its transaction, action and a message for search; half of them delivered. Not analyzed.
const GROWN: &str = "
    create temporary table new as
        select n, md5('r' || n)::uuid as record_id, md5('a' || n)::uuid as action_id, 'draft-' || lpad(n::text, 6, '0') as id
        from generate_series(1, 20000) n;
    insert into record (id, event, status, tracking_id, version, created_by)
        select record_id, 'birth', 'declared', 'B' || lpad(n::text, 6, '0'), 1, 'agent' from new;
    insert into client_transaction (transaction_id, principal_id, fingerprint, reply_status, reply_body, record_id, action_id)
        select id, 'agent', sha256(id::bytea), 202, '{}', record_id, action_id from new;
    insert into record_action (id, record_id, transaction_id, action, status, version, record_status, created_by, scopes)
        select action_id, record_id, id, 'declare', 'accepted', 1, 'declared', 'agent', '{}' from new;
    insert into record_match (record_id, event, day, subject, mother, identifiers, names, trigrams)
        select record_id, 'birth', date '2020-01-01' + n % 1000, repeat('01', 128)::bit(256), repeat('10', 128)::bit(256),
               array['nationalid:' || n], 'nobody', '{}' from new;
    insert into outbox_message (state, destination, kind, transaction_id, record_id, action_id, initiator_id, initiator_scopes,
                                lease, lease_holder, lease_until)
        select case when n % 4 = 0 then 'delivering' else 'queued' end::message_state, 'search', 'index', 'index__declare_' || id,
               record_id, action_id, 'agent', '{}', 1000000 + n, case when n % 4 = 0 then gen_random_uuid() end,
               case when n % 4 = 0 then now() end
        from new where n % 2 = 0;
    insert into outbox_history (id, state, destination, kind, transaction_id, record_id, action_id, attempt, rescues, redelivery, initiator_id, created_at)
        select -n, 'delivered', 'audit', 'DECLARED', 'DECLARED__declare_' || id, record_id, action_id, 1, 0, 0, 'agent', now() from new;
    insert into change (principal_id, record_id, action_id) select 'agent', record_id, action_id from new;";

fn uuids(word: &str) -> String {
    format!("array[{}]", (1..=10).map(|n| format!("md5('{word}{}')::uuid", n * 4)).collect::<Vec<_>>().join(","))
}

fn ids() -> String {
    (1..=10).map(|n| format!("'draft-{:06}'", n * 4)).collect::<Vec<_>>().join(",")
}

/// The statements of workers and of the reader, each asked for ten.
#[expect(clippy::too_many_lines, reason = "it is a list")]
fn of_workers(since: &str) -> [Pinned; 9] {
    let (actions, ids) = (uuids("a"), ids());
    [
        Pinned {
            source: include_str!("../../src/outbox/claim.rs"),
            function: "claim",
            arguments: format!("'search', {NIL}, 10, 5, 60, '-infinity', 0, array[1]::bigint[]"),
            most: 500,
        },
        Pinned {
            source: include_str!("../../src/outbox/complete.rs"),
            function: "finish",
            arguments: format!(
                "array[1,2]::bigint[], array[1000004,1000008], array[200,200]::smallint[], array[null,null]::text[], array[1,1], {NIL}"
            ),
            most: 200,
        },
        Pinned {
            source: include_str!("../../src/outbox/complete.rs"),
            function: "return_to_queue",
            arguments: format!(
                "array[1,2]::bigint[], array[1000004,1000008], array['retry','dead'], array[1,1], \
                 array[503,400]::smallint[], array[null,null]::text[], array[false,true], array[1,1], {NIL}, array[]::bigint[]"
            ),
            most: 200,
        },
        Pinned {
            source: include_str!("../../src/outbox/complete.rs"),
            function: "hold_front",
            arguments: "array[1,2]::bigint[], array[1000004,1000008], array[false,true]".to_owned(),
            most: 100,
        },
        Pinned {
            source: include_str!("../../src/outbox/promote.rs"),
            function: "promote",
            arguments: format!("{}, array_fill('search'::text, array[10])", uuids("r")),
            most: 200,
        },
        Pinned {
            source: include_str!("../../src/records/store/action.rs"),
            function: "sources",
            arguments: format!("{actions}, true"),
            most: 200,
        },
        Pinned {
            source: include_str!("../../src/records/store/transaction.rs"),
            function: "states",
            arguments: format!("array[{ids}]"),
            most: 250,
        },
        Pinned {
            source: include_str!("../../src/records/store/transaction.rs"),
            function: "deliveries",
            arguments: format!("array[{ids}]"),
            most: 450,
        },
        Pinned {
            source: include_str!("../../src/records/store/change.rs"),
            function: "tail",
            arguments: format!("'{since}', 20"),
            most: 150,
        },
    ]
}

/// What submissions are compared with, and what they cause.
fn of_writers() -> [Pinned; 2] {
    let ten = |sql: &str| format!("array_fill({sql}, array[10])");
    let text = |word: &str| ten(&format!("'{word}'::text"));
    [
        Pinned {
            source: include_str!("../../src/records/store/record_match.rs"),
            function: "candidates",
            arguments: format!("{}, 3, 0.5, 10", uuids("r")),
            most: 3000,
        },
        Pinned {
            source: include_str!("../../src/outbox/enqueue.rs"),
            function: "enqueue",
            arguments: format!(
                "{}, {}, array[{}], {}, {}, {}, {}, {}, {}, {}",
                text("search"),
                text("index"),
                (1..=10).map(|n| format!("'new-{n}'")).collect::<Vec<_>>().join(","),
                uuids("other"),
                uuids("a"),
                text("agent"),
                text("declare"),
                ten("null::text"),
                ten("0"),
                ten("null::text"),
            ),
            most: 500,
        },
    ]
}

#[tokio::test]
async fn a_plan_that_was_made_while_all_was_empty_goes_by_keys_when_it_has_grown() {
    let url = new_database().await;
    let mut worker = db::connect_pinned(&url).await.unwrap();
    let mut writer = db::connect(&url).await.unwrap();
    run(&mut worker, "alter table outbox_message set (autovacuum_enabled = off)").await;
    let search = Definition {
        name: "search".to_owned(),
        url: "http://nowhere".to_owned(),
        effects: vec![Effect::Search],
        ..Definition::default()
    };
    destination::apply(&mut writer, &[search]).await.unwrap();
    let since: String = sqlx::query_scalar("select pg_current_snapshot()::text").fetch_one(&mut writer).await.unwrap();
    let of_workers = of_workers(&since);
    for statement in &of_workers {
        statement.prepare(&mut worker).await;
    }
    let of_writers = of_writers();
    run(&mut writer, db::BEGIN_PINNED).await;
    for statement in &of_writers {
        statement.prepare(&mut writer).await;
    }
    run(&mut writer, "commit").await;

    run(&mut db::connect(&url).await.unwrap(), GROWN).await;
    for statement in &of_workers {
        statement.hold(&mut worker).await;
    }
    run(&mut writer, db::BEGIN_PINNED).await;
    for statement in &of_writers {
        statement.hold(&mut writer).await;
    }
}
