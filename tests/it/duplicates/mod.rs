//! Possible duplicates: found whichever came first, held until somebody says that it is none, never personal.

mod corrections;
mod finding;
mod holding;
mod plan;
mod recheck;

use crvs_outbox::config::Settings;
use crvs_outbox::records::commands::{Initiator, Submission};
use crvs_outbox::records::model::Step;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Setup, TestApp};

/// A service that compares records; `change` says how it differs from the usual rules.
async fn comparing(change: impl FnOnce(&mut Settings) + Send + 'static) -> TestApp {
    let change = |settings: &mut Settings| {
        settings.duplicates.enabled = true;
        change(settings);
    };
    TestApp::with(Setup { change: Box::new(change), ..Setup::default() }).await
}

/// A flat declaration of a birth in February 2026.
fn child(name: &str, mother: &str, day: u8) -> Value {
    json!({ "child.name": name, "child.dob": format!("2026-02-{day:02}"), "mother.name": mother })
}

fn body(event: &str, action: &str, declaration: &Value) -> Value {
    json!({ "event": event, "action": action, "declaration": declaration })
}

/// Submits as `registrar`, who may everything; returns what was answered about the record.
async fn submit(app: &TestApp, id: &str, action: &str, declaration: &Value) -> Value {
    submit_event(app, id, "birth", action, declaration).await
}

async fn submit_event(app: &TestApp, id: &str, event: &str, action: &str, declaration: &Value) -> Value {
    let token = app.token("registrar", &["register"]);
    let response = app.post("/records", &token, id, &body(event, action, declaration)).await;
    assert_eq!(response.status(), 202);
    response.json::<Value>().await.unwrap()["record"].clone()
}

/// Acts as `registrar`; returns the status of the answer and what it says about the record.
async fn act(app: &TestApp, record: &Value, action: &str, id: &str, body: &Value) -> (u16, Value) {
    let token = app.token("registrar", &["register"]);
    let path = format!("/records/{}/{action}", record["id"].as_str().unwrap());
    let response = app.post(&path, &token, id, body).await;
    let status = response.status().as_u16();
    (status, response.json::<Value>().await.unwrap()["record"].clone())
}

async fn correct(app: &TestApp, record: &Value, id: &str, declaration: &Value) -> Value {
    let (status, corrected) = act(app, record, "declare", id, &json!({ "declaration": declaration })).await;
    assert_eq!(status, 202);
    corrected
}

/// The record as a reader sees it now.
async fn read(app: &TestApp, record: &Value) -> Value {
    let token = app.token("reader", &["record.read"]);
    app.get(&format!("/records/{}", record["id"].as_str().unwrap()), &token).await.json().await.unwrap()
}

async fn history(app: &TestApp, record: &Value) -> Value {
    let token = app.token("reader", &["record.read"]);
    app.get(&format!("/records/{}/history", record["id"].as_str().unwrap()), &token).await.json().await.unwrap()
}

/// The ids of what a record resembles.
fn resembled(record: &Value) -> Vec<&str> {
    record["possibleDuplicates"].as_array().unwrap().iter().map(|d| d["id"].as_str().unwrap()).collect()
}

fn id(record: &Value) -> &str {
    record["id"].as_str().unwrap()
}

async fn held(app: &TestApp, record: &Value) -> Option<String> {
    sqlx::query_scalar("select held_action::text from record where id = $1")
        .bind(id(record).parse::<Uuid>().unwrap())
        .fetch_one(&app.db)
        .await
        .unwrap()
}

/// A submission without HTTP.
fn submission(id: &str, goal: Step, declaration: &Value) -> Submission {
    Submission {
        transaction_id: id.to_owned(),
        fingerprint: [7; 32].into(),
        initiator: Initiator { id: "registrar".to_owned(), scopes: vec!["register".to_owned()] },
        traceparent: None,
        event: "birth".to_owned(),
        goal,
        declaration: declaration.to_string(),
        attachments: Vec::new(),
        comment: None,
    }
}
