//! Public keys as issuers publish them: PEM text and JSON Web Key Sets.
//!
//! Each key is tied to the one algorithm it may verify, so that a token's header can never choose
//! another one for it (RFC 8725 section 3.1).

use std::path::PathBuf;
use std::sync::Arc;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use pem::Pem;
use reqwest::Url;
use serde::Deserialize;

use super::error::KeyError;
use super::public_key::TokenPublicKey;
use super::signer::Signer;

/// The least length of an RSA modulus, in bytes (2048 bits, RFC 7518 section 3.3).
const MIN_RSA_BYTES: usize = 256;
/// The greatest length of an RSA modulus, in bytes; longer ones only cost time.
const MAX_RSA_BYTES: usize = 1024;

/// Where an issuer's public keys come from.
///
/// A PEM text may hold several keys (rotation): blocks `PUBLIC KEY`, `RSA PUBLIC KEY` and
/// `CERTIFICATE`, of which only the key counts, not the period of validity. Keys from PEM have no
/// `kid`, so each key of the fitting type is tried.
pub enum KeySource {
    /// A file with PEM text, read at the start and again as a remote source is.
    PemFile(PathBuf),
    /// PEM text.
    Pem(String),
    /// The address of a JSON Web Key Set (RFC 7517), fetched on first use.
    Jwks(Url),
    /// The address of PEM text, as `OpenCRVS` auth serves it at `/.well-known`, fetched on first
    /// use.
    WellKnownPem(Url),
    /// Our own key, for the tokens that we mint.
    Own(Arc<Signer>),
    /// Public keys of ours that do not sign now: those of before and after a rotation.
    Listed(Vec<TokenPublicKey>),
}

impl std::fmt::Debug for KeySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // An address may carry a password, and PEM text may be a private key by mistake.
        f.write_str(match self {
            Self::PemFile(_) => "PemFile(..)",
            Self::Pem(_) => "Pem(..)",
            Self::Jwks(_) => "Jwks(..)",
            Self::WellKnownPem(_) => "WellKnownPem(..)",
            Self::Own(_) => "Own(..)",
            Self::Listed(_) => "Listed(..)",
        })
    }
}

/// One public key and the only algorithm it verifies.
pub(super) struct PublicKey {
    kid: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
}

/// The keys of one issuer at one time.
pub(super) struct KeySet(Vec<PublicKey>);

/// Which keys may have signed a token.
pub(super) struct Candidates<'a> {
    /// Those whose type fits the token's algorithm.
    pub(super) fitting: Vec<&'a PublicKey>,
    /// Whether there were others, of another type.
    pub(super) others: bool,
    /// Whether the token's `kid` named them, so that newer keys would change nothing.
    pub(super) named: bool,
}

impl KeySet {
    /// The keys in a PEM text. Blocks of no use are left out.
    pub(super) fn from_pem(text: &[u8]) -> Result<Self, KeyError> {
        let Ok(blocks) = pem::parse_many(text) else {
            return Err(KeyError::NotPem);
        };
        let keys: Vec<_> = blocks.iter().filter_map(key_of_block).collect();
        if keys.len() < blocks.len() {
            tracing::warn!(
                ignored = blocks.len() - keys.len(),
                "some PEM blocks are not RSA (2048 to 8192 bits), EC P-256 or Ed25519 public keys"
            );
        }
        Self::of(keys)
    }

    /// The keys in a JSON Web Key Set. Entries that are not understood, or are meant for something
    /// else, are left out (RFC 7517 section 5).
    pub(super) fn from_jwks(text: &[u8]) -> Result<Self, KeyError> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<serde_json::Value>,
        }
        let Ok(document) = serde_json::from_slice::<Document>(text) else {
            return Err(KeyError::NotJwks);
        };
        let entries = document.keys.into_iter();
        Self::of(entries.filter_map(key_of_entry).collect())
    }

    /// Our own key.
    pub(super) fn own(signer: &Signer) -> Self {
        Self(vec![PublicKey {
            kid: Some(signer.kid().to_owned()),
            algorithm: Algorithm::RS256,
            decoding: signer.decoding_key(),
        }])
    }

    /// Public keys of ours that do not sign now.
    pub(super) fn listed(keys: &[TokenPublicKey]) -> Result<Self, KeyError> {
        let usable = keys.iter().filter_map(|key| usable(Some(key.kid().to_owned()), key.decoding_key()?));
        Self::of(usable.collect())
    }

    fn of(keys: Vec<PublicKey>) -> Result<Self, KeyError> {
        if keys.is_empty() {
            return Err(KeyError::NoUsableKey);
        }
        Ok(Self(keys))
    }

    /// The keys that may have signed a token with this header. A `kid` picks the keys of that name;
    /// where there are none, those without a name are left. Without a `kid` each key may be it.
    pub(super) fn candidates(&self, kid: Option<&str>, algorithm: Algorithm) -> Candidates<'_> {
        let named = kid.is_some() && self.0.iter().any(|key| key.kid.as_deref() == kid);
        let (fitting, others): (Vec<_>, Vec<_>) = self
            .0
            .iter()
            .filter(|key| match (kid, named) {
                (None, _) => true,
                (Some(_), true) => key.kid.as_deref() == kid,
                (Some(_), false) => key.kid.is_none(),
            })
            .partition(|key| key.algorithm == algorithm);
        Candidates { fitting, others: !others.is_empty(), named }
    }
}

/// The public key in a PEM block. Private keys are no keys to trust: they are passed over.
fn key_of_block(block: &Pem) -> Option<PublicKey> {
    if !matches!(block.tag(), "PUBLIC KEY" | "RSA PUBLIC KEY" | "CERTIFICATE") {
        return None;
    }
    let text = pem::encode(block);
    let decoding = DecodingKey::from_rsa_pem(text.as_bytes())
        .or_else(|_| DecodingKey::from_ec_pem(text.as_bytes()))
        .or_else(|_| DecodingKey::from_ed_pem(text.as_bytes()))
        .ok()?;
    usable(None, decoding)
}

/// The public key in an entry of a key set, when it is there to check signatures of ours.
fn key_of_entry(entry: serde_json::Value) -> Option<PublicKey> {
    let jwk: Jwk = serde_json::from_value(entry).ok()?;
    if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return None;
    }
    let known_curve = match &jwk.algorithm {
        AlgorithmParameters::EllipticCurve(key) => key.curve == EllipticCurve::P256,
        AlgorithmParameters::OctetKeyPair(key) => key.curve == EllipticCurve::Ed25519,
        AlgorithmParameters::RSA(_) => true,
        AlgorithmParameters::OctetKey(_) | AlgorithmParameters::Other(_) | _ => false,
    };
    if !known_curve {
        return None;
    }
    let key = usable(jwk.common.key_id.clone(), DecodingKey::from_jwk(&jwk).ok()?)?;
    let meant_for = jwk.common.key_algorithm;
    (meant_for.is_none() || meant_for == Some(KeyAlgorithm::from(key.algorithm))).then_some(key)
}

/// Ties a key to its algorithm, when it is of a kind and strength that we accept.
fn usable(kid: Option<String>, decoding: DecodingKey) -> Option<PublicKey> {
    let (algorithm, good) = match decoding.family() {
        AlgorithmFamily::Rsa => (Algorithm::RS256, is_strong_rsa(&decoding)),
        AlgorithmFamily::Ec => {
            let point = decoding.try_get_as_bytes().ok()?;
            let parsed = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
            (Algorithm::ES256, parsed.is_ok())
        }
        AlgorithmFamily::Ed => {
            let bytes = decoding.try_get_as_bytes().ok()?;
            (Algorithm::EdDSA, bytes.len() == 32)
        }
        AlgorithmFamily::Hmac => return None,
    };
    good.then_some(PublicKey { kid, algorithm, decoding })
}

/// Whether a key is RSA, and of a length that we accept.
pub(super) fn is_strong_rsa(key: &DecodingKey) -> bool {
    modulus_bytes(key).is_some_and(|bytes| (MIN_RSA_BYTES..=MAX_RSA_BYTES).contains(&bytes))
}

/// The length of an RSA key's modulus, in bytes, without leading zeros.
fn modulus_bytes(key: &DecodingKey) -> Option<usize> {
    let jwk = Jwk::from_decoding_key(key, None).ok()?;
    let AlgorithmParameters::RSA(parameters) = jwk.algorithm else {
        return None;
    };
    let modulus = URL_SAFE_NO_PAD.decode(parameters.n).ok()?;
    Some(modulus.iter().skip_while(|byte| **byte == 0).count())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing;
    use super::*;

    fn kinds(set: &KeySet) -> Vec<Algorithm> {
        set.0.iter().map(|key| key.algorithm).collect()
    }

    fn bytes(text: &str) -> Vec<u8> {
        let set = KeySet::from_pem(text.as_bytes()).unwrap();
        set.0[0].decoding.try_get_as_bytes().unwrap().to_vec()
    }

    #[test]
    fn a_pem_text_may_hold_several_keys_of_different_types() {
        let (p256, ed25519) = (testing::OtherKey::p256(), testing::OtherKey::ed25519());
        let signer = testing::signer();
        let text = format!("{}{}{}", signer.public_pem(), p256.pem, ed25519.pem);
        let set = KeySet::from_pem(text.as_bytes()).unwrap();
        let expected = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
        assert_eq!(kinds(&set), expected);
    }

    #[test]
    fn a_key_is_the_same_in_each_kind_of_pem_block() {
        for (one, same) in [
            (testing::RSA_SPKI, testing::RSA_PKCS1),
            (testing::RSA_SPKI, testing::RSA_CERTIFICATE),
            (testing::P256_SPKI, testing::P256_CERTIFICATE),
            (testing::ED25519_SPKI, testing::ED25519_CERTIFICATE),
        ] {
            assert_eq!(bytes(one), bytes(same));
        }
    }

    #[test]
    fn weak_keys_other_curves_and_private_keys_are_not_used() {
        let private = testing::WEAK_RSA_PKCS8;
        let private = format!("-----BEGIN PRIVATE KEY-----\n{private}\n-----END PRIVATE KEY-----\n");
        for text in ["", "no key at all", testing::WEAK_RSA, testing::P384, testing::SECP256K1, &private] {
            let refused = KeySet::from_pem(text.as_bytes());
            assert!(matches!(refused, Err(KeyError::NoUsableKey)), "{text}");
        }
        let mixed = format!("{}{}", testing::P384, testing::P256_SPKI);
        let set = KeySet::from_pem(mixed.as_bytes()).unwrap();
        assert_eq!(kinds(&set), [Algorithm::ES256]);
    }

    #[test]
    fn entries_of_a_key_set_that_are_not_for_our_signatures_are_left_out() {
        let jwk = testing::OtherKey::p256().jwk;
        let with = |name: &str, value: &str| {
            let mut jwk = jwk.clone();
            jwk[name] = value.into();
            jwk
        };
        let keys = json!({"keys": [
            with("use", "enc"),
            with("alg", "ES384"),
            with("crv", "P-384"),
            with("kty", "unheard of"),
            with("x", "AAAA"),
            {"kty": "oct", "k": "c2VjcmV0"},
            {"kty": "RSA", "n": "AAAA", "e": "AQAB"},
            "no object",
            with("alg", "ES256"),
        ]});
        let set = KeySet::from_jwks(keys.to_string().as_bytes()).unwrap();
        assert_eq!(kinds(&set), [Algorithm::ES256]);
        for (text, wanted) in [("{}", "NotJwks"), ("[", "NotJwks"), (r#"{"keys":[]}"#, "NoUsableKey")] {
            let refused = KeySet::from_jwks(text.as_bytes()).err().unwrap();
            assert_eq!(format!("{refused:?}"), wanted);
        }
    }

    #[test]
    fn debug_output_of_a_source_shows_its_kind_only() {
        let url = Url::parse("https://user:secret@issuer.example/keys").unwrap();
        for (source, shown) in [
            (KeySource::Pem("secret".to_owned()), "Pem(..)"),
            (KeySource::PemFile("secret".into()), "PemFile(..)"),
            (KeySource::Jwks(url.clone()), "Jwks(..)"),
            (KeySource::WellKnownPem(url), "WellKnownPem(..)"),
            (KeySource::Own(testing::signer()), "Own(..)"),
        ] {
            assert_eq!(format!("{source:?}"), shown);
        }
    }
}
