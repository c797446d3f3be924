//! What the hot statements cost before they do anything: round trips, as many as are promised however long the lists are.
//! Counted on the wire, once the connection knows its statements: sqlx prepares each the first time, and looks up its types.

mod wire;

use std::time::Duration;

use crvs_outbox::config::Settings;
use crvs_outbox::db;
use crvs_outbox::outbox::claim::{Ask, Floor, claim};
use crvs_outbox::outbox::complete::{Outcome, Settlement, complete};
use crvs_outbox::outbox::{Claimed, Effect, NewMessage, enqueue};
use crvs_outbox::records::attachments::{Attachment, Content, unhex};
use crvs_outbox::records::commands::{self, Initiator, Submission};
use crvs_outbox::records::model::Step;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use self::wire::{Trip, Wire, beginning};
use crate::attachments::{pdf, sha256};
use crate::harness::{Setup, TestApp, message, take};

/// Begin and commit included.
const OF_A_LIST: usize = 6;
const OF_A_CLAIM: usize = 1;
/// Begin and commit included.
const OF_A_SETTLEMENT: usize = 4;

/// As the workers begin a settlement.
const BEGIN_IMPATIENTLY: &str = "begin; set local lock_timeout = '300ms'";

const HOUR: Duration = Duration::from_hours(1);

/// Declarations of births that resemble no other, numbered.
fn births(numbers: std::ops::Range<usize>) -> Vec<Submission> {
    numbers.map(|n| birth_of(n, n)).collect()
}

/// A declaration of the birth of a child that only the second number says anything of.
fn birth_of(n: usize, child: usize) -> Submission {
    let name = |role: &str| {
        let digest = sha256(format!("{role} {child}").as_bytes());
        digest.bytes().take(12).map(|b| char::from(b'a' + b % 26)).collect::<String>()
    };
    Submission {
        transaction_id: format!("draft-{n:05}"),
        fingerprint: [7; 32].into(),
        initiator: Initiator { id: "registrar".to_owned(), scopes: vec!["register".to_owned()] },
        traceparent: None,
        event: "birth".to_owned(),
        goal: Step::Register,
        declaration: json!({ "child.name": name("child"), "child.dob": "2026-02-20", "mother.name": name("mother") })
            .to_string(),
        attachments: Vec::new(),
        comment: Some("on paper before".to_owned()),
    }
}

/// Writes a list as the service does.
async fn write(conn: &mut PgConnection, list: &[Submission]) -> Vec<commands::Outcome> {
    let mut tx = conn.begin_with(db::BEGIN_PINNED).await.unwrap();
    let outcomes = commands::submit(&mut tx, list).await.unwrap();
    tx.commit().await.unwrap();
    outcomes
}

/// A service that compares records, as it does unless it is told otherwise.
async fn comparing() -> TestApp {
    let change = |settings: &mut Settings| settings.duplicates.enabled = true;
    TestApp::with(Setup { change: Box::new(change), ..Setup::default() }).await
}

/// The status of a record that was made now.
fn status(outcome: &commands::Outcome) -> Option<Value> {
    match outcome {
        commands::Outcome::Done(reply) => {
            Some(serde_json::from_str::<Value>(&reply.body).unwrap()["record"]["status"].clone())
        }
        commands::Outcome::Replayed(_) | commands::Outcome::Reused => None,
    }
}

#[tokio::test]
async fn a_list_of_submissions_costs_six_round_trips_whatever_its_length() {
    let app = comparing().await;
    let wire = Wire::before(&app.url);
    let mut conn = db::connect(&wire.url).await.unwrap();
    write(&mut conn, &births(0..1)).await;
    let mut first = 1;
    for many in [1, 64, 500] {
        let list = births(first..first + many);
        first += many;
        wire.trips();
        let outcomes = write(&mut conn, &list).await;
        let trips = wire.trips();
        assert!(trips.len() <= OF_A_LIST, "{many} submissions: {trips:#?}");
        assert_eq!(trips.last().unwrap().statement, "COMMIT");
        assert!(outcomes.iter().all(|outcome| status(outcome) == Some("waiting_validation".into())));
    }
    assert_eq!(app.count("select count(*) from record").await, 566);
    assert_eq!(app.count("select count(*) from record_duplicate").await, 0);
    assert_eq!(app.count("select count(*) from outbox_message").await, 6 * 566);
    // Nobody is there to validate: all are to be looked at again.
    sqlx::query("update destination set enabled = false where 'validation' = any (effects)")
        .execute(&app.db)
        .await
        .unwrap();
    wire.trips();
    write(&mut conn, &births(first..first + 64)).await;
    let trips = wire.trips();
    assert!(trips.len() <= OF_A_LIST, "64 that nobody validates: {trips:#?}");
    assert_eq!(app.count("select count(*) from record_action where callback_due_at is not null").await, 64);
    conn.close().await.unwrap();
    app.done_with_leftovers().await;
}

/// The same list, each of them with a reference to what is stored.
fn referring(mut list: Vec<Submission>, to: [u8; 32]) -> Vec<Submission> {
    for submission in &mut list {
        let content = Content::Reference { pointer: "/attachments/0".to_owned(), content_type: None };
        submission.attachments = vec![Attachment { kind: None, sha256: to, content }];
    }
    list
}

#[tokio::test]
async fn a_list_that_was_sent_before_costs_no_more_round_trips_than_a_new_one() {
    let app = comparing().await;
    let wire = Wire::before(&app.url);
    let mut conn = db::connect(&wire.url).await.unwrap();
    for list in [births(0..1), births(0..1), births(0..64)] {
        write(&mut conn, &list).await;
    }
    for many in [1, 64] {
        wire.trips();
        let outcomes = write(&mut conn, &births(0..many)).await;
        let trips = wire.trips();
        assert!(trips.len() <= OF_A_LIST, "{many} submissions: {trips:#?}");
        assert!(outcomes.iter().all(|outcome| matches!(outcome, commands::Outcome::Replayed(_))));
    }
    conn.close().await.unwrap();
    app.done_with_leftovers().await;
}

#[tokio::test]
async fn what_some_of_a_list_bring_adds_two_round_trips_however_many_do() {
    let app = comparing().await;
    let pdf = pdf(5000, 1);
    assert!(app.upload(&app.token("registrar", &["register"]), &pdf).await.status().is_success());
    let stored = unhex(&sha256(&pdf)).unwrap();
    let wire = Wire::before(&app.url);
    let mut conn = db::connect(&wire.url).await.unwrap();
    let mut next = 0;
    for many in [2, 2, 64] {
        let alike = (next..next + many).map(|n| birth_of(n, 0)).collect();
        let half_known = births(next + many / 2..next + many + many / 2);
        let referring = referring(births(next + 2 * many..next + 3 * many), stored);
        let is_first = next == 0;
        next += 3 * many;
        for (what, list) in [("alike", alike), ("half of them known", half_known), ("with attachments", referring)] {
            wire.trips();
            write(&mut conn, &list).await;
            let trips = wire.trips();
            // The first time is for the connection to know the statements.
            assert!(trips.len() <= OF_A_LIST + 2 || is_first, "{many} {what}: {trips:#?}");
        }
    }
    let duplicates = "select count(distinct record_b) from record_duplicate";
    assert_eq!(app.count(duplicates).await, 67);
    assert_eq!(app.count("select count(*) from record_attachment").await, 68);
    conn.close().await.unwrap();
    app.done_with_leftovers().await;
}

/// Queues so many pairs of messages of one effect, each of a record of its own: one to be claimed, and its successor.
async fn queue_pairs(conn: &mut PgConnection, effect: Effect, pairs: usize) {
    let list: Vec<NewMessage> = (0..pairs)
        .flat_map(|_| {
            let record = Uuid::now_v7();
            ["first", "second"].map(|which| NewMessage { effect, ..message(record, &format!("{which}-{record}")) })
        })
        .collect();
    enqueue::enqueue(conn, &list).await.unwrap();
}

#[tokio::test]
async fn a_claim_costs_one_round_trip_whatever_it_takes() {
    let app = TestApp::start().await;
    let wire = Wire::before(&app.url);
    let mut conn = db::connect_pinned(&wire.url).await.unwrap();
    queue_pairs(&mut conn, Effect::Search, 111).await;
    let worker = app.app().context.worker;
    let mut over = vec![take(&mut conn, "search", worker, 1).await[0].lease];
    for (state, limit, expected) in [
        ("rate_limit = null", 100, 100),
        ("rate_limit = 1000, rate_tokens = 1000, rate_at = now()", 9, 9),
        ("rate_limit = null, circuit = 'open', circuit_since = now(), circuit_probe_at = now()", 100, 1),
        (
            "circuit = 'closed', circuit_probe_at = null, paused_at = now(), paused_by = 'dba', paused_why = 'upgrade'",
            100,
            0,
        ),
        ("paused_at = null, paused_by = null, paused_why = null", 100, 0),
    ] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("update destination set {state} where name = 'search'")))
            .execute(&app.db)
            .await
            .unwrap();
        let (retries, from) = (limit / 2, Floor::default());
        let ask = Ask { destination: "search", worker, limit, retries, lease: HOUR, from, over: &over };
        wire.trips();
        let batch = claim(&mut conn, &ask).await.unwrap();
        let trips = wire.trips();
        assert_eq!(batch.messages.len(), expected, "{state}");
        assert_eq!(trips.len(), OF_A_CLAIM, "{state}: {trips:#?}");
        over = batch.messages.iter().map(|m| m.lease).collect();
    }
    conn.close().await.unwrap();
    app.done_with_leftovers_of_nobody().await;
}

/// Settles as a lane does; returns the round trips.
async fn settle(app: &TestApp, wire: &Wire, conn: &mut PgConnection, settlements: &[Settlement]) -> Vec<Trip> {
    wire.trips();
    let mut tx = conn.begin_with(BEGIN_IMPATIENTLY).await.unwrap();
    let settled = complete(&mut tx, app.app().context.worker, settlements).await.unwrap();
    tx.commit().await.unwrap();
    let trips = wire.trips();
    assert_eq!(settled.len(), settlements.len());
    trips
}

/// An exchange with an answer.
fn settlement(message: &Claimed, outcome: Outcome) -> Settlement {
    let duration = Some(Duration::from_millis(20));
    Settlement { status: Some(200), duration, ..Settlement::without_exchange(message, outcome) }
}

#[tokio::test]
async fn a_settlement_costs_four_round_trips_whatever_its_length() {
    let app = TestApp::start().await;
    let wire = Wire::before(&app.url);
    let mut conn = db::connect_pinned(&wire.url).await.unwrap();
    queue_pairs(&mut conn, Effect::Search, 201).await;
    let worker = app.app().context.worker;
    for many in [1, 1, 100, 99] {
        let messages = take(&mut conn, "search", worker, many).await;
        let list: Vec<Settlement> = messages.iter().map(|m| settlement(m, Outcome::Delivered)).collect();
        assert_eq!(list.len(), usize::from(many));
        let trips = settle(&app, &wire, &mut conn, &list).await;
        // The first time is for the connection to know the statements.
        assert!(trips.len() <= OF_A_SETTLEMENT || many == 1, "{many} delivered: {trips:#?}");
    }
    assert_eq!(app.count("select count(*) from outbox_history").await, 201);
    assert_eq!(app.count("select count(*) from outbox_message where state = 'queued'").await, 201);
    conn.close().await.unwrap();
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn a_settlement_of_all_outcomes_costs_four_round_trips_too() {
    let app = TestApp::start().await;
    app.execute("update destination set on_dead = 'skip' where name = 'audit'").await;
    let wire = Wire::before(&app.url);
    let mut conn = db::connect_pinned(&wire.url).await.unwrap();
    let outcomes = [Outcome::Delivered, Outcome::Retry(HOUR), Outcome::Dead, Outcome::Released(HOUR)];
    for pairs in [4, 100] {
        let mut list = Vec::new();
        for (effect, destination) in [(Effect::Search, "search"), (Effect::Audit, "audit")] {
            queue_pairs(&mut conn, effect, pairs).await;
            let messages = take(&mut conn, destination, app.app().context.worker, pairs.try_into().unwrap()).await;
            list.extend(messages.iter().zip(outcomes.iter().cycle()).map(|(m, o)| settlement(m, o.clone())));
        }
        assert_eq!(list.len(), 2 * pairs);
        let trips = settle(&app, &wire, &mut conn, &list).await;
        // The first time is for the connection to know the statements.
        assert!(trips.len() <= OF_A_SETTLEMENT || pairs == 4, "{trips:#?}");
        if pairs == 4 {
            app.execute("delete from outbox_message").await;
        }
    }
    let now: Vec<(String, bool, i64)> =
        sqlx::query_as("select state::text, skipped, count(*) from outbox_message group by 1, 2 order by 1, 2")
            .fetch_all(&app.db)
            .await
            .unwrap();
    let expected = [
        ("blocked", false, 125),
        ("dead", false, 25),
        ("dead", true, 25),
        ("queued", false, 75),
        ("retrying", false, 100),
    ];
    assert_eq!(now, expected.map(|(state, skipped, many)| (state.to_owned(), skipped, many)));
    assert_eq!(app.count("select count(*) from outbox_history").await, 2 + 50);
    conn.close().await.unwrap();
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn a_lone_request_costs_the_round_trips_of_a_list_and_one_to_see_that_its_connection_is_clean() {
    let (tell, told) = std::sync::mpsc::channel();
    let change = move |settings: &mut Settings| {
        let wire = Wire::before(&settings.database_url);
        settings.database_url.clone_from(&wire.url);
        settings.duplicates.enabled = true;
        // One, to know the statements of both requests.
        settings.connections = 1;
        tell.send(wire).unwrap();
    };
    let app = TestApp::with(Setup { change: Box::new(change), ..Setup::default() }).await;
    let (wire, token) = (told.recv().unwrap(), app.token("registrar", &["register"]));
    for birth in births(0..2) {
        wire.trips();
        let declaration: Value = serde_json::from_str(&birth.declaration).unwrap();
        let body = json!({ "event": "birth", "action": "register", "declaration": declaration });
        assert_eq!(app.post("/records", &token, &birth.transaction_id, &body).await.status(), 202);
    }
    let trips = wire.trips();
    let begin = beginning(db::BEGIN_PINNED);
    let connection = trips.iter().find(|trip| trip.statement == begin).unwrap().connection;
    let trips: Vec<&Trip> = trips.iter().filter(|trip| trip.connection == connection).collect();
    // Others use the connection too; whoever has used it asks once more, without a word, whether it is there.
    let mut uses = trips.split(|trip| trip.statement.is_empty());
    let ours = uses.find(|trips| trips.iter().any(|trip| trip.statement == begin)).unwrap();
    assert!(ours.len() <= OF_A_LIST + 1, "{ours:#?}");
    assert_eq!(ours.last().unwrap().statement, "COMMIT");
    app.done_with_leftovers().await;
}
