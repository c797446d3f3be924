//! Submissions that come at the same time share a commit, and nothing else.

use std::time::Instant;

use futures_util::future::join_all;
use serde_json::json;

use crate::harness::{POISON, TestApp, flat};

/// Sends declarations at once, each by itself and of one of four users; their statuses.
async fn at_once(app: &TestApp, many: usize, poisoned: impl Fn(usize) -> bool) -> Vec<u16> {
    let sent = (0..many).map(|n| {
        let mut body = flat("declare");
        body["comment"] = json!(if poisoned(n) { "poison" } else { "fine" });
        let token = app.token(&format!("agent-{}", n % 4), &["declare"]);
        async move { app.post("/records", &token, &format!("draft-{n:04}"), &body).await.status().as_u16() }
    });
    join_all(sent).await
}

#[tokio::test]
async fn submissions_that_come_together_share_commits() {
    let app = TestApp::start().await;
    assert_eq!(at_once(&app, 200, |_| false).await, vec![202; 200]);
    assert_eq!(app.count("select count(*) from record").await, 200);
    let commits = app.count("select count(distinct xmin::text) from client_transaction").await;
    println!("transactions for 200 submissions: {commits}");
    assert!(commits <= 100, "{commits}");
    // Each belongs to who sent it.
    let theirs = "select count(*) from client_transaction c join record r on r.id = c.record_id and r.created_by = c.principal_id";
    assert_eq!(app.count(theirs).await, 200);
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn one_that_spoils_its_list_fails_no_other() {
    let app = TestApp::start().await;
    sqlx::raw_sql(POISON).execute(&app.db).await.unwrap();
    let statuses = at_once(&app, 60, |n| n % 10 == 7).await;
    let expected: Vec<u16> = (0..60).map(|n| if n % 10 == 7 { 500 } else { 202 }).collect();
    assert_eq!(statuses, expected);
    assert_eq!(app.count("select count(*) from client_transaction").await, 54);
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn what_somebody_else_holds_delays_no_other() {
    let app = TestApp::start().await;
    let mut open = app.db.begin().await.unwrap();
    sqlx::query("insert into client_transaction (transaction_id, principal_id, fingerprint) values ('draft-0005', 'agent-1', sha256('x'))")
        .execute(&mut *open)
        .await
        .unwrap();
    let started = Instant::now();
    let sent = (0..30).map(|n| {
        let (app, token) = (&app, app.token(&format!("agent-{}", n % 4), &["declare"]));
        async move {
            let status = app.post("/records", &token, &format!("draft-{n:04}"), &flat("declare")).await.status();
            (status.as_u16(), started.elapsed())
        }
    });
    let answers = join_all(sent).await;
    // It waits for two seconds before it is in progress.
    let (_, longest) = answers[5];
    for (n, (status, took)) in answers.into_iter().enumerate() {
        assert_eq!(status, if n == 5 { 409 } else { 202 });
        assert!(n == 5 || took < longest, "{took:?} of {longest:?}");
    }
    open.rollback().await.unwrap();
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn a_connection_that_goes_in_the_middle_of_it_is_not_the_clients_affair() {
    let app = TestApp::start().await;
    // The first commit ends with its server process; nextval is not taken back.
    sqlx::raw_sql(
        "create sequence commits;
         create function cut() returns trigger language plpgsql as
         $$ begin if nextval('commits') = 1 then perform pg_terminate_backend(pg_backend_pid()); perform pg_sleep(1); end if; return null; end $$;
         create constraint trigger cut after insert on record deferrable initially deferred for each row execute function cut()",
    )
    .execute(&app.db)
    .await
    .unwrap();
    assert_eq!(at_once(&app, 3, |_| false).await, [202; 3]);
    assert_eq!(app.count("select count(*) from record").await, 3);
    assert!(app.count("select last_value from commits").await > 3, "none was cut");
    app.drain().await;
    app.done().await;
}
