//! `POST /token` and `POST /verifyToken`: an integration exchanges its token for that of one record, which never grants more.

use jsonwebtoken::dangerous::insecure_decode_claims;
use reqwest::header::{CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use reqwest::{Response, StatusCode, Url};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{GATEWAY, Setup, Submitted, TestApp, expired_token};
use crate::peers::forged;

const CONFIRM: &str = "record.confirm-registration";
const REJECT: &str = "record.reject-registration";
const OPENCRVS: &str = "urn:opencrvs:oauth:grant-type:token-exchange";
const IETF: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const RECORD_TOKEN: &str = "urn:opencrvs:oauth:token-type:single_record_token";

type Parameters = Vec<(&'static str, String)>;

fn parameters(grant: &str, token: &str, more: &[(&'static str, String)]) -> Parameters {
    let usual = [
        ("grant_type", grant),
        ("subject_token", token),
        ("subject_token_type", ACCESS_TOKEN),
        ("requested_token_type", RECORD_TOKEN),
    ];
    usual.map(|(name, value)| (name, value.to_owned())).into_iter().chain(more.iter().cloned()).collect()
}

fn encoded(parameters: &Parameters) -> String {
    Url::parse_with_params("http://x/", parameters).unwrap().query().unwrap().to_owned()
}

/// As OpenCRVS and its integrations ask: everything in the query, and no body.
async fn in_query(app: &TestApp, parameters: &Parameters) -> Response {
    app.http.post(format!("{}/token?{}", app.base, encoded(parameters))).send().await.unwrap()
}

/// As RFC 8693 has it.
async fn in_form(app: &TestApp, parameters: &Parameters) -> Response {
    let request =
        app.http.post(format!("{}/token", app.base)).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    request.body(encoded(parameters)).send().await.unwrap()
}

fn for_record(id: Uuid) -> [(&'static str, String); 1] {
    [("record_id", id.to_string())]
}

fn for_action(of: &Submitted) -> [(&'static str, String); 2] {
    [("event_id", of.record_id.to_string()), ("action_id", of.action_id.to_string())]
}

/// The error of an answer, which nobody may keep.
async fn error(answer: Response) -> (u16, String, Value) {
    assert_eq!(answer.headers()[CACHE_CONTROL], "no-store");
    assert_eq!(answer.headers().contains_key(WWW_AUTHENTICATE), answer.status() == StatusCode::UNAUTHORIZED);
    let status = answer.status().as_u16();
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body.as_object().unwrap().len(), 2, "{body}");
    (status, body["error"].as_str().unwrap().to_owned(), body["error_description"].clone())
}

async fn confirm(app: &TestApp, record: Uuid, token: &str, number: &str) -> StatusCode {
    let path = format!("/records/{record}/confirm");
    app.post(&path, token, "any-key-at-all", &json!({ "registrationNumber": number })).await.status()
}

#[tokio::test]
async fn an_integration_gets_a_token_for_one_record_and_confirms_with_it_later() {
    let app = TestApp::start().await;
    let (birth, other) = (app.register_birth("draft-0001").await, app.register_birth("draft-0002").await);
    let client = app.token("mosip", &[CONFIRM, REJECT, "record.read"]);
    let answer = in_query(&app, &parameters(OPENCRVS, &client, &for_record(birth.record_id))).await;
    assert_eq!((answer.status(), &answer.headers()[CACHE_CONTROL]), (StatusCode::OK, &"no-store".parse().unwrap()));
    let answer: Value = answer.json().await.unwrap();
    let token = answer["access_token"].as_str().unwrap();
    let month = 30 * 24 * 60 * 60;
    let expected = json!({
        "access_token": token, "issued_token_type": RECORD_TOKEN, "token_type": "Bearer", "expires_in": month,
        "scope": format!("{CONFIRM} {REJECT}"),
    });
    assert_eq!(answer, expected);
    let claims: Value = insecure_decode_claims(token).unwrap();
    assert_eq!(claims["recordId"], json!(birth.record_id));
    assert_eq!((claims.get("eventId"), claims.get("actionId")), (None, None));
    assert_eq!((&claims["sub"], &claims["act"]), (&json!("mosip"), &json!({ "sub": "crvs-outbox" })));
    assert_eq!((&claims["aud"], &claims["scope"]), (&json!(GATEWAY), &json!([CONFIRM, REJECT])));
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), month);
    assert_eq!(confirm(&app, other.record_id, token, "2026B2").await, StatusCode::FORBIDDEN);
    assert_eq!(confirm(&app, birth.record_id, token, "2026B1").await, StatusCode::ACCEPTED);
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn a_token_may_be_for_one_requested_action_as_since_opencrvs_1_9() {
    let app = TestApp::start().await;
    let birth = app.register_birth("draft-0003").await;
    let client = app.token("mosip", &[REJECT]);
    let answer: Value = in_form(&app, &parameters(IETF, &client, &for_action(&birth))).await.json().await.unwrap();
    let token = answer["access_token"].as_str().unwrap();
    let claims: Value = insecure_decode_claims(token).unwrap();
    assert_eq!((&claims["eventId"], &claims["actionId"]), (&json!(birth.record_id), &json!(birth.action_id)));
    assert_eq!((claims.get("recordId"), &claims["scope"]), (None, &json!([REJECT])));
    assert_eq!(confirm(&app, birth.record_id, token, "2026B3").await, StatusCode::FORBIDDEN);
    let path = format!("/records/{}/reject", birth.record_id);
    let rejected = app.post(&path, token, "any-key-at-all", &json!({ "reason": "not found there" })).await;
    assert_eq!(rejected.status(), StatusCode::ACCEPTED);
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn who_may_not_decide_a_record_gets_no_token_for_it_and_is_not_told_whether_it_exists() {
    let app = TestApp::start().await;
    let (birth, other) = (app.register_birth("draft-0004").await, app.register_birth("draft-0005").await);
    let client = app.token("mosip", &[CONFIRM]);
    let unknown = error(in_query(&app, &parameters(OPENCRVS, &client, &for_record(Uuid::new_v4()))).await).await;
    assert_eq!((unknown.0, unknown.1.as_str()), (400, "invalid_request"));
    let registrar = app.token("registrar", &["register", "record.register", "record.read"]);
    let deaths = app.token("mosip", &["record.confirm-registration[event=death]"]);
    let of_birth = app.record_token(birth.record_id, birth.action_id);
    let mixed = [("event_id", birth.record_id.to_string()), ("action_id", other.action_id.to_string())];
    let no_action = [("event_id", birth.record_id.to_string()), ("action_id", Uuid::new_v4().to_string())];
    for (token, of) in [
        (&registrar, for_record(birth.record_id).to_vec()),
        (&deaths, for_record(birth.record_id).to_vec()),
        (&of_birth, for_record(other.record_id).to_vec()),
        (&of_birth, for_action(&other).to_vec()),
        (&client, mixed.to_vec()),
        (&client, no_action.to_vec()),
    ] {
        assert_eq!(error(in_query(&app, &parameters(OPENCRVS, token, &of)).await).await, unknown, "{of:?}");
    }
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn the_token_of_a_record_gives_one_that_does_not_outlive_it() {
    let app = TestApp::start().await;
    let birth = app.register_birth("draft-0006").await;
    let exp = time::OffsetDateTime::now_utc().unix_timestamp() + 100;
    let short = forged(&json!({ "recordId": birth.record_id, "scope": [CONFIRM], "exp": exp }));
    let answer: Value =
        in_query(&app, &parameters(OPENCRVS, &short, &for_record(birth.record_id))).await.json().await.unwrap();
    assert!((1..=100).contains(&answer["expires_in"].as_i64().unwrap()), "{answer}");
    let claims: Value = insecure_decode_claims(answer["access_token"].as_str().unwrap()).unwrap();
    assert_eq!((&claims["exp"], &claims["sub"]), (&json!(exp), &json!("registrar")));
    // One that is past its end, within the leeway, gives none.
    let over = forged(&json!({ "recordId": birth.record_id, "scope": [CONFIRM], "exp": exp - 110 }));
    let refused = error(in_query(&app, &parameters(OPENCRVS, &over, &for_record(birth.record_id))).await).await;
    assert_eq!((refused.0, refused.1.as_str()), (401, "unauthorized_client"));
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_as_oauth_says_it() {
    let app = TestApp::start().await;
    let birth = app.register_birth("draft-0007").await;
    let client = app.token("mosip", &[CONFIRM]);
    let record = for_record(birth.record_id);
    let good = parameters(OPENCRVS, &client, &record);
    let with = |name: &'static str, value: &str| {
        let mut changed: Parameters = good.iter().filter(|(n, _)| *n != name).cloned().collect();
        changed.push((name, value.to_owned()));
        changed
    };
    let both = parameters(OPENCRVS, &client, &[&record[..], &for_action(&birth)[..]].concat());
    let neither = parameters(OPENCRVS, &client, &[]);
    let twice = parameters(OPENCRVS, &client, &[&record[..], &record[..]].concat());
    for (parameters, status, expected) in [
        (with("grant_type", ""), 400, "invalid_request"),
        (with("grant_type", "client_credentials"), 400, "unsupported_grant_type"),
        (with("subject_token", ""), 400, "invalid_request"),
        (with("subject_token", "no token"), 401, "unauthorized_client"),
        (with("subject_token", &expired_token()), 401, "unauthorized_client"),
        (with("subject_token_type", "urn:ietf:params:oauth:token-type:saml2"), 400, "invalid_request"),
        (with("requested_token_type", ACCESS_TOKEN), 400, "invalid_request"),
        (with("record_id", "no uuid"), 400, "invalid_request"),
        (with("action_id", &birth.action_id.to_string()), 400, "invalid_request"),
        (with("scope", "register"), 400, "invalid_scope"),
        (with("audience", "opencrvs:countryconfig-user"), 400, "invalid_target"),
        (with("actor_token", &client), 400, "invalid_request"),
        (both, 400, "invalid_request"),
        (neither, 400, "invalid_request"),
        (twice, 400, "invalid_request"),
    ] {
        for answer in [in_query(&app, &parameters).await, in_form(&app, &parameters).await] {
            let (is, code, _) = error(answer).await;
            assert_eq!((is, code.as_str()), (status, expected), "{parameters:?}");
        }
    }
    // In the query and again in the body; and a body of another type.
    let url = format!("{}/token?{}", app.base, encoded(&good));
    for media_type in ["application/x-www-form-urlencoded", "application/json"] {
        let request = app.http.post(&url).header(CONTENT_TYPE, media_type).body(encoded(&good));
        assert_eq!(error(request.send().await.unwrap()).await.1, "invalid_request", "{media_type}");
    }
    assert_eq!(in_form(&app, &with("audience", GATEWAY)).await.status(), StatusCode::OK);
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn exchanges_and_checks_count_against_the_rate_of_the_tokens_subject() {
    let setup = Setup {
        change: Box::new(|settings| {
            (settings.handlers.edge.requests_per_second, settings.handlers.edge.burst) = (1, 2);
        }),
        ..Setup::default()
    };
    let app = TestApp::with(setup).await;
    let client = app.token("mosip", &[CONFIRM]);
    let parameters = parameters(OPENCRVS, &client, &for_record(Uuid::new_v4()));
    let check = || app.http.post(format!("{}/verifyToken", app.base)).json(&json!({ "token": client })).send();
    // A slow machine refills the bucket meanwhile.
    let mut refused = [false, false];
    for _ in 0..100 {
        refused[0] |= check().await.unwrap().status() == StatusCode::TOO_MANY_REQUESTS;
        let answer = in_query(&app, &parameters).await;
        assert_eq!(answer.headers()[CACHE_CONTROL], "no-store");
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            assert_eq!(answer.headers()[CONTENT_TYPE], "application/problem+json");
            refused[1] = true;
        }
    }
    assert_eq!(refused, [true, true]);
    app.done().await;
}

#[tokio::test]
async fn a_check_of_a_token_says_whether_it_counts_and_nothing_else() {
    let app = TestApp::start().await;
    let check = async |body: Value| {
        let answer = app.http.post(format!("{}/verifyToken", app.base)).json(&body).send().await.unwrap();
        (answer.status(), answer.json::<Value>().await.unwrap())
    };
    let good = app.token("registrar", &["register"]);
    assert_eq!(check(json!({ "token": good })).await, (StatusCode::OK, json!({ "valid": true })));
    let elsewhere = forged(&json!({ "aud": "opencrvs:search-user" }));
    let stranger = forged(&json!({ "iss": "somebody" }));
    for bad in ["", "no token", &expired_token(), &elsewhere, &stranger, &good[..good.len() - 4]] {
        assert_eq!(check(json!({ "token": bad })).await, (StatusCode::OK, json!({ "valid": false })));
    }
    for body in [json!({}), json!({ "token": null }), json!([good]), json!({ "token": good, "more": 1 })] {
        assert_eq!(check(body).await.0, StatusCode::BAD_REQUEST);
    }
    app.done().await;
}
