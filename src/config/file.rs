//! The TOML file, as it is written: names, units and defaults.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::attachments::Attachments;
use super::changes::Changes;
use super::duplicates::Duplicates;
use super::limits::{Cors, Limits};
use super::opencrvs::OpenCrvs;
use super::secret::SecretSource;
use crate::auth::MintSettings;
use crate::outbox::Effect;
use crate::outbox::destination::{Auth, Format, OnDead};
use crate::workers;

/// The file. Every member has a default but those of a destination and of a trusted issuer.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    /// Where clients and country configs reach the API.
    pub listen: SocketAddr,
    /// Where operators and probes reach this process.
    pub internal_addr: SocketAddr,
    /// Connections to the database that the pools of this process may hold together.
    pub connections: u32,
    /// The events that are registered.
    pub events: Vec<String>,
    /// Largest request body, in bytes.
    pub body_max_bytes: usize,
    /// Seconds that a stop waits for open requests and exchanges before it cuts them short.
    pub stop_seconds: u64,
    /// Whose tokens count.
    pub trusted_issuers: Vec<TrustedIssuer>,
    /// The tokens that this service mints.
    pub tokens: Tokens,
    /// Promised callbacks.
    pub callbacks: Callbacks,
    /// Leases.
    pub workers: Workers,
    /// Where deliveries may go.
    pub egress: Egress,
    /// What one client may cost.
    pub limits: Limits,
    /// What may be uploaded, and how it is kept.
    pub attachments: Attachments,
    /// Which web pages may call.
    pub cors: Cors,
    /// When submissions are refused because too much is waiting.
    pub backpressure: Backpressure,
    /// When records are possible duplicates of each other.
    pub duplicates: Duplicates,
    /// How long what is finished is kept.
    pub retention: Retention,
    /// Those who wait to hear what became of their transactions.
    pub changes: Changes,
    /// How much of `OpenCRVS` is there.
    pub opencrvs: OpenCrvs,
    /// Where messages go.
    pub destinations: Vec<DestinationEntry>,
}

impl Default for File {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7070)),
            internal_addr: SocketAddr::from(([127, 0, 0, 1], 7071)),
            connections: 20,
            events: ["birth", "death", "marriage"].map(str::to_owned).to_vec(),
            body_max_bytes: 50 * 1024 * 1024,
            stop_seconds: 25,
            trusted_issuers: Vec::new(),
            tokens: Tokens::default(),
            callbacks: Callbacks::default(),
            workers: Workers::default(),
            egress: Egress::default(),
            limits: Limits::default(),
            attachments: Attachments::default(),
            cors: Cors::default(),
            backpressure: Backpressure::default(),
            duplicates: Duplicates::default(),
            retention: Retention::default(),
            changes: Changes::default(),
            opencrvs: OpenCrvs::default(),
            destinations: Vec::new(),
        }
    }
}

/// An issuer of users' tokens; exactly one source of keys.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedIssuer {
    /// The `iss` of its tokens.
    pub issuer: String,
    /// At least one of these must be in `aud`.
    pub audiences: Vec<String>,
    /// A file of public keys in PEM.
    pub pem_file: Option<PathBuf>,
    /// A JWKS (RFC 7517).
    pub jwks_url: Option<String>,
    /// The PEM of an OpenCRVS auth service.
    pub well_known_url: Option<String>,
}

/// The tokens that this service mints.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tokens {
    /// RSA private key, PKCS#8 PEM; made at the first start if it is not there.
    pub signing_key_file: PathBuf,
    /// RSA keys in PEM, public or private, that are published and accepted too: the previous or the next signing key.
    pub public_keys: Vec<PathBuf>,
    /// Ed25519 private key of signed deliveries, PKCS#8 PEM; `webhook-key.pem` beside the other if not given, and made
    /// at the first start if it is not there.
    pub webhook_key_file: Option<PathBuf>,
    /// Ed25519 public keys in PEM that are published too: the previous or the next key of signed deliveries.
    pub webhook_public_keys: Vec<PathBuf>,
    /// Their `iss`.
    pub issuer: String,
    /// Their `act.sub`.
    pub actor: String,
    /// The audience of this service: country configs send their token back to it.
    pub gateway_audience: String,
    /// Life of a delivery's token, at most 300 s.
    pub delivery_seconds: u64,
    /// Life of a record's token, in days.
    pub record_days: u64,
}

impl Default for Tokens {
    fn default() -> Self {
        Self {
            signing_key_file: PathBuf::from("signing-key.pem"),
            public_keys: Vec::new(),
            webhook_key_file: None,
            webhook_public_keys: Vec::new(),
            issuer: "crvs-outbox".to_owned(),
            actor: "crvs-outbox".to_owned(),
            gateway_audience: "opencrvs:gateway-user".to_owned(),
            delivery_seconds: 300,
            record_days: 30,
        }
    }
}

impl Tokens {
    pub(super) fn mint(&self) -> MintSettings {
        MintSettings {
            issuer: self.issuer.clone(),
            actor: self.actor.clone(),
            gateway_audience: self.gateway_audience.clone(),
            delivery_ttl: Duration::from_secs(self.delivery_seconds),
            record_ttl: Duration::from_hours(24) * u32::try_from(self.record_days).unwrap_or(u32::MAX),
        }
    }
}

/// Promised callbacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Callbacks {
    /// Until when the first one is awaited.
    pub deadline_seconds: u64,
    /// How often overdue ones are looked for.
    pub check_seconds: u64,
}

impl Default for Callbacks {
    fn default() -> Self {
        let workers = workers::Settings::default();
        Self { deadline_seconds: workers.callback_deadline.as_secs(), check_seconds: workers.callback_check.as_secs() }
    }
}

/// Leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Workers {
    /// How often a lane looks for work when nobody wakes it.
    pub poll_ms: u64,
    /// How often a worker says that it lives.
    pub heartbeat_ms: u64,
    /// Lost leases after which a message is dead.
    pub max_rescues: i32,
    /// Whether instances wake each other through the database; without it they only poll.
    pub listen: bool,
}

impl Default for Workers {
    fn default() -> Self {
        Self { poll_ms: 1000, heartbeat_ms: 5000, max_rescues: 20, listen: true }
    }
}

/// Where deliveries may go. Public addresses always, link-local and metadata addresses never.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Egress {
    /// Private networks that may be reached, for example `10.0.0.0/8`.
    pub allow: Vec<String>,
}

/// When submissions are refused with 503.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Backpressure {
    /// Ready messages.
    pub max_ready: u64,
    /// Age of the oldest due message; however old if not given.
    pub max_age_seconds: Option<u64>,
    /// How often it is looked at.
    pub check_ms: u64,
}

impl Default for Backpressure {
    fn default() -> Self {
        Self { max_ready: 1_000_000, max_age_seconds: None, check_ms: 2000 }
    }
}

/// How long finished messages and attempts are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Whole days; older partitions are dropped.
    pub days: u16,
}

impl Default for Retention {
    fn default() -> Self {
        Self { days: 90 }
    }
}

/// A destination.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DestinationEntry {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub url: String,
    /// What is sent.
    #[serde(default)]
    pub format: Format,
    /// What it receives.
    pub effects: Vec<Effect>,
    /// Whether it gets tokens.
    #[serde(default)]
    pub auth: Auth,
    /// The audience of its tokens; its name if not given.
    pub audience: Option<String>,
    /// Exchanges that one instance holds open at a time.
    #[serde(default = "default_concurrency")]
    pub concurrency: u16,
    /// Messages that one claim takes at most.
    #[serde(default = "default_batch")]
    pub batch: u16,
    /// Deadline of an exchange.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    /// Hard end of a lease; 30 s more than the deadline if not given.
    pub lease_ms: Option<u64>,
    /// Upper bound of the first delay of a retry.
    #[serde(default = "default_retry_base_ms")]
    pub retry_base_ms: u64,
    /// Upper bound of any delay of a retry.
    #[serde(default = "default_retry_cap_ms")]
    pub retry_cap_ms: u64,
    /// Attempts after which a message is dead; for ever if not given.
    pub max_attempts: Option<u32>,
    /// Statuses that are retried though they are final by default.
    #[serde(default)]
    pub retry_on: Vec<u16>,
    /// Statuses that are final though they are retried by default.
    #[serde(default)]
    pub dead_on: Vec<u16>,
    /// What a dead message does to later ones of its record.
    #[serde(default)]
    pub on_dead: OnDead,
    /// Whether its backlog counts fully against the limit past which submissions are refused.
    #[serde(default)]
    pub backpressure: bool,
    /// Requests per second of all instances together.
    pub rate_limit: Option<f64>,
    /// Failures in a row that open its circuit; 0: never.
    #[serde(default = "default_breaker_failures")]
    pub breaker_failures: u16,
    /// How long the circuit stays open at first.
    #[serde(default = "default_breaker_base_ms")]
    pub breaker_base_ms: u64,
    /// How long the circuit stays open at most.
    #[serde(default = "default_breaker_cap_ms")]
    pub breaker_cap_ms: u64,
    /// Headers of its own.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Headers of its own whose values are secret.
    #[serde(default)]
    pub secret_headers: BTreeMap<String, SecretSource>,
    /// Secrets that deliveries are signed with, the newest first (`whsec_…`).
    #[serde(default)]
    pub signing_secrets: Vec<SecretSource>,
    /// Whether deliveries are signed with the key of this service.
    #[serde(default)]
    pub sign_ed25519: bool,
    /// Certificate authorities in PEM, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Our certificate, its chain and its key in PEM.
    pub identity_file: Option<PathBuf>,
    /// The proxy on the way to it.
    pub proxy: Option<String>,
    /// Where a country config says which notifications it wants: its `/record-notification`.
    pub notification_settings_url: Option<String>,
}

fn default_concurrency() -> u16 {
    16
}

fn default_batch() -> u16 {
    100
}

fn default_timeout_ms() -> u64 {
    15_000
}

fn default_retry_base_ms() -> u64 {
    1000
}

fn default_retry_cap_ms() -> u64 {
    15 * 60 * 1000
}

fn default_breaker_failures() -> u16 {
    10
}

fn default_breaker_base_ms() -> u64 {
    5000
}

fn default_breaker_cap_ms() -> u64 {
    5 * 60 * 1000
}
