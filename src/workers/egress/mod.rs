//! How deliveries leave the house: one client per destination, which connects to vetted addresses only.
//!
//! Promises:
//! - what a connection goes to is what was vetted: names are looked up once per connection, the whole answer is
//!   refused if one of its addresses is, and the connector gets the vetted addresses, not the name;
//! - addresses that are written in a URL, in whatever notation, are vetted before each request;
//! - redirects are not followed, so nothing but the configured URL is ever asked for;
//! - proxies of the environment are not used;
//! - destinations share nothing: no pool, no TLS state, no lookups that wait for each other.
//!
//! Not promised: that a name which a *configured* proxy resolves leads to a public address; that is the proxy's to
//! decide. See [`client::ClientSettings::proxy`].

pub mod address;
pub mod client;
pub mod failure;
pub mod probe;
pub mod resolver;

pub use client::{Client, ClientError, ClientSettings, build};
pub use probe::{Probe, probe};
