//! Who may do what, each over a connection of its own.

use crvs_outbox::app::{App, Halves};
use crvs_outbox::db;
use crvs_outbox::outbox::operate;
use dev_postgres::{Cluster, Options};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{dead, put, run};
use crate::harness::{TestApp, settings};

/// A login of the tests' server that is a member of one role.
struct Login {
    name: String,
    url: String,
}

impl Login {
    async fn new(app: &TestApp, role: &str) -> Self {
        let name = format!("login_{}", Uuid::now_v7().simple());
        run(app, format!("create role {name} login in role {role}")).await;
        Self { url: app.url.replace("user=postgres", &format!("user={name}")), name }
    }

    async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }

    async fn drop(self, app: &TestApp) {
        run(app, format!("drop role {}", self.name)).await;
    }
}

/// The code of the error that a statement ends with.
async fn refused(conn: &mut PgConnection, sql: &str) -> String {
    let result = conn.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await;
    let error = result.expect_err(sql).into_database_error().unwrap();
    error.code().unwrap().into_owned()
}

const DENIED: &str = "42501";

/// What holds declarations, replies, or what citizens said.
const PERSONAL: [&str; 9] = [
    "client_transaction",
    "record",
    "record_action",
    "record_version",
    "record_attachment",
    "attachment",
    "attachment_chunk",
    "attachment_blob",
    "attachment_upload",
];

const JOBS: [&str; 6] =
    ["outbox_message", "outbox_history", "outbox_attempt", "destination", "worker", "operator_action"];

async fn views(app: &TestApp) -> Vec<String> {
    let sql = "select viewname::text from pg_views where schemaname = 'public'";
    sqlx::query_scalar(sql).fetch_all(&app.db).await.unwrap()
}

/// Everything that is read by readers is read, everything else is refused.
async fn reads_all_but_declarations(app: &TestApp, conn: &mut PgConnection) {
    let views = views(app).await;
    assert!(views.len() >= 7, "{views:?}");
    for name in views.iter().map(String::as_str).chain(JOBS) {
        conn.execute(sqlx::raw_sql(AssertSqlSafe(format!("select * from {name}")))).await.expect(name);
    }
    for name in PERSONAL {
        assert_eq!(refused(conn, &format!("select * from {name}")).await, DENIED, "{name}");
    }
    for column in ["declaration", "reason", "comment", "identifiers", "registration_number", "reply_body"] {
        let sql = "select count(*) from pg_attribute a join pg_class c on c.oid = a.attrelid
                   where c.relkind = 'v' and c.relnamespace = 'public'::regnamespace and a.attname = $1";
        let shown: i64 = sqlx::query_scalar(sql).bind(column).fetch_one(&app.db).await.unwrap();
        assert_eq!(shown, 0, "a view shows {column}");
    }
}

async fn changes_nothing_by_hand(conn: &mut PgConnection) {
    for table in PERSONAL.into_iter().chain(JOBS) {
        for sql in [
            format!("delete from {table}"),
            format!("insert into {table} default values"),
            format!("truncate {table}"),
            format!("drop table {table}"),
            format!("alter table {table} disable trigger all"),
        ] {
            assert_eq!(refused(conn, &sql).await, DENIED, "{sql}");
        }
    }
    for sql in [
        "update outbox_message set state = 'dead'",
        "select from outbox_message for update",
        "update destination set paused_at = null, paused_by = null, paused_why = null",
        "update operator_action set why = 'x'",
        "select nextval('outbox_lease')",
        "select setval('outbox_position', 1)",
        "create table mine ()",
        "select outbox_partitions_ensure()",
        "select outbox_partitions_drop(1)",
        "select outbox_requeue('{1}', 'why', null, false)",
        "select outbox_grant()",
    ] {
        assert_eq!(refused(conn, sql).await, DENIED, "{sql}");
    }
}

#[tokio::test]
async fn a_reader_sees_every_job_and_no_declaration_and_changes_nothing() {
    let app = TestApp::start().await;
    app.register_birth("draft-0001").await;
    let id = put(&app, Uuid::now_v7(), "message").await;
    let login = Login::new(&app, "crvs_outbox_reader").await;
    let mut reader = login.connect().await;
    // Partitions that are made later are read as well.
    app.execute("select outbox_partitions_ensure(9)").await;
    reads_all_but_declarations(&app, &mut reader).await;
    assert_eq!(operate::explain(&mut reader, id).await.unwrap()[0].reason, "ready");
    changes_nothing_by_hand(&mut reader).await;
    for sql in [
        "select outbox_retry(1)",
        "select outbox_retry_where(dry_run => true)",
        "select outbox_cancel(1, 'why')",
        "select outbox_pause('search', 'why')",
        "select outbox_resume('search')",
    ] {
        assert_eq!(refused(&mut reader, sql).await, DENIED, "{sql}");
    }
    reader.close().await.unwrap();
    login.drop(&app).await;
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn an_operator_retries_cancels_pauses_and_changes_nothing_by_hand() {
    let app = TestApp::start().await;
    app.register_birth("draft-0001").await;
    let (retried, cancelled) = (dead(&app, Uuid::now_v7(), "one").await, dead(&app, Uuid::now_v7(), "two").await);
    let login = Login::new(&app, "crvs_outbox_operator").await;
    let mut operator = login.connect().await;
    reads_all_but_declarations(&app, &mut operator).await;
    changes_nothing_by_hand(&mut operator).await;
    assert!(operate::retry(&mut operator, retried, None).await.unwrap()[0].changed);
    assert!(operate::cancel(&mut operator, cancelled, "sent by hand").await.unwrap()[0].changed);
    assert!(operate::pause(&mut operator, "search", "they migrate").await.unwrap().changed);
    assert!(operate::resume(&mut operator, "search", None).await.unwrap().changed);
    operate::retry_where(&mut operator, &operate::Filter::default(), None, false).await.unwrap();
    let who = "select count(*) from operator_action where by_user = $1";
    let left: i64 = sqlx::query_scalar(who).bind(&login.name).fetch_one(&app.db).await.unwrap();
    assert_eq!(left, 4, "they are named, not the owner of the function");
    operator.close().await.unwrap();
    login.drop(&app).await;
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn the_service_runs_without_owning_its_tables() {
    let app = TestApp::start().await;
    let login = Login::new(&app, "crvs_outbox_app").await;
    let mut conn = login.connect().await;
    for sql in [
        "create table mine ()",
        "drop table record",
        "truncate record_version",
        "delete from record_action",
        "select outbox_grant()",
    ] {
        assert_eq!(refused(&mut conn, sql).await, DENIED, "{sql}");
    }
    conn.close().await.unwrap();
    let settings = settings(login.url.clone(), &app.peers.uri());
    let service = App::start(settings, Halves::BOTH).await.unwrap();
    let token = app.token("registrar", &["register"]);
    let url = format!("http://{}/records", service.public_addr.unwrap());
    let request = app.http.post(url).bearer_auth(token).header("idempotency-key", "draft-0001");
    let answer = request.json(&crate::harness::birth("register")).send().await.unwrap();
    assert_eq!(answer.status(), 202);
    app.wait_for("select count(*) from outbox_message", 0).await;
    let mut conn = service.context.db.acquire().await.unwrap();
    sqlx::query("select outbox_partitions_ensure(12), outbox_partitions_drop(1)").execute(&mut *conn).await.unwrap();
    drop(conn);
    service.stop(CancellationToken::new()).await;
    login.drop(&app).await;
    app.done().await;
}

/// A server of its own: roles belong to all its databases.
async fn with_server<F: Future<Output = ()>>(work: impl FnOnce(String) -> F) {
    let dir = std::env::temp_dir().join(format!("crvs-outbox-roles-{}", Uuid::now_v7().simple()));
    let options = Options { throwaway: true, ..Options::default() };
    let cluster = tokio::task::spawn_blocking(move || Cluster::start_with(&dir, &options).unwrap()).await.unwrap();
    work(cluster.url()).await;
    tokio::task::spawn_blocking(move || cluster.stop().unwrap()).await.unwrap();
}

async fn execute(url: &str, sql: &str) {
    let mut conn = PgConnection::connect(url).await.unwrap();
    conn.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await.unwrap();
    conn.close().await.unwrap();
}

async fn flag(url: &str, sql: &str) -> bool {
    let mut conn = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut conn).await.unwrap()
}

#[tokio::test]
async fn a_user_who_may_make_no_roles_migrates_and_grants_later_in_whatever_schema() {
    with_server(|server| async move {
        execute(&server, "create role owner login").await;
        execute(&server, "create database registry owner owner").await;
        let owner = server.replace("/postgres?", "/registry?").replace("user=postgres", "user=owner");
        execute(&owner, "create schema \"Outbox Box\"").await;
        let url = format!("{owner}&options=-csearch_path%3D%22Outbox%5C%20Box%22");
        db::migrate(&url).await.unwrap();
        let roles = "select exists (select from pg_roles where rolname like 'crvs_outbox%')";
        assert!(!flag(&server, roles).await);
        for role in ["reader", "operator", "app"] {
            execute(&server, &format!("create role crvs_outbox_{role} nologin")).await;
        }
        execute(&url, "select outbox_grant(); select outbox_grant()").await;
        execute(&server, "create role clerk login in role crvs_outbox_operator").await;
        let clerk = owner.replace("user=owner", "user=clerk");
        let may = "select has_table_privilege('\"Outbox Box\".outbox_message', 'select') and not has_table_privilege('\"Outbox Box\".record', 'select')";
        assert!(flag(&clerk, may).await);
        execute(&url, "insert into destination (name, url, format, effects, auth, concurrency) values ('search', 'http://x', 'cloudevents', '{search}', 'none', 1)").await;
        // Whatever the search path of the caller is, and whatever they put into it.
        execute(&clerk, "create temporary table destination (name text); select \"Outbox Box\".outbox_pause('search', 'why')").await;
        assert!(flag(&url, "select paused_by = 'clerk' from destination").await);
    })
    .await;
}

#[tokio::test]
async fn databases_that_migrate_at_once_share_their_roles() {
    with_server(|server| async move {
        let mut migrations = tokio::task::JoinSet::new();
        for n in 0..4 {
            execute(&server, &format!("create database registry_{n}")).await;
            let url = server.replace("/postgres?", &format!("/registry_{n}?"));
            migrations.spawn(async move {
                db::migrate(&url).await.unwrap();
                assert!(flag(&url, "select has_table_privilege('crvs_outbox_reader', 'outbox', 'select')").await);
            });
        }
        migrations.join_all().await;
    })
    .await;
}
