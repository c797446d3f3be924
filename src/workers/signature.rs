//! The headers with which a receiver tells that a delivery is ours (Standard Webhooks 1.0.0).
//!
//! Promises: the id, the time and the body are signed as they are sent, and changing a byte of any of them breaks every
//! signature. Nobody who sees a delivery can cut what was signed apart in another way, or use it as a token: see
//! [`Unsignable`]. Not promised: that a receiver looks.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::auth::{WebhookKey, WebhookKeyError, WebhookSecret};

/// The message's transaction id: the same at each attempt.
pub const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
/// The time of the attempt, in seconds since 1970.
pub const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
/// The signatures, with a space between two of them.
pub const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// Why a delivery is not signed. Our own fault, and nothing that this service sends.
///
/// Clients choose transaction ids, which may hold full stops, and full stops divide what is signed; so the
/// specification warns of them. Here they do no harm: an id and a time hold no `{`, and a body is a JSON object, so the
/// body begins at the first `{`, and any other cut leaves a body that is not JSON. For the same reason nothing that is
/// signed can be a token, whose parts are base64url (RFC 7515 section 7.1).
#[derive(Debug, thiserror::Error)]
pub enum Unsignable {
    /// The id holds something besides letters, digits, `.`, `_`, `:` and `-`, or nothing.
    #[error("an id of this form cannot be signed")]
    Id,
    /// The body does not begin with `{`.
    #[error("only a JSON object can be signed")]
    Body,
    /// The clock stands before 1970.
    #[error("the clock is wrong")]
    Clock,
    /// The key failed.
    #[error("the webhook key failed")]
    Key(#[source] WebhookKeyError),
}

/// How deliveries to one destination are signed. `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct Signing {
    secrets: Arc<[WebhookSecret]>,
    key: Option<Arc<WebhookKey>>,
}

impl Signing {
    /// Signs with each of the secrets, the newest first, and with the key of this service where it is given; `None`
    /// when there is nothing to sign with.
    pub fn new(secrets: impl Into<Arc<[WebhookSecret]>>, key: Option<Arc<WebhookKey>>) -> Option<Self> {
        let secrets = secrets.into();
        (!secrets.is_empty() || key.is_some()).then_some(Self { secrets, key })
    }

    /// The three headers for an attempt at `now` to send `body`, which has to be sent as it is.
    pub fn headers(&self, id: &str, now: SystemTime, body: &[u8]) -> Result<HeaderMap, Unsignable> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._:-".contains(&b);
        if id.is_empty() || !id.bytes().all(allowed) {
            return Err(Unsignable::Id);
        }
        if !body.starts_with(b"{") {
            return Err(Unsignable::Body);
        }
        let Ok(since) = now.duration_since(UNIX_EPOCH) else {
            return Err(Unsignable::Clock);
        };
        let timestamp = since.as_secs();
        let head = format!("{id}.{timestamp}.");
        let mut signatures: Vec<String> = self.secrets.iter().map(|secret| secret.sign(&head, body)).collect();
        if let Some(key) = &self.key {
            signatures.push(key.sign(&head, body).map_err(Unsignable::Key)?);
        }
        let Ok(id) = HeaderValue::from_str(id) else {
            return Err(Unsignable::Id);
        };
        let Ok(signatures) = HeaderValue::try_from(signatures.join(" ")) else {
            return Err(Unsignable::Id);
        };
        Ok(HeaderMap::from_iter([
            (WEBHOOK_ID, id),
            (WEBHOOK_TIMESTAMP, HeaderValue::from(timestamp)),
            (WEBHOOK_SIGNATURE, signatures),
        ]))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aws_lc_rs::hmac;
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    const KEY: &str = "whsk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk=";
    const NEW: [u8; 32] = [1; 32];
    const OLD: [u8; 24] = [2; 24];

    fn secret(bytes: &[u8]) -> WebhookSecret {
        WebhookSecret::parse(&format!("whsec_{}", STANDARD.encode(bytes))).unwrap()
    }

    fn key() -> Arc<WebhookKey> {
        Arc::new(WebhookKey::parse(KEY).unwrap())
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn values(headers: &HeaderMap) -> [String; 3] {
        [WEBHOOK_ID, WEBHOOK_TIMESTAMP, WEBHOOK_SIGNATURE].map(|name| headers[name].to_str().unwrap().to_owned())
    }

    /// Which signatures fit what a receiver got, in the order of the header.
    fn fitting(id: &[u8], timestamp: &[u8], body: &[u8], signatures: &str) -> Vec<&'static str> {
        let content = [id, b".", timestamp, b".", body].concat();
        let x = key().public().jwk()["x"].as_str().unwrap().to_owned();
        let public = UnparsedPublicKey::new(&ED25519, URL_SAFE_NO_PAD.decode(x).unwrap());
        let hmac =
            |secret: &[u8], tag: &[u8]| hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, secret), &content, tag).is_ok();
        let fits = |signature: &str| {
            let (version, value) = signature.split_once(',').unwrap();
            let value = STANDARD.decode(value).unwrap();
            match version {
                "v1" if hmac(&NEW, &value) => Some("new"),
                "v1" if hmac(&OLD, &value) => Some("old"),
                "v1a" if public.verify(&content, &value).is_ok() => Some("key"),
                _ => None,
            }
        };
        signatures.split(' ').filter_map(fits).collect()
    }

    fn signing() -> Signing {
        Signing::new(vec![secret(&NEW), secret(&OLD)], Some(key())).unwrap()
    }

    /// As the tests of the specification's own libraries have it.
    #[test]
    fn the_headers_are_those_of_the_specification() {
        let secret = WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signing = Signing::new(vec![secret], Some(key())).unwrap();
        let body = br#"{"test": 2432232314}"#;
        let headers = signing.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", at(1_614_265_330), body).unwrap();
        let signatures = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE= \
            v1a,tQ9V2XOqn7jL/DQenEFpqIugdBVtiMmER5mhSkXBNwM0mkATuDe6KYYUuxqtaiHeYGb7KaaBRdM5WqyeFiL8Ag==";
        assert_eq!(values(&headers), ["msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", signatures]);
        assert_eq!(headers.len(), 3);
    }

    #[test]
    fn each_secret_and_the_key_sign_the_newest_secret_first() {
        let cases = [
            (Signing::new(vec![secret(&NEW), secret(&OLD)], None), vec!["new", "old"]),
            (Signing::new(vec![secret(&OLD)], Some(key())), vec!["old", "key"]),
            (Signing::new(Vec::new(), Some(key())), vec!["key"]),
            (Some(signing()), vec!["new", "old", "key"]),
        ];
        for (signing, expected) in cases {
            let headers = signing.unwrap().headers("an-id", at(1), b"{}").unwrap();
            let [id, timestamp, signatures] = values(&headers);
            assert_eq!(fitting(id.as_bytes(), timestamp.as_bytes(), b"{}", &signatures), expected);
        }
        assert!(Signing::new(Vec::new(), None).is_none());
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_not_signed() {
        let refused = |id: &str, body: &[u8]| signing().headers(id, at(1), body).unwrap_err();
        for id in ["", "a{b", "a b", "a\nb", "ä", "a/b", "a,b", "\""] {
            assert!(matches!(refused(id, b"{}"), Unsignable::Id), "{id}");
        }
        for body in [b"".as_slice(), b"1", b" {}", b"[]", b"\"x\"", b"\xef\xbb\xbf{}"] {
            assert!(matches!(refused("an-id", body), Unsignable::Body));
        }
        let before = signing().headers("an-id", UNIX_EPOCH - Duration::from_secs(1), b"{}");
        assert!(matches!(before, Err(Unsignable::Clock)));
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let shown = format!("{:?}", signing());
        assert!(shown.contains("WebhookSecret(..), WebhookSecret(..)"));
        for text in [STANDARD.encode(NEW), STANDARD.encode(OLD), KEY[5..20].to_owned()] {
            assert!(!shown.contains(&text));
        }
    }

    fn id() -> impl Strategy<Value = String> {
        "[A-Za-z0-9._:-]{8,60}"
    }

    fn body() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(any::<u8>(), 0..200).prop_map(|tail| [b"{".as_slice(), &tail].concat())
    }

    proptest! {
        #[test]
        fn a_changed_byte_anywhere_breaks_every_signature(
            id in id(), seconds in 0..10_000_000_000u64, body in body(), part in 0..3usize,
            at_byte in any::<proptest::sample::Index>(), flip in 1..=255u8,
        ) {
            let headers = signing().headers(&id, at(seconds), &body).unwrap();
            let [sent_id, timestamp, signatures] = values(&headers);
            prop_assert_eq!(&sent_id, &id);
            prop_assert_eq!(timestamp.parse(), Ok(seconds));
            let mut parts = [sent_id.into_bytes(), timestamp.into_bytes(), body];
            let all = fitting(&parts[0], &parts[1], &parts[2], &signatures);
            prop_assert_eq!(all, ["new", "old", "key"]);
            let changed = &mut parts[part];
            let index = at_byte.index(changed.len());
            changed[index] ^= flip;
            let none = fitting(&parts[0], &parts[1], &parts[2], &signatures);
            prop_assert!(none.is_empty());
        }

        #[test]
        fn what_is_signed_can_be_cut_apart_in_one_way_only_and_is_no_token(
            id in "[A-Za-z0-9._:-]{0,20}(\\.[0-9]{1,10}\\.[0-9]{1,5}){0,3}x", seconds in 0..10_000_000_000u64,
        ) {
            let body = format!(r#"{{"a":1.5,"b":".{seconds}.{{}}"}}"#);
            let content = format!("{id}.{seconds}.{body}");
            let stops: Vec<usize> = content.match_indices('.').map(|(at, _)| at).collect();
            let mut readings = Vec::new();
            for (n, first) in stops.iter().enumerate() {
                for second in &stops[n + 1..] {
                    let (time, rest) = (&content[first + 1..*second], &content[second + 1..]);
                    if time.parse::<u64>().is_ok() && serde_json::from_str::<Value>(rest).is_ok() {
                        readings.push((&content[..*first], time, rest));
                    }
                }
            }
            let time = seconds.to_string();
            prop_assert_eq!(readings, [(id.as_str(), time.as_str(), body.as_str())]);
            let token = content.split('.').all(|part| URL_SAFE_NO_PAD.decode(part).is_ok());
            prop_assert!(!token);
        }
    }
}
