//! The periodic check: what was accepted at the same moment is found, whenever it commits, once.

use crvs_outbox::records::commands::{self, Outcome};
use crvs_outbox::records::duplicates::Rechecked;
use crvs_outbox::records::model::Step;
use crvs_outbox::workers::duplicates::run_once;
use serde_json::Value;
use sqlx::{PgConnection, Postgres, Transaction};

use super::{child, comparing, held, history, id, read, resembled, submission, submit};
use crate::harness::TestApp;

async fn within(conn: &mut PgConnection, id: &str, goal: Step, declaration: &Value) -> Value {
    let reply = match commands::submit(conn, &[submission(id, goal, declaration)]).await.unwrap().remove(0) {
        Outcome::Done(reply) => Some(reply),
        Outcome::Replayed(_) | Outcome::Reused => None,
    };
    serde_json::from_str::<Value>(&reply.unwrap().body).unwrap()["record"].clone()
}

/// Two submissions of one birth that do not see each other; both committed.
async fn at_the_same_moment(app: &TestApp, goal: Step) -> (Value, Value) {
    let same = child("Liseli Wanjala", "Thandeka Wanjala", 20);
    let (mut one, mut other): (Transaction<'_, Postgres>, Transaction<'_, Postgres>) =
        (app.db.begin().await.unwrap(), app.db.begin().await.unwrap());
    let first = within(&mut one, "draft-0001", goal, &same).await;
    let second = within(&mut other, "draft-0002", goal, &same).await;
    one.commit().await.unwrap();
    other.commit().await.unwrap();
    assert_eq!(resembled(&second), Vec::<&str>::new());
    (first, second)
}

#[tokio::test]
async fn two_that_are_accepted_at_the_same_moment_are_found_and_the_later_one_is_held() {
    let app = comparing(|_| {}).await;
    let (first, second) = at_the_same_moment(&app, Step::Declare).await;
    let done = run_once(&app.app().context).await.unwrap();
    assert_eq!(done, Rechecked { records: 2, found: 1, held: 1, more: false });
    assert_eq!((held(&app, &first).await, held(&app, &second).await.as_deref()), (None, Some("declare")));
    assert_eq!(resembled(&read(&app, &first).await), [id(&second)]);
    assert_eq!(resembled(&read(&app, &second).await), [id(&first)]);
    assert_eq!(run_once(&app.app().context).await.unwrap(), Rechecked::default(), "once");
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn what_has_gone_on_is_reported_and_not_pulled_back() {
    let app = comparing(|_| {}).await;
    let (first, second) = at_the_same_moment(&app, Step::Register).await;
    let done = run_once(&app.app().context).await.unwrap();
    assert_eq!((done.found, done.held), (1, 0));
    for (record, other) in [(&first, &second), (&second, &first)] {
        let now = read(&app, record).await;
        assert_eq!((now["status"].as_str().unwrap(), resembled(&now)), ("waiting_validation", vec![id(other)]));
        let found = history(&app, record).await;
        assert_eq!(found[1]["possibleDuplicates"][0]["id"], other["id"], "{found}");
    }
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn a_transaction_that_commits_late_is_neither_skipped_nor_waited_for() {
    let app = comparing(|_| {}).await;
    let (same, other) = (child("Liseli Wanjala", "Thandeka Wanjala", 20), child("Baraka Okonda", "Nuru Okonda", 3));
    let (mut late, mut pair): (Transaction<'_, Postgres>, Transaction<'_, Postgres>) =
        (app.db.begin().await.unwrap(), app.db.begin().await.unwrap());
    let first = within(&mut late, "draft-0001", Step::Declare, &same).await;
    let third = within(&mut pair, "draft-0003", Step::Declare, &other).await;
    submit(&app, "draft-0002", "declare", &same).await;
    let fourth = submit(&app, "draft-0004", "declare", &other).await;
    pair.commit().await.unwrap();
    assert_eq!(run_once(&app.app().context).await.unwrap().found, 1, "nobody waits for the late one");
    assert_eq!(resembled(&read(&app, &third).await), [id(&fourth)]);
    assert_eq!(run_once(&app.app().context).await.unwrap().found, 0);
    late.commit().await.unwrap();
    assert_eq!(run_once(&app.app().context).await.unwrap().found, 1, "the late one is not skipped");
    assert_eq!(resembled(&read(&app, &first).await).len(), 1);
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn one_instance_checks_at_a_time_and_pages_leave_nothing_out() {
    let app = comparing(|_| {}).await;
    let mut elsewhere = app.db.begin().await.unwrap();
    sqlx::query("select from duplicate_check for update").execute(&mut *elsewhere).await.unwrap();
    at_the_same_moment(&app, Step::Declare).await;
    assert_eq!(run_once(&app.app().context).await.unwrap(), Rechecked::default());
    elsewhere.rollback().await.unwrap();

    // Between the two, in the order of the check, come more than two pages of others.
    for sql in [
        "update record_match set changed = pg_current_xact_id() where record_id = (select min(record_id::text)::uuid from record_match)",
        "insert into record (id, event, status, tracking_id, version, created_by)
         select gen_random_uuid(), 'birth', 'declared', 'B' || lpad(n::text, 6, '0'), 1, 'x' from generate_series(1, 250) n",
        "insert into record_match (record_id, event, day, identifiers, names, trigrams)
         select r.id, 'birth', date '2026-02-20', '{}', '', '{}' from record r where r.created_by = 'x'",
    ] {
        app.execute(sql).await;
    }
    app.execute("update record_match set changed = pg_current_xact_id() where record_id = (select max(record_id::text)::uuid from record_match m where m.subject is not null)").await;
    let done = run_once(&app.app().context).await.unwrap();
    assert_eq!((done.found, done.more), (1, false));
    assert_eq!(app.count("select count(*) from duplicate_check where until is null and past is null").await, 1);
    app.drain().await;
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn a_check_that_was_restored_from_another_cluster_begins_anew() {
    let app = comparing(|_| {}).await;
    app.execute("update duplicate_check set since = '9000000000:9000000000:', until = '9000000001:9000000001:', past = '9000000000', past_record = gen_random_uuid()").await;
    assert_eq!(run_once(&app.app().context).await.unwrap(), Rechecked::default());
    at_the_same_moment(&app, Step::Declare).await;
    assert_eq!(run_once(&app.app().context).await.unwrap().found, 1);
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn what_was_accepted_while_nothing_was_compared_is_not_compared_later() {
    let app = comparing(|settings| settings.duplicates.enabled = false).await;
    at_the_same_moment(&app, Step::Declare).await;
    assert_eq!(run_once(&app.app().context).await.unwrap(), Rechecked::default());
    let rules = crvs_outbox::records::duplicates::Rules::default();
    let mut conn = app.db.acquire().await.unwrap();
    crvs_outbox::records::duplicates::prepare(&mut conn, &rules).await.unwrap();
    drop(conn);
    assert_eq!(run_once(&app.app().context).await.unwrap().found, 0);
    app.drain().await;
    app.done().await;
}
