//! Our own key: an RSA key pair that signs the tokens we mint, and its public half as published.

use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::error::{KeyRejected, Unspecified};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use pem::{EncodeConfig, LineEnding, Pem};
use serde::Serialize;
use serde_json::{Value, json};

use super::key_file;
use super::public_key::TokenPublicKey;

/// Why a key could not be loaded or made, or a token not be signed. No text holds a part of a key.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// The file with the key cannot be read, or not be made where there is none.
    #[error("the signing key {path} cannot be read or created")]
    File {
        /// The file.
        path: PathBuf,
        /// What failed.
        #[source]
        source: io::Error,
    },
    /// The text is not one PEM block `PRIVATE KEY` (PKCS#8, RFC 5958).
    #[error("the signing key is not a PKCS#8 private key in PEM")]
    NotPkcs8Pem,
    /// The key is not RSA, is damaged, or is not of 2048 to 8192 bits (RFC 7518 section 3.3).
    #[error("the signing key is not a sound RSA key of 2048 to 8192 bits")]
    Rejected(#[source] KeyRejected),
    /// The cryptographic library failed.
    #[error("the signing key cannot be used")]
    Crypto(#[source] Unspecified),
    /// The claims cannot be written as JSON.
    #[error("the claims cannot be written as JSON")]
    Claims,
    /// A lifetime is zero, or longer than a delivery token may have.
    #[error("a token's lifetime is out of range")]
    Lifetime,
}

/// An RSA key pair that signs tokens with RS256. `Debug` shows the key's id only.
pub struct Signer {
    pair: RsaKeyPair,
    public: TokenPublicKey,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("kid", &self.kid()).finish_non_exhaustive()
    }
}

impl Signer {
    /// The key in the file, or a new one of 2048 bits that is written there with mode 0600.
    ///
    /// Instances that start at once on one file system end with one key. The file appears whole or
    /// not at all; its directory must exist. Blocks, for up to a second or so.
    pub fn load_or_generate(path: &Path) -> Result<Self, SignerError> {
        let failed = |source| SignerError::File { path: path.to_owned(), source };
        if let Some(text) = key_file::read(path).map_err(failed)? {
            return Self::from_pem(&text);
        }
        let signer = Self::generate()?;
        // Another instance may have been first: then its key is the one.
        match key_file::publish(path, &signer.private_pem()?).map_err(failed)? {
            None => Ok(signer),
            Some(text) => Self::from_pem(&text),
        }
    }

    /// The key in the file, which has to be there. Blocks.
    pub fn from_file(path: &Path) -> Result<Self, SignerError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| SignerError::File { path: path.to_owned(), source })?;
        Self::from_pem(&text)
    }

    /// The key in a PEM block `PRIVATE KEY` (PKCS#8).
    pub fn from_pem(text: &str) -> Result<Self, SignerError> {
        let Ok(block) = pem::parse(text) else {
            return Err(SignerError::NotPkcs8Pem);
        };
        if block.tag() != "PRIVATE KEY" {
            return Err(SignerError::NotPkcs8Pem);
        }
        Self::of(RsaKeyPair::from_pkcs8(block.contents()).map_err(SignerError::Rejected)?)
    }

    /// A new key of 2048 bits that is kept nowhere.
    pub fn generate() -> Result<Self, SignerError> {
        Self::of(RsaKeyPair::generate(KeySize::Rsa2048).map_err(SignerError::Crypto)?)
    }

    fn of(pair: RsaKeyPair) -> Result<Self, SignerError> {
        let key = DecodingKey::from_rsa_der(pair.public_key().as_ref());
        let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(SignerError::Crypto)?;
        let public = TokenPublicKey::of(&key, spki.as_ref()).ok_or(SignerError::Crypto(Unspecified))?;
        Ok(Self { pair, public })
    }

    /// The public half.
    pub fn public(&self) -> &TokenPublicKey {
        &self.public
    }

    /// The key's id: its thumbprint (RFC 7638, SHA-256), so one key has one id everywhere.
    pub fn kid(&self) -> &str {
        self.public.kid()
    }

    /// The public key as a JSON Web Key (RFC 7517 section 4, RFC 7518 section 6.3).
    pub fn jwk(&self) -> Value {
        self.public.jwk()
    }

    /// The public key as a PEM block `PUBLIC KEY` (SPKI, RFC 5280 section 4.1).
    pub fn public_pem(&self) -> &str {
        self.public.pem()
    }

    /// A compact JWS (RFC 7515) over the claims: RS256, with `kid`, `typ` being `JWT`.
    pub fn sign(&self, claims: &impl Serialize) -> Result<String, SignerError> {
        // Not jsonwebtoken's `encode`: it parses and checks the private key for every token.
        let header = json!({"typ": "JWT", "alg": "RS256", "kid": self.kid()});
        let Ok(claims) = serde_json::to_vec(claims) else {
            return Err(SignerError::Claims);
        };
        let mut token = URL_SAFE_NO_PAD.encode(header.to_string());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), token.as_bytes(), &mut signature)
            .map_err(SignerError::Crypto)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    /// The public key, for checking our own tokens.
    pub(super) fn decoding_key(&self) -> DecodingKey {
        DecodingKey::from_rsa_der(self.pair.public_key().as_ref())
    }

    fn private_pem(&self) -> Result<String, SignerError> {
        let der: Pkcs8V1Der<'_> = self.pair.as_der().map_err(SignerError::Crypto)?;
        Ok(to_pem("PRIVATE KEY", der.as_ref()))
    }
}

pub(super) fn to_pem(tag: &str, der: &[u8]) -> String {
    let lines = EncodeConfig::new().set_line_ending(LineEnding::LF);
    pem::encode_config(&Pem::new(tag, der), lines)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use jsonwebtoken::jwk::Jwk;
    use jsonwebtoken::{Algorithm, Validation};

    use super::super::testing::{self, Directory};
    use super::*;

    fn validation() -> Validation {
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_audience(&[testing::AUDIENCE]);
        validation
    }

    #[test]
    fn a_token_verifies_with_the_published_pem_and_the_published_key_set() {
        let signer = testing::signer();
        let token = signer.sign(&testing::claims()).unwrap();
        let header = jsonwebtoken::decode_header(&token).unwrap();
        assert_eq!(header.typ.as_deref(), Some("JWT"));
        assert_eq!(header.kid.as_deref(), Some(signer.kid()));
        let jwk: Jwk = serde_json::from_value(signer.jwk()).unwrap();
        for key in
            [DecodingKey::from_rsa_pem(signer.public_pem().as_bytes()).unwrap(), DecodingKey::from_jwk(&jwk).unwrap()]
        {
            let data = jsonwebtoken::decode::<Value>(&token, &key, &validation()).unwrap();
            assert_eq!(data.claims["sub"], "user-1");
        }
    }

    #[test]
    fn the_key_id_is_the_thumbprint_of_the_published_key() {
        let signer = testing::signer();
        let jwk = signer.jwk();
        let text = format!(r#"{{"e":{},"kty":"RSA","n":{}}}"#, jwk["e"], jwk["n"]);
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        assert_eq!(signer.kid(), testing::base64(digest));
        assert_eq!(jwk["kid"], signer.kid());
        assert_eq!((&jwk["use"], &jwk["alg"]), (&json!("sig"), &json!("RS256")));
    }

    #[test]
    fn a_generated_key_is_loaded_again_after_a_restart() {
        let directory = Directory::new();
        let path = directory.path().join("key.pem");
        let first = Signer::load_or_generate(&path).unwrap();
        let second = Signer::load_or_generate(&path).unwrap();
        assert_eq!(first.kid(), second.kid());
        assert_eq!(first.public_pem(), second.public_pem());
    }

    #[test]
    fn instances_that_start_at_once_end_with_one_key() {
        let directory = Directory::new();
        let path = directory.path().join("key.pem");
        let start = Barrier::new(3);
        let kids: Vec<String> = std::thread::scope(|scope| {
            let instance = || {
                start.wait();
                Signer::load_or_generate(&path).unwrap().kid().to_owned()
            };
            let running = [(); 3].map(|()| scope.spawn(instance));
            running.map(|one| one.join().unwrap()).into()
        });
        assert!(kids.iter().all(|kid| *kid == kids[0]));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn keys_that_are_weak_or_of_another_kind_are_refused_without_showing_them() {
        let body = testing::WEAK_RSA_PKCS8;
        let weak = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
        let refused = Signer::from_pem(&weak).unwrap_err();
        assert!(matches!(refused, SignerError::Rejected(_)));
        let labelled = weak.replace("PRIVATE KEY", "EC PRIVATE KEY");
        for text in ["", body, testing::RSA_SPKI, &labelled] {
            let refused = Signer::from_pem(text).unwrap_err();
            assert!(matches!(refused, SignerError::NotPkcs8Pem));
            assert!(!format!("{refused} {refused:?}").contains(&body[..20]));
        }
    }

    #[test]
    fn a_damaged_key_file_is_an_error_and_stays_as_it_is() {
        let directory = Directory::new();
        let path = directory.path().join("key.pem");
        std::fs::write(&path, "damaged").unwrap();
        let refused = Signer::load_or_generate(&path).unwrap_err();
        assert!(matches!(refused, SignerError::NotPkcs8Pem));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "damaged");
        let missing = Signer::load_or_generate(&directory.path().join("no/key.pem"));
        assert!(matches!(missing, Err(SignerError::File { .. })));
    }

    #[test]
    fn debug_output_shows_the_key_id_and_nothing_else() {
        let signer = testing::signer();
        let expected = format!("Signer {{ kid: {:?}, .. }}", signer.kid());
        assert_eq!(format!("{signer:?}"), expected);
    }
}
