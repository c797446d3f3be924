//! Why a token, a set of keys or the configured trust was refused.
//!
//! The texts are fixed: none of them repeats a part of a token, a key or a claim.

use std::sync::Arc;

/// Why a token was refused. All but [`AuthError::KeysUnavailable`] mean 401 (RFC 6750 section 3.1).
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuthError {
    /// Not a compact JWS with JSON in it, an unknown `crit` header, or a claim of the wrong form.
    #[error("the token is malformed")]
    Malformed,
    /// The algorithm is not RS256, ES256 or `EdDSA`, or does not fit the type of the issuer's key.
    #[error("the token's algorithm is not allowed")]
    AlgorithmNotAllowed,
    /// No trust is configured for the token's `iss`.
    #[error("the token's issuer is not trusted")]
    UnknownIssuer,
    /// The issuer has published no key with the token's `kid`.
    #[error("the token's key is not known")]
    UnknownKey,
    /// None of the issuer's keys made the signature.
    #[error("the token's signature is not valid")]
    BadSignature,
    /// `exp` lies more than the leeway in the past.
    #[error("the token has expired")]
    Expired,
    /// `nbf` lies more than the leeway in the future.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// `aud` names none of our audiences.
    #[error("the token is meant for another audience")]
    WrongAudience,
    /// A claim that every token must carry is absent; holds the claim's name.
    #[error("the token has no claim {0}")]
    MissingClaim(&'static str),
    /// The issuer's keys were never fetched, so the token can be neither accepted nor refused: the
    /// caller answers 503.
    #[error("the issuer's keys are not available")]
    KeysUnavailable(#[source] Arc<KeyError>),
}

impl AuthError {
    /// Whether another source of keys of the same issuer may decide otherwise.
    pub(super) fn is_about_the_key(&self) -> bool {
        match self {
            Self::UnknownKey | Self::BadSignature | Self::AlgorithmNotAllowed | Self::KeysUnavailable(_) => true,
            Self::Malformed
            | Self::UnknownIssuer
            | Self::Expired
            | Self::NotYetValid
            | Self::WrongAudience
            | Self::MissingClaim(_) => false,
        }
    }

    /// A text for `WWW-Authenticate: Bearer error="invalid_token", error_description="…"`: only
    /// characters that RFC 6750 section 3 allows there.
    pub fn description(&self) -> &'static str {
        match self {
            Self::Malformed => "the token is malformed",
            Self::AlgorithmNotAllowed => "the algorithm of the token is not allowed",
            Self::UnknownIssuer => "the issuer of the token is not trusted",
            Self::UnknownKey => "the key of the token is not known",
            Self::BadSignature => "the signature of the token is not valid",
            Self::Expired => "the token has expired",
            Self::NotYetValid => "the token is not valid yet",
            Self::WrongAudience => "the token is meant for another audience",
            Self::MissingClaim(_) => "the token lacks a required claim",
            Self::KeysUnavailable(_) => "the keys of the issuer are not available at the moment",
        }
    }
}

/// Why no keys could be had from a source.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The text holds a damaged PEM block.
    #[error("the text is not PEM")]
    NotPem,
    /// The document is not a JSON Web Key Set (RFC 7517 section 5).
    #[error("the document is not a JSON Web Key Set")]
    NotJwks,
    /// No block or entry is a public key that we can use.
    #[error("no public key of type RSA (2048 to 8192 bits), EC P-256 or Ed25519 was found")]
    NoUsableKey,
    /// The file could not be read.
    #[error("the file with the keys cannot be read")]
    Read(#[source] std::io::Error),
    /// The request failed or took more than five seconds; the source has no address in it.
    #[error("the keys cannot be fetched")]
    Fetch(#[source] reqwest::Error),
    /// The answer's status was not 200. Redirects are not followed.
    #[error("the keys cannot be fetched: status {0}")]
    Status(u16),
    /// The answer or file is larger than 1 MiB.
    #[error("the document with the keys is too large")]
    TooLarge,
    /// The task that was fetching ended early; only when the runtime shuts down.
    #[error("fetching the keys was interrupted")]
    Interrupted,
}

/// Why a [`super::Verifier`] cannot be built from its configuration.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A trust without an issuer, or without an audience, would accept nothing or too much.
    #[error("a trusted issuer needs a name and at least one audience, none of them empty")]
    Incomplete,
    /// The configured keys of an issuer are of no use.
    #[error("the keys of the issuer {issuer} are of no use")]
    Keys {
        /// The issuer, as configured.
        issuer: String,
        /// What is wrong with them.
        #[source]
        source: KeyError,
    },
    /// The HTTP client could not be set up.
    #[error("the HTTP client for fetching keys cannot be set up")]
    Client(#[source] reqwest::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_description_fits_into_a_quoted_error_description() {
        let all = [
            AuthError::Malformed,
            AuthError::AlgorithmNotAllowed,
            AuthError::UnknownIssuer,
            AuthError::UnknownKey,
            AuthError::BadSignature,
            AuthError::Expired,
            AuthError::NotYetValid,
            AuthError::WrongAudience,
            AuthError::MissingClaim("exp"),
            AuthError::KeysUnavailable(Arc::new(KeyError::Interrupted)),
        ];
        for error in all {
            let text = error.description();
            assert!(!text.is_empty());
            assert!(text.bytes().all(|byte| matches!(byte, 0x20..=0x21 | 0x23..=0x5b | 0x5d..=0x7e)), "{text}");
        }
    }
}
