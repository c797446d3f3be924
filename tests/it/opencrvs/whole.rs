//! Many registrations through a country config of each version, that is killed and started again in the middle: all
//! registered, one number each, none lost. `CRVS_COUNTRY_REGISTRATIONS=500` makes them five hundred.

use std::collections::HashSet;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crvs_outbox::outbox::Effect;
use crvs_outbox::outbox::destination::Format;
use futures_util::{StreamExt as _, stream};
use reqwest::StatusCode;
use serde_json::Value;

use crate::harness::{Setup, TestApp, birth, flat, python};
use crate::peers::destination;

/// Registrations of each run, unless the environment says otherwise.
const MANY: i64 = 60;
/// For all of it, on a machine that has other things to do.
const LIMIT: Duration = Duration::from_mins(3);

/// A stand-in, as a process of its own.
struct Country {
    version: &'static str,
    how: &'static str,
    port: u16,
    base: String,
    process: Child,
}

impl Country {
    /// Starts it; it is there once its port answers.
    fn start(version: &'static str, how: &'static str, port: u16, base: String) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/country_config.py");
        let process = Command::new(python())
            .args([script, version, &port.to_string(), &base, "crvs-outbox", how])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self { version, how, port, base, process }
    }

    /// Killed in the middle of whatever it does, and started anew.
    fn restart(mut self) -> Self {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        Self::start(self.version, self.how, self.port, self.base.clone())
    }
}

impl Drop for Country {
    fn drop(&mut self) {
        // Gone already if it was started anew.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn run(version: &'static str, how: &'static str, declaration: &Value) {
    let port = free_port();
    let app = TestApp::with(Setup {
        workers: true,
        change: Box::new(move |settings| {
            let country = destination(settings, "country-config");
            "opencrvs:countryconfig-user".clone_into(&mut country.audience);
            country.definition.url = format!("http://127.0.0.1:{port}");
            country.definition.policy.base = Duration::from_millis(50);
            country.definition.policy.cap = Duration::from_millis(500);
            if version == "1.9" {
                country.definition.format = Format::OpencrvsTrigger;
                country.definition.effects = vec![Effect::Validation, Effect::Trigger];
            }
        }),
    })
    .await;
    let country = Country::start(version, how, port, app.base.clone());
    let token = app.token("registrar", &["register"]);
    let many = std::env::var("CRVS_COUNTRY_REGISTRATIONS").map_or(MANY, |many| many.parse().unwrap());
    let submissions = stream::iter(0..many).map(|n| {
        let id = format!("draft-{n:04}");
        let (app, token, declaration) = (&app, &token, declaration.clone());
        async move { app.post("/records", token, &id, &declaration).await.status() }
    });
    let statuses: Vec<StatusCode> = submissions.buffer_unordered(16).collect().await;
    assert!(statuses.iter().all(|status| *status == StatusCode::ACCEPTED), "{version}");
    until(&app, many / 5).await;
    let country = country.restart();
    until(&app, many).await;
    app.wait_for("select count(*) from outbox_message", 0).await;
    let numbers: Vec<String> =
        sqlx::query_scalar("select registration_number from record").fetch_all(&app.db).await.unwrap();
    assert_eq!(numbers.iter().collect::<HashSet<_>>().len(), numbers.len(), "{version}");
    let verdicts = "select count(*) from record_action where action = 'register' and status <> 'requested'";
    assert_eq!(app.count(verdicts).await, many, "{version}");
    drop(country);
    app.done().await;
}

/// Waits until so many are registered.
async fn until(app: &TestApp, registered: i64) {
    let deadline = Instant::now() + LIMIT;
    while app.count("select count(*) from record where status = 'registered'").await < registered {
        assert!(Instant::now() < deadline, "fewer than {registered} are registered");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn country_configs_of_1_6_register_all_through_a_crash() {
    run("1.6", "now", &birth("register")).await;
}

#[tokio::test]
async fn country_configs_of_1_7_register_all_through_a_crash() {
    run("1.7", "now", &birth("register")).await;
}

#[tokio::test]
async fn country_configs_of_the_pull_request_register_all_through_a_crash() {
    run("7559", "now", &birth("register")).await;
}

#[tokio::test]
async fn country_configs_of_1_9_register_all_through_a_crash() {
    run("1.9", "now", &flat("register")).await;
}

#[tokio::test]
async fn country_configs_of_1_9_that_call_back_before_they_answer_register_all_through_a_crash() {
    run("1.9", "later", &flat("register")).await;
}
