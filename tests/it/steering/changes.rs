//! What each function does, refuses, and leaves behind.

use std::time::Duration;

use crvs_outbox::outbox::MessageState;
use crvs_outbox::outbox::complete::Outcome;
use crvs_outbox::outbox::operate::{self, Filter};
use sqlx::postgres::PgListener;
use uuid::Uuid;

use super::{cancel, claim_all, dead, living, put, refusal, retry, run, settle, state};
use crate::harness::{PATIENCE, TestApp};

#[tokio::test]
async fn a_dead_message_that_is_retried_gets_all_its_attempts_anew_and_the_lanes_wake() {
    let app = TestApp::start().await;
    let id = dead(&app, Uuid::now_v7(), "given up").await;
    let behind = {
        let record = sqlx::query_scalar("select record_id from outbox_message").fetch_one(&app.db).await.unwrap();
        put(&app, record, "behind").await
    };
    let mut listener = PgListener::connect_with(&app.db).await.unwrap();
    listener.listen("crvs_outbox").await.unwrap();
    let changes = retry(&app, id).await.unwrap();
    assert_eq!((changes.len(), changes[0].id, changes[0].changed), (1, id, true));
    assert_eq!((changes[0].state_before, changes[0].state_after), (MessageState::Dead, MessageState::Queued));
    let heard = tokio::time::timeout(PATIENCE, listener.recv()).await.unwrap().unwrap();
    assert_eq!(heard.payload(), "", "no instance takes it for its own");
    let worker = living(&app).await;
    let again = claim_all(&app, worker).await.remove(0);
    assert_eq!((again.id, again.attempt), (id, 1));
    settle(&app, worker, &again, Outcome::Delivered, 200).await;
    assert_eq!(state(&app, behind).await, Some((MessageState::Queued, false)));
    let attempts: Vec<i32> =
        sqlx::query_scalar("select attempt from outbox_attempts where message_id = $1 order by finished_at")
            .bind(id)
            .fetch_all(&app.db)
            .await
            .unwrap();
    assert_eq!(attempts, [1, 1], "both exchanges are kept");
    drop(listener);
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn a_waiting_retry_is_due_at_once_and_what_is_ready_stays_as_it_is() {
    let app = TestApp::start().await;
    let (record, worker) = (Uuid::now_v7(), living(&app).await);
    let (first, second) = (put(&app, record, "first").await, put(&app, record, "second").await);
    let unchanged = retry(&app, first).await.unwrap().remove(0);
    assert!(!unchanged.changed && unchanged.note.contains("ready already"), "{unchanged:?}");
    let unchanged = retry(&app, second).await.unwrap().remove(0);
    assert!(!unchanged.changed && unchanged.note.contains("earlier message"), "{unchanged:?}");
    let claimed = claim_all(&app, worker).await.remove(0);
    settle(&app, worker, &claimed, Outcome::Retry(Duration::from_hours(1)), 503).await;
    assert!(claim_all(&app, worker).await.is_empty());
    assert!(retry(&app, first).await.unwrap()[0].changed);
    assert_eq!(claim_all(&app, worker).await.iter().map(|c| (c.id, c.attempt)).collect::<Vec<_>>(), [(first, 2)]);
    assert_eq!(app.count("select count(*) from operator_action").await, 1, "what changed nothing leaves nothing");
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn a_leased_a_finished_and_an_unknown_message_are_refused() {
    let app = TestApp::start().await;
    let worker = living(&app).await;
    let leased = put(&app, Uuid::now_v7(), "leased").await;
    let claimed = claim_all(&app, worker).await.remove(0);
    for refused in [refusal(retry(&app, leased).await), refusal(cancel(&app, leased, "why").await)] {
        assert!(refused.contains("is leased by a worker until"), "{refused}");
    }
    let all = operate::retry_where(&mut app.db.acquire().await.unwrap(), &Filter::default(), None, false).await;
    assert!(all.unwrap().is_empty(), "a leased one is left out");
    settle(&app, worker, &claimed, Outcome::Delivered, 200).await;
    for refused in [refusal(retry(&app, leased).await), refusal(cancel(&app, leased, "why").await)] {
        assert!(refused.contains("is finished: delivered at"), "{refused}");
    }
    assert!(refusal(retry(&app, 999_999).await).contains("no message 999999"));
    assert!(refusal(cancel(&app, 999_999, "why").await).contains("no message 999999"));
    assert_eq!(app.count("select count(*) from operator_action").await, 0);
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn a_message_that_was_set_aside_goes_back_in_line() {
    let app = TestApp::start().await;
    app.execute("update destination set on_dead = 'skip' where name = 'search'").await;
    let record = Uuid::now_v7();
    let first = dead(&app, record, "first").await;
    let second = dead(&app, record, "second").await;
    assert_eq!(state(&app, first).await, Some((MessageState::Dead, true)));
    let third = put(&app, record, "third").await;
    assert_eq!(state(&app, third).await, Some((MessageState::Queued, false)), "it goes on without them");

    assert_eq!(retry(&app, second).await.unwrap()[0].state_after, MessageState::Blocked, "another is on its way");
    let worker = living(&app).await;
    let claimed = claim_all(&app, worker).await.remove(0);
    assert_eq!(claimed.id, third);
    settle(&app, worker, &claimed, Outcome::Delivered, 200).await;
    assert_eq!(state(&app, second).await, Some((MessageState::Queued, false)), "it was the next");
    let claimed = claim_all(&app, worker).await.remove(0);
    settle(&app, worker, &claimed, Outcome::Delivered, 200).await;

    assert_eq!(retry(&app, first).await.unwrap()[0].state_after, MessageState::Queued, "nobody is ahead");
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn several_that_were_set_aside_go_back_in_their_order() {
    let app = TestApp::start().await;
    app.execute("update destination set on_dead = 'skip' where name = 'search'").await;
    let record = Uuid::now_v7();
    let ids = [dead(&app, record, "one").await, dead(&app, record, "two").await, dead(&app, record, "three").await];
    let mut conn = app.db.acquire().await.unwrap();
    let changes = operate::retry_where(&mut conn, &Filter::default(), None, false).await.unwrap();
    drop(conn);
    let after: Vec<_> = changes.iter().map(|c| (c.id, c.state_after)).collect();
    let expected = [MessageState::Queued, MessageState::Blocked, MessageState::Blocked];
    assert_eq!(after, ids.into_iter().zip(expected).collect::<Vec<_>>());
    let worker = living(&app).await;
    for id in ids {
        let claimed = claim_all(&app, worker).await;
        assert_eq!(claimed.iter().map(|c| c.id).collect::<Vec<_>>(), [id]);
        settle(&app, worker, &claimed[0], Outcome::Delivered, 200).await;
    }
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn a_dry_run_shows_what_would_change_and_changes_nothing() {
    let app = TestApp::start().await;
    let id = dead(&app, Uuid::now_v7(), "given up").await;
    let before: String = whole_queue(&app).await;
    // The default of the function, as somebody in psql would find it.
    let shown: Vec<(i64, MessageState, bool)> =
        sqlx::query_as("select id, state_after, changed from outbox_retry_where()").fetch_all(&app.db).await.unwrap();
    assert_eq!(shown, [(id, MessageState::Queued, false)]);
    assert_eq!(whole_queue(&app).await, before);
    assert_eq!(app.count("select count(*) from operator_action").await, 0);
    app.done_with_leftovers_of_nobody().await;
}

async fn whole_queue(app: &TestApp) -> String {
    let sql = "select coalesce(json_agg(m order by id)::text, '') from outbox_message m";
    sqlx::query_scalar(sql).fetch_one(&app.db).await.unwrap()
}

#[tokio::test]
async fn a_filter_takes_what_fits_all_of_it_the_oldest_first() {
    let app = TestApp::start().await;
    let mut ids = Vec::new();
    for n in 0..4 {
        ids.push(dead(&app, Uuid::now_v7(), &format!("dead {n}")).await);
    }
    run(&app, format!("update outbox_message set last_status = null, last_error = 'timeout' where id = {}", ids[0]))
        .await;
    run(&app, format!("update outbox_message set created_at = now() - interval '2 days' where id = {}", ids[1])).await;
    run(
        &app,
        format!(
            "update outbox_message set state = 'retrying', available_at = now() + interval '1 hour' where id = {}",
            ids[2]
        ),
    )
    .await;
    let mut conn = app.db.acquire().await.unwrap();
    let day = operate::point_in_time(&mut conn, "1d").await.unwrap();
    let by = |change: fn(&mut Filter<'_>)| {
        let mut filter = Filter { destination: Some("search"), ..Filter::default() };
        change(&mut filter);
        filter
    };
    for (filter, expected) in [
        (by(|_| ()), vec![ids[0], ids[1], ids[2], ids[3]]),
        (by(|f| f.error_like = Some("http-5%")), vec![ids[1], ids[2], ids[3]]),
        (by(|f| f.error_like = Some("timeout")), vec![ids[0]]),
        (Filter { since: Some(day), ..by(|_| ()) }, vec![ids[0], ids[2], ids[3]]),
        (by(|f| f.state = Some(MessageState::Dead)), vec![ids[0], ids[1], ids[3]]),
        (by(|f| f.state = Some(MessageState::Retrying)), vec![ids[2]]),
        (by(|f| f.at_most = Some(2)), vec![ids[0], ids[1]]),
        (by(|f| f.destination = Some("audit")), vec![]),
    ] {
        let found = operate::retry_where(&mut conn, &filter, None, true).await.unwrap();
        assert_eq!(found.iter().map(|c| c.id).collect::<Vec<_>>(), expected, "{filter:?}");
    }
    let unknown = operate::retry_where(&mut conn, &by(|f| f.destination = Some("serch")), None, true).await;
    assert!(refusal(unknown).contains("no destination \"serch\" (There are: audit, "));
    let wrong = operate::retry_where(&mut conn, &by(|f| f.state = Some(MessageState::Queued)), None, true).await;
    assert!(refusal(wrong).contains("only dead and retrying"));
    let wrong = operate::point_in_time(&mut conn, "the day before").await;
    assert!(refusal(wrong).contains("the day before"));
    drop(conn);
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn a_cancelled_message_is_in_the_history_and_lets_the_next_one_go() {
    let app = TestApp::start().await;
    let record = Uuid::now_v7();
    let (stuck, next) = (dead(&app, record, "stuck").await, put(&app, record, "next").await);
    for blank in ["", "  \n "] {
        assert!(refusal(cancel(&app, stuck, blank).await).contains("needs a reason"));
    }
    let changes = cancel(&app, stuck, "sent by hand").await.unwrap();
    let states: Vec<_> = changes.iter().map(|c| (c.id, c.state_before, c.state_after)).collect();
    assert_eq!(
        states,
        [(stuck, MessageState::Dead, MessageState::Cancelled), (next, MessageState::Blocked, MessageState::Queued)]
    );
    assert_eq!(
        app.count("select count(*) from outbox_history where state = 'cancelled' and last_status = 503").await,
        1
    );
    assert_eq!(app.count("select count(*) from outbox_attempts where outcome = 'delivered'").await, 0);
    let worker = living(&app).await;
    assert_eq!(claim_all(&app, worker).await[0].id, next);
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn a_pause_holds_inside_the_claim_and_is_said_twice_without_harm() {
    let app = TestApp::start().await;
    let worker = living(&app).await;
    let mut conn = app.db.acquire().await.unwrap();
    let id = put(&app, Uuid::now_v7(), "waits").await;
    assert!(refusal(operate::pause(&mut conn, "search", " ").await).contains("needs a reason"));
    assert!(refusal(operate::pause(&mut conn, "serch", "typo").await).contains("no destination"));
    assert!(operate::pause(&mut conn, "search", "they migrate").await.unwrap().changed);
    assert!(claim_all(&app, worker).await.is_empty());
    let again = operate::pause(&mut conn, "search", "another reason").await.unwrap();
    assert!(!again.changed && again.note.contains("by postgres: they migrate"), "{again:?}");
    let mut listener = PgListener::connect_with(&app.db).await.unwrap();
    listener.listen("crvs_outbox").await.unwrap();
    assert!(operate::resume(&mut conn, "search", None).await.unwrap().changed);
    tokio::time::timeout(PATIENCE, listener.recv()).await.unwrap().unwrap();
    assert_eq!(claim_all(&app, worker).await[0].id, id);
    let again = operate::resume(&mut conn, "search", None).await.unwrap();
    assert!(!again.changed && again.note == "it was not paused", "{again:?}");
    app.execute("update destination set circuit = 'open', circuit_probe_at = now() where name = 'search'").await;
    let open = operate::resume(&mut conn, "search", None).await.unwrap();
    assert!(open.note.contains("its circuit is open: a probe goes at"), "{open:?}");
    drop(conn);
    drop(listener);
    app.done_with_leftovers_of_nobody().await;
}

/// Who, by which name, what, to which message and destination, why.
type Left = (String, Option<String>, String, Option<i64>, String, Option<String>);

#[tokio::test]
async fn every_action_leaves_who_when_and_why_and_nobody_changes_it_afterwards() {
    let app = TestApp::start().await;
    let id = dead(&app, Uuid::now_v7(), "given up").await;
    let mut tx = app.db.begin().await.unwrap();
    operate::act_as(&mut tx, "Ada").await.unwrap();
    operate::retry(&mut tx, id, Some("their disk was full")).await.unwrap();
    operate::pause(&mut tx, "search", "first look").await.unwrap();
    tx.commit().await.unwrap();
    // Without a name, and in another transaction of the same connection.
    let mut conn = app.db.acquire().await.unwrap();
    operate::resume(&mut conn, "search", None).await.unwrap();
    operate::cancel(&mut conn, id, "sent by hand").await.unwrap();
    let left: Vec<Left> = sqlx::query_as(
        "select by_user, by_name, action::text, message_id, destination, why from operator_action order by id",
    )
    .fetch_all(&mut *conn)
    .await
    .unwrap();
    let ada = || Some("Ada".to_owned());
    let row = |name: Option<String>, action: &str, id: Option<i64>, why: Option<&str>| -> Left {
        ("postgres".to_owned(), name, action.to_owned(), id, "search".to_owned(), why.map(str::to_owned))
    };
    assert_eq!(
        left,
        [
            row(ada(), "retry", Some(id), Some("their disk was full")),
            row(ada(), "pause", None, Some("first look")),
            row(None, "resume", None, None),
            row(None, "cancel", Some(id), Some("sent by hand")),
        ]
    );
    assert_eq!(
        app.count("select count(*) from operator_action where at between now() - interval '1 minute' and now()").await,
        4
    );
    for sql in ["update operator_action set why = 'x'", "delete from operator_action", "truncate operator_action"] {
        let error = sqlx::query(sql).execute(&mut *conn).await.unwrap_err();
        assert!(error.to_string().contains("append-only"), "{error}");
    }
    drop(conn);
    app.done_with_leftovers_of_nobody().await;
}
