//! The Ed25519 key pair of this service that signs deliveries, and public keys of that kind.

use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::error::{KeyRejected, Unspecified};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::DecodingKey;
use serde_json::{Value, json};

use super::super::key_file;
use super::super::signer::to_pem;

/// Why a key could not be loaded, made or used. No text holds a part of a private key.
#[derive(Debug, thiserror::Error)]
pub enum WebhookKeyError {
    /// A file with a key cannot be read, or not be made where there is none.
    #[error("the webhook key {path} cannot be read or created")]
    File {
        /// The file.
        path: PathBuf,
        /// What failed.
        #[source]
        source: io::Error,
    },
    /// The text is neither one PEM block `PRIVATE KEY` (PKCS#8, RFC 5958) nor `whsk_` and base64.
    #[error("the webhook key is neither a PKCS#8 private key in PEM nor whsk_ and base64")]
    Form,
    /// The key is not Ed25519, or is damaged.
    #[error("the webhook key is not a sound Ed25519 key")]
    Rejected(#[source] KeyRejected),
    /// A file of the list of public keys holds something else.
    #[error("{0} is not one Ed25519 public key in PEM")]
    NotPublic(PathBuf),
    /// The cryptographic library failed.
    #[error("the webhook key cannot be used")]
    Crypto(#[source] Unspecified),
}

/// A public key that checks signatures of deliveries. It is published, so it shows itself freely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookPublicKey {
    x: String,
    kid: String,
}

impl WebhookPublicKey {
    fn of(bytes: &[u8]) -> Self {
        let x = URL_SAFE_NO_PAD.encode(bytes);
        // RFC 7638 section 3.2 with RFC 8037 section 2: these members, in this order.
        let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
        let kid = URL_SAFE_NO_PAD.encode(digest(&SHA256, members.as_bytes()));
        Self { x, kid }
    }

    /// The key in a file with one PEM block `PUBLIC KEY` (RFC 8410), such as `openssl pkey -pubout` writes. Blocks.
    pub fn from_file(path: &Path) -> Result<Self, WebhookKeyError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| WebhookKeyError::File { path: path.to_owned(), source })?;
        Self::from_pem(&text).ok_or_else(|| WebhookKeyError::NotPublic(path.to_owned()))
    }

    fn from_pem(text: &str) -> Option<Self> {
        // Asked for by name: a private key that is listed by mistake has to be an error.
        if pem::parse(text).ok()?.tag() != "PUBLIC KEY" {
            return None;
        }
        let key = DecodingKey::from_ed_pem(text.as_bytes()).ok()?;
        let bytes = key.try_get_as_bytes().ok()?;
        (bytes.len() == 32).then(|| Self::of(bytes))
    }

    /// The key's id: its thumbprint (RFC 7638, SHA-256).
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The key as a JSON Web Key (RFC 8037 section 2). `kty`, `crv` and `alg` tell it from the keys of tokens.
    pub fn jwk(&self) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": self.kid, "x": self.x})
    }
}

/// The Ed25519 key pair that signs deliveries, and never a token. `Debug` shows the key's id only.
pub struct WebhookKey {
    pair: Ed25519KeyPair,
    public: WebhookPublicKey,
}

impl std::fmt::Debug for WebhookKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookKey").field("kid", &self.public.kid).finish_non_exhaustive()
    }
}

impl WebhookKey {
    /// The key in the file, or a new one that is written there with mode 0600.
    ///
    /// Instances that start at once on one file system end with one key. The file appears whole or
    /// not at all; its directory must exist. Blocks.
    pub fn load_or_generate(path: &Path) -> Result<Self, WebhookKeyError> {
        let failed = |source| WebhookKeyError::File { path: path.to_owned(), source };
        if let Some(text) = key_file::read(path).map_err(failed)? {
            return Self::parse(&text);
        }
        let key = Self::of(Ed25519KeyPair::generate().map_err(WebhookKeyError::Crypto)?);
        // Another instance may have been first: then its key is the one.
        match key_file::publish(path, &key.private_pem()?).map_err(failed)? {
            None => Ok(key),
            Some(text) => Self::parse(&text),
        }
    }

    /// The key in a PEM block `PRIVATE KEY` (PKCS#8), or in the specification's `whsk_{base64}`: a seed of 32 bytes,
    /// which the public key may follow.
    pub fn parse(text: &str) -> Result<Self, WebhookKeyError> {
        if let Some(text) = text.trim().strip_prefix("whsk_") {
            return Self::from_whsk(text);
        }
        match pem::parse(text) {
            Ok(block) if block.tag() == "PRIVATE KEY" => {
                Ed25519KeyPair::from_pkcs8(block.contents()).map(Self::of).map_err(WebhookKeyError::Rejected)
            }
            _ => Err(WebhookKeyError::Form),
        }
    }

    fn from_whsk(text: &str) -> Result<Self, WebhookKeyError> {
        let Ok(bytes) = STANDARD.decode(text) else {
            return Err(WebhookKeyError::Form);
        };
        let pair = match bytes.split_at_checked(32) {
            Some((seed, [])) => Ed25519KeyPair::from_seed_unchecked(seed),
            Some((seed, public)) => Ed25519KeyPair::from_seed_and_public_key(seed, public),
            None => return Err(WebhookKeyError::Form),
        };
        pair.map(Self::of).map_err(WebhookKeyError::Rejected)
    }

    fn of(pair: Ed25519KeyPair) -> Self {
        let public = WebhookPublicKey::of(pair.public_key().as_ref());
        Self { pair, public }
    }

    /// The public half.
    pub fn public(&self) -> &WebhookPublicKey {
        &self.public
    }

    /// `v1a,{base64}`: Ed25519 (RFC 8032) over `head` and `body`, one after the other.
    pub fn sign(&self, head: &str, body: &[u8]) -> Result<String, WebhookKeyError> {
        let content = [head.as_bytes(), body].concat();
        let signature = self.pair.try_sign(&content).map_err(WebhookKeyError::Crypto)?;
        Ok(format!("v1a,{}", STANDARD.encode(signature)))
    }

    /// Version 1 of PKCS#8: tools do not read version 2, which holds the public key too.
    fn private_pem(&self) -> Result<String, WebhookKeyError> {
        let der = self.pair.to_pkcs8v1().map_err(WebhookKeyError::Crypto)?;
        Ok(to_pem("PRIVATE KEY", der.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Barrier;

    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

    use super::super::super::testing::{self, Directory, ED25519_SPKI};
    use super::*;

    /// RFC 8037 appendix A.1: the seed, the public key and, from A.3, the thumbprint.
    const SEED: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
    const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    const THUMBPRINT: &str = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";

    fn bytes(text: &str) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(text).unwrap()
    }

    fn whsk(bytes: &[u8]) -> Result<WebhookKey, WebhookKeyError> {
        WebhookKey::parse(&format!("whsk_{}\n", STANDARD.encode(bytes)))
    }

    #[test]
    fn the_key_id_is_the_thumbprint_of_the_published_key() {
        let key = whsk(&bytes(SEED)).unwrap();
        assert_eq!(key.public().kid(), THUMBPRINT);
        let expected = json!({"kty": "OKP", "crv": "Ed25519", "x": X, "kid": THUMBPRINT, "use": "sig", "alg": "EdDSA"});
        assert_eq!(key.public().jwk(), expected);
    }

    /// As the tests of the specification's own libraries have it.
    #[test]
    fn a_signature_is_the_one_of_the_specification() {
        let key = WebhookKey::parse("whsk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk=").unwrap();
        let signature = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.", br#"{"test": 2432232314}"#).unwrap();
        let expected = "v1a,tQ9V2XOqn7jL/DQenEFpqIugdBVtiMmER5mhSkXBNwM0mkATuDe6KYYUuxqtaiHeYGb7KaaBRdM5WqyeFiL8Ag==";
        assert_eq!(signature, expected);
    }

    #[test]
    fn one_key_is_the_same_in_each_of_its_forms() {
        let key = whsk(&bytes(SEED)).unwrap();
        let both = [bytes(SEED), bytes(X)].concat();
        let pem = key.private_pem().unwrap();
        for same in [whsk(&both).unwrap(), WebhookKey::parse(&pem).unwrap()] {
            assert_eq!(same.public(), key.public());
            assert_eq!(same.sign("a.1.", b"{}").unwrap(), key.sign("a.1.", b"{}").unwrap());
        }
    }

    #[test]
    fn a_generated_key_is_loaded_again_and_only_its_owner_can_read_it() {
        let directory = Directory::new();
        let path = directory.path().join("key.pem");
        let first = WebhookKey::load_or_generate(&path).unwrap();
        let second = WebhookKey::load_or_generate(&path).unwrap();
        assert_eq!(first.public(), second.public());
        let other = WebhookKey::load_or_generate(&directory.path().join("other.pem")).unwrap();
        assert_ne!(first.public(), other.public());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let signature = second.sign("id.1.", b"{}").unwrap();
        let signature = STANDARD.decode(signature.strip_prefix("v1a,").unwrap()).unwrap();
        let public = UnparsedPublicKey::new(&ED25519, bytes(&first.public().x));
        public.verify(b"id.1.{}", &signature).unwrap();
    }

    #[test]
    fn instances_that_start_at_once_end_with_one_key() {
        let directory = Directory::new();
        let path = directory.path().join("key.pem");
        let start = Barrier::new(3);
        let kids: Vec<String> = std::thread::scope(|scope| {
            let instance = || {
                start.wait();
                WebhookKey::load_or_generate(&path).unwrap().public().kid().to_owned()
            };
            let running = [(); 3].map(|()| scope.spawn(instance));
            running.map(|one| one.join().unwrap()).into()
        });
        assert!(kids.iter().all(|kid| *kid == kids[0]));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn keys_of_another_kind_and_damaged_ones_are_refused_without_showing_them() {
        let seed = bytes(SEED);
        let mismatch = [seed.as_slice(), &[1; 32]].concat();
        let rsa = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", testing::WEAK_RSA_PKCS8);
        for refused in [whsk(&mismatch), whsk(&mismatch[..33]), WebhookKey::parse(&rsa)] {
            let error = refused.unwrap_err();
            assert!(matches!(error, WebhookKeyError::Rejected(_)), "{error:?}");
        }
        let pem = whsk(&seed).unwrap().private_pem().unwrap();
        let labelled = pem.replace("PRIVATE KEY", "EC PRIVATE KEY");
        let secret = format!("whsec_{}", STANDARD.encode(&seed));
        for text in ["", ED25519_SPKI, &labelled, &secret, "whsk_", "whsk_AAAA", "whsk_?", &pem[..60]] {
            let error = WebhookKey::parse(text).unwrap_err();
            assert!(matches!(error, WebhookKeyError::Form), "{text}");
            assert!(!format!("{error} {error:?}").contains(&STANDARD.encode(&seed)[..8]));
        }
    }

    #[test]
    fn a_damaged_key_file_is_an_error_and_stays_as_it_is() {
        let directory = Directory::new();
        let path = directory.path().join("key.pem");
        std::fs::write(&path, "damaged").unwrap();
        assert!(matches!(WebhookKey::load_or_generate(&path), Err(WebhookKeyError::Form)));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "damaged");
        let missing = WebhookKey::load_or_generate(&directory.path().join("no/key.pem"));
        assert!(matches!(missing, Err(WebhookKeyError::File { .. })));
    }

    #[test]
    fn only_a_public_ed25519_key_is_read_as_a_public_key() {
        let directory = Directory::new();
        let path = directory.path().join("key.pub.pem");
        let key = whsk(&bytes(SEED)).unwrap();
        let spki = [&[0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0], bytes(X).as_slice()].concat();
        std::fs::write(&path, to_pem("PUBLIC KEY", &spki)).unwrap();
        assert_eq!(&WebhookPublicKey::from_file(&path).unwrap(), key.public());
        let private = key.private_pem().unwrap();
        for text in ["", &private, testing::RSA_SPKI, testing::P256_SPKI, testing::ED25519_CERTIFICATE] {
            std::fs::write(&path, text).unwrap();
            let error = WebhookPublicKey::from_file(&path).unwrap_err();
            assert!(matches!(error, WebhookKeyError::NotPublic(_)), "{text}");
        }
        let missing = WebhookPublicKey::from_file(&directory.path().join("none"));
        assert!(matches!(missing, Err(WebhookKeyError::File { .. })));
    }

    #[test]
    fn debug_output_shows_the_key_id_and_nothing_else() {
        let key = whsk(&bytes(SEED)).unwrap();
        assert_eq!(format!("{key:?}"), format!("WebhookKey {{ kid: {THUMBPRINT:?}, .. }}"));
    }
}
