//! P1 and P2: what is accepted is committed, once, whoever repeats it and when.

use std::collections::BTreeSet;

use crvs_outbox::outbox::enqueue::{self, Subscription};
use crvs_outbox::outbox::{Effect, NewMessage};
use crvs_outbox::records::commands::{self, CommandError, Initiator, Outcome, Submission};
use crvs_outbox::records::model::Step;
use reqwest::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Setup, TestApp, birth, flat, message};

#[tokio::test]
async fn a_repeated_submission_gets_the_same_answer_byte_for_byte() {
    let app = TestApp::start().await;
    let token = app.token("registrar", &["register"]);
    let first = app.post("/records", &token, "draft-0001", &birth("register")).await;
    assert_eq!(first.status(), StatusCode::ACCEPTED);
    assert_eq!(first.headers()["location"], "/transactions/draft-0001");
    assert!(first.headers().get("idempotency-replayed").is_none());
    let first = first.bytes().await.unwrap();
    app.drain().await;
    // Another token of the same user, other scopes, later: the owner is the principal.
    let token = app.token("registrar", &["validate"]);
    let again = app.post("/records", &token, "\"draft-0001\"", &birth("register")).await;
    assert_eq!(again.status(), StatusCode::FORBIDDEN, "a smaller scope may not ask for registration");
    let token = app.token("registrar", &["register", "record.read"]);
    let again = app.post("/records", &token, "\"draft-0001\"", &birth("register")).await;
    assert_eq!(again.status(), StatusCode::ACCEPTED);
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    assert_eq!(again.bytes().await.unwrap(), first);
    let body: Value = serde_json::from_slice(&first).unwrap();
    assert_eq!(body["record"]["status"], "waiting_validation");
    assert_eq!(app.count("select count(*) from record").await, 1);
    assert_eq!(app.count("select count(*) from outbox_history").await, 6);
    app.done().await;
}

#[tokio::test]
async fn an_id_that_was_used_otherwise_tells_nothing_of_it() {
    let app = TestApp::start().await;
    let (mary, joe) = (app.token("mary", &["register"]), app.token("joe", &["register"]));
    let first: Value = app.post("/records", &mary, "draft-0001", &flat("declare")).await.json().await.unwrap();
    let mut other = flat("declare");
    other["comment"] = json!("changed");
    for (token, body) in [(&mary, &other), (&joe, &flat("declare")), (&mary, &flat("register"))] {
        let refused = app.post("/records", token, "draft-0001", body).await;
        assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
        let text = refused.text().await.unwrap();
        assert!(text.contains("idempotency-key-reused"));
        for secret in [&first["record"]["id"], &first["record"]["trackingId"]] {
            assert!(!text.contains(secret.as_str().unwrap()), "{text}");
        }
    }
    assert_eq!(app.get("/transactions/draft-0001", &joe).await.status(), StatusCode::NOT_FOUND);
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn concurrent_twins_make_one_record_through_any_instance() {
    let app = TestApp::start().await;
    let other = app.another_instance().await;
    let token = app.token("registrar", &["register"]);
    let requests = (0..20).map(|n| {
        let base = if n % 2 == 0 { app.base.clone() } else { other.base() };
        let request =
            app.http.post(format!("{base}/records")).bearer_auth(&token).header("idempotency-key", "draft-0001");
        request.json(&birth("register")).send()
    });
    let responses = futures_util::future::join_all(requests).await;
    let (mut originals, mut bodies) = (0, BTreeSet::new());
    for response in responses {
        let response = response.unwrap();
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        originals += usize::from(response.headers().get("idempotency-replayed").is_none());
        bodies.insert(response.bytes().await.unwrap());
    }
    assert_eq!((originals, bodies.len()), (1, 1));
    assert_eq!(app.count("select count(*) from record").await, 1);
    assert_eq!(app.count("select count(*) from outbox_message").await, 6);
    other.stop().await;
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn a_twin_waits_for_the_transaction_that_is_open_and_not_for_ever() {
    const CLAIM: &str = "insert into client_transaction (transaction_id, principal_id, fingerprint) values ('draft-0001', 'registrar', sha256('x'))";
    let app = TestApp::start().await;
    let token = app.token("registrar", &["register"]);
    let mut open = app.db.begin().await.unwrap();
    sqlx::query(CLAIM).execute(&mut *open).await.unwrap();
    let refused = app.post("/records", &token, "draft-0001", &flat("register")).await;
    assert_eq!(refused.status(), StatusCode::CONFLICT);
    assert_eq!(refused.headers()["retry-after"], "1");
    assert!(refused.text().await.unwrap().contains("idempotency-in-progress"));
    let body = flat("register");
    let twin = app.post("/records", &token, "draft-0001", &body);
    let release = async {
        app.wait_for(
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
            1,
        )
        .await;
        open.rollback().await.unwrap();
    };
    let (twin, ()) = tokio::join!(twin, release);
    assert_eq!(twin.status(), StatusCode::ACCEPTED, "the first gave up, so the twin does the work");
    assert!(twin.headers().get("idempotency-replayed").is_none());
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn a_refused_request_leaves_nothing_and_may_be_sent_again() {
    let app = TestApp::start().await;
    let token = app.token("registrar", &["register"]);
    let mut bad = flat("register");
    bad["event"] = json!("adoption");
    assert_eq!(app.post("/records", &token, "draft-0001", &bad).await.status(), StatusCode::BAD_REQUEST);
    assert_eq!(app.count("select count(*) from client_transaction").await, 0);
    assert_eq!(app.post("/records", &token, "draft-0001", &flat("register")).await.status(), StatusCode::ACCEPTED);
    app.drain().await;
    app.done().await;
}

/// (scopes, asked for, what becomes of it, the consequences).
type Flow = (&'static [&'static str], Option<&'static str>, &'static str, &'static [(&'static str, &'static str)]);

const NOTIFY: &[(&str, &str)] = &[
    ("metrics", "sent-notification__notify"),
    ("audit", "IN_PROGRESS__notify"),
    ("search", "index__notify"),
    ("notification", "sent-notification__notify"),
];
const DECLARE: &[(&str, &str)] = &[
    ("metrics", "sent-notification-for-review__declare"),
    ("audit", "DECLARED__declare"),
    ("search", "index__declare"),
    ("notification", "sent-notification-for-review__declare"),
];
const VALIDATE: &[(&str, &str)] = &[
    ("metrics", "sent-notification-for-review__validate"),
    ("audit", "DECLARED__validate"),
    ("metrics", "sent-for-approval__validate"),
    ("audit", "VALIDATED__validate"),
    ("search", "index__validate"),
    ("notification", "sent-for-approval__validate"),
];
const REGISTER: &[(&str, &str)] = &[
    ("metrics", "sent-notification-for-review__register"),
    ("audit", "DECLARED__register"),
    ("audit", "REGISTERED__register"),
    ("metrics", "waiting-external-validation__register"),
    ("search", "index__register"),
    ("country-config", "event-registration__register"),
];

#[tokio::test]
async fn the_scopes_choose_the_flow_and_the_flow_its_consequences() {
    let flows: [Flow; 8] = [
        (&["declare"], Some("notify"), "in_progress", NOTIFY),
        (&["declare"], None, "declared", DECLARE),
        (&["register", "validate", "declare"], Some("declare"), "declared", DECLARE),
        (&["validate"], None, "validated", VALIDATE),
        (&["register"], Some("validate"), "validated", VALIDATE),
        (&["declare", "register"], None, "waiting_validation", REGISTER),
        (&["record.register[event=birth]"], None, "waiting_validation", REGISTER),
        (&["record.declare-birth"], None, "declared", DECLARE),
    ];
    let app = TestApp::start().await;
    for (n, (scopes, asked, status, consequences)) in flows.into_iter().enumerate() {
        let (token, id) = (app.token("somebody", scopes), format!("draft-{n:04}"));
        let mut body = flat("x");
        body["action"] = asked.map_or(Value::Null, Into::into);
        let answer: Value = app.post("/records", &token, &id, &body).await.json().await.unwrap();
        assert_eq!(answer["record"]["status"], status, "{scopes:?} {asked:?}: {answer}");
        let queued: Vec<(String, String)> = sqlx::query_as(
            "select destination, transaction_id from outbox_message where transaction_id like '%' || $1",
        )
        .bind(&id)
        .fetch_all(&app.db)
        .await
        .unwrap();
        let expected: BTreeSet<_> =
            consequences.iter().map(|(to, what)| ((*to).to_owned(), format!("{what}_{id}"))).collect();
        assert_eq!(queued.len(), expected.len(), "{scopes:?} {asked:?}");
        assert_eq!(queued.into_iter().collect::<BTreeSet<_>>(), expected, "{scopes:?} {asked:?}");
    }
    for (scopes, asked) in [
        (["declare"], "register"),
        (["declare"], "validate"),
        (["validate"], "register"),
        (["record.declare-death"], "declare"),
    ] {
        let refused = app.post("/records", &app.token("somebody", &scopes), "draft-9999", &flat(asked)).await;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{scopes:?} {asked}");
    }
    app.drain().await;
    app.done().await;
}

fn submission(id: &str, user: &str, fingerprint: u8) -> Submission {
    Submission {
        transaction_id: id.to_owned(),
        fingerprint: [fingerprint; 32].into(),
        initiator: Initiator { id: user.to_owned(), scopes: vec!["declare".to_owned()] },
        traceparent: None,
        event: "birth".to_owned(),
        goal: Step::Declare,
        declaration: "{}".to_owned(),
        attachments: Vec::new(),
        comment: None,
    }
}

#[tokio::test]
async fn a_list_gives_each_item_its_own_outcome_in_one_transaction() {
    let app = TestApp::start().await;
    let mut conn = app.db.acquire().await.unwrap();
    let before = commands::submit(&mut conn, &[submission("known-0001", "mary", 1)]).await.unwrap();
    let list = [
        submission("known-0001", "mary", 1),
        submission("fresh-0001", "mary", 2),
        submission("known-0001", "joe", 1),
        submission("fresh-0002", "mary", 3),
        submission("fresh-0001", "mary", 2),
        submission("fresh-0001", "mary", 9),
    ];
    let outcomes = commands::submit(&mut conn, &list).await.unwrap();
    let (Outcome::Done(known), Outcome::Done(fresh)) = (&before[0], &outcomes[1]) else { panic!("{outcomes:?}") };
    assert_eq!(outcomes[0], Outcome::Replayed(known.clone()));
    assert_eq!(outcomes[2], Outcome::Reused);
    assert!(matches!(outcomes[3], Outcome::Done(_)));
    assert_eq!(outcomes[4], Outcome::Replayed(fresh.clone()));
    assert_eq!(outcomes[5], Outcome::Reused);
    let hundred: Vec<Submission> = (0..100).map(|n| submission(&format!("many-{n:04}"), "mary", 4)).collect();
    let outcomes = commands::submit(&mut conn, &hundred).await.unwrap();
    assert!(outcomes.iter().all(|o| matches!(o, Outcome::Done(_))));
    drop(conn);
    assert_eq!(app.count("select count(*) from record").await, 103);
    assert_eq!(app.count("select count(*) from outbox_message").await, 4 * 103);
    app.drain().await;
    app.done().await;
}

/// Some that subscribe to what others do, and one that is not there any more.
const MORE_DESTINATIONS: &str = "
    insert into destination (name, url, format, effects, auth, concurrency, enabled)
    values ('everything', 'http://nowhere', 'cloudevents', '{search, audit, metrics, notification}', 'none', 1, true),
           ('audit-too', 'http://nowhere', 'cloudevents', '{audit}', 'none', 1, true),
           ('nothing', 'http://nowhere', 'cloudevents', '{}', 'none', 1, true),
           ('gone', 'http://nowhere', 'cloudevents', '{search, audit}', 'none', 1, false)";

#[tokio::test]
async fn what_a_reply_tells_of_its_deliveries_is_what_was_queued_in_that_order() {
    let app = TestApp::start().await;
    app.execute(MORE_DESTINATIONS).await;
    let token = app.token("registrar", &["register"]);
    for (goal, many) in [("notify", 8), ("declare", 8), ("validate", 13), ("register", 13)] {
        let id = format!("draft-{goal}");
        let answer: Value = app.post("/records", &token, &id, &flat(goal)).await.json().await.unwrap();
        let word = |delivery: &Value, name: &str| delivery[name].as_str().unwrap().to_owned();
        let told: Vec<_> = answer["deliveries"].as_array().unwrap().iter().collect();
        let told: Vec<_> = told.iter().map(|d| (word(d, "destination"), word(d, "kind"), word(d, "state"))).collect();
        let queued: Vec<(String, String, String)> = sqlx::query_as(
            "select destination, kind, state::text from outbox_message where transaction_id like '%' || $1 order by id",
        )
        .bind(&id)
        .fetch_all(&app.db)
        .await
        .unwrap();
        assert_eq!(told, queued, "{goal}");
        assert_eq!(told.len(), many, "{goal}");
        assert!(told.iter().any(|(to, _, state)| to == "everything" && state == "blocked"), "{told:?}");
    }
    app.done_with_leftovers().await;
}

#[tokio::test]
async fn what_is_placed_beside_a_new_record_is_what_would_be_queued_after_it() {
    let app = TestApp::start().await;
    app.execute(MORE_DESTINATIONS).await;
    let mut conn = app.db.acquire().await.unwrap();
    let mut messages = Vec::new();
    for record in [Uuid::now_v7(), Uuid::now_v7()] {
        for (effect, kind) in [
            (Effect::Audit, "DECLARED"),
            (Effect::Metrics, "registered"),
            // The same of another effect: one message for whoever subscribes to both.
            (Effect::Notification, "registered"),
            (Effect::Search, "index"),
            (Effect::Audit, "REGISTERED"),
            // For nobody.
            (Effect::Webhook, "registered"),
        ] {
            messages.push(NewMessage { effect, kind, ..message(record, &format!("{kind}__register_{record}")) });
        }
    }
    let subscriptions: Vec<(String, String)> =
        sqlx::query_as("select name, array_to_string(effects, ' ') from destination where enabled order by name")
            .fetch_all(&mut *conn)
            .await
            .unwrap();
    let subscriptions: Vec<_> = subscriptions.into_iter().map(|(name, all)| Subscription::new(name, &all)).collect();
    let placed = enqueue::place(&messages, &subscriptions);
    let placed: Vec<_> = placed.iter().map(|p| (p.destination, p.message.kind, p.message.action_id, p.state)).collect();
    let queued = enqueue::enqueue(&mut conn, &messages).await.unwrap();
    let queued: Vec<_> =
        queued.iter().map(|q| (q.destination.as_str(), q.kind.as_str(), q.action_id, q.state)).collect();
    assert_eq!(placed, queued);
    assert_eq!(placed.len(), 2 * (3 + 2 + 1 + 2 + 3));
    drop(conn);
    app.done_with_leftovers_of_nobody().await;
}

/// The first draws of a tracking id, so many as `drawn` says, are one that somebody has.
const TAKEN: &str = "
    create sequence draws;
    create function draw_taken() returns trigger language plpgsql as
    $$ begin if nextval('draws') <= (select drawn from unlucky) then new.tracking_id := 'BTAKEN2'; end if; return new; end $$;
    create trigger draw_taken before insert on record for each row execute function draw_taken()";

#[tokio::test]
async fn a_tracking_id_that_is_taken_is_drawn_anew_for_its_own_submission() {
    let app = TestApp::start().await;
    let mut conn = app.db.acquire().await.unwrap();
    commands::submit(&mut conn, &[submission("first-0001", "mary", 1)]).await.unwrap();
    sqlx::raw_sql("update record set tracking_id = 'BTAKEN2'; create table unlucky as select 4 as drawn")
        .execute(&mut *conn)
        .await
        .unwrap();
    sqlx::raw_sql(TAKEN).execute(&mut *conn).await.unwrap();
    // Three are taken at first, and then one of these again.
    let list: Vec<Submission> = (0..3).map(|n| submission(&format!("fresh-{n:04}"), "mary", 2)).collect();
    let outcomes = commands::submit(&mut conn, &list).await.unwrap();
    drop(conn);
    let mut told = BTreeSet::new();
    for outcome in outcomes {
        let Outcome::Done(reply) = outcome else { panic!("{outcome:?}") };
        let record = serde_json::from_str::<Value>(&reply.body).unwrap()["record"].clone();
        told.insert((record["id"].as_str().unwrap().to_owned(), record["trackingId"].as_str().unwrap().to_owned()));
    }
    let written: Vec<(String, String)> =
        sqlx::query_as("select id::text, tracking_id from record where tracking_id <> 'BTAKEN2'")
            .fetch_all(&app.db)
            .await
            .unwrap();
    assert_eq!(told, written.into_iter().collect());
    assert_eq!(app.count("select last_value from draws").await, 3 + 3 + 1);
    let whole = "select count(*) from record r join record_match m on m.record_id = r.id join record_version v on v.record_id = r.id";
    assert_eq!(app.count(whole).await, 4);
    assert_eq!(app.count("select count(*) from outbox_message").await, 4 * 4);
    // There is an end to it.
    app.execute("update unlucky set drawn = 1000").await;
    let mut tx = app.db.begin().await.unwrap();
    let refused = commands::submit(&mut tx, &[submission("fresh-0009", "mary", 2)]).await.unwrap_err();
    assert!(matches!(refused, CommandError::NoTrackingId), "{refused:?}");
    tx.rollback().await.unwrap();
    app.execute("drop trigger draw_taken on record").await;
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn a_write_is_durable_even_where_the_server_is_set_not_to_be() {
    let app = TestApp::start().await;
    app.execute(
        "do $$ begin execute format('alter database %I set synchronous_commit = off', current_database()); end $$",
    )
    .await;
    let other = app.another_instance().await;
    let pool = crvs_outbox::db::pool(&app.url, 1).await.unwrap();
    let setting: String = sqlx::query_scalar("show synchronous_commit").fetch_one(&pool).await.unwrap();
    assert_eq!(setting, "on");
    pool.close().await;
    other.stop().await;
    app.done().await;
}

#[tokio::test]
async fn a_full_pool_is_said_to_be_passing() {
    let app = TestApp::with(Setup { change: Box::new(|s| s.connections = 1), ..Setup::default() }).await;
    let token = app.token("registrar", &["register"]);
    let held = app.app().context.db.acquire().await.unwrap();
    let body = flat("register");
    let answer = app.post("/records", &token, "draft-0001", &body).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers().contains_key("retry-after"));
    drop(held);
    app.done().await;
}
