//! What is finished goes after its time, a day at a time; what is for ever stays.

use crvs_outbox::workers::housekeeping::{self, Kept};

use crate::harness::TestApp;

/// A day of 2020 with a finished message and a failed attempt in it.
const OLD: &str = "
    create table outbox_history_20200101 partition of outbox_history for values from ('2020-01-01 00:00+00') to ('2020-01-02 00:00+00');
    create table outbox_attempt_20200101 partition of outbox_attempt for values from ('2020-01-01 00:00+00') to ('2020-01-02 00:00+00');
    insert into outbox_history (id, state, destination, kind, transaction_id, record_id, action_id, attempt, rescues, redelivery,
                                initiator_id, created_at, finished_at)
    values (-1, 'delivered', 'search', 'index', 'old', gen_random_uuid(), gen_random_uuid(), 2, 0, 0, 'x', '2020-01-01', '2020-01-01 12:00+00');
    insert into outbox_attempt (message_id, attempt, outcome, destination, lease, finished_at)
    values (-1, 1, 'retry', 'search', 1, '2020-01-01 11:00+00')";

#[tokio::test]
async fn days_past_their_retention_are_dropped_once_whoever_keeps_house() {
    let app = TestApp::start().await;
    app.register_birth("kept-for-ever").await;
    app.drain().await;
    sqlx::raw_sql(OLD).execute(&app.db).await.unwrap();
    let context = app.app().context.clone();
    let (one, two) = tokio::join!(housekeeping::run_once(&context), housekeeping::run_once(&context));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.dropped + two.dropped, 2, "{one:?} {two:?}");
    assert_eq!(app.count("select count(*) from outbox_history where id = -1").await, 0);
    assert_eq!(app.count("select count(*) from outbox_history").await, 6, "today's are kept");
    assert_eq!(app.count("select count(*) from client_transaction").await, 1);
    assert_eq!(housekeeping::run_once(&context).await.unwrap(), Kept::default(), "nothing is left to do");
    app.done().await;
}

#[tokio::test]
async fn a_reader_of_the_history_delays_the_dropping_and_no_delivery() {
    let app = TestApp::start().await;
    sqlx::raw_sql(OLD).execute(&app.db).await.unwrap();
    let mut reader = app.db.begin().await.unwrap();
    sqlx::query("select count(*) from outbox_history").execute(&mut *reader).await.unwrap();
    let context = app.app().context.clone();
    let refused = housekeeping::run_once(&context).await.unwrap_err();
    assert_eq!(refused.as_database_error().unwrap().code().unwrap(), "55P03", "{refused}");
    app.register_birth("while-they-read").await;
    app.drain().await;
    assert_eq!(app.count("select count(*) from outbox_message").await, 0);
    reader.rollback().await.unwrap();
    assert_eq!(housekeeping::run_once(&context).await.unwrap().dropped, 2);
    app.done().await;
}
