//! A secret that one receiver and this service share.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// How many bytes a secret has (the specification's "Signature scheme").
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The rule that a text breaks. No text holds a part of the secret.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum WebhookSecretError {
    /// The prefix is missing.
    #[error("a signing secret begins with whsec_")]
    Prefix,
    /// What follows the prefix is not base64 (RFC 4648 section 4).
    #[error("a signing secret is whsec_ and then base64 of the standard alphabet, padded")]
    Base64,
    /// Too short to be safe, or longer than receivers take.
    #[error("a signing secret has 24 to 64 bytes before base64")]
    Length,
}

/// A secret of 24 to 64 bytes, written `whsec_{base64}`. `Debug` shows nothing of it.
#[derive(Clone)]
pub struct WebhookSecret(hmac::Key);

impl std::fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WebhookSecret(..)")
    }
}

impl WebhookSecret {
    /// Reads `whsec_{base64}`. Padding is asked for: some receivers' libraries read nothing else.
    pub fn parse(text: &str) -> Result<Self, WebhookSecretError> {
        let text = text.strip_prefix("whsec_").ok_or(WebhookSecretError::Prefix)?;
        let Ok(bytes) = STANDARD.decode(text) else {
            return Err(WebhookSecretError::Base64);
        };
        if !BYTES.contains(&bytes.len()) {
            return Err(WebhookSecretError::Length);
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// `v1,{base64}`: HMAC-SHA256 (RFC 2104) of `head` and `body`, one after the other.
    pub fn sign(&self, head: &str, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(head.as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the tests of the specification's own libraries have it.
    #[test]
    fn a_signature_is_the_one_of_the_specification() {
        let secret = WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.", br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_has_its_prefix_and_24_to_64_bytes() {
        let of = |bytes: usize| WebhookSecret::parse(&format!("whsec_{}", STANDARD.encode(vec![0xfb; bytes])));
        for (bytes, good) in [(0, false), (23, false), (24, true), (32, true), (64, true), (65, false)] {
            let error = of(bytes).err();
            assert_eq!(error, (!good).then_some(WebhookSecretError::Length), "{bytes}");
        }
        let body = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        for text in ["", body, &format!("whsk_{body}"), &format!(" whsec_{body}")] {
            assert_eq!(WebhookSecret::parse(text).unwrap_err(), WebhookSecretError::Prefix);
        }
        for tail in ["=", " ", "\n", "-", "!"] {
            let refused = WebhookSecret::parse(&format!("whsec_{body}{tail}")).unwrap_err();
            assert_eq!(refused, WebhookSecretError::Base64, "{tail:?}");
        }
    }

    #[test]
    fn neither_debug_output_nor_an_error_shows_a_secret() {
        let secret = WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(format!("{secret:?}"), "WebhookSecret(..)");
        for text in ["MfKQ9r8GKYqrTwjUPD8I", "whsec_MfKQ9r8GKYqrTwjUPD8I", "whsec_MfKQ9r8GKYqrTwjUPD8I!"] {
            let error = WebhookSecret::parse(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("MfKQ"));
        }
    }
}
