//! Public halves of RSA keys that sign tokens: ours, the one that signed before it, and the one that will sign next.

use std::io;
use std::path::{Path, PathBuf};

use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, ThumbprintHash};
use serde_json::{Value, json};

use super::keys::is_strong_rsa;
use super::signer::{Signer, to_pem};

/// Why a file of the list of public keys is of no use. No text holds a part of a key.
#[derive(Debug, thiserror::Error)]
pub enum PublicKeyError {
    /// It cannot be read.
    #[error("the public key {path} cannot be read")]
    File {
        /// The file.
        path: PathBuf,
        /// What failed.
        #[source]
        source: io::Error,
    },
    /// It holds something else.
    #[error("{0} is not one RSA key of 2048 to 8192 bits in PEM (PUBLIC KEY or PRIVATE KEY)")]
    NotRsa(PathBuf),
}

/// A public RSA key that checks tokens of ours. It is published, so it shows itself freely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenPublicKey {
    kid: String,
    modulus: String,
    exponent: String,
    pem: String,
}

impl TokenPublicKey {
    /// The key in a file with one PEM block: `PUBLIC KEY` (SPKI, RFC 5280 section 4.1), or `PRIVATE KEY` (PKCS#8), of which
    /// the public half is taken, so that the next signing key can be listed as the file that it is. Blocks.
    pub fn from_file(path: &Path) -> Result<Self, PublicKeyError> {
        let failed = |source| PublicKeyError::File { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(failed)?;
        Self::from_pem(&text).ok_or_else(|| PublicKeyError::NotRsa(path.to_owned()))
    }

    fn from_pem(text: &str) -> Option<Self> {
        let blocks = pem::parse_many(text).ok()?;
        let [block] = blocks.as_slice() else {
            return None;
        };
        match block.tag() {
            "PRIVATE KEY" => Some(Signer::from_pem(text).ok()?.public().clone()),
            "PUBLIC KEY" => {
                let key = DecodingKey::from_rsa_pem(text.as_bytes()).ok()?;
                is_strong_rsa(&key).then(|| Self::of(&key, block.contents())).flatten()
            }
            _ => None,
        }
    }

    /// `spki`: the same key in DER.
    pub(super) fn of(key: &DecodingKey, spki: &[u8]) -> Option<Self> {
        let jwk = Jwk::from_decoding_key(key, None).ok()?;
        let kid = jwk.thumbprint(ThumbprintHash::SHA256).ok()?;
        let AlgorithmParameters::RSA(numbers) = jwk.algorithm else {
            return None;
        };
        Some(Self { kid, modulus: numbers.n, exponent: numbers.e, pem: to_pem("PUBLIC KEY", spki) })
    }

    /// The key's id: its thumbprint (RFC 7638, SHA-256), so one key has one id everywhere.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The key as a JSON Web Key (RFC 7517 section 4, RFC 7518 section 6.3).
    pub fn jwk(&self) -> Value {
        json!({
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": self.kid,
            "n": self.modulus,
            "e": self.exponent,
        })
    }

    /// The key as a PEM block `PUBLIC KEY` (SPKI, RFC 5280 section 4.1).
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The key, for checking tokens with it.
    pub(super) fn decoding_key(&self) -> Option<DecodingKey> {
        DecodingKey::from_rsa_components(&self.modulus, &self.exponent).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, Directory};
    use super::*;

    #[test]
    fn a_listed_file_may_hold_the_public_half_or_the_key_itself() {
        let directory = Directory::new();
        let private = directory.path().join("next.pem");
        let signer = Signer::load_or_generate(&private).unwrap();
        let public = directory.path().join("next.pub.pem");
        std::fs::write(&public, signer.public_pem()).unwrap();
        for path in [private, public] {
            let key = TokenPublicKey::from_file(&path).unwrap();
            assert_eq!((key.kid(), key.pem(), key.jwk()), (signer.kid(), signer.public_pem(), signer.jwk()));
        }
    }

    #[test]
    fn what_is_no_rsa_key_of_good_length_is_refused_without_showing_it() {
        let directory = Directory::new();
        let path = directory.path().join("key.pem");
        let weak = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", testing::WEAK_RSA_PKCS8);
        let two = format!("{}{}", testing::RSA_SPKI, testing::RSA_SPKI);
        for text in ["", "no key", testing::P256_SPKI, testing::ED25519_SPKI, testing::WEAK_RSA, &weak, &two] {
            std::fs::write(&path, text).unwrap();
            let refused = TokenPublicKey::from_file(&path).unwrap_err();
            assert!(matches!(refused, PublicKeyError::NotRsa(_)), "{text}");
            assert!(!format!("{refused:?}").contains("MII"));
        }
        let missing = TokenPublicKey::from_file(&directory.path().join("missing"));
        assert!(matches!(missing, Err(PublicKeyError::File { .. })));
    }
}
