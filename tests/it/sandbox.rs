//! P4 against the reference receiver: at least once on the wire, once in effect, whatever fails on the way.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use crvs_outbox::auth::{KeySource, Signer, Trust, Verifier};
use crvs_outbox::outbox::destination::{Auth, Format};
use crvs_outbox::records::model::Status;
use crvs_outbox::sandbox::{Mode, Sandbox, Settings, effects_ending_in};
use reqwest::StatusCode;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::harness::{PATIENCE, Setup, TestApp, expired_token, flat, key_file};

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A service whose destinations are the sandbox's, workers running, quick retries.
async fn with_sandbox(mode: Mode, fail_rate: f64) -> (TestApp, SocketAddr, CancellationToken) {
    changed(mode, fail_rate, |_| {}).await
}

/// The same, with other settings of the service.
async fn changed(
    mode: Mode,
    fail_rate: f64,
    change: impl FnOnce(&mut crvs_outbox::config::Settings) + Send + 'static,
) -> (TestApp, SocketAddr, CancellationToken) {
    let (api, sandbox) = (free_port(), free_port());
    let app = TestApp::with(Setup {
        workers: true,
        change: Box::new(move |settings| {
            settings.listen = api;
            for destination in &mut settings.workers.destinations {
                destination.definition.url = format!("http://{sandbox}/{}", destination.definition.name);
                destination.definition.policy.base = Duration::from_millis(20);
                destination.definition.policy.cap = Duration::from_millis(200);
            }
            settings.workers.poll = Duration::from_millis(50);
            change(settings);
        }),
    })
    .await;
    let settings = Settings {
        listen: sandbox,
        gateway: app.base.clone(),
        mode,
        delay: Duration::from_millis(50),
        failures: 2,
        fail_rate,
    };
    let trust = Trust {
        issuer: "crvs-outbox".to_owned(),
        audiences: ["country-config", "search", "audit", "metrics", "notification"].map(str::to_owned).to_vec(),
        keys: KeySource::Own(Arc::new(Signer::from_file(key_file()).unwrap())),
    };
    let verifier = Arc::new(Verifier::new(vec![trust]).unwrap());
    let bound = Sandbox::bind(app.db.clone(), settings, Some(verifier)).await.unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(bound.serve(stop.clone()));
    (app, sandbox, stop)
}

const LIVE: &str = "select count(*) from outbox_message";

#[tokio::test]
async fn each_mode_does_what_it_says() {
    for (mode, expected) in [
        (Mode::Confirm, Status::Registered),
        (Mode::Accept, Status::Registered),
        (Mode::Later, Status::Registered),
        (Mode::FailThenConfirm, Status::Registered),
        (Mode::Reject, Status::Rejected),
        (Mode::Silent, Status::WaitingValidation),
    ] {
        let (app, _, stop) = with_sandbox(mode, 0.0).await;
        let birth = app.register_birth("draft-0001").await;
        app.wait_for(LIVE, 0).await;
        if mode == Mode::Later {
            app.wait_for("select count(*) from record where status = 'registered'", 1).await;
            app.wait_for(LIVE, 0).await;
        }
        assert_eq!(app.status(birth.record_id).await, expected, "{mode:?}");
        let failed = "select count(*) from sandbox.receipt where destination = 'country-config' and outcome = 'failed'";
        assert_eq!(app.count(failed).await, if mode == Mode::FailThenConfirm { 2 } else { 0 }, "{mode:?}");
        let asked = "select count(*) from sandbox.effect where destination = 'country-config'";
        assert_eq!(app.count(asked).await, 1, "{mode:?}");
        let reason = "select count(*) from record_action where status = 'rejected' and reason = 'the sandbox rejects'";
        assert_eq!(app.count(reason).await, i64::from(mode == Mode::Reject), "{mode:?}");
        let promised = "select count(*) from record_action where callback_due_at > now()";
        assert_eq!(app.count(promised).await, i64::from(mode == Mode::Silent), "{mode:?}");
        stop.cancel();
        app.done().await;
    }
}

#[tokio::test]
async fn every_effect_happens_exactly_once_though_half_of_the_requests_fail() {
    let (app, _, stop) = with_sandbox(Mode::Confirm, 0.5).await;
    let mut expected = BTreeSet::new();
    for n in 0..20 {
        let id = format!("draft-{n:04}");
        app.register_birth(&id).await;
        for (destination, effect) in [
            ("metrics", "sent-notification-for-review__register"),
            ("audit", "DECLARED__register"),
            ("audit", "REGISTERED__register"),
            ("metrics", "waiting-external-validation__register"),
            ("search", "index__register"),
            ("country-config", "event-registration__register"),
            ("search", "index__confirm"),
            ("metrics", "registered__confirm"),
            ("notification", "registered__confirm"),
        ] {
            expected.insert((destination.to_owned(), format!("{effect}_{id}")));
        }
    }
    app.wait_for("select count(*) from record where status = 'registered'", 20).await;
    app.wait_for(LIVE, 0).await;
    let (happened, receipts) = effects_ending_in(&app.db, "draft-").await.unwrap();
    assert_eq!(happened.len(), expected.len());
    assert_eq!(happened.into_iter().map(|e| (e.destination, e.transaction_id)).collect::<BTreeSet<_>>(), expected);
    assert!(receipts > 180, "{receipts}");
    // One query shows it, receiver by receiver; every request is accounted for.
    let ledger: Vec<(String, i64, bool)> = sqlx::query_as(
        "select destination, effects, receipts = effects + suppressed + failed from sandbox.exactly_once order by 1",
    )
    .fetch_all(&app.db)
    .await
    .unwrap();
    let happened = [("audit", 40), ("country-config", 20), ("metrics", 60), ("notification", 20), ("search", 40)];
    assert_eq!(ledger, happened.map(|(name, effects)| (name.to_owned(), effects, true)));
    assert!(app.count("select sum(suppressed)::bigint from sandbox.exactly_once").await > 0);
    assert!(app.count("select count(*) from outbox_history where attempt > 1").await > 0);
    stop.cancel();
    app.done().await;
}

#[tokio::test]
async fn the_ledger_knows_record_and_consequence_in_every_format() {
    for formats in [
        [Format::Cloudevents; 4],
        [Format::OpencrvsSearch, Format::OpencrvsAudit, Format::OpencrvsMetrics, Format::OpencrvsNotification],
    ] {
        let (app, _, stop) = changed(Mode::Confirm, 0.0, move |settings| {
            for (name, format) in ["search", "audit", "metrics", "notification"].into_iter().zip(formats) {
                let mut destinations = settings.workers.destinations.iter_mut();
                destinations.find(|d| d.definition.name == name).unwrap().definition.format = format;
            }
        })
        .await;
        app.register_birth("a-bundle-1").await;
        let token = app.token("registrar", &["register"]);
        let answer = app.post("/records", &token, "flat-0001", &flat("register")).await;
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
        app.wait_for("select count(*) from record where status = 'registered'", 2).await;
        app.wait_for(LIVE, 0).await;
        // The queue's own history says of each what it was.
        let as_sent = "select count(*) from sandbox.effect e join outbox_history h
                           on (h.destination, h.transaction_id, h.kind, h.record_id) = (e.destination, e.transaction_id, e.kind, e.record_id)
                       where e.destination <> 'country-config'";
        assert_eq!(app.count(as_sent).await, 16, "{formats:?}");
        stop.cancel();
        app.done().await;
    }
}

#[tokio::test]
async fn a_delivery_without_a_good_token_is_refused() {
    let (app, sandbox, stop) = with_sandbox(Mode::Confirm, 0.0).await;
    let body = json!({ "kind": "index", "record": { "id": uuid::Uuid::now_v7() } });
    let post = |token: String| {
        app.http.post(format!("http://{sandbox}/search")).bearer_auth(token).header("idempotency-key", "x").json(&body)
    };
    for bad in ["nonsense".to_owned(), app.token("somebody", &["register"]), expired_token()] {
        let answer = tokio::time::timeout(PATIENCE, post(bad).send()).await.unwrap().unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    }
    assert_eq!(app.count("select count(*) from sandbox.receipt").await, 0);
    stop.cancel();
    app.done().await;
}

#[tokio::test]
async fn a_service_that_sends_no_token_gets_nowhere_and_keeps_its_message() {
    let (app, sandbox, stop) = changed(Mode::Confirm, 0.0, |settings| {
        for destination in &mut settings.workers.destinations {
            if ["search", "country-config"].contains(&destination.definition.name.as_str()) {
                destination.definition.auth = Auth::None;
            }
        }
    })
    .await;
    let birth = app.register_birth("no-token-1").await;
    let refused = "select count(distinct destination) from outbox_attempt where status = 401 and outcome = 'retry'";
    app.wait_for(refused, 2).await;
    app.wait_for("select count(*) from outbox_history", 4).await;
    assert_eq!(app.status(birth.record_id).await, Status::WaitingValidation);
    let receipts = "select count(*) from sandbox.receipt where destination in ('search', 'country-config')";
    assert_eq!(app.count(receipts).await, 0);
    // A good token, but no id: nothing could be told apart, so nothing is taken.
    let token = app.app().context.minter.for_delivery("registrar", &[], "search").unwrap();
    let body = json!({ "kind": "index", "record": { "id": birth.record_id } });
    let answer = app.http.post(format!("http://{sandbox}/search")).bearer_auth(token).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert_eq!(app.count(receipts).await, 0);
    stop.cancel();
    app.done_with_leftovers().await;
}
