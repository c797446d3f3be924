//! The check of a bearer token: shape, algorithm, issuer, signature, audience and time.
//!
//! The order matters: the unverified header and `iss` only choose which configured keys to try;
//! nothing else of a token is used before its signature holds.

use std::collections::HashMap;
use std::sync::Arc;

use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, Validation};

use super::error::{AuthError, KeyError, TrustError};
use super::head::Head;
use super::keys::{KeySet, KeySource};
use super::principal::{Claims, Principal};
use super::refresh::{self, CachedKeys, Origin};

/// How far our clock and the issuer's may differ, in seconds.
const LEEWAY_SECONDS: u64 = 30;

/// One issuer whose tokens count.
#[derive(Debug)]
pub struct Trust {
    /// The exact `iss` of its tokens (RFC 7519 section 4.1.1).
    pub issuer: String,
    /// A token must name at least one of these in `aud` (RFC 7519 section 4.1.3).
    pub audiences: Vec<String>,
    /// The keys that may have signed its tokens.
    pub keys: KeySource,
}

/// Checks bearer tokens against the configured issuers.
pub struct Verifier {
    /// An issuer may sign with keys of several sources: ours and its own, where we mint in its name.
    issuers: HashMap<String, Vec<Issuer>>,
}

struct Issuer {
    audiences: Vec<String>,
    keys: Keys,
}

enum Keys {
    Fixed(Arc<KeySet>),
    Cached(Arc<CachedKeys>),
}

/// What one set of keys says about a token.
enum Verdict {
    /// Newer keys would change nothing.
    Final(Result<Principal, AuthError>),
    /// The key may be one that the issuer began to use since the set was read.
    PerhapsNewKey(AuthError),
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

impl Verifier {
    /// Reads PEM texts and files at once; remote keys are fetched when the first token needs them.
    pub fn new(trusts: Vec<Trust>) -> Result<Self, TrustError> {
        let mut issuers: HashMap<String, Vec<Issuer>> = HashMap::new();
        for trust in trusts {
            let audiences = trust.audiences;
            let empty = trust.issuer.is_empty() || audiences.iter().any(String::is_empty);
            if empty || audiences.is_empty() {
                return Err(TrustError::Incomplete);
            }
            let keys = Keys::open(trust.keys, &trust.issuer)?;
            issuers.entry(trust.issuer).or_default().push(Issuer { audiences, keys });
        }
        Ok(Self { issuers })
    }

    /// The principal that a compact JWS (RFC 7515 section 3.1) speaks for; `token` is the text
    /// after `Bearer `. Waits for a fetch of keys, 5 s at most, only when the known ones do not do.
    pub async fn verify(&self, token: &str) -> Result<Principal, AuthError> {
        let head = Head::read(token)?;
        let (name, issuers) = self.issuers.get_key_value(&head.issuer).ok_or(AuthError::UnknownIssuer)?;
        let mut refused = AuthError::UnknownIssuer;
        for issuer in issuers {
            match issuer.verify(name, token, &head).await {
                Err(error) if error.is_about_the_key() => refused = error,
                decided => return decided,
            }
        }
        Err(refused)
    }
}

#[cfg(test)]
impl Verifier {
    /// A verifier of one issuer's tokens over keys that a test has prepared.
    pub(super) fn over(issuer: &str, audience: &str, keys: Arc<CachedKeys>) -> Self {
        let audiences = vec![audience.to_owned()];
        let keys = Keys::Cached(keys);
        let issuer_of = (issuer.to_owned(), Issuer { audiences, keys });
        Self { issuers: HashMap::from([(issuer_of.0, vec![issuer_of.1])]) }
    }
}

impl Keys {
    fn open(source: KeySource, issuer: &str) -> Result<Self, TrustError> {
        let of_issuer = |source: KeyError| TrustError::Keys { issuer: issuer.to_owned(), source };
        let cached = match source {
            KeySource::Own(signer) => return Ok(Self::Fixed(Arc::new(KeySet::own(&signer)))),
            KeySource::Listed(keys) => {
                return Ok(Self::Fixed(Arc::new(KeySet::listed(&keys).map_err(of_issuer)?)));
            }
            KeySource::Pem(text) => {
                let keys = KeySet::from_pem(text.as_bytes()).map_err(of_issuer)?;
                return Ok(Self::Fixed(Arc::new(keys)));
            }
            KeySource::PemFile(path) => {
                let keys = refresh::read_file(&path).and_then(|text| KeySet::from_pem(&text)).map_err(of_issuer)?;
                CachedKeys::new(issuer, Origin::File(path)).start_with(keys)
            }
            KeySource::Jwks(url) => {
                let client = refresh::client().map_err(TrustError::Client)?;
                CachedKeys::new(issuer, Origin::Jwks(client, url))
            }
            KeySource::WellKnownPem(url) => {
                let client = refresh::client().map_err(TrustError::Client)?;
                CachedKeys::new(issuer, Origin::Pem(client, url))
            }
        };
        Ok(Self::Cached(Arc::new(cached)))
    }
}

impl Issuer {
    async fn verify(&self, name: &str, token: &str, head: &Head) -> Result<Principal, AuthError> {
        let cached = match &self.keys {
            Keys::Fixed(keys) => return self.check(name, keys, token, head).settle(),
            Keys::Cached(cached) => cached,
        };
        let keys = cached.current().await?;
        match self.check(name, &keys, token, head) {
            Verdict::Final(result) => result,
            Verdict::PerhapsNewKey(error) => match cached.newer_than(&keys).await {
                Some(newer) => self.check(name, &newer, token, head).settle(),
                None => Err(error),
            },
        }
    }

    /// Tries the keys that may have signed the token; the first whose signature holds decides.
    fn check(&self, name: &str, keys: &KeySet, token: &str, head: &Head) -> Verdict {
        let candidates = keys.candidates(head.kid.as_deref(), head.algorithm);
        let validation = self.validation(name, head.algorithm);
        for key in &candidates.fitting {
            match jsonwebtoken::decode::<Claims>(token, &key.decoding, &validation) {
                Ok(data) => return Verdict::Final(data.claims.into_principal(name)),
                Err(error) if matches!(error.kind(), ErrorKind::InvalidSignature) => {}
                Err(error) => return Verdict::Final(Err(refusal(&error))),
            }
        }
        let error = if !candidates.fitting.is_empty() {
            AuthError::BadSignature
        } else if candidates.others {
            AuthError::AlgorithmNotAllowed
        } else {
            AuthError::UnknownKey
        };
        if candidates.named { Verdict::Final(Err(error)) } else { Verdict::PerhapsNewKey(error) }
    }

    fn validation(&self, name: &str, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.set_issuer(&[name]);
        validation.set_audience(&self.audiences);
        validation
    }
}

impl Verdict {
    fn settle(self) -> Result<Principal, AuthError> {
        match self {
            Self::Final(result) => result,
            Self::PerhapsNewKey(error) => Err(error),
        }
    }
}

/// Our name for the library's error. Its own text may hold claim values, so it is dropped.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a foreign, non-exhaustive enum: whatever else is wrong makes the token malformed"
)]
fn refusal(error: &Error) -> AuthError {
    match error.kind() {
        ErrorKind::ExpiredSignature => AuthError::Expired,
        ErrorKind::ImmatureSignature => AuthError::NotYetValid,
        ErrorKind::InvalidIssuer => AuthError::UnknownIssuer,
        ErrorKind::InvalidAudience => AuthError::WrongAudience,
        ErrorKind::InvalidAlgorithm => AuthError::AlgorithmNotAllowed,
        ErrorKind::MissingRequiredClaim(claim) => match claim.as_str() {
            "exp" => AuthError::MissingClaim("exp"),
            "aud" => AuthError::MissingClaim("aud"),
            _ => AuthError::Malformed,
        },
        _ => AuthError::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::{Value, json};

    use super::super::testing::{
        self, AUDIENCE, ISSUER, OtherKey, claims, claims_with, claims_without, now, other_signer, refused, signer,
        unsigned, verifier,
    };
    use super::*;

    /// The error for a token of our signer, against its PEM.
    async fn error(claims: Value) -> AuthError {
        let token = signer().sign(&claims).unwrap();
        let pem = KeySource::Pem(signer().public_pem().to_owned());
        refused(verifier(pem).verify(&token).await)
    }

    #[tokio::test]
    async fn a_good_token_of_each_algorithm_gives_its_principal() {
        let keys = [OtherKey::p256(), OtherKey::ed25519()];
        let text = format!("{}{}{}", keys[0].pem, signer().public_pem(), keys[1].pem);
        let verifier = verifier(KeySource::Pem(text));
        let mut tokens = vec![signer().sign(&claims()).unwrap()];
        tokens.extend(keys.iter().map(|key| key.sign(None, &claims())));
        for token in tokens {
            let caller = verifier.verify(&token).await.unwrap();
            assert_eq!((caller.id.as_str(), caller.issuer.as_str()), ("user-1", ISSUER));
            assert_eq!(caller.scopes.as_slice(), ["register"]);
        }
    }

    #[tokio::test]
    async fn a_token_signed_with_the_public_key_as_a_secret_is_refused() {
        let pem = signer().public_pem().to_owned();
        let secret = EncodingKey::from_secret(pem.as_bytes());
        let token = jsonwebtoken::encode(&Header::default(), &claims(), &secret).unwrap();
        let verifier = verifier(KeySource::Pem(pem));
        let error = refused(verifier.verify(&token).await);
        assert!(matches!(error, AuthError::AlgorithmNotAllowed));
        let none = unsigned(&json!({"alg": "none"}), &claims());
        let error = refused(verifier.verify(&none).await);
        assert!(matches!(error, AuthError::AlgorithmNotAllowed));
    }

    #[tokio::test]
    async fn an_algorithm_that_does_not_fit_the_key_is_refused() {
        let verifier = verifier(KeySource::Own(signer()));
        for kid in [None, Some(signer().kid())] {
            let token = OtherKey::p256().sign(kid, &claims());
            let error = refused(verifier.verify(&token).await);
            assert!(matches!(error, AuthError::AlgorithmNotAllowed));
        }
    }

    #[tokio::test]
    async fn signatures_and_keys_of_others_are_refused() {
        let own = verifier(KeySource::Own(signer()));
        let token = other_signer().sign(&claims()).unwrap();
        assert!(matches!(refused(own.verify(&token).await), AuthError::UnknownKey));
        let pem = verifier(KeySource::Pem(signer().public_pem().to_owned()));
        assert!(matches!(refused(pem.verify(&token).await), AuthError::BadSignature));
        let good = signer().sign(&claims()).unwrap();
        let (head, signature) = good.rsplit_once('.').unwrap();
        let header = head.split('.').next().unwrap();
        let more = testing::base64(claims_with("sub", "admin").to_string());
        let forged = format!("{header}.{more}.{signature}");
        assert!(matches!(refused(own.verify(&forged).await), AuthError::BadSignature));
        let header = json!({"alg": "RS256", "kid": signer().kid()});
        let unsigned = unsigned(&header, &claims());
        assert!(matches!(refused(own.verify(&unsigned).await), AuthError::BadSignature));
    }

    #[tokio::test]
    async fn a_token_counts_from_nbf_to_exp_with_a_leeway_of_half_a_minute() {
        let verifier = verifier(KeySource::Own(signer()));
        for claims in [claims_with("exp", now() - 20), claims_with("nbf", now() + 20), claims_with("exp", 1e11)] {
            let token = signer().sign(&claims).unwrap();
            assert!(verifier.verify(&token).await.is_ok());
        }
        assert!(matches!(error(claims_with("exp", now() - 35)).await, AuthError::Expired));
        assert!(matches!(error(claims_with("nbf", now() + 60)).await, AuthError::NotYetValid));
        assert!(matches!(error(claims_with("nbf", "soon")).await, AuthError::Malformed));
    }

    #[tokio::test]
    async fn a_token_without_a_required_claim_is_refused() {
        for name in ["exp", "aud", "sub", "iss"] {
            let error = error(claims_without(name)).await;
            assert!(matches!(error, AuthError::MissingClaim(claim) if claim == name));
        }
        let error = error(claims_with("exp", "never")).await;
        assert!(matches!(error, AuthError::MissingClaim("exp")));
    }

    #[tokio::test]
    async fn other_audiences_and_issuers_are_refused() {
        for audience in [json!("opencrvs:hearth-user"), json!(["a", "b"]), json!([])] {
            let error = error(claims_with("aud", audience)).await;
            assert!(matches!(error, AuthError::WrongAudience));
        }
        let error = error(claims_with("iss", "someone else")).await;
        assert!(matches!(error, AuthError::UnknownIssuer));
    }

    #[tokio::test]
    async fn each_issuer_has_its_own_keys_and_audiences() {
        let trust = |issuer: &str, audience: &str, signer| Trust {
            issuer: issuer.to_owned(),
            audiences: vec![audience.to_owned()],
            keys: KeySource::Own(signer),
        };
        let trusts = vec![trust("a", "x", signer()), trust("b", "y", other_signer())];
        let verifier = Verifier::new(trusts).unwrap();
        for (issuer, audience, signer, good) in [
            ("a", "x", signer(), true),
            ("b", "y", other_signer(), true),
            ("a", "y", signer(), false),
            ("b", "y", signer(), false),
            ("a", "x", other_signer(), false),
        ] {
            let mut claims = claims_with("iss", issuer);
            claims["aud"] = audience.into();
            let token = signer.sign(&claims).unwrap();
            assert_eq!(verifier.verify(&token).await.is_ok(), good);
        }
    }

    #[tokio::test]
    async fn an_issuer_may_sign_with_the_keys_of_two_sources() {
        let trust = |keys| Trust { issuer: ISSUER.to_owned(), audiences: vec![AUDIENCE.to_owned()], keys };
        let verifier =
            Verifier::new(vec![trust(KeySource::Own(signer())), trust(KeySource::Own(other_signer()))]).unwrap();
        for signer in [signer(), other_signer()] {
            let token = signer.sign(&claims_with("iss", ISSUER)).unwrap();
            assert!(verifier.verify(&token).await.is_ok());
        }
    }

    #[test]
    fn a_configuration_that_trusts_nothing_is_refused() {
        let trust = |issuer: &str, audiences: &[&str], keys| Trust {
            issuer: issuer.to_owned(),
            audiences: audiences.iter().map(|name| (*name).to_owned()).collect(),
            keys,
        };
        let own = || KeySource::Own(signer());
        for incomplete in [trust("", &["a"], own()), trust("i", &[], own()), trust("i", &[""], own())] {
            let refused = Verifier::new(vec![incomplete]);
            assert!(matches!(refused, Err(TrustError::Incomplete)));
        }
        for keys in [KeySource::Pem("no key".to_owned()), KeySource::PemFile(PathBuf::from("/nonexistent/keys.pem"))] {
            let refused = Verifier::new(vec![trust("i", &["a"], keys)]);
            assert!(matches!(refused, Err(TrustError::Keys { .. })));
        }
    }

    #[tokio::test]
    async fn errors_repeat_nothing_of_the_token() {
        let error = error(claims_with("recordId", "secret-value")).await;
        assert_eq!(format!("{error} {error:?}"), "the token is malformed Malformed");
    }
}
