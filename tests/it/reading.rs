//! What may be read, by whom, and what is stored of a declaration.

use crvs_outbox::samples;
use reqwest::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{TestApp, flat};

#[tokio::test]
async fn a_transaction_tells_its_owner_what_became_of_it() {
    let app = TestApp::start().await;
    let birth = app.register_birth("draft-0001").await;
    let token = app.token("registrar", &["register"]);
    let read = async || app.get("/transactions/draft-0001", &token).await.json::<Value>().await.unwrap();
    assert_eq!(read().await, birth.body);
    app.drain().await;
    assert_eq!(app.confirm(&birth, "2026B1").await.status(), StatusCode::ACCEPTED);
    app.drain().await;
    let now = read().await;
    assert_eq!(now["record"]["status"], "registered");
    assert_eq!(now["record"]["registrationNumber"], "2026B1");
    let deliveries = now["deliveries"].as_array().unwrap();
    assert_eq!(deliveries.len(), 9, "those of the verdict are its too");
    assert!(deliveries.iter().all(|d| d["state"] == "delivered"));
    app.done().await;
}

#[tokio::test]
async fn a_history_has_every_action_and_its_deliveries_in_order() {
    let app = TestApp::start().await;
    let birth = app.register_birth("draft-0001").await;
    app.drain().await;
    assert_eq!(app.confirm(&birth, "2026B1").await.status(), StatusCode::ACCEPTED);
    let token = app.token("registrar", &["register"]);
    let history: Value = app.get(&format!("/records/{}/history", birth.record_id), &token).await.json().await.unwrap();
    let actions: Vec<String> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|a| {
            format!(
                "{} {} {}",
                a["action"].as_str().unwrap(),
                a["status"].as_str().unwrap(),
                a["deliveries"].as_array().unwrap().len()
            )
        })
        .collect();
    assert_eq!(actions, ["declare accepted 2", "register requested 4", "register accepted 3"]);
    assert_eq!(history[2]["registrationNumber"], "2026B1");
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn what_may_not_be_read_does_not_exist() {
    let app = TestApp::start().await;
    let (one, two) = (app.register_birth("draft-0001").await, app.register_birth("draft-0002").await);
    let sha256: String =
        sqlx::query_scalar("select encode(sha256, 'hex') from attachment").fetch_one(&app.db).await.unwrap();
    let readers = [
        (app.token("registrar", &["declare"]), true),
        (app.token("auditor", &["record.read"]), true),
        (app.token("auditor", &["record.read[event=birth]"]), true),
        (app.token("auditor", &["record.read[event=death]"]), false),
        (app.token("auditor", &["register"]), false),
        (app.record_token(one.record_id, one.action_id), true),
        // Its subject is the submitter; it is good for its own record all the same.
        (app.record_token(two.record_id, two.action_id), false),
    ];
    for (n, (token, may)) in readers.iter().enumerate() {
        let expected = if *may { StatusCode::OK } else { StatusCode::NOT_FOUND };
        for path in [
            "/transactions/draft-0001".to_owned(),
            format!("/records/{}", one.record_id),
            format!("/records/{}/history", one.record_id),
        ] {
            assert_eq!(app.get(&path, token).await.status(), expected, "reader {n}: {path}");
        }
    }
    let picture = format!("/attachments/{sha256}");
    assert_eq!(app.get(&picture, &readers[0].0).await.status(), StatusCode::OK);
    assert_eq!(app.get(&picture, &readers[4].0).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(
        app.get(&format!("/attachments/{}", "0".repeat(64)), &readers[1].0).await.status(),
        StatusCode::NOT_FOUND
    );
    let unknown = format!("/records/{}", Uuid::now_v7());
    assert_eq!(app.get(&unknown, &readers[1].0).await.status(), StatusCode::NOT_FOUND);
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn a_bundle_is_stamped_and_its_attachments_move_out_and_nothing_else_changes() {
    let app = TestApp::start().await;
    let birth = app.register_birth_as_sent("draft-0001", samples::BIRTH).await;
    let stored: String =
        sqlx::query_scalar("select declaration::text from record_version").fetch_one(&app.db).await.unwrap();
    let (sent, stored_lines): (Vec<&str>, Vec<&str>) =
        (samples::BIRTH.trim_end().lines().collect(), stored.lines().collect());
    // Line by line the same, but for the id, the focus that named it, the two stamps of the Task, and the picture.
    let changed = stored_lines.iter().filter(|line| !sent.contains(line)).count();
    assert_eq!(changed, 5);
    let bundle: Value = serde_json::from_str(&stored).unwrap();
    assert_eq!(bundle["entry"][0]["resource"]["id"], birth.record_id.to_string());
    let resources = || bundle["entry"].as_array().unwrap().iter().map(|e| &e["resource"]);
    let task = resources().find(|r| r["resourceType"] == "Task").unwrap();
    let tracking = json!({ "system": "http://opencrvs.org/specs/id/birth-tracking-id", "value": birth.body["record"]["trackingId"] });
    assert!(task["identifier"].as_array().unwrap().contains(&tracking));
    assert_eq!(task["businessStatus"]["coding"][0]["code"], "WAITING_VALIDATION");
    let document = resources().find(|r| r["resourceType"] == "DocumentReference").unwrap();
    let attachment = &document["content"][0]["attachment"];
    assert!(attachment.get("data").is_none());
    let token = app.token("registrar", &["register"]);
    let picture = app.get(attachment["url"].as_str().unwrap(), &token).await;
    assert_eq!(picture.headers()["content-type"], "image/png");
    assert!(picture.bytes().await.unwrap().starts_with(b"\x89PNG"));
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn attachments_beside_the_declaration_are_kept_with_it() {
    use base64::Engine as _;
    let app = TestApp::start().await;
    // Over one chunk, so that it is put together again.
    let mut pdf = b"%PDF-1.7\n".to_vec();
    pdf.extend((0..600_000_u32).map(|n| u8::try_from(n % 251).unwrap()));
    let data = base64::engine::general_purpose::STANDARD.encode(&pdf);
    let mut body = flat("declare");
    body["attachments"] = json!([{ "type": "PROOF", "contentType": "application/pdf", "data": data }]);
    let token = app.token("mary", &["declare"]);
    let answer: Value = app.post("/records", &token, "draft-0001", &body).await.json().await.unwrap();
    let record: Value =
        app.get(&format!("/records/{}", answer["record"]["id"].as_str().unwrap()), &token).await.json().await.unwrap();
    assert_eq!(record["attachments"][0]["type"], "PROOF");
    assert_eq!(record["attachments"][0]["size"], pdf.len());
    assert_eq!(record["declaration"], body["declaration"]);
    let path = format!("/attachments/{}", record["attachments"][0]["sha256"].as_str().unwrap());
    assert_eq!(app.get(&path, &token).await.bytes().await.unwrap(), pdf);
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn the_public_keys_are_there_for_everybody() {
    let app = TestApp::start().await;
    let get = async |path: &str| app.http.get(format!("{}{path}", app.base)).send().await.unwrap();
    let jwks: Value = get("/.well-known/jwks.json").await.json().await.unwrap();
    assert_eq!(jwks["keys"][0]["alg"], "RS256");
    assert!(get("/.well-known").await.text().await.unwrap().starts_with("-----BEGIN PUBLIC KEY-----"));
    let internal = format!("http://{}", app.app().internal_addr);
    for (path, word) in [("/healthz", "alive"), ("/readyz", "ready"), ("/metrics", "crvs_outbox")] {
        app.register_birth(&format!("draft-{}", path.trim_start_matches('/'))).await;
        assert!(
            app.http.get(format!("{internal}{path}")).send().await.unwrap().text().await.unwrap().contains(word),
            "{path}"
        );
        assert_eq!(get(path).await.status(), StatusCode::NOT_FOUND);
    }
    app.drain().await;
    app.done().await;
}
