//! What nothing refers to goes after its time, and nothing else.

use crvs_outbox::workers::housekeeping;
use reqwest::StatusCode;
use serde_json::json;

use super::{pdf, sha256};
use crate::harness::{TestApp, flat};

/// A day later, as far as uploads go.
pub(super) const AGE: &str = "
    update attachment set created_at = created_at - interval '25 hours';
    update attachment_blob set touched_at = touched_at - interval '25 hours';
    update attachment_upload set uploaded_at = uploaded_at - interval '25 hours'";

async fn age(app: &TestApp) {
    sqlx::raw_sql(AGE).execute(&app.db).await.unwrap();
}

#[tokio::test]
async fn uploads_that_nothing_refers_to_go_after_a_day_and_broken_ones_too() {
    let app = TestApp::start().await;
    let token = app.token("mary", &["declare"]);
    let (used, unused, again) = (pdf(300_000, 30), pdf(300_000, 31), pdf(300_000, 32));
    for bytes in [&used, &unused, &again] {
        assert_eq!(app.upload(&token, bytes).await.status(), StatusCode::CREATED);
    }
    let mut body = flat("declare");
    body["attachments"] = json!([{ "sha256": sha256(&used) }]);
    assert_eq!(app.post("/records", &token, "draft-0001", &body).await.status(), StatusCode::ACCEPTED);
    // What is left of an upload that broke off.
    app.execute("with b as (insert into attachment_blob default values returning id) insert into attachment_chunk (blob_id, ordinal, data) select id, 0, 'x' from b").await;
    let context = app.app().context.clone();
    let kept = housekeeping::run_once(&context).await.unwrap();
    assert_eq!((kept.attachments, kept.blobs), (0, 0), "a day has not passed");
    age(&app).await;
    assert_eq!(app.upload(&token, &again).await.status(), StatusCode::OK);
    let kept = housekeeping::run_once(&context).await.unwrap();
    assert_eq!((kept.attachments, kept.blobs), (1, 2));
    assert_eq!(app.stored().await, (2, 2, 4, 2));
    let status = async |bytes: &[u8]| app.get(&format!("/attachments/{}", sha256(bytes)), &token).await.status();
    assert_eq!(status(&used).await, StatusCode::OK);
    assert_eq!(status(&again).await, StatusCode::OK, "it was uploaded again meanwhile");
    assert_eq!(status(&unused).await, StatusCode::NOT_FOUND);
    let kept = housekeeping::run_once(&context).await.unwrap();
    assert_eq!((kept.attachments, kept.blobs), (0, 0));
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn what_a_submission_is_about_to_refer_to_is_not_collected() {
    let app = TestApp::start().await;
    let (token, bytes) = (app.token("mary", &["declare"]), pdf(300_000, 33));
    assert_eq!(app.upload(&token, &bytes).await.status(), StatusCode::CREATED);
    age(&app).await;
    let context = app.app().context.clone();
    // A submission that has held it and not committed yet.
    let mut submission = app.db.begin().await.unwrap();
    sqlx::query("select from attachment for key share").execute(&mut *submission).await.unwrap();
    assert_eq!(housekeeping::run_once(&context).await.unwrap().attachments, 0);
    submission.rollback().await.unwrap();
    // A collection that has locked it and not committed yet: the submission waits, and is refused as a whole.
    let mut collection = app.db.begin().await.unwrap();
    sqlx::query("delete from attachment").execute(&mut *collection).await.unwrap();
    let mut body = flat("declare");
    body["attachments"] = json!([{ "sha256": sha256(&bytes) }]);
    let (answer, ()) = tokio::join!(app.post("/records", &token, "draft-0001", &body), async {
        app.wait_for("select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like '%for key share%' and datname = current_database()", 1)
            .await;
        collection.commit().await.unwrap();
    });
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    let problem: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(problem["errors"][0]["pointer"], "/attachments/0/sha256");
    assert_eq!(app.count("select count(*) from record").await, 0);
    app.done().await;
}

#[tokio::test]
async fn references_and_collections_in_one_moment_never_leave_a_record_without_its_attachment() {
    let app = TestApp::start().await;
    let token = app.token("mary", &["declare"]);
    let context = app.app().context.clone();
    for round in 0..12_u64 {
        let bytes = pdf(1000, 40 + round);
        assert!(app.upload(&token, &bytes).await.status().is_success());
        age(&app).await;
        let mut body = flat("declare");
        body["attachments"] = json!([{ "sha256": sha256(&bytes) }]);
        let id = format!("draft-{round:04}");
        let (answer, collected) =
            tokio::join!(app.post("/records", &token, &id, &body), housekeeping::run_once(&context));
        let collected = collected.unwrap().attachments;
        let expected = if collected == 1 { StatusCode::BAD_REQUEST } else { StatusCode::ACCEPTED };
        assert_eq!(answer.status(), expected, "round {round}");
    }
    let lost = "select count(*) from record_attachment r where not exists (
        select from attachment a join attachment_chunk c using (blob_id) where a.sha256 = r.sha256)";
    assert_eq!(app.count(lost).await, 0);
    app.drain().await;
    app.done().await;
}
