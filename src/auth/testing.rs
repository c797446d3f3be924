//! What the tests of this module share: keys, tokens and a directory that goes away.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use pem::Pem;
use serde_json::{Value, json};
use uuid::Uuid;

use super::signer::Signer;
use super::verify::{Trust, Verifier};
use super::{AuthError, KeySource, Principal};

/// The issuer and the audience of [`claims`].
pub(super) const ISSUER: &str = "opencrvs:auth-service";
pub(super) const AUDIENCE: &str = "opencrvs:workflow-user";

static SIGNERS: LazyLock<[Arc<Signer>; 2]> = LazyLock::new(|| [(); 2].map(|()| Arc::new(Signer::generate().unwrap())));

/// One RSA key for the whole run, since making one takes long.
pub(super) fn signer() -> Arc<Signer> {
    Arc::clone(&SIGNERS[0])
}

/// Another RSA key.
pub(super) fn other_signer() -> Arc<Signer> {
    Arc::clone(&SIGNERS[1])
}

/// A key pair that is not RSA.
pub(super) struct OtherKey {
    pub(super) algorithm: Algorithm,
    pub(super) pem: String,
    /// The public key as a JSON Web Key without `kid`.
    pub(super) jwk: Value,
    private: EncodingKey,
}

impl OtherKey {
    pub(super) fn p256() -> Self {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref()).unwrap();
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let jwk = json!({"kty": "EC", "crv": "P-256", "x": base64(x), "y": base64(y)});
        Self {
            algorithm: Algorithm::ES256,
            pem: public_pem(pair.public_key()),
            jwk,
            private: EncodingKey::from_ec_der(pkcs8.as_ref()),
        }
    }

    pub(super) fn ed25519() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
        let x = base64(pair.public_key().as_ref());
        Self {
            algorithm: Algorithm::EdDSA,
            pem: public_pem(pair.public_key()),
            jwk: json!({"kty": "OKP", "crv": "Ed25519", "x": x}),
            private: EncodingKey::from_ed_der(pkcs8.as_ref()),
        }
    }

    /// A token signed with this key.
    pub(super) fn sign(&self, kid: Option<&str>, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = kid.map(str::to_owned);
        jsonwebtoken::encode(&header, claims, &self.private).unwrap()
    }
}

fn public_pem<K: AsDer<PublicKeyX509Der<'static>>>(key: &K) -> String {
    pem::encode(&Pem::new("PUBLIC KEY", key.as_der().unwrap().as_ref()))
}

pub(super) fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A token of any header and claims, with a signature that is none.
pub(super) fn unsigned(header: &Value, claims: &Value) -> String {
    let (header, claims) = (base64(header.to_string()), base64(claims.to_string()));
    format!("{header}.{claims}.{}", base64("no signature"))
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    jsonwebtoken::get_current_timestamp()
}

/// The claims of a token that is good for a minute.
pub(super) fn claims() -> Value {
    json!({
        "iss": ISSUER,
        "aud": ["opencrvs:auth-user", AUDIENCE],
        "sub": "user-1",
        "scope": ["register"],
        "iat": now(),
        "exp": now() + 60,
    })
}

/// The same claims with one of them replaced.
pub(super) fn claims_with(name: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims();
    claims[name] = value.into();
    claims
}

/// The same claims without one of them.
pub(super) fn claims_without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

/// A verifier of the tokens of [`ISSUER`] for [`AUDIENCE`].
pub(super) fn verifier(keys: KeySource) -> Verifier {
    let trust = Trust { issuer: ISSUER.to_owned(), audiences: vec![AUDIENCE.to_owned()], keys };
    Verifier::new(vec![trust]).unwrap()
}

/// The refusal of a token that must be refused.
pub(super) fn refused(result: Result<Principal, AuthError>) -> AuthError {
    result.unwrap_err()
}

/// A directory of its own, removed at the end.
pub(super) struct Directory(PathBuf);

impl Directory {
    pub(super) fn new() -> Self {
        let path = std::env::temp_dir().join(Uuid::new_v4().to_string());
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// A private RSA key of 1024 bits, made for this test only: PKCS#8, base64.
pub(super) const WEAK_RSA_PKCS8: &str = "\
    MIICeAIBADANBgkqhkiG9w0BAQEFAASCAmIwggJeAgEAAoGBAK4o/98H88r6jS7evRcYJjeAPcipVosKmNM2amoT\
    Q9kzf4fWr5D9YhInFf6ehMjAlE8ragc1f5yZFCaS68fA9ycT0Xjq52sDH97fvoQ1xxmYv8RPlKt4m544YM7QgiXz\
    rYlu94TiccF4+OjKe2TtbEIoevZvv0AnQ11kMNjsizU7AgMBAAECgYBFqBhOt/uGH5gAOw4eAoamhCAx9airi917\
    /LOrIXFtme9UAUXPE8j5wbBGWlh5gqzOzWpm37reg0tP8ktjZYZz7c1YTldmLCRmRgC6SSHVUIOcD7EiV971nt0C\
    420ByZeZ1WLr4pR6i7JxuAXUp7SiLL7j3RB+mNxeBSIgj8KDoQJBANNwbzGWOzlBU8mWC5Cxw0VXuYIz4DDIAYfM\
    2VW+FimcdyQVX47W7pNk8Y7dZjppSo+Em0JBFaoiSvOvl92T5FcCQQDS3Uldl8YoilUS4uRK9O1zFHlnt2w5FgKE\
    aFgT++oQr0FvhR33rcKGwUTBREDmuPUpdRSf8/QYd01CIcyVhMe9AkEAzAGCt8Rs9gxLDIiCNiTd9Mz0h2UIHekM\
    WPvUgr86YQG/jog0v/wvCvXtf9uspBUtRJY8u0tS3OnjiYXVsIveVwJBALJRzH9HoJ4cDcHA+oqhAkT1pY2eQfks\
    schDbWjI+rJNYyrqCeOwn/bRblF6ZOA4varnhh+WcHBYQ4+PgbFX7okCQQC2IJ4SnZEiHj9yUjlOnDbRameTLYAs\
    CZpoY3yVlasIyzDWv+wubHhKANLPEMMH5HmE884s/0MUt44PTuuJIDgf";

/// A public RSA key of 1024 bits.
pub(super) const WEAK_RSA: &str = "\
-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCuKP/fB/PK+o0u3r0XGCY3gD3I
qVaLCpjTNmpqE0PZM3+H1q+Q/WISJxX+noTIwJRPK2oHNX+cmRQmkuvHwPcnE9F4
6udrAx/e376ENccZmL/ET5SreJueOGDO0IIl862JbveE4nHBePjoyntk7WxCKHr2
b79AJ0NdZDDY7Is1OwIDAQAB
-----END PUBLIC KEY-----
";

/// A public key on P-384.
pub(super) const P384: &str = "\
-----BEGIN PUBLIC KEY-----
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEUfqGJo2OCIFqj0H9BtmfewfiCU2NwsbY
tNuK2bAkcfRVIh/Iq0ttZ6THfHJvO5rt4KuYwXJbo1pCvpCO9d3eNPB31rWt+T58
Cgf0o8iMhS2FmeOkZpoeIAE+3G6yNaOW
-----END PUBLIC KEY-----
";

/// A public key on secp256k1, whose points are as long as those on P-256.
pub(super) const SECP256K1: &str = "\
-----BEGIN PUBLIC KEY-----
MFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAETgo1l7X8GrM8mN6g4iWVVi0r4v/IvGmv
Z9OrluwhzsbeyBnmxoAAqRId9LS/CxdgPDHNmFe3SZQlf1IrRf0M1w==
-----END PUBLIC KEY-----
";

/// A self-signed certificate of an RSA key.
pub(super) const RSA_CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIDATCCAemgAwIBAgIUYrKJpqFX9f/eFKWYPoDlDPM9AtQwDQYJKoZIhvcNAQEL
BQAwDzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjQxMTExMjlaGA8yMTI2MTAzMTEx
MTEyOVowDzENMAsGA1UEAwwEdGVzdDCCASIwDQYJKoZIhvcNAQEBBQADggEPADCC
AQoCggEBAKM/ZTfLLwGK+18W6W/cZouaPR+xMpZHMP7W4wmjMM7fGC1vJ0yRBcow
w20q8QGySN/e6tpSdORzOnx7BokhAf5/IvJeQKapzp/4e+KArN5z+PG/dwarlhCj
XqNFpzX0ak4ypIB3FCtIJLwi4U8yNBznbbIjSQejo8naKf33+srOMlZK+wNbcctb
GGdhiBINCXgxpJIZfPUY47v6OC+FQmyTV9Vu9PD58ASH9biHYbAueqPTBMcITVUQ
jKLZHS3mPfbCN4oZWiZ2l2NbTE4bozitvJ+xLH5Wb2GxJMlYguJCYOFRuAXuGpWE
0CmfyGZeKQe/HE/BRZt5C1Xo5a8y1FkCAwEAAaNTMFEwHQYDVR0OBBYEFGHTWBst
3AsD1bN8R+Rbs1Q4v6O9MB8GA1UdIwQYMBaAFGHTWBst3AsD1bN8R+Rbs1Q4v6O9
MA8GA1UdEwEB/wQFMAMBAf8wDQYJKoZIhvcNAQELBQADggEBAAS5ngZA3tZRgdBg
jNIPh0DPxW8wQNiYWXF0OYMrcOODVIMH3U6D+7++ovOL/WKkerFYczDaF8sgS41R
txyzcvQYyQGZ63aa8E1055ee9caLEIo/2wqKuY8zGsobfeoWXz+UfGyPxY/Dwp8S
dwbEBMHDR8KjTdBM2MzOpHRjm+Ok4oKFu6LCo+FWYPezBWgQ/L9tn3gGfGNR0GjB
+/zmzBrGfTjJnjBpS5Le/la7gb9DfinVqiNOWeICZYThY5s27ZJktewC3ISuYRac
EVxD+e5suXw1LpMrw4iZB2wUjdfRqxiiiPk5xEuUqXYs79nyhP8aeiP4aFpwsUV1
dxyfjbk=
-----END CERTIFICATE-----
";

/// The key of that certificate, in PKCS#1.
pub(super) const RSA_PKCS1: &str = "\
-----BEGIN RSA PUBLIC KEY-----
MIIBCgKCAQEAoz9lN8svAYr7Xxbpb9xmi5o9H7Eylkcw/tbjCaMwzt8YLW8nTJEF
yjDDbSrxAbJI397q2lJ05HM6fHsGiSEB/n8i8l5ApqnOn/h74oCs3nP48b93BquW
EKNeo0WnNfRqTjKkgHcUK0gkvCLhTzI0HOdtsiNJB6Ojydop/ff6ys4yVkr7A1tx
y1sYZ2GIEg0JeDGkkhl89Rjju/o4L4VCbJNX1W708PnwBIf1uIdhsC56o9MExwhN
VRCMotkdLeY99sI3ihlaJnaXY1tMThujOK28n7EsflZvYbEkyViC4kJg4VG4Be4a
lYTQKZ/IZl4pB78cT8FFm3kLVejlrzLUWQIDAQAB
-----END RSA PUBLIC KEY-----
";

/// The same key, as SPKI.
pub(super) const RSA_SPKI: &str = "\
-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAoz9lN8svAYr7Xxbpb9xm
i5o9H7Eylkcw/tbjCaMwzt8YLW8nTJEFyjDDbSrxAbJI397q2lJ05HM6fHsGiSEB
/n8i8l5ApqnOn/h74oCs3nP48b93BquWEKNeo0WnNfRqTjKkgHcUK0gkvCLhTzI0
HOdtsiNJB6Ojydop/ff6ys4yVkr7A1txy1sYZ2GIEg0JeDGkkhl89Rjju/o4L4VC
bJNX1W708PnwBIf1uIdhsC56o9MExwhNVRCMotkdLeY99sI3ihlaJnaXY1tMThuj
OK28n7EsflZvYbEkyViC4kJg4VG4Be4alYTQKZ/IZl4pB78cT8FFm3kLVejlrzLU
WQIDAQAB
-----END PUBLIC KEY-----
";

/// A self-signed certificate of a P-256 key.
pub(super) const P256_CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBdDCCARugAwIBAgIUcqoohMlm/KLktFQGtQwvOrzArrQwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjQxMTExMjlaGA8yMTI2MTAzMTExMTEy
OVowDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABOhE
yJvqF8dU++m8zz1SwZCbM+bB2MG5pJolRiJnV/9UZGxARrfHyXwQ/cecfagEl67I
AfW/ss1qPRbE8pg/MtGjUzBRMB0GA1UdDgQWBBStK2UOfWNFy9wKlHoervm0a/fe
RTAfBgNVHSMEGDAWgBStK2UOfWNFy9wKlHoervm0a/feRTAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCA0cAMEQCIHaVRjtddVvFTgX/VINmO7/83nbl9ZnH0L4m
GPfVp/9+AiAoIuAvg3SV61BUrVAcWNTdTVA+VxiNI9W6PdN2WnjkYQ==
-----END CERTIFICATE-----
";

/// The key of that certificate.
pub(super) const P256_SPKI: &str = "\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE6ETIm+oXx1T76bzPPVLBkJsz5sHY
wbmkmiVGImdX/1RkbEBGt8fJfBD9x5x9qASXrsgB9b+yzWo9FsTymD8y0Q==
-----END PUBLIC KEY-----
";

/// A self-signed certificate of an Ed25519 key.
pub(super) const ED25519_CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBNDCB56ADAgECAhQIodVgJ9MCLYQI2p8VnWTiu3y9HzAFBgMrZXAwDzENMAsG
A1UEAwwEdGVzdDAgFw0yNjExMjQxMTExMjlaGA8yMTI2MTAzMTExMTEyOVowDzEN
MAsGA1UEAwwEdGVzdDAqMAUGAytlcAMhADKWBKCuRRQZ315q/zS2WjFDIiz+m43/
Zasadm+xHRTWo1MwUTAdBgNVHQ4EFgQUxTesgBjHADkcY7N2W4wdSj69zx8wHwYD
VR0jBBgwFoAUxTesgBjHADkcY7N2W4wdSj69zx8wDwYDVR0TAQH/BAUwAwEB/zAF
BgMrZXADQQCajYEIJKLdpecK8aDhLDCnDsc2+wW3SUqYQ63s/RTHgOloFjm7sw/e
MTT88SOtFB9ZZgdajKoNPGJmFs3kj2QF
-----END CERTIFICATE-----
";

/// The key of that certificate.
pub(super) const ED25519_SPKI: &str = "\
-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAMpYEoK5FFBnfXmr/NLZaMUMiLP6bjf9lqxp2b7EdFNY=
-----END PUBLIC KEY-----
";
