//! P7 and P8: tokens are minted for deliveries and rest nowhere; the job tables hold no personal data.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use crvs_outbox::auth::{KeySource, Trust, Verifier};
use jsonwebtoken::{Algorithm, dangerous, decode_header};
use serde_json::{Value, json};
use uuid::Uuid;
use wiremock::matchers::path;
use wiremock::{Mock, ResponseTemplate};

use crate::harness::{GATEWAY, Submitted, TestApp, birth, flat};
use crate::peers::by_hand;

/// The tables of the queue and of its dedupe.
const JOB_TABLES: [&str; 6] =
    ["outbox_message", "outbox_history", "outbox_attempt", "destination", "worker", "client_transaction"];

/// What the sample birth says about people.
const PERSONAL: [&str; 9] = [
    "Wanjala",
    "Liseli",
    "Thandeka",
    "Kofi",
    "970000101",
    "wanjala.t@example.org",
    "4190073312",
    "4175520986",
    "Boat builder",
];

/// (path, Idempotency-Key, token) of everything that the peers got.
async fn deliveries(app: &TestApp) -> Vec<(String, String, String)> {
    let requests = app.peers.received_requests().await.unwrap();
    let text = |request: &wiremock::Request, name: &str| request.headers[name].to_str().unwrap().to_owned();
    let of = |request: &wiremock::Request| {
        let token = text(request, "authorization").strip_prefix("Bearer ").unwrap().to_owned();
        (request.url.path().to_owned(), text(request, "idempotency-key"), token)
    };
    requests.iter().map(of).collect()
}

fn claims_of(token: &str) -> Value {
    dangerous::insecure_decode_claims(token).unwrap()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test]
async fn a_delivery_carries_a_short_lived_token_for_its_destination_in_the_initiators_name() {
    let app = TestApp::start().await;
    for (user, transaction_id) in [("clerk-1", "shared-01"), ("clerk-1", "shared-02"), ("clerk-2", "shared-03")] {
        let token = app.token(user, &["declare"]);
        app.post("/records", &token, transaction_id, &flat("declare")).await.error_for_status().unwrap();
    }
    app.drain().await;
    let jwks = format!("{}/.well-known/jwks.json", app.base).parse().unwrap();
    let audiences = ["search", "audit", "metrics", "notification"].map(str::to_owned).to_vec();
    let trust = Trust { issuer: "crvs-outbox".to_owned(), audiences, keys: KeySource::Jwks(jwks) };
    let verifier = Verifier::new(vec![trust]).unwrap();
    let mut shared: HashMap<(String, String), Vec<String>> = HashMap::new();
    for (path, key, token) in deliveries(&app).await {
        assert_eq!(decode_header(&token).unwrap().alg, Algorithm::RS256);
        let principal = verifier.verify(&token).await.unwrap();
        let user = if key.ends_with("_shared-03") { "clerk-2" } else { "clerk-1" };
        assert_eq!(principal.id, user);
        let claims = claims_of(&token);
        assert_eq!(claims["sub"], user);
        assert_eq!(claims["aud"], path.trim_start_matches('/'));
        assert_eq!(claims["act"], json!({ "sub": "crvs-outbox" }));
        assert_eq!(claims["scope"], json!(["declare"]));
        let expires = claims["exp"].as_u64().unwrap();
        assert!((1..=300).contains(&(expires - claims["iat"].as_u64().unwrap())));
        assert!(expires <= now() + 300);
        shared.entry((path, user.to_owned())).or_default().push(token);
    }
    assert_eq!(shared.len(), 8);
    for ((path, user), tokens) in shared {
        assert_eq!(tokens.len(), if user == "clerk-1" { 2 } else { 1 }, "{path} {user}");
        assert!(tokens.iter().all(|token| *token == tokens[0]), "{path} {user} share one signature");
    }
    app.done().await;
}

#[tokio::test]
async fn the_country_config_gets_a_token_for_each_record_that_may_decide_it_and_nothing_else() {
    let app = TestApp::start().await;
    let mut births = Vec::new();
    for id in ["own-token-1", "own-token-2"] {
        births.push((id, app.register_birth(id).await));
    }
    app.drain().await;
    let mut tokens = Vec::new();
    for (path, key, token) in deliveries(&app).await {
        if path != "/country-config/event-registration" {
            continue;
        }
        let (_, of) = births.iter().find(|(id, _)| key.ends_with(id)).unwrap();
        assert_eq!(decode_header(&token).unwrap().alg, Algorithm::RS256);
        let claims = claims_of(&token);
        assert_eq!(claims["recordId"].as_str().unwrap().parse::<Uuid>().unwrap(), of.record_id);
        assert_eq!(claims["actionId"].as_str().unwrap().parse::<Uuid>().unwrap(), of.action_id);
        assert_eq!(claims["scope"], json!(["record.confirm-registration", "record.reject-registration"]));
        assert_eq!(claims["aud"], json!(["country-config", GATEWAY]));
        assert_eq!((&claims["sub"], &claims["act"]["sub"]), (&json!("registrar"), &json!("crvs-outbox")));
        let month = 30 * 24 * 60 * 60;
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), month);
        // It declares nothing, and reads its own record only.
        let refused = app.post("/records", &token, "not-allowed", &birth("register")).await;
        assert_eq!(refused.status(), 403);
        for (_, other) in &births {
            let read = app.get(&format!("/records/{}", other.record_id), &token).await;
            assert_eq!(read.status(), if other.record_id == of.record_id { 200 } else { 404 });
        }
        tokens.push(token);
    }
    assert_eq!(tokens.len(), 2);
    assert_ne!(tokens[0], tokens[1]);
    app.done().await;
}

/// Every row of a table as text.
async fn rows_of(app: &TestApp, table: &str) -> Vec<String> {
    let sql = format!("select t::text from {table} t");
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(&app.db).await.unwrap()
}

async fn every_table(app: &TestApp) -> Vec<String> {
    let sql = "select table_schema || '.' || table_name from information_schema.tables
               where table_type = 'BASE TABLE' and table_schema not in ('pg_catalog', 'information_schema')";
    sqlx::query_scalar(sql).fetch_all(&app.db).await.unwrap()
}

/// A birth with a failing peer, a verdict and another one's rejection with words about people, in every state of a
/// message that lasts; looked at by `look` after each step.
async fn a_busy_queue(app: &TestApp, look: impl AsyncFn()) -> Vec<Submitted> {
    let words = "Thandeka Wanjala, +260970000101, was not found in the village";
    for name in ["search", "notification"] {
        let error = ResponseTemplate::new(503).set_body_string(words).insert_header("x-why", words);
        Mock::given(path(format!("/{name}"))).respond_with(error).up_to_n_times(2).mount(&app.peers).await;
    }
    let refused = ResponseTemplate::new(422).set_body_json(json!({ "error": words }));
    Mock::given(path("/audit")).respond_with(refused).up_to_n_times(1).mount(&app.peers).await;
    let births = vec![app.register_birth("private-1").await, app.register_birth("private-2").await];
    look().await;
    app.drain().await;
    look().await;
    let [first, second] = births.as_slice() else { return births };
    let token = app.record_token(first.record_id, first.action_id);
    let body = json!({
        "registrationNumber": "2026BPRIV01", "comment": words,
        "childIdentifiers": [{ "type": "NATIONAL_ID", "value": "4190073312" }],
    });
    let confirmed = app.post(&format!("/records/{}/confirm", first.record_id), &token, "verdict-1", &body).await;
    assert_eq!(confirmed.status(), 202);
    assert_eq!(app.reject(second, words).await.status(), 202);
    look().await;
    for _ in 0..4 {
        app.make_due().await;
        app.drain().await;
        look().await;
    }
    assert!(app.count("select count(*) from outbox_message where state = 'dead'").await > 0);
    births
}

#[tokio::test]
async fn no_row_of_any_table_holds_a_token() {
    let app = TestApp::with(by_hand(|_| {})).await;
    let births = a_busy_queue(&app, async || {}).await;
    let mut tokens: Vec<String> = deliveries(&app).await.into_iter().map(|(_, _, token)| token).collect();
    tokens.push(app.token("registrar", &["register"]));
    tokens.extend(births.iter().map(|b| app.record_token(b.record_id, b.action_id)));
    // As a column of bytes would show it.
    let hex = |text: &str| text.bytes().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let tables = every_table(&app).await;
    for table in JOB_TABLES {
        assert!(tables.contains(&format!("public.{table}")), "{table}");
    }
    let mut rows = 0;
    for table in tables {
        for row in rows_of(&app, &table).await {
            rows += 1;
            assert!(!row.contains("Bearer ") && !row.contains("eyJ"), "{table}");
            for part in tokens.iter().flat_map(|token| token.split('.')) {
                assert!(!row.contains(part) && !row.contains(&hex(part)), "{table}");
            }
        }
    }
    assert!(rows > 40);
    app.done_with_leftovers().await;
}

#[tokio::test]
async fn no_job_table_holds_personal_data_whatever_peers_and_registrars_write() {
    let app = TestApp::with(by_hand(|_| {})).await;
    let look = async || {
        for table in JOB_TABLES {
            for row in rows_of(&app, table).await {
                for word in PERSONAL {
                    assert!(!row.contains(word), "{table} holds {word}: {row}");
                }
            }
        }
    };
    a_busy_queue(&app, look).await;
    // The look is not blind: the declarations hold every word.
    let declarations = rows_of(&app, "record_version").await.concat();
    for word in PERSONAL {
        assert!(declarations.contains(word), "{word}");
    }
    app.done_with_leftovers().await;
}
