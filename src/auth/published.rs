//! The public keys of this service, as others fetch them.

use serde_json::{Value, json};

use super::signer::Signer;
use super::webhook::WebhookPublicKey;

/// The key of the tokens and the keys of the deliveries, in the two forms in which they are published.
///
/// A consumer of tokens picks the RSA key: by its `kid`, or by `alg` being `RS256`, which is what a token says. The
/// others have `alg` `EdDSA` and check no token. An OpenCRVS consumer reads the PEM, which holds the RSA key only.
#[derive(Clone, Debug)]
pub struct PublishedKeys {
    jwks: Value,
    pem: String,
}

impl PublishedKeys {
    /// `webhook` is the key that signs now, then those that signed before or will sign next; a repeated one is
    /// published once, so that a list may stay the same on both sides of a rotation.
    pub fn new<'a>(signer: &Signer, webhook: impl IntoIterator<Item = &'a WebhookPublicKey>) -> Self {
        let mut keys = vec![signer.jwk()];
        for jwk in webhook.into_iter().map(WebhookPublicKey::jwk) {
            if !keys.contains(&jwk) {
                keys.push(jwk);
            }
        }
        Self { jwks: json!({ "keys": keys }), pem: signer.public_pem().to_owned() }
    }

    /// All of them, as a JSON Web Key Set (RFC 7517 section 5).
    pub fn jwks(&self) -> &Value {
        &self.jwks
    }

    /// The key of the tokens, as a PEM block `PUBLIC KEY`.
    pub fn pem(&self) -> &str {
        &self.pem
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::jwk::JwkSet;
    use jsonwebtoken::{Algorithm, EncodingKey, Header};

    use super::super::error::AuthError;
    use super::super::testing::{self, Directory, claims, refused, signer, verifier};
    use super::super::{KeySource, WebhookKey};
    use super::*;

    fn webhook_keys() -> [(WebhookKey, EncodingKey); 2] {
        let directory = Directory::new();
        ["a.pem", "b.pem"].map(|name| {
            let path = directory.path().join(name);
            let key = WebhookKey::load_or_generate(&path).unwrap();
            (key, EncodingKey::from_ed_pem(&std::fs::read(path).unwrap()).unwrap())
        })
    }

    #[test]
    fn each_key_is_published_once_and_the_key_of_the_tokens_first() {
        let [(a, _), (b, _)] = webhook_keys();
        let published = PublishedKeys::new(&signer(), [a.public(), b.public(), a.public()]);
        let set: JwkSet = serde_json::from_value(published.jwks().clone()).unwrap();
        let kids: Vec<_> = set.keys.iter().map(|key| key.common.key_id.as_deref().unwrap()).collect();
        assert_eq!(kids, [signer().kid(), a.public().kid(), b.public().kid()]);
        let algorithms: Vec<_> = published.jwks()["keys"].as_array().unwrap().iter().map(|key| &key["alg"]).collect();
        assert_eq!(algorithms, ["RS256", "EdDSA", "EdDSA"]);
        assert_eq!(published.pem(), signer().public_pem());
    }

    #[tokio::test]
    async fn a_token_signed_with_the_webhook_key_is_refused_whatever_its_head_says() {
        let [(key, private), _] = webhook_keys();
        let own = verifier(KeySource::Own(signer()));
        for kid in [None, Some(key.public().kid()), Some(signer().kid())] {
            let mut header = Header::new(Algorithm::EdDSA);
            header.kid = kid.map(str::to_owned);
            let token = jsonwebtoken::encode(&header, &claims(), &private).unwrap();
            let error = refused(own.verify(&token).await);
            assert!(matches!(error, AuthError::AlgorithmNotAllowed | AuthError::UnknownKey), "{error:?}");
            // The same signature below a head that claims to be a token of ours.
            let (_, rest) = token.split_once('.').unwrap();
            let head = testing::base64(json!({"alg": "RS256", "kid": kid}).to_string());
            let error = refused(own.verify(&format!("{head}.{rest}")).await);
            assert!(matches!(error, AuthError::BadSignature | AuthError::UnknownKey), "{error:?}");
        }
    }
}
