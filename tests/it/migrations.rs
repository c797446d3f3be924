//! P3 across deployments: instances that start at once, in any order and of any age agree on the schema, on the
//! destinations and on the partitions, and no message is lost by it.

use std::time::Instant;

use crvs_outbox::app::{App, Halves};
use crvs_outbox::config::Settings;
use crvs_outbox::db;
use crvs_outbox::outbox::{enqueue, partitions, rescue};
use refinery::Migration;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::harness::{PATIENCE, TestApp, birth, empty_database, message, settings, take};

/// Starts another instance on the database of `app`, with other settings, and stops it.
async fn another_instance(app: &TestApp, change: impl FnOnce(&mut Settings)) {
    let mut settings = settings(app.url.clone(), &app.peers.uri());
    change(&mut settings);
    let other = App::start(settings, Halves { api: true, workers: false }).await.unwrap();
    other.stop(CancellationToken::new()).await;
}

async fn enabled(app: &TestApp) -> Vec<String> {
    let names = "select name from destination where enabled order by name";
    sqlx::query_scalar(names).fetch_all(&app.db).await.unwrap()
}

/// A connection with the limits of the service's, but more patience for locks.
async fn connect(url: &str) -> PgConnection {
    let mut conn = PgConnection::connect_with(&db::options(url).unwrap()).await.unwrap();
    sqlx::query("set lock_timeout = '20s'").execute(&mut conn).await.unwrap();
    conn
}

#[tokio::test]
async fn four_instances_that_migrate_an_empty_database_at_once_all_succeed() {
    let url = empty_database().await;
    let mut instances = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let url = url.clone();
        instances.spawn(async move { db::migrate(&url).await.unwrap().applied });
    }
    let mut applied = instances.join_all().await;
    applied.sort_by_key(Vec::len);
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).unwrap().count();
    assert_eq!(applied.iter().map(Vec::len).collect::<Vec<_>>(), [0, 0, 0, files], "one did all of it");
    let version = |name: &String| name[1..].split("__").next().unwrap().parse::<u32>().unwrap();
    assert!(applied[3].is_sorted_by_key(version), "{applied:?}");
    let mut conn = connect(&url).await;
    let versions: Vec<i32> = sqlx::query_scalar("select version from refinery_schema_history order by version")
        .fetch_all(&mut conn)
        .await
        .unwrap();
    assert_eq!(versions.len(), files);
    conn.close().await.unwrap();
}

#[tokio::test]
async fn a_second_migration_applies_nothing() {
    let url = empty_database().await;
    assert!(!db::migrate(&url).await.unwrap().applied.is_empty());
    assert!(db::migrate(&url).await.unwrap().applied.is_empty());
}

#[tokio::test]
async fn an_older_instance_starts_on_a_newer_schema() {
    let app = TestApp::start().await;
    app.execute(
        "insert into refinery_schema_history (version, name, applied_on, checksum)
         values (9999, 'of_a_later_release', '2030-01-01T00:00:00Z', '1')",
    )
    .await;
    assert!(db::migrate(&app.url).await.unwrap().applied.is_empty());
    another_instance(&app, |_| {}).await;
    assert_eq!(app.count("select count(*) from refinery_schema_history where version = 9999").await, 1);
    app.done().await;
}

#[tokio::test]
async fn a_migration_that_was_changed_after_it_was_applied_is_refused() {
    let url = empty_database().await;
    db::migrate(&url).await.unwrap();
    let mut conn = connect(&url).await;
    sqlx::query("update refinery_schema_history set checksum = '1' where version = 1")
        .execute(&mut conn)
        .await
        .unwrap();
    assert!(matches!(db::migrate(&url).await, Err(db::DbError::Migration(_))));
    // The lock went with the connection of the one that failed.
    let locks = "select count(*) from pg_locks where locktype = 'advisory' and database =
                 (select oid from pg_database where datname = current_database())";
    let deadline = Instant::now() + PATIENCE;
    while sqlx::query_scalar::<_, i64>(locks).fetch_one(&mut conn).await.unwrap() > 0 {
        assert!(Instant::now() < deadline, "the lock is still held");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_destination_gone_from_the_configuration_is_disabled_and_keeps_its_messages() {
    let app = TestApp::start().await;
    let mut conn = connect(&app.url).await;
    let kept = enqueue::enqueue(&mut conn, &[message(Uuid::now_v7(), "kept")]).await.unwrap();
    another_instance(&app, |s| s.workers.destinations.retain(|d| d.definition.name != "search")).await;
    assert_eq!(enabled(&app).await, ["audit", "country-config", "metrics", "notification"]);
    assert_eq!(app.count("select count(*) from outbox_message where destination = 'search'").await, 1);
    let token = app.token("registrar", &["register"]);
    let accepted = app.post("/records", &token, "while-disabled", &birth("register")).await;
    assert_eq!(accepted.status(), 202);
    assert_eq!(app.count("select count(*) from outbox_message where destination = 'search'").await, 1, "none is added");
    assert!(app.count("select count(*) from outbox_message where destination = 'audit'").await > 0);

    another_instance(&app, |_| {}).await;
    assert_eq!(enabled(&app).await, ["audit", "country-config", "metrics", "notification", "search"]);
    let claimed = take(&mut conn, "search", Uuid::now_v7(), 8).await;
    assert_eq!(claimed.iter().map(|m| m.id).collect::<Vec<_>>(), [kept[0].id], "it was kept");
    app.done_with_leftovers().await;
}

#[tokio::test]
async fn an_instance_without_destinations_leaves_them_alone() {
    let app = TestApp::start().await;
    let before = enabled(&app).await;
    assert_eq!(before.len(), 5);
    another_instance(&app, |s| s.workers.destinations.clear()).await;
    assert_eq!(enabled(&app).await, before);
    app.done().await;
}

#[tokio::test]
async fn a_new_configuration_of_a_destination_keeps_its_pause() {
    let app = TestApp::start().await;
    app.execute("update destination set paused_at = now(), paused_by = 'an operator', paused_why = 'a test'").await;
    another_instance(&app, |s| s.workers.destinations.iter_mut().for_each(|d| d.definition.concurrency = 3)).await;
    let paused = "select count(*) from destination where paused_at is not null and concurrency = 3";
    assert_eq!(app.count(paused).await, 5);
    app.done().await;
}

const MISSING_PARTITIONS: &str =
    "select count(*) from generate_series(0, 7) n, unnest(array['outbox_history', 'outbox_attempt']) t
     where to_regclass(t || '_' || to_char(current_date + n, 'YYYYMMDD')) is null";
const IN_DEFAULT: &str =
    "select (select count(*) from outbox_history_default) + (select count(*) from outbox_attempt_default)";

#[tokio::test]
async fn the_partitions_of_today_and_the_coming_days_exist_and_the_default_stays_empty() {
    let app = TestApp::start().await;
    assert_eq!(app.count(MISSING_PARTITIONS).await, 0);
    app.register_birth("partitioned").await;
    app.drain().await;
    assert_eq!(app.count("select count(*) from outbox_history").await, 6);
    assert_eq!(app.count(IN_DEFAULT).await, 0);
    let today = "select count(*) from outbox_history where tableoid::regclass::text = 'outbox_history_' || to_char(current_date, 'YYYYMMDD')";
    assert_eq!(app.count(today).await, 6);
    let mut conn = connect(&app.url).await;
    assert_eq!(partitions::ensure(&mut conn).await.unwrap(), 0, "nothing is missing");
    app.done().await;
}

#[tokio::test]
async fn instances_that_make_partitions_at_once_do_not_disturb_each_other() {
    let app = TestApp::start().await;
    let partitions = "select string_agg('drop table ' || inhrelid::regclass, ';') from pg_inherits
                      where inhparent in ('outbox_history'::regclass, 'outbox_attempt'::regclass)
                        and inhrelid::regclass::text not like '%default'";
    let drop: String = sqlx::query_scalar(partitions).fetch_one(&app.db).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(drop)).execute(&app.db).await.unwrap();
    let mut instances = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let mut conn = connect(&app.url).await;
        instances.spawn(async move { partitions::ensure(&mut conn).await.unwrap() });
    }
    let mut made = instances.join_all().await;
    made.sort_unstable();
    assert_eq!(made, [0, 0, 0, 16]);
    assert_eq!(app.count(MISSING_PARTITIONS).await, 0);
    app.done().await;
}

#[tokio::test]
async fn rows_that_fell_into_the_default_partition_move_when_their_day_gets_its_own() {
    let app = TestApp::start().await;
    app.execute("do $$ begin execute 'drop table outbox_history_' || to_char(current_date, 'YYYYMMDD'); end $$").await;
    app.register_birth("no-partition").await;
    app.drain().await;
    assert_eq!(app.count("select count(*) from outbox_history_default").await, 6, "a completion never fails");
    another_instance(&app, |_| {}).await;
    assert_eq!(app.count(MISSING_PARTITIONS).await, 0);
    assert_eq!(app.count(IN_DEFAULT).await, 0);
    assert_eq!(app.count("select count(*) from outbox_history").await, 6);
    app.done().await;
}

#[tokio::test]
async fn partitions_are_the_same_whatever_the_time_zone_of_who_makes_them() {
    let app = TestApp::start().await;
    let mut conn = connect(&app.url).await;
    for (zone, days) in [("America/New_York", 9), ("Pacific/Auckland", 11), ("UTC", 13)] {
        sqlx::query("select set_config('timezone', $1, false)").bind(zone).execute(&mut conn).await.unwrap();
        let made: Result<i32, _> =
            sqlx::query_scalar("select outbox_partitions_ensure($1)").bind(days).fetch_one(&mut conn).await;
        assert_eq!(made.unwrap(), 6, "{zone}");
    }
    let odd = "select count(*) from pg_class c join pg_inherits i on i.inhrelid = c.oid
               where i.inhparent in ('outbox_history'::regclass, 'change'::regclass) and c.relname !~ '_default$'
                 and pg_get_expr(c.relpartbound, c.oid) not like '%00:00:00+00'') TO (''%00:00:00+00'')'";
    assert_eq!(app.count(odd).await, 0);
    app.done().await;
}

/// A queue as the release of V13 may leave it: one message in each state, each of a record of its own but the blocked one.
const A_QUEUE_OF_V13: &str = "
insert into destination (name, url, effects, format, auth, lease, batch, concurrency, timeout)
values ('search', 'http://search.invalid', '{search}', 'cloudevents', 'none', '5 min', 10, 10, '30 s');
insert into outbox_message (state, destination, kind, transaction_id, record_id, action_id, initiator_id, initiator_scopes,
                            attempt, lease, lease_holder, lease_until, skipped)
select m.state::message_state, 'search', 'index', m.name, md5(m.record)::uuid, md5(m.name)::uuid, 'agent', '{}', m.attempt,
       m.lease, case when m.lease is not null then md5('worker')::uuid end, case when m.lease is not null then now() end, m.skipped
from (values ('queued', 'fresh', 'a', 0, null::bigint, false), ('blocked', 'behind', 'a', 0, null, false),
             ('delivering', 'first try', 'b', 1, 7, false), ('delivering', 'second try', 'c', 2, 8, false),
             ('retrying', 'due', 'd', 1, null, false), ('dead', 'given up', 'e', 3, null, false),
             ('dead', 'set aside', 'f', 3, null, true)) as m (state, name, record, attempt, lease, skipped)";

/// Applies the migrations up to this version, as an earlier release did.
async fn migrate_to(conn: &mut PgConnection, last: i32) {
    sqlx::raw_sql(
        "create table refinery_schema_history (version int4 primary key, name varchar(255), applied_on varchar(255), checksum varchar(255))",
    )
    .execute(&mut *conn)
    .await
    .unwrap();
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).unwrap();
    let mut migrations: Vec<Migration> = files
        .map(|file| {
            let path = file.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            Migration::unapplied(&name, &std::fs::read_to_string(path).unwrap()).unwrap()
        })
        .filter(|migration| migration.version() <= last)
        .collect();
    migrations.sort();
    for migration in migrations {
        sqlx::raw_sql(AssertSqlSafe(migration.sql().unwrap().to_owned())).execute(&mut *conn).await.unwrap();
        sqlx::query("insert into refinery_schema_history values ($1, $2, '2026-01-01T00:00:00Z', $3)")
            .bind(migration.version())
            .bind(migration.name())
            .bind(migration.checksum().to_string())
            .execute(&mut *conn)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_queue_of_an_earlier_release_goes_on_after_the_migrations() {
    let url = empty_database().await;
    let mut conn = connect(&url).await;
    migrate_to(&mut conn, 13).await;
    sqlx::raw_sql(A_QUEUE_OF_V13).execute(&mut conn).await.unwrap();
    assert_eq!(db::migrate(&url).await.unwrap().applied.first().map(String::as_str), Some("V14__base_state"));

    let rests: Vec<(String, String)> =
        sqlx::query_as("select transaction_id, base_state::text from outbox_message order by id")
            .fetch_all(&mut conn)
            .await
            .unwrap();
    let rests: Vec<(&str, &str)> = rests.iter().map(|(id, state)| (id.as_str(), state.as_str())).collect();
    assert_eq!(
        rests,
        [
            ("fresh", "queued"),
            ("behind", "blocked"),
            ("first try", "queued"),
            ("second try", "retrying"),
            ("due", "retrying"),
            ("given up", "dead"),
            ("set aside", "dead"),
        ]
    );
    let rescued = rescue::rescue(&mut conn, 20).await.unwrap();
    assert_eq!((rescued.retrying, rescued.dead), (2, 0), "what an older worker held is found");
    let mut claimed = take(&mut conn, "search", Uuid::now_v7(), 10).await;
    claimed.sort_by_key(|message| message.id);
    let claimed: Vec<&str> = claimed.iter().map(|message| message.transaction_id.as_str()).collect();
    assert_eq!(claimed, ["fresh", "first try", "second try", "due"]);
    conn.close().await.unwrap();
}
