//! Bytes outside the database.

use std::path::{Path, PathBuf};

use crvs_outbox::objects::Store;
use crvs_outbox::workers::housekeeping;
use reqwest::StatusCode;
use serde_json::json;
use uuid::Uuid;

use super::{pdf, sha256};
use crate::harness::{Setup, TestApp, flat};

/// The files in a folder, at any depth.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn a_folder_keeps_the_bytes_and_the_database_keeps_their_promises() {
    let folder = std::env::temp_dir().join(format!("crvs-outbox-objects-{}", Uuid::now_v7()));
    let store = Store::open(&format!("file://{}", folder.display())).unwrap();
    let change = move |settings: &mut crvs_outbox::config::Settings| settings.store = store;
    let app = TestApp::with(Setup { change: Box::new(change), ..Setup::default() }).await;
    let token = app.token("mary", &["declare"]);
    let (used, unused) = (pdf(7_000_000, 50), pdf(3_000_000, 51));
    for bytes in [&used, &unused] {
        assert_eq!(app.upload(&token, bytes).await.status(), StatusCode::CREATED);
        assert_eq!(app.upload(&token, bytes).await.status(), StatusCode::OK);
    }
    let wrong = app.put(&token, &sha256(b"other"), used.clone()).send().await.unwrap();
    assert_eq!(wrong.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(files(&folder).len(), 2);
    let mut body = flat("declare");
    let inline = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";
    body["attachments"] = json!([{ "sha256": sha256(&used) }, { "data": inline }]);
    for id in ["draft-0001", "draft-0002", "draft-0001"] {
        assert_eq!(app.post("/records", &token, id, &body).await.status(), StatusCode::ACCEPTED);
    }
    assert_eq!(files(&folder).len(), 3, "what is inline is there once too");
    assert_eq!(app.count("select count(*) from attachment_chunk").await, 0);
    let get = |range: &str| {
        let request = app.http.get(format!("{}/attachments/{}", app.base, sha256(&used))).bearer_auth(&token);
        request.header("range", range).send()
    };
    assert!(get("bytes=0-").await.unwrap().bytes().await.unwrap() == used);
    assert!(get("bytes=1048570-3000000").await.unwrap().bytes().await.unwrap() == used[1_048_570..=3_000_000]);
    sqlx::raw_sql(super::collecting::AGE).execute(&app.db).await.unwrap();
    let kept = housekeeping::run_once(&app.app().context).await.unwrap();
    assert_eq!((kept.attachments, kept.blobs), (1, 2), "the unused one, and what was left of the wrong one");
    assert_eq!(files(&folder).len(), 2);
    app.drain().await;
    app.done().await;
    std::fs::remove_dir_all(folder).unwrap();
}
