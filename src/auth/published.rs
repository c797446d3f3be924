//! The public keys of this service, as others fetch them.

use serde_json::{Value, json};

use super::public_key::TokenPublicKey;
use super::signer::Signer;
use super::webhook::WebhookPublicKey;

/// The keys of the tokens and those of the deliveries, in the two forms in which they are published.
///
/// A consumer of tokens picks an RSA key: by its `kid`, or by `alg` being `RS256`, which is what a token says. The
/// others have `alg` `EdDSA` and check no token. An OpenCRVS consumer reads the PEM, which holds the RSA keys only. It
/// takes the first block and passes over the others (what Node's `crypto.createPublicKey` does, and `jsonwebtoken` with
/// it), so the first key is always the one that signs now.
#[derive(Clone, Debug)]
pub struct PublishedKeys {
    jwks: Value,
    pem: String,
}

impl PublishedKeys {
    /// `tokens` are the keys that signed tokens before or will sign them next. `webhook` is the key that signs deliveries
    /// now, then those that did or will. A repeated one is published once, so that a list may stay the same on both sides
    /// of a rotation.
    pub fn new<'a>(
        signer: &Signer,
        tokens: &[TokenPublicKey],
        webhook: impl IntoIterator<Item = &'a WebhookPublicKey>,
    ) -> Self {
        let mut all: Vec<&TokenPublicKey> = vec![signer.public()];
        for key in tokens {
            if !all.contains(&key) {
                all.push(key);
            }
        }
        let pem = all.iter().map(|key| key.pem()).collect();
        let mut keys: Vec<Value> = all.iter().map(|key| key.jwk()).collect();
        for jwk in webhook.into_iter().map(WebhookPublicKey::jwk) {
            if !keys.contains(&jwk) {
                keys.push(jwk);
            }
        }
        Self { jwks: json!({ "keys": keys }), pem }
    }

    /// All of them, as a JSON Web Key Set (RFC 7517 section 5).
    pub fn jwks(&self) -> &Value {
        &self.jwks
    }

    /// The keys of the tokens, as PEM blocks `PUBLIC KEY`: first the one that signs now.
    pub fn pem(&self) -> &str {
        &self.pem
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::jwk::JwkSet;
    use jsonwebtoken::{Algorithm, EncodingKey, Header};

    use super::super::error::AuthError;
    use super::super::testing::{self, AUDIENCE, Directory, ISSUER, claims, refused, signer, verifier};
    use super::super::{KeySource, Trust, Verifier, WebhookKey};
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
        let next = testing::other_signer();
        let listed = [next.public().clone(), signer().public().clone(), next.public().clone()];
        let published = PublishedKeys::new(&signer(), &listed, [a.public(), b.public(), a.public()]);
        let set: JwkSet = serde_json::from_value(published.jwks().clone()).unwrap();
        let kids: Vec<_> = set.keys.iter().map(|key| key.common.key_id.as_deref().unwrap()).collect();
        assert_eq!(kids, [signer().kid(), next.kid(), a.public().kid(), b.public().kid()]);
        let algorithms: Vec<_> = published.jwks()["keys"].as_array().unwrap().iter().map(|key| &key["alg"]).collect();
        assert_eq!(algorithms, ["RS256", "RS256", "EdDSA", "EdDSA"]);
        assert_eq!(published.pem(), format!("{}{}", signer().public_pem(), next.public_pem()));
    }

    #[tokio::test]
    async fn a_token_of_before_or_after_the_rotation_is_accepted_while_its_key_is_listed() {
        let before = testing::other_signer();
        let trust = |keys| Trust { issuer: ISSUER.to_owned(), audiences: vec![AUDIENCE.to_owned()], keys };
        let own = || trust(KeySource::Own(signer()));
        let listed = trust(KeySource::Listed(vec![signer().public().clone(), before.public().clone()]));
        let (during, after) = (Verifier::new(vec![own(), listed]).unwrap(), Verifier::new(vec![own()]).unwrap());
        let token = before.sign(&claims()).unwrap();
        assert_eq!(during.verify(&token).await.unwrap().id, "user-1");
        assert!(matches!(refused(after.verify(&token).await), AuthError::UnknownKey));
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
