//! The description of the API is that of the code, its examples work, and its reader works offline.

use std::path::Path;

use crvs_outbox::handlers::openapi;
use reqwest::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{TestApp, flat};

fn document() -> Value {
    openapi::document(&crvs_outbox::config::File::default().events)
}

/// Each operation with its path and its method.
fn operations(document: &Value) -> Vec<(&String, &String, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths.flat_map(|(path, item)| item.as_object().unwrap().iter().map(move |(verb, o)| (path, verb, o))).collect()
}

#[test]
fn the_committed_description_is_that_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    let committed = std::fs::read_to_string(path).unwrap();
    let now = serde_json::to_string_pretty(&document()).unwrap() + "\n";
    let first = committed.lines().zip(now.lines()).position(|(then, now)| then != now);
    assert!(committed == now, "docs/openapi.json differs from line {first:?} on: run `make openapi` and commit it");
}

#[test]
fn no_public_route_is_without_a_description() {
    let source = include_str!("../../src/handlers/mod.rs");
    let public = source.split("pub fn internal").next().unwrap();
    assert!(public.contains(".routes(routes!("));
    for undescribed in [".route(", ".route_service(", ".nest(", ".nest_service(", ".merge("] {
        assert!(!public.contains(undescribed), "{undescribed}…) brings routes without a description: use routes!");
    }
}

#[test]
fn every_operation_has_an_id_a_summary_a_tag_and_its_problems() {
    let document = document();
    let (mut ids, tags) = (Vec::new(), document["tags"].as_array().unwrap());
    for (path, verb, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{verb} {path}"));
        assert!(!ids.contains(&id), "{id} is there twice");
        ids.push(id);
        assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{id}");
        let tag = &operation["tags"][0];
        assert!(tags.iter().any(|known| known["name"] == *tag), "{id}: {tag}");
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.contains_key("500"), "{id}");
        let open = tag == "service";
        // The token that an exchange asks for is in its form.
        assert_eq!(operation["security"].is_null(), open || id == "exchangeToken", "{id}");
        assert_eq!(responses.contains_key("401"), !open, "{id}");
    }
}

/// What a record is submitted for, so that an operation fits it.
const FITS: [(&str, &str); 11] = [
    ("notifyRecord", "notify"),
    ("declareRecord", "declare"),
    ("validateRecord", "declare"),
    ("registerRecord", "validate"),
    ("rejectRecord", "declare"),
    ("archiveRecord", "declare"),
    ("markNotDuplicate", "declare"),
    ("confirmRegistration", "register"),
    ("confirmRegistration16", "register"),
    ("graphql", "register"),
    ("decideActions", "register"),
];

/// What the country does, with the token of the record.
const COUNTRY: [&str; 4] = ["confirmRegistration", "confirmRegistration16", "graphql", "decideActions"];

/// The record and the action of the examples.
const EXAMPLES: [&str; 2] = ["019ab7c2-5d0e-7c43-9a51-2b7f0e6d3c18", "019ab7c2-5d0e-7c43-9a51-2b8ad41c0e77"];

/// A record that an operation fits, with its action if the country does it, and who may do it.
async fn prepared(app: &TestApp, operation: &str) -> (Vec<Uuid>, String) {
    let registrar = app.token("registrar", &["register"]);
    let Some((_, action)) = FITS.into_iter().find(|(id, _)| *id == operation) else {
        return (Vec::new(), registrar);
    };
    let submitted = app.post("/records", &registrar, &Uuid::now_v7().to_string(), &flat(action)).await;
    let id: Uuid = submitted.json::<Value>().await.unwrap()["record"]["id"].as_str().unwrap().parse().unwrap();
    if operation == "markNotDuplicate" {
        sqlx::query("update record set held_action = 'validate' where id = $1")
            .bind(id)
            .execute(&app.db)
            .await
            .unwrap();
    }
    if !COUNTRY.contains(&operation) {
        return (vec![id], registrar);
    }
    let action: Uuid = sqlx::query_scalar("select awaiting_action_id from record where id = $1")
        .bind(id)
        .fetch_one(&app.db)
        .await
        .unwrap();
    (vec![id, action], app.record_token(id, action))
}

/// The names of all members, and what of the types of values is sure; `declaration` is the client's own.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let shape = |(name, value): (&String, &Value)| {
                (name.clone(), if name == "declaration" { json!("any") } else { shape(value) })
            };
            Value::Object(members.iter().map(shape).collect())
        }
        Value::Array(elements) => elements.iter().take(1).map(shape).collect(),
        Value::Number(_) => json!("number"),
        Value::Null | Value::Bool(_) | Value::String(_) => json!("scalar"),
    }
}

/// The example of what an operation answers.
fn answer_of<'d>(document: &'d Value, id: &str) -> &'d Value {
    let operations = operations(document);
    let (_, _, operation) = operations.iter().find(|(_, _, o)| o["operationId"] == id).unwrap();
    let responses = operation["responses"].as_object().unwrap().iter();
    let (_, good) = responses.into_iter().find(|(status, _)| status.starts_with('2')).unwrap();
    &good["content"]["application/json"]["example"]
}

#[tokio::test]
async fn every_example_of_a_request_is_accepted_and_the_example_of_the_answer_looks_like_it() {
    let app = TestApp::start().await;
    let document = document();
    let accepted = &document["components"]["responses"]["Accepted"]["content"]["application/json"]["example"];
    let registrar = app.token("registrar", &["register"]);
    // What the examples of questions ask for.
    app.post("/records", &registrar, "draft-0001", &flat("register")).await.error_for_status().unwrap();
    let mut sent = 0;
    for (path, verb, operation) in operations(&document) {
        if operation["requestBody"].is_null() {
            continue;
        }
        let (id, content) = (operation["operationId"].as_str().unwrap(), &operation["requestBody"]["content"]);
        // What is no JSON is bytes.
        if content["application/json"].is_null() {
            continue;
        }
        let examples = content["application/json"]["examples"].as_object();
        for (name, example) in examples.unwrap_or_else(|| panic!("{id} has no example")) {
            assert_eq!(verb, "post");
            let (of, token) = prepared(&app, id).await;
            let path = of.iter().take(1).fold(path.clone(), |path, record| path.replace("{id}", &record.to_string()));
            let path = path.replace("{procedures}", "event.actions.register.accept");
            let text = EXAMPLES
                .iter()
                .zip(&of)
                .fold(example["value"].to_string(), |text, (example, id)| text.replace(example, &id.to_string()));
            let body: Value = serde_json::from_str(&text).unwrap();
            let answer = app.post(&path, &token, &Uuid::now_v7().to_string(), &body).await;
            let good = operation["responses"].as_object().unwrap().keys().find(|status| status.starts_with('2'));
            assert_eq!(answer.status().as_str(), good.unwrap(), "{id}, {name}");
            let expected = if good.unwrap() == "202" { accepted } else { answer_of(&document, id) };
            let answer: Value = answer.json().await.unwrap();
            assert_eq!(shape(&answer), shape(expected), "{id}, {name}");
            sent += 1;
        }
    }
    assert!(sent >= 12, "{sent} examples");
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn every_example_of_an_answer_looks_like_the_answer() {
    let app = TestApp::start().await;
    let document = document();
    let (_, _, submit) =
        operations(&document).into_iter().find(|(_, _, o)| o["operationId"] == "submitRecord").unwrap();
    let example = &submit["requestBody"]["content"]["application/json"]["examples"]["flat"]["value"];
    let token = app.token("registrar", &["register"]);
    let before: Value = app.get("/changes", &token).await.json().await.unwrap();
    let changes = format!("/changes?cursor={}", before["cursor"].as_str().unwrap());
    let submitted: Value = app.post("/records", &token, "draft-0001", example).await.json().await.unwrap();
    let record = format!("/records/{}", submitted["record"]["id"].as_str().unwrap());
    for (id, path) in [
        ("readRecord", record.clone()),
        ("readHistory", format!("{record}/history")),
        ("readTransaction", "/transactions/draft-0001".to_owned()),
        ("readChanges", changes),
        ("findRecords", "/records?createdBy=registrar".to_owned()),
        ("countRecords", "/records/counts?createdBy=registrar&status=waiting_validation".to_owned()),
    ] {
        let real: Value = app.get(&path, &token).await.json().await.unwrap();
        assert_eq!(shape(&real), shape(answer_of(&document, id)), "{id}");
    }
    let known = &answer_of(&document, "readRecord")["attachments"][0];
    let real: Value = app.get(&record, &token).await.json().await.unwrap();
    assert_eq!(real["attachments"][0], *known);
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn the_description_is_served_with_the_events_of_the_configuration() {
    let setup = crate::harness::Setup {
        change: Box::new(|settings| settings.handlers.events = vec!["adoption".to_owned()]),
        ..Default::default()
    };
    let app = TestApp::with(setup).await;
    let served = app.http.get(format!("{}/openapi.json", app.base)).send().await.unwrap();
    assert_eq!(served.headers()["content-type"], "application/json");
    let mut served: Value = served.json().await.unwrap();
    assert_eq!(served["openapi"], "3.1.0");
    assert_eq!(served["components"]["schemas"]["Event"]["enum"], json!(["adoption"]));
    let usual = document();
    served["components"]["schemas"]["Event"] = usual["components"]["schemas"]["Event"].clone();
    assert_eq!(served, usual);
    app.done().await;
}

#[tokio::test]
async fn the_reader_is_served_whole_from_here_and_may_fetch_nothing_elsewhere() {
    let app = TestApp::start().await;
    let page = app.http.get(format!("{}/docs", app.base)).send().await.unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none';") && !policy.contains("http") && !policy.contains('*'), "{policy}");
    let html = page.text().await.unwrap();
    assert!(!html.contains("//"), "the page names another host");
    let linked = html.split(['"']).filter(|text| text.starts_with("docs/"));
    let files: Vec<&str> = linked.collect();
    assert_eq!(files.len(), 4, "{files:?}");
    for (file, holds) in files.iter().zip(["swagger-ui", "PNG", "SwaggerUIBundle", "openapi.json"]) {
        let answer = app.http.get(format!("{}/{file}", app.base)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{file}");
        assert!(answer.headers()["content-security-policy"] == policy, "{file}");
        let mut bytes = answer.bytes().await.unwrap().to_vec();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let mut plain = Vec::new();
            std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(bytes.as_slice()), &mut plain).unwrap();
            bytes = plain;
        }
        assert!(bytes.windows(holds.len()).any(|part| part == holds.as_bytes()), "{file}");
    }
    for other in ["index.html", "swagger-ui.js", "..%2Fopenapi.json", "%ff"] {
        let answer = app.http.get(format!("{}/docs/{other}", app.base)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{other}");
    }
    app.done().await;
}
