//! The keys that deliveries are signed with (Standard Webhooks 1.0.0).
//!
//! Two kinds: a [`WebhookSecret`] that a receiver shares with us (`v1`, HMAC-SHA256), and the one [`WebhookKey`] of this
//! service (`v1a`, Ed25519) whose public half is published. Both sign `{id}.{timestamp}.{body}`; who writes the headers
//! sees to it that the three cannot be cut apart otherwise, and that nothing that is signed is also a token.

mod key;
mod secret;

pub use key::{WebhookKey, WebhookKeyError, WebhookPublicKey};
pub use secret::{WebhookSecret, WebhookSecretError};
