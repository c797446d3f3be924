//! The command line: JSON for machines, sentences for people, an exit code for both.

use std::process::{Command, Output};

use serde_json::{Value, json};
use uuid::Uuid;

use super::{dead, put};
use crate::harness::TestApp;

fn crvs(app: &TestApp, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crvs-outbox"));
    command.args(args).env("DATABASE_URL", &app.url).env("USER", "ada").env_remove("RUST_LOG");
    command.output().unwrap()
}

/// The JSON of a command that succeeds and logs nothing.
fn json_of(app: &TestApp, args: &[&str]) -> Value {
    let done = crvs(app, &[args, &["--json"]].concat());
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.success() && said.is_empty(), "{args:?}: {said}");
    serde_json::from_slice(&done.stdout).unwrap()
}

/// What a command says to people that succeeds.
fn words_of(app: &TestApp, args: &[&str]) -> String {
    let done = crvs(app, args);
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// The one sentence of a command that fails.
fn complaint(app: &TestApp, args: &[&str]) -> String {
    let done = crvs(app, args);
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(1), "{args:?}: {said}");
    assert!(said.starts_with("error: ") && said.lines().count() == 1, "{said}");
    said
}

#[tokio::test]
async fn jobs_are_listed_shown_retried_cancelled_and_explained() {
    let app = TestApp::start().await;
    let record = Uuid::now_v7();
    let (first, second) = (dead(&app, record, "first").await, put(&app, record, "second").await);
    let (one, two) = (first.to_string(), second.to_string());

    let listed = json_of(&app, &["jobs", "list"]);
    assert_eq!(
        (&listed[0]["id"], &listed[0]["state"], &listed[0]["because"]),
        (&json!(first), &json!("dead"), &json!("http-503"))
    );
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert_eq!(json_of(&app, &["jobs", "list", "--state", "blocked", "--destination", "search"])[0]["id"], second);
    assert_eq!(json_of(&app, &["jobs", "list", "--error", "http-4%"]), json!([]));
    assert!(words_of(&app, &["jobs", "list", "--limit", "1"]).contains("http-503"));
    assert_eq!(words_of(&app, &["jobs", "list", "--destination", "audit"]), "no message fits\n");

    let reasons = json_of(&app, &["jobs", "explain", &two]);
    assert_eq!((&reasons[0]["reason"], &reasons[1]["reason"]), (&json!("behind"), &json!("dead")));
    assert!(words_of(&app, &["jobs", "explain", &two]).contains("behind: message"));

    let changes = json_of(&app, &["jobs", "retry", &one, "--why", "mended"]);
    assert_eq!((&changes[0]["stateAfter"], &changes[0]["changed"]), (&json!("queued"), &json!(true)));
    assert!(complaint(&app, &["jobs", "retry", &one]).contains("nothing to do: it is ready already"));
    let changes = json_of(&app, &["jobs", "cancel", &one, "--why", "sent by hand", "--as", "Grace"]);
    assert_eq!(changes[1]["id"], second, "the next one goes");
    let shown = json_of(&app, &["jobs", "show", &one]);
    assert_eq!((&shown["state"], &shown["exchanges"][0]["status"]), (&json!("cancelled"), &json!(503)));
    let actions = shown["operatorActions"].as_array().unwrap();
    let who: Vec<_> = actions.iter().map(|a| [&a["action"], &a["byName"], &a["byUser"], &a["why"]]).collect();
    assert_eq!(
        json!(who),
        json!([["retry", "ada", "postgres", "mended"], ["cancel", "Grace", "postgres", "sent by hand"]])
    );
    let words = words_of(&app, &["jobs", "show", &one]);
    assert!(words.contains("Grace (postgres)") && words.contains("http-503"), "{words}");
    assert_eq!(json_of(&app, &["jobs", "list", "--state", "cancelled"])[0]["id"], first);
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn a_retry_by_filter_asks_for_a_yes() {
    let app = TestApp::start().await;
    let id = dead(&app, Uuid::now_v7(), "first").await;
    let filter = ["jobs", "retry", "--destination", "search", "--error", "http-5%", "--since", "1h"];
    assert_eq!(json_of(&app, &filter)[0]["changed"], false);
    assert!(words_of(&app, &filter).ends_with("1 would be retried; add --yes to do it\n"));
    assert_eq!(app.count("select count(*) from outbox_message where state = 'dead'").await, 1);
    let done = json_of(&app, &[&filter[..], &["--yes"]].concat());
    assert_eq!((&done[0]["id"], &done[0]["changed"]), (&json!(id), &json!(true)));
    assert_eq!(words_of(&app, &["jobs", "retry", "--all", "--yes"]), "no message fits\n");
    assert!(complaint(&app, &["jobs", "retry", "--all", "--since", "some day"]).contains("some day"));
    for wrong in [&["jobs", "retry"][..], &["jobs", "retry", "1", "--all"], &["jobs", "list", "--state", "lost"]] {
        assert_eq!(crvs(&app, wrong).status.code(), Some(2), "{wrong:?}");
    }
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn what_is_not_there_is_said_in_a_sentence_with_exit_code_1() {
    let app = TestApp::start().await;
    for args in [
        &["jobs", "show", "99"][..],
        &["jobs", "explain", "99"],
        &["jobs", "retry", "99"],
        &["jobs", "cancel", "99", "--why", "why"],
    ] {
        assert!(complaint(&app, args).contains("no message 99"), "{args:?}");
    }
    assert!(complaint(&app, &["jobs", "retry", "98", "99"]).contains("no message 98"));
    assert!(complaint(&app, &["records", "show", "BXXXXXX"]).contains("no record has"));
    assert!(complaint(&app, &["destinations", "pause", "serch", "--why", "typo"]).contains("There are: audit"));
    assert!(complaint(&app, &["destinations", "pause", "search", "--why", " "]).contains("needs a reason"));
    app.done().await;
}

#[tokio::test]
async fn destinations_are_listed_paused_and_resumed() {
    let app = TestApp::start().await;
    put(&app, Uuid::now_v7(), "waits").await;
    let paused = json_of(&app, &["destinations", "pause", "search", "--why", "they migrate"]);
    assert_eq!((&paused["paused"], &paused["changed"]), (&json!(true), &json!(true)));
    assert!(
        words_of(&app, &["destinations", "pause", "search", "--why", "again"])
            .contains("by ada (postgres): they migrate")
    );
    let listed = json_of(&app, &["destinations", "list"]);
    let search = listed.as_array().unwrap().iter().find(|d| d["name"] == "search").unwrap().clone();
    assert_eq!(
        (&search["queued"], &search["circuit"], &search["pausedWhy"]),
        (&json!(1), &json!("closed"), &json!("they migrate"))
    );
    assert!(words_of(&app, &["destinations", "list"]).contains("no: paused"));
    assert_eq!(json_of(&app, &["destinations", "resume", "search"])["changed"], true);
    assert_eq!(json_of(&app, &["destinations", "resume", "search"])["changed"], false);
    app.done_with_leftovers_of_nobody().await;
}

#[tokio::test]
async fn a_record_is_found_by_each_of_its_names_and_told_without_its_content() {
    let app = TestApp::start().await;
    let birth = app.register_birth("draft-0001").await;
    app.drain().await;
    let tracking_id = birth.body["record"]["trackingId"].as_str().unwrap().to_owned();
    let id = birth.record_id.to_string();
    for name in [&id, &tracking_id, &tracking_id.to_lowercase(), "draft-0001", "index__register_draft-0001"] {
        let told = json_of(&app, &["records", "show", name]);
        assert_eq!(
            (&told["record"]["recordId"], &told["record"]["status"]),
            (&json!(id), &json!("waiting_validation")),
            "{name}"
        );
        let timeline = told["timeline"].as_array().unwrap();
        let entries = |kind: &str| timeline.iter().filter(|e| e["entry"] == kind).count();
        assert_eq!((entries("action"), entries("message")), (2, 6));
        assert_eq!((&timeline[0]["what"], &timeline[1]["what"]), (&json!("declare"), &json!("register")));
        assert!(timeline.iter().filter(|e| e["entry"] == "message").all(|e| e["is"] == "delivered"));
    }
    let words = words_of(&app, &["records", "show", &tracking_id]);
    assert!(words.contains("is waiting_validation") && words.contains("event-registration"), "{words}");
    let waiting = json_of(&app, &["records", "waiting"]);
    assert_eq!((&waiting[0]["trackingId"], &waiting[0]["overdue"]), (&json!(tracking_id), &json!(false)));
    assert!(words_of(&app, &["records", "waiting"]).contains("the callback is due"));
    assert_eq!(words_of(&app, &["records", "waiting", "--overdue"]), "no record waits\n");
    app.done().await;
}
