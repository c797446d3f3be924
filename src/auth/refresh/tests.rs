use serde_json::{Value, json};
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::super::testing::{self, AUDIENCE, Directory, ISSUER, OtherKey, claims, other_signer, refused, signer};
use super::super::{KeySource, Verifier};
use super::*;

const NEVER_AGAIN: Duration = Duration::MAX;

/// Keys at a server's address, fetched anew after a pause.
fn keys_at(server: &MockServer, pause: Duration, of: fn(Client, Url) -> Origin) -> CachedKeys {
    let url = Url::parse(&server.uri()).unwrap();
    let mut keys = CachedKeys::new(ISSUER, of(client().unwrap(), url));
    keys.interval = pause;
    keys.first_interval = pause;
    keys
}

fn verifier(keys: CachedKeys) -> Verifier {
    Verifier::over(ISSUER, AUDIENCE, Arc::new(keys))
}

/// Makes the server answer like this from now on, and count its requests anew.
async fn serve(server: &MockServer, answer: ResponseTemplate) {
    server.reset().await;
    let mock = Mock::given(method("GET")).respond_with(answer);
    mock.mount(server).await;
}

async fn requests(server: &MockServer) -> usize {
    server.received_requests().await.unwrap().len()
}

fn json_answer(keys: &Value) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(keys)
}

fn text_answer(text: &str) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_string(text)
}

fn key_set(kid: &str, key: &OtherKey) -> Value {
    let mut jwk = key.jwk.clone();
    jwk["kid"] = kid.into();
    json!({"keys": [jwk]})
}

#[tokio::test]
async fn an_unknown_key_id_fetches_the_key_set_again() {
    let server = MockServer::start().await;
    let (old, new) = (OtherKey::p256(), OtherKey::p256());
    serve(&server, json_answer(&key_set("old", &old))).await;
    let verifier = verifier(keys_at(&server, Duration::ZERO, Origin::Jwks));
    let of_old = old.sign(Some("old"), &claims());
    for _ in 0..3 {
        assert!(verifier.verify(&of_old).await.is_ok());
    }
    let of_new = new.sign(Some("new"), &claims());
    let error = refused(verifier.verify(&of_new).await);
    assert!(matches!(error, AuthError::UnknownKey));
    assert_eq!(requests(&server).await, 2);
    serve(&server, json_answer(&key_set("new", &new))).await;
    assert!(verifier.verify(&of_new).await.is_ok());
    assert!(verifier.verify(&of_new).await.is_ok());
    assert_eq!(requests(&server).await, 1);
}

#[tokio::test]
async fn a_known_key_id_with_a_bad_signature_fetches_nothing() {
    let server = MockServer::start().await;
    serve(&server, json_answer(&key_set("one", &OtherKey::p256()))).await;
    let verifier = verifier(keys_at(&server, Duration::ZERO, Origin::Jwks));
    let forged = OtherKey::p256().sign(Some("one"), &claims());
    let error = refused(verifier.verify(&forged).await);
    assert!(matches!(error, AuthError::BadSignature));
    assert_eq!(requests(&server).await, 1);
}

#[tokio::test]
async fn a_bad_signature_without_a_key_id_fetches_the_pem_text_again() {
    let server = MockServer::start().await;
    serve(&server, text_answer(signer().public_pem())).await;
    let verifier = verifier(keys_at(&server, Duration::ZERO, Origin::Pem));
    let of_old = signer().sign(&claims()).unwrap();
    assert!(verifier.verify(&of_old).await.is_ok());
    serve(&server, text_answer(other_signer().public_pem())).await;
    let of_new = other_signer().sign(&claims()).unwrap();
    assert!(verifier.verify(&of_new).await.is_ok());
    let error = refused(verifier.verify(&of_old).await);
    assert!(matches!(error, AuthError::BadSignature));
}

#[tokio::test]
async fn keys_are_fetched_at_most_once_in_the_interval() {
    let server = MockServer::start().await;
    serve(&server, text_answer(signer().public_pem())).await;
    let of_new = other_signer().sign(&claims()).unwrap();
    let slow = verifier(keys_at(&server, NEVER_AGAIN, Origin::Pem));
    for _ in 0..3 {
        let error = refused(slow.verify(&of_new).await);
        assert!(matches!(error, AuthError::BadSignature));
    }
    assert_eq!(requests(&server).await, 1);
    let url = Url::parse(&server.uri()).unwrap();
    let usual = CachedKeys::new(ISSUER, Origin::Pem(client().unwrap(), url));
    assert_eq!(usual.interval, Duration::from_mins(1));
}

#[tokio::test]
async fn requests_at_once_make_one_fetch() {
    let server = MockServer::start().await;
    serve(&server, text_answer(signer().public_pem())).await;
    let verifier = Arc::new(verifier(keys_at(&server, NEVER_AGAIN, Origin::Pem)));
    let token = signer().sign(&claims()).unwrap();
    let running: Vec<_> = (0..10)
        .map(|_| {
            let (verifier, token) = (Arc::clone(&verifier), token.clone());
            tokio::spawn(async move { verifier.verify(&token).await.is_ok() })
        })
        .collect();
    for one in running {
        assert!(one.await.unwrap());
    }
    assert_eq!(requests(&server).await, 1);
}

#[tokio::test]
async fn known_keys_go_on_serving_while_fetching_fails() {
    let server = MockServer::start().await;
    serve(&server, text_answer(signer().public_pem())).await;
    let verifier = verifier(keys_at(&server, Duration::ZERO, Origin::Pem));
    let token = signer().sign(&claims()).unwrap();
    assert!(verifier.verify(&token).await.is_ok());
    for broken in [ResponseTemplate::new(500), text_answer("no key")] {
        serve(&server, broken).await;
        let of_other = other_signer().sign(&claims()).unwrap();
        let error = refused(verifier.verify(&of_other).await);
        assert!(matches!(error, AuthError::BadSignature));
        assert_eq!(requests(&server).await, 1);
        assert!(verifier.verify(&token).await.is_ok());
    }
}

#[tokio::test]
async fn without_any_keys_the_answer_is_that_they_are_not_available() {
    let server = MockServer::start().await;
    let token = signer().sign(&claims()).unwrap();
    let moved = ResponseTemplate::new(302).insert_header("location", "/elsewhere");
    for (answer, reason) in [
        (ResponseTemplate::new(503), "Status(503)"),
        (moved, "Status(302)"),
        (text_answer(&"x".repeat(MAX_BODY + 1)), "TooLarge"),
        (text_answer("x"), "NoUsableKey"),
    ] {
        serve(&server, answer).await;
        let verifier = verifier(keys_at(&server, NEVER_AGAIN, Origin::Pem));
        for _ in 0..2 {
            let error = refused(verifier.verify(&token).await);
            let AuthError::KeysUnavailable(error) = error else {
                panic!("{error}");
            };
            assert_eq!(format!("{error:?}"), reason);
        }
        assert_eq!(requests(&server).await, 1);
    }
}

#[tokio::test]
async fn a_failed_fetch_does_not_show_the_address() {
    let url = Url::parse("http://user:secret@127.0.0.1:9/keys").unwrap();
    let verifier = testing::verifier(KeySource::WellKnownPem(url));
    let token = signer().sign(&claims()).unwrap();
    let AuthError::KeysUnavailable(error) = refused(verifier.verify(&token).await) else {
        panic!("keys from nowhere");
    };
    let text = format!("{error} {error:?}");
    assert!(!text.contains("secret") && !text.contains("/keys"), "{text}");
}

#[tokio::test]
async fn a_fetch_goes_on_when_the_request_that_asked_for_it_is_given_up() {
    let server = MockServer::start().await;
    serve(&server, text_answer(signer().public_pem())).await;
    let keys = Arc::new(keys_at(&server, NEVER_AGAIN, Origin::Pem));
    let mut first = Box::pin(keys.current());
    // One poll starts the fetch, whose answer cannot be there yet.
    assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(first.as_mut().poll(cx).is_pending())).await);
    drop(first);
    assert!(keys.current().await.is_ok());
    assert_eq!(requests(&server).await, 1);
}

#[tokio::test]
async fn old_keys_are_fetched_again_without_waiting_for_it() {
    let server = MockServer::start().await;
    serve(&server, text_answer(signer().public_pem())).await;
    let mut keys = keys_at(&server, Duration::ZERO, Origin::Pem);
    keys.max_age = Duration::ZERO;
    let keys = Arc::new(keys);
    let first = keys.current().await.unwrap();
    serve(&server, text_answer(other_signer().public_pem())).await;
    let still = keys.current().await.unwrap();
    assert!(Arc::ptr_eq(&first, &still));
    // The fetch in the background holds the lock until its keys are there.
    drop(keys.fetching.lock().await);
    let later = keys.cached().unwrap();
    assert!(!Arc::ptr_eq(&first, &later));
    assert_eq!(requests(&server).await, 1);
}

#[tokio::test]
async fn a_file_is_read_again_when_its_keys_do_not_do() {
    let directory = Directory::new();
    let path = directory.path().join("keys.pem");
    std::fs::write(&path, signer().public_pem()).unwrap();
    let mut keys = CachedKeys::new(ISSUER, Origin::File(path.clone()));
    keys.interval = Duration::ZERO;
    let verifier = verifier(keys);
    assert!(verifier.verify(&signer().sign(&claims()).unwrap()).await.is_ok());
    std::fs::write(&path, other_signer().public_pem()).unwrap();
    let of_new = other_signer().sign(&claims()).unwrap();
    assert!(verifier.verify(&of_new).await.is_ok());
}
