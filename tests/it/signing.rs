//! Receivers can tell that a delivery is ours, with other people's implementations of Standard Webhooks; and what signs
//! deliveries signs no tokens.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crvs_outbox::app::{App, AppError, Halves};
use crvs_outbox::auth::{WebhookKey, WebhookKeyError, WebhookSecret};
use crvs_outbox::workers::signature::Signing;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;
use wiremock::matchers::path;
use wiremock::{Mock, ResponseTemplate};

use crate::harness::{GATEWAY, Setup, TestApp, key_file, new_database, python, settings};

/// Where the service of a test has the key of its deliveries if nobody says otherwise.
fn webhook_key_file() -> PathBuf {
    key_file().with_file_name("webhook-key.pem")
}

async fn jwks(app: &TestApp) -> Value {
    let response = app.http.get(format!("{}/.well-known/jwks.json", app.base)).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    response.json().await.unwrap()
}

/// Sends what a worker would, and says how it arrived.
async fn arrived(app: &TestApp, signing: &Signing, id: &str, at: SystemTime, fits: &[&str]) -> Value {
    let body = json!({"type": "org.crvs.record.registered.v1", "data": {"name": "Nguyễn. Ánh", "weight": 3.5}});
    let body = body.to_string().into_bytes();
    let headers = signing.headers(id, at, &body).unwrap();
    let url = format!("{}/signed", app.peers.uri());
    app.http.post(url).headers(headers).body(body).send().await.unwrap();
    let request = app.peers.received_requests().await.unwrap().pop().unwrap();
    let headers: serde_json::Map<String, Value> =
        request.headers.iter().map(|(name, value)| (name.to_string(), Value::from(value.to_str().unwrap()))).collect();
    json!({"headers": headers, "body": STANDARD.encode(request.body), "fits": fits})
}

#[tokio::test]
async fn official_verifiers_accept_what_is_signed_and_refuse_a_changed_byte_also_during_rotation() {
    let app = TestApp::start().await;
    Mock::given(path("/signed")).respond_with(ResponseTemplate::new(200)).mount(&app.peers).await;
    let secret = |bytes: &[u8]| format!("whsec_{}", STANDARD.encode(bytes));
    let [new, old, foreign] = [secret(&[1; 64]), secret(&[2; 24]), secret(&[3; 32])];
    let key = Arc::new(WebhookKey::load_or_generate(&webhook_key_file()).unwrap());
    let signing = |secrets: &[&str], key: Option<&Arc<WebhookKey>>| {
        let secrets: Vec<_> = secrets.iter().map(|text| WebhookSecret::parse(text).unwrap()).collect();
        Signing::new(secrets, key.cloned()).unwrap()
    };
    let now = SystemTime::now();
    let rotating = signing(&[&new, &old], Some(&key));
    let requests = [
        arrived(&app, &signing(&[&old], None), "webhook__registered_first-1", now, &["old"]).await,
        arrived(&app, &signing(&[&new, &old], None), "webhook__registered_second-2", now, &["new", "old"]).await,
        arrived(&app, &rotating, "webhook__registered_1.2.1614265330", now, &["new", "old", "v1a"]).await,
        arrived(&app, &signing(&[&new], None), "webhook__registered_third:3", now, &["new"]).await,
        arrived(&app, &signing(&[], Some(&key)), "webhook__registered_fourth-4", now, &["v1a"]).await,
        arrived(&app, &rotating, "webhook__registered_stale-5", now - Duration::from_mins(10), &[]).await,
    ];
    let fitting: usize = requests.iter().map(|request| request["fits"].as_array().unwrap().len()).sum();
    let told = json!({
        "secrets": {"new": new, "old": old, "foreign": foreign},
        "jwks": jwks(&app).await,
        "key_file": webhook_key_file(),
        "requests": requests,
    });
    let counts = tokio::task::spawn_blocking(move || verify(&told)).await.unwrap();
    assert_eq!(counts["accepted"], fitting);
    assert!(counts["refused"].as_u64().unwrap() > 100 * u64::try_from(fitting).unwrap(), "{counts}");
    app.done().await;
}

/// Lets Python check, and returns what it counted.
fn verify(told: &Value) -> Value {
    let python = python();
    let file = std::env::temp_dir().join(format!("crvs-outbox-signed-{}.json", Uuid::new_v4()));
    std::fs::write(&file, told.to_string()).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = root.join("tests/interop/verify.py");
    let output = Command::new(python).arg("-I").arg(script).arg(&file).arg(root.join("docs/webhooks.md")).output();
    std::fs::remove_file(&file).unwrap();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn the_key_set_has_the_key_of_the_tokens_that_of_the_deliveries_and_those_of_a_rotation() {
    let dir = std::env::temp_dir().join(format!("crvs-outbox-keys-{}", Uuid::new_v4()));
    std::fs::create_dir(&dir).unwrap();
    let (private, public) = (dir.join("own.pem"), dir.join("next.pub.pem"));
    let spki = "MCowBQYDK2VwAyEAMpYEoK5FFBnfXmr/NLZaMUMiLP6bjf9lqxp2b7EdFNY=";
    std::fs::write(&public, format!("-----BEGIN PUBLIC KEY-----\n{spki}\n-----END PUBLIC KEY-----\n")).unwrap();
    let own = WebhookKey::load_or_generate(&private).unwrap().public().jwk();
    let change = move |settings: &mut crvs_outbox::config::Settings| {
        assert_eq!(settings.webhook_key_file, webhook_key_file());
        settings.webhook_key_file = private;
        settings.webhook_public_keys = vec![public];
    };
    let app = TestApp::with(Setup { change: Box::new(change), ..Setup::default() }).await;
    let set = jwks(&app).await;
    let [rsa, first, second] = set["keys"].as_array().unwrap().as_slice() else { panic!("{set}") };
    assert_eq!((&rsa["kty"], &rsa["alg"]), (&json!("RSA"), &json!("RS256")));
    assert_eq!(first, &own);
    assert_eq!(second["x"], "MpYEoK5FFBnfXmr_NLZaMUMiLP6bjf9lqxp2b7EdFNY");
    let members: Vec<&String> = second.as_object().unwrap().keys().collect();
    assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x"]);
    std::fs::remove_dir_all(dir).unwrap();
    app.done().await;
}

#[tokio::test]
async fn a_listed_public_key_that_is_not_there_stops_the_start() {
    let mut settings = settings(new_database().await, "http://127.0.0.1:9");
    settings.webhook_public_keys = vec!["/no/such/key".into()];
    let refused = App::start(settings, Halves::BOTH).await.err().unwrap();
    assert!(matches!(refused, AppError::WebhookKey(WebhookKeyError::File { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_bearer_token_signed_with_the_key_of_the_deliveries_is_refused() {
    let app = TestApp::start().await;
    let private = EncodingKey::from_ed_pem(&std::fs::read(webhook_key_file()).unwrap()).unwrap();
    let kid = jwks(&app).await["keys"][1]["kid"].as_str().unwrap().to_owned();
    let exp = jsonwebtoken::get_current_timestamp() + 60;
    let claims =
        json!({"iss": "crvs-outbox", "aud": GATEWAY, "sub": "registrar", "scope": ["record.read"], "exp": exp});
    let nothing = format!("/records/{}", Uuid::new_v4());
    for kid in [None, Some(kid)] {
        let header = Header { kid, ..Header::new(Algorithm::EdDSA) };
        let token = jsonwebtoken::encode(&header, &claims, &private).unwrap();
        assert_eq!(app.get(&nothing, &token).await.status(), StatusCode::UNAUTHORIZED);
    }
    let good = app.token("registrar", &["record.read"]);
    assert_eq!(app.get(&nothing, &good).await.status(), StatusCode::NOT_FOUND);
    app.done().await;
}
