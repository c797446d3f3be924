//! Who is calling, and in whose name we call.
//!
//! Promised here:
//! - [`Verifier`] accepts a bearer token only when a configured issuer signed it with RS256, ES256
//!   or `EdDSA`, for one of our audiences, and only while it is valid (30 s leeway). The keys come
//!   from configuration, never from the token (RFC 8725 section 3).
//! - The keys of an issuer may change while we run: they are fetched again when a token asks for
//!   one we do not know, and at the latest after ten minutes; a failing fetch never takes away keys
//!   that served before.
//! - Our own key may change too: further public keys are published beside it ([`PublishedKeys`]) and accepted
//!   ([`KeySource::Listed`]), so that the next one is served before it signs, and tokens of the previous one stay good.
//! - [`Minter`] makes a fresh token at the time of a delivery, with the initiator as subject and
//!   this service as the actor (RFC 8693), so that no user's token has to be stored.
//! - A token may be exchanged for one that is good for a single record ([`narrowed`], [`Minter::for_exchange`]): the new
//!   one never grants what the other does not.
//! - Deliveries are signed with a [`WebhookSecret`] or the [`WebhookKey`]; a token signed with the latter is never
//!   accepted here, though its public half is published beside that of the tokens ([`PublishedKeys`]).
//! - No token, key or claim value appears in an error text, in a log line or in `Debug` output; the
//!   one exception is the subject of a [`Principal`], which its `Debug` shows.
//!
//! Not promised:
//! - Nothing is known about the revocation of single tokens, and nothing stops a token from being
//!   used twice: `jti` is written, never remembered.
//! - [`Scopes`] says what a token grants. Which endpoint asks for which right, and whether a record
//!   grant fits the record in question, is the caller's to decide.
//! - Encrypted tokens (JWE), HMAC and RSA-PSS signatures are refused, not supported.

mod error;
mod exchange;
mod grammar;
mod head;
mod key_file;
mod keys;
mod mint;
mod principal;
mod public_key;
mod published;
mod refresh;
mod right;
mod scopes;
mod share;
mod signer;
#[cfg(test)]
mod testing;
mod verify;
mod webhook;

pub use error::{AuthError, KeyError, TrustError};
pub use exchange::{Exchange, Exchanged, Refusal, Target, narrowed};
pub use keys::KeySource;
pub use mint::{MAX_DELIVERY_TTL, MintSettings, Minter};
pub use principal::{Principal, RecordGrant};
pub use public_key::{PublicKeyError, TokenPublicKey};
pub use published::PublishedKeys;
pub use right::Right;
pub use scopes::{CONFIRM_REGISTRATION, Flow, REJECT_REGISTRATION, Scopes};
pub use signer::{Signer, SignerError};
pub use verify::{Trust, Verifier};
pub use webhook::{WebhookKey, WebhookKeyError, WebhookPublicKey, WebhookSecret, WebhookSecretError};
