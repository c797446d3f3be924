//! The unverified head of a token: just enough of it to choose the keys to try.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};

use super::error::AuthError;

/// The longest token, in bytes; longer ones are refused unread.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// What has to be known of a token before its signature can be checked.
pub(super) struct Head {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
    pub(super) issuer: String,
}

impl Head {
    pub(super) fn read(token: &str) -> Result<Self, AuthError> {
        #[derive(Deserialize)]
        struct Header {
            alg: String,
            kid: Option<String>,
            #[serde(default, deserialize_with = "present")]
            crit: bool,
        }
        #[derive(Deserialize)]
        struct Payload {
            iss: Option<String>,
        }
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(AuthError::Malformed);
        };
        if token.len() > MAX_TOKEN_BYTES {
            return Err(AuthError::Malformed);
        }
        let header: Header = part(header)?;
        // We understand no extension, and each one named in `crit` must be (RFC 7515 section
        // 4.1.11).
        if header.crit {
            return Err(AuthError::Malformed);
        }
        let algorithm = match header.alg.as_str() {
            "RS256" => Algorithm::RS256,
            "ES256" => Algorithm::ES256,
            "EdDSA" => Algorithm::EdDSA,
            _ => return Err(AuthError::AlgorithmNotAllowed),
        };
        let payload: Payload = part(payload)?;
        Ok(Self { algorithm, kid: header.kid, issuer: payload.iss.ok_or(AuthError::MissingClaim("iss"))? })
    }
}

/// One part of a token, from base64url without padding and JSON.
fn part<T: DeserializeOwned>(text: &str) -> Result<T, AuthError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok();
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).ok_or(AuthError::Malformed)
}

/// True for each value, `null` too: a field that is there at all.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{base64, claims, claims_with, claims_without, unsigned};
    use super::*;

    fn error(token: &str) -> AuthError {
        Head::read(token).err().unwrap()
    }

    #[test]
    fn only_rs256_es256_and_eddsa_are_read_further() {
        for algorithm in ["RS256", "ES256", "EdDSA"] {
            assert!(Head::read(&unsigned(&json!({"alg": algorithm}), &claims())).is_ok());
        }
        for algorithm in ["none", "None", "HS256", "RS512", "PS256", "ES384", "rs256", ""] {
            let token = unsigned(&json!({"alg": algorithm}), &claims());
            assert!(matches!(error(&token), AuthError::AlgorithmNotAllowed));
        }
    }

    #[test]
    fn each_critical_header_is_refused_whatever_it_names() {
        for crit in [json!(["exp"]), json!(["b64"]), json!([]), Value::Null, json!("x")] {
            let header = json!({"alg": "RS256", "crit": crit});
            assert!(matches!(error(&unsigned(&header, &claims())), AuthError::Malformed));
        }
    }

    #[test]
    fn what_is_not_a_compact_token_is_malformed() {
        let (good, header) = (json!({"alg": "RS256"}), base64(r#"{"alg":"RS256"}"#));
        let twice = base64(r#"{"iss":"a","iss":"b"}"#);
        for token in [
            String::new(),
            "..".to_owned(),
            "a.b".to_owned(),
            "a.b.c.d".to_owned(),
            format!("{header}=.{}.", base64("{}")),
            format!("{header}.{}.", base64("[]")),
            format!("{header}.{twice}."),
            format!("{}.{}.", base64("{}"), base64("{}")),
            unsigned(&good, &claims_with("iss", json!(["a", "b"]))),
            unsigned(&good, &claims_with("x", "x".repeat(MAX_TOKEN_BYTES))),
        ] {
            assert!(matches!(error(&token), AuthError::Malformed), "{token}");
        }
        let anonymous = unsigned(&good, &claims_without("iss"));
        assert!(matches!(error(&anonymous), AuthError::MissingClaim("iss")));
    }
}
