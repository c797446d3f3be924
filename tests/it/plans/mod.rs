//! What statements cost when the tables have grown: each looks at rows in proportion to what it is asked for, whenever
//! it was planned and whatever the statistics say.
//!
//! | what | where it is pinned |
//! |---|---|
//! | claim | here; `lanes.rs`: whatever is ready, blocked, or held by who keeps a transaction open; `races.rs`: a plan of every age; `queue.rs`: in the order of its indexes |
//! | complete, promote | here, also what lets an unleased message go |
//! | rescue | here, also that nothing is lost, and what is told to forget it |
//! | enqueue, what is ahead of it | here |
//! | duplicate search | here; `duplicates/plan.rs`: what it reads, and how long it takes |
//! | changes feed | here; `changes.rs`: whoever keeps a transaction open |
//! | states and deliveries of transactions | here; `changes.rs`: no day of the history in vain |
//! | pressure, backlog view | here: each live message once, nothing of the history |
//! | finding records | `finding.rs` |
//!
//! `CRVS_PLANS_ROWS` is how many records there are (20,000; the figures of the documentation are of 1,000,000).

mod cases;
mod changes;
mod explain;

use std::collections::HashSet;

use crvs_outbox::db;
use crvs_outbox::outbox::Effect;
use crvs_outbox::outbox::destination::{self, Definition, OnDead};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::harness::new_database;
use cases::{Case, Session, cases};
pub(crate) use explain::{Plan, Statement, statement};

/// Nothing is analyzed but what a test analyzes.
const QUIET: &str = "do $$
    declare t regclass;
    begin
        for t in select oid from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r' loop
            execute format('alter table %s set (autovacuum_enabled = off)', t);
        end loop;
    end $$";

fn rows() -> i64 {
    std::env::var("CRVS_PLANS_ROWS").map_or(20_000, |text| text.parse().unwrap())
}

async fn run(conn: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(conn).await.unwrap();
}

/// A connection of each kind, on which all that it executes is prepared.
struct Sessions {
    worker: PgConnection,
    writer: PgConnection,
    fresh: PgConnection,
}

impl Sessions {
    async fn prepare(url: &str, cases: &[Case]) -> Self {
        let worker = db::connect_pinned(url).await.unwrap();
        let (writer, fresh) = (db::connect(url).await.unwrap(), db::connect(url).await.unwrap());
        let mut sessions = Self { worker, writer, fresh };
        run(&mut sessions.writer, db::BEGIN_PINNED).await;
        let mut prepared = HashSet::new();
        for case in cases.iter().filter(|c| prepared.insert((c.session, c.statement.name))) {
            case.statement.prepare(sessions.of(case), &case.arguments).await;
        }
        run(&mut sessions.writer, "commit").await;
        sessions
    }

    fn of(&mut self, case: &Case) -> &mut PgConnection {
        match case.session {
            Session::Worker => &mut self.worker,
            Session::Writer => &mut self.writer,
            Session::Fresh => &mut self.fresh,
        }
    }

    /// Executes all, and says what each did; returns those that were wrong.
    async fn hold(&mut self, cases: &[Case], statistics: &str, say: impl Fn(&str)) -> Vec<String> {
        let mut wrong = Vec::new();
        for case in cases {
            // A transaction is begun already, which is no more than a notice.
            let begin = if case.session == Session::Writer { db::BEGIN_PINNED } else { "" };
            let before = format!("{begin}; {}", case.before);
            let plan = case.statement.plan(self.of(case), &before, &case.arguments).await;
            let (looked, pages, millis) = (plan.looked(), plan.pages(), plan.millis());
            let name = format!("{} ({:?}){}", case.statement.name, case.session, case.remark);
            let line = format!("{name}, {statistics}: {looked} rows looked at, {pages} pages, {millis:.1} ms");
            say(&line);
            let finds_finished = case.statement.name.ends_with(" deliveries");
            #[expect(clippy::cast_precision_loss, reason = "of millions")]
            let is_too_much = looked > case.most_looked as f64 || pages > case.most_pages;
            if is_too_much || (plan.reads_history() && !finds_finished) {
                wrong.push(format!("{line}\n{}", plan.outline()));
            }
        }
        wrong
    }
}

#[tokio::test]
async fn what_a_statement_looks_at_goes_by_what_it_is_asked_for_however_old_its_plan_and_the_statistics_are() {
    let url = new_database().await;
    let mut conn = db::connect(&url).await.unwrap();
    run(&mut conn, QUIET).await;
    let to = |name: &str, effect, on_dead| Definition {
        name: name.to_owned(),
        url: "http://nowhere".to_owned(),
        effects: vec![effect],
        on_dead,
        ..Definition::default()
    };
    let destinations = [to("search", Effect::Search, OnDead::Hold), to("audit", Effect::Audit, OnDead::Skip)];
    destination::apply(&mut conn, &destinations).await.unwrap();
    let rows = rows();
    let empty: String = sqlx::query_scalar("select pg_current_snapshot()::text").fetch_one(&mut conn).await.unwrap();
    // As a queue is most of the time.
    run(&mut conn, "analyze outbox_message, outbox_claim, worker, change").await;
    let mut sessions = Sessions::prepare(&url, &cases(&empty, &empty, rows)).await;

    run(&mut conn, "select pg_current_xact_id()").await;
    run(&mut conn, &include_str!("grown.sql").replace("{rows}", &rows.to_string())).await;
    let grown: String = sqlx::query_scalar("select pg_current_snapshot()::text").fetch_one(&mut conn).await.unwrap();
    run(&mut conn, include_str!("delivering.sql")).await;
    let cases = cases(&empty, &grown, rows);
    let say = |line: &str| println!("{line}");
    let mut wrong = sessions.hold(&cases, "planned while all was empty", say).await;
    drop(sessions);
    wrong.extend(Sessions::prepare(&url, &cases).await.hold(&cases, "statistics of an empty queue", say).await);

    run(&mut conn, include_str!("nobody.sql")).await;
    run(&mut conn, "analyze").await;
    run(&mut conn, include_str!("delivering.sql")).await;
    wrong
        .extend(Sessions::prepare(&url, &cases).await.hold(&cases, "statistics of nothing being delivered", say).await);

    run(&mut conn, "analyze").await;
    wrong.extend(Sessions::prepare(&url, &cases).await.hold(&cases, "fresh statistics", say).await);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
