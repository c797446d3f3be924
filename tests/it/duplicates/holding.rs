//! What resembles another record stops at `declared`, and goes on as it was meant to.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{act, body, child, comparing, held, history, id, read, resembled, submit, submit_event};
use crate::harness::TestApp;

/// The consequences that a transaction queued, and on whose behalf.
async fn consequences(app: &TestApp, id: &str) -> Vec<(String, String, Vec<String>)> {
    sqlx::query_as(
        "select transaction_id, initiator_id, initiator_scopes from outbox_message
         where transaction_id like '%' || $1 order by id",
    )
    .bind(id)
    .fetch_all(&app.db)
    .await
    .unwrap()
}

#[tokio::test]
async fn what_was_asked_is_held_back_and_resumed_on_behalf_of_who_asked() {
    for (action, before, after) in [("validate", 4, "validated"), ("register", 4, "waiting_validation")] {
        let app = comparing(|_| {}).await;
        let same = child("Liseli Wanjala", "Thandeka Wanjala", 20);
        let first = submit(&app, "draft-0001", action, &same).await;
        let second = submit(&app, "draft-0002", action, &same).await;
        assert_eq!((first["status"].as_str().unwrap(), second["status"].as_str().unwrap()), (after, "declared"));
        assert_eq!(held(&app, &second).await.as_deref(), Some(action));
        let sent = consequences(&app, "draft-0002").await;
        assert_eq!(sent.len(), before, "the effects of a declaration only: {sent:?}");
        assert!(sent.iter().all(|(id, ..)| id.ends_with("__declare_draft-0002")), "{sent:?}");
        for refused in ["validate", "register"] {
            assert_eq!(act(&app, &second, refused, "too-early-1", &json!({})).await.0, 409);
        }
        app.drain().await;

        // Who says that it is no duplicate may validate, and not register.
        let path = format!("/records/{}/not-duplicate", id(&second));
        let validator = app.token("validator", &["validate"]);
        let answer = app.post(&path, &validator, "not-dup-0001", &json!({})).await;
        assert_eq!(answer.status(), 202);
        let record = answer.json::<Value>().await.unwrap()["record"].clone();
        assert_eq!((record["status"].as_str().unwrap(), resembled(&record).len()), (after, 0));
        let sent = consequences(&app, "not-dup-0001").await;
        let on_behalf = |of: &str| sent.iter().filter(|(_, by, _)| by == of).count();
        assert_eq!((on_behalf("validator"), on_behalf("registrar")), (1, 4), "{sent:?}");
        assert!(sent.iter().all(|(_, by, scopes)| (by == "registrar") == (scopes == &["register"])), "{sent:?}");
        assert!(sent.iter().any(|(id, by, _)| id.starts_with("MARKED_AS_NOT_DUPLICATE__") && by == "validator"));
        let actions: Vec<(String, String)> =
            sqlx::query_as("select action::text, created_by from record_action where record_id = $1 order by ordinal")
                .bind(id(&second).parse::<Uuid>().unwrap())
                .fetch_all(&app.db)
                .await
                .unwrap();
        let expected = [("declare", "registrar"), ("mark_not_duplicate", "validator"), (action, "registrar")];
        assert_eq!(actions, expected.map(|(a, by)| (a.to_owned(), by.to_owned())));
        app.drain().await;
        app.done().await;
    }
}

#[tokio::test]
async fn what_was_only_declared_is_held_too_and_what_is_incomplete_is_reported() {
    let app = comparing(|_| {}).await;
    let same = child("Liseli Wanjala", "Thandeka Wanjala", 20);
    submit(&app, "draft-0001", "declare", &same).await;
    let second = submit(&app, "draft-0002", "declare", &same).await;
    assert_eq!(act(&app, &second, "validate", "act-000001", &json!({})).await.0, 409);
    assert_eq!(act(&app, &second, "not-duplicate", "act-000002", &json!({})).await.1["status"], "declared");
    assert_eq!(act(&app, &second, "validate", "act-000003", &json!({})).await.0, 202);

    let incomplete = submit(&app, "draft-0003", "notify", &same).await;
    assert_eq!((incomplete["status"].as_str().unwrap(), resembled(&incomplete).len()), ("in_progress", 2));
    assert_eq!(held(&app, &incomplete).await, None);
    let complete = super::correct(&app, &incomplete, "act-000004", &same).await;
    assert_eq!((complete["status"].as_str().unwrap(), resembled(&complete).len()), ("declared", 2));
    assert_eq!(held(&app, &complete).await.as_deref(), Some("declare"));
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn rejected_and_archived_records_do_not_count_and_resolve_their_pairs() {
    let app = comparing(|_| {}).await;
    let same = child("Liseli Wanjala", "Thandeka Wanjala", 20);
    for (n, action) in ["reject", "archive"].into_iter().enumerate() {
        let first = submit(&app, &format!("first-{n:04}"), "declare", &same).await;
        let second = submit(&app, &format!("second-{n:04}"), "register", &same).await;
        assert_eq!(resembled(&second), [id(&first)]);
        let reason = json!({ "reason": "entered twice" });
        assert_eq!(act(&app, &first, action, &format!("away-{n:05}"), &reason).await.0, 202);
        assert_eq!(resembled(&read(&app, &second).await), Vec::<&str>::new());
        assert_eq!(held(&app, &second).await.as_deref(), Some("register"), "somebody has to say so still");
        let found = &history(&app, &second).await[0]["possibleDuplicates"][0];
        assert_eq!(found["resolution"], ["rejected", "archived"][n]);
        assert_eq!(act(&app, &second, "archive", &format!("gone-{n:05}"), &reason).await.0, 202);
        let third = submit(&app, &format!("third-{n:04}"), "register", &same).await;
        assert_eq!((third["status"].as_str().unwrap(), resembled(&third).len()), ("waiting_validation", 0));
        assert_eq!(act(&app, &third, "reject", &format!("back-{n:05}"), &reason).await.0, 202);
    }
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn the_countrys_rejection_resolves_and_a_corrected_record_counts_again() {
    let app = comparing(|_| {}).await;
    let same = child("Liseli Wanjala", "Thandeka Wanjala", 20);
    let token = app.token("registrar", &["register"]);
    app.post("/records", &token, "first-0001", &body("birth", "register", &same)).await;
    let (record_id, action_id): (Uuid, Uuid) =
        sqlx::query_as("select id, awaiting_action_id from record").fetch_one(&app.db).await.unwrap();
    let second = submit(&app, "second-0001", "register", &same).await;
    let record_token = app.record_token(record_id, action_id);
    let refused =
        app.post(&format!("/records/{record_id}/reject"), &record_token, "verdict-1", &json!({ "reason": "no" })).await;
    assert_eq!(refused.status(), 202);
    assert_eq!(resembled(&read(&app, &second).await), Vec::<&str>::new());
    let first = json!({ "id": record_id });
    let corrected = super::correct(&app, &first, "fix-000001", &same).await;
    assert_eq!(resembled(&corrected), [id(&second)]);
    assert_eq!(held(&app, &corrected).await, None, "the other one is held, and is looked at");
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn a_registered_record_counts() {
    let app = comparing(|_| {}).await;
    let death = json!({ "deceased.name": "Baraka Okonda", "deceased.dateOfDeath": "2026-02-16" });
    let first = submit_event(&app, "death-0001", "death", "register", &death).await;
    let record_id: Uuid = id(&first).parse().unwrap();
    let action_id: Uuid = sqlx::query_scalar("select awaiting_action_id from record").fetch_one(&app.db).await.unwrap();
    let token = app.record_token(record_id, action_id);
    let confirmed = app
        .post(&format!("/records/{record_id}/confirm"), &token, "verdict-1", &json!({ "registrationNumber": "2026D1" }))
        .await;
    assert_eq!(confirmed.status(), 202);
    let second = submit_event(&app, "death-0002", "death", "register", &death).await;
    assert_eq!(resembled(&second), [id(&first)]);
    assert_eq!(read(&app, &first).await["status"], "registered");
    app.drain().await;
    app.done().await;
}
