//! Every setting, once: the TOML file, then the environment and the command line on top of it.
//!
//! Read as a whole at start: unknown keys are refused, and everything that is wrong is said at once. The modules have
//! their own `Settings`; they do not know this one.

mod attachments;
mod changes;
mod destination;
mod duplicates;
mod file;
mod limits;
mod opencrvs;
mod secret;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::auth::{KeySource, MAX_DELIVERY_TTL, MintSettings};
use crate::objects::Store;
use crate::outbox::pressure::Limits;
use crate::records::duplicates::Rules;
use crate::{handlers, serve, waiting, workers};

pub use attachments::Attachments;
pub use changes::Changes;
pub use duplicates::Duplicates;
pub use file::{Backpressure, Callbacks, DestinationEntry, Egress, File, Retention, Tokens, TrustedIssuer, Workers};
pub use limits::{Cors, Limits as EdgeLimits};
pub use opencrvs::OpenCrvs;
pub use secret::{SecretError, SecretSource};

/// Why a configuration is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration {0} cannot be read")]
    Read(PathBuf, #[source] std::io::Error),
    /// It is not TOML, or has unknown keys or wrong types. Says the line, but not what it holds: that may be a secret.
    #[error("the configuration {0} is not understood: line {1}: {2}")]
    Parse(PathBuf, usize, String),
    /// What it says makes no sense; all of it.
    #[error("the configuration is not acceptable:\n  {}", .0.join("\n  "))]
    Invalid(Vec<String>),
}

impl File {
    /// Reads a file.
    pub fn read(path: &std::path::Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|e| ConfigError::Read(path.to_owned(), e))?;
        Self::parse(&text, path)
    }

    /// Reads a text; `path` is named in errors.
    pub fn parse(text: &str, path: &std::path::Path) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|e| {
            let line = e.span().and_then(|s| text.get(..s.start)).map_or(1, |before| before.matches('\n').count() + 1);
            ConfigError::Parse(path.to_owned(), line, without_value(e.message()))
        })
    }

    /// What the modules need, or everything that is wrong.
    pub fn settings(self, database_url: String) -> Result<Settings, ConfigError> {
        let mut wrong = Vec::new();
        let allow = networks(&self.egress.allow, &mut wrong);
        let destinations = self
            .destinations
            .iter()
            .filter_map(|d| destination::checked(d, &self.destinations, &allow, &mut wrong))
            .collect();
        let trusted = self.trusted_issuers.iter().filter_map(|t| trusted(t, &mut wrong)).collect();
        self.check(&mut wrong);
        let handlers = self.handlers(&mut wrong);
        let (store, mint) = (self.attachments.open(&mut wrong), self.tokens.mint());
        if !wrong.is_empty() {
            return Err(ConfigError::Invalid(wrong));
        }
        Ok(Settings {
            database_url,
            store,
            connections: self.connections,
            listen: self.listen,
            internal_addr: self.internal_addr,
            stop: Duration::from_secs(self.stop_seconds),
            serve: self.limits.serving(),
            handlers,
            workers: workers::Settings {
                destinations,
                poll: Duration::from_millis(self.workers.poll_ms),
                heartbeat: Duration::from_millis(self.workers.heartbeat_ms),
                max_rescues: self.workers.max_rescues,
                callback_deadline: Duration::from_secs(self.callbacks.deadline_seconds),
                callback_check: Duration::from_secs(self.callbacks.check_seconds),
                duplicate_check: Duration::from_secs(self.duplicates.check_seconds),
                retention_days: self.retention.days,
                changes_days: self.changes.days,
                unreferenced_hours: self.attachments.unreferenced_hours,
                listen: self.workers.listen,
            },
            waiting: self.changes.settings(),
            duplicates: self.duplicates.rules(),
            pressure: Limits {
                ready: self.backpressure.max_ready,
                age: self.backpressure.max_age_seconds.map(Duration::from_secs),
            },
            pressure_check: Duration::from_millis(self.backpressure.check_ms),
            trusted,
            webhook_key_file: self
                .tokens
                .webhook_key_file
                .unwrap_or_else(|| self.tokens.signing_key_file.with_file_name("webhook-key.pem")),
            webhook_public_keys: self.tokens.webhook_public_keys,
            signing_key_file: self.tokens.signing_key_file,
            public_keys: self.tokens.public_keys,
            mint,
        })
    }

    fn handlers(&self, wrong: &mut Vec<String>) -> handlers::Settings {
        handlers::Settings {
            edge: self.limits.edge(&self.cors),
            inline_bytes: self.limits.inline_bytes,
            attachments: self.attachments.uploads(),
            events: self.events.clone(),
            body_max: self.body_max_bytes,
            opencrvs: self.opencrvs.settings(wrong),
        }
    }

    fn check(&self, wrong: &mut Vec<String>) {
        self.limits.check(wrong);
        self.cors.check(wrong);
        self.attachments.check(wrong);
        let mut rule = |holds: bool, text: &str| {
            if !holds {
                wrong.push(text.to_owned());
            }
        };
        let mut names: Vec<&str> = self.destinations.iter().map(|d| d.name.as_str()).collect();
        names.sort_unstable();
        rule(names.windows(2).all(|pair| pair.first() != pair.last()), "two destinations have one name");
        let gateway = self.tokens.gateway_audience.as_str();
        let other = |d: &DestinationEntry| d.audience.as_deref().unwrap_or(&d.name) != gateway;
        rule(self.destinations.iter().all(other), "a destination's audience is tokens.gateway_audience");
        rule(!self.events.is_empty(), "events: at least one is needed");
        let event = |e: &String| is_word(e, 2, 31);
        rule(self.events.iter().all(event), "events: an event is 2 to 31 of a-z 0-9 - and begins with a letter");
        rule(self.connections >= 4, "connections: at least 4 are needed");
        rule(self.body_max_bytes >= 1024, "body_max_bytes: at least 1024");
        let room = self.changes.max_waiting < self.limits.connections;
        rule(room, "changes.max_waiting: fewer than limits.connections, which those who do not wait need too");
        rule(self.limits.inline_bytes >= self.body_max_bytes, "limits.inline_bytes: at least body_max_bytes");
        let ttl = Duration::from_secs(self.tokens.delivery_seconds);
        rule(ttl <= MAX_DELIVERY_TTL && !ttl.is_zero(), "tokens.delivery_seconds: 1 to 300");
        rule((1..=3650).contains(&self.tokens.record_days), "tokens.record_days: 1 to 3650");
        rule(self.workers.poll_ms >= 10, "workers.poll_ms: at least 10");
        rule(self.workers.heartbeat_ms >= 100, "workers.heartbeat_ms: at least 100");
        rule(self.workers.max_rescues >= 0, "workers.max_rescues: 0 or more");
        rule(self.callbacks.deadline_seconds >= 1, "callbacks.deadline_seconds: at least 1");
        rule(self.callbacks.check_seconds >= 1, "callbacks.check_seconds: at least 1");
        rule((1..=1_000_000_000).contains(&self.backpressure.max_ready), "backpressure.max_ready: 1 to 1000000000");
        rule(self.backpressure.max_age_seconds != Some(0), "backpressure.max_age_seconds: at least 1");
        rule(self.backpressure.check_ms >= 10, "backpressure.check_ms: at least 10");
        self.duplicates.check(&mut rule);
        rule(self.retention.days >= 1, "retention.days: at least 1");
        wrong.extend(self.changes.wrong());
    }
}

/// serde says what it found in place of what it wanted: a secret, perhaps, that was written without its brackets.
fn without_value(message: &str) -> String {
    match message.split_once(", expected") {
        Some((found, wanted)) if found.starts_with("invalid ") => {
            let kind: String = found.chars().take_while(|c| *c != ':').collect();
            format!("{kind}: expected{wanted}")
        }
        _ => message.to_owned(),
    }
}

fn networks(texts: &[String], wrong: &mut Vec<String>) -> Arc<[IpNet]> {
    let mut read = |text: &String| {
        let network = text.parse().ok();
        if network.is_none() {
            wrong.push(format!("egress.allow: {text:?} is no network; one is written 10.0.0.0/8 or fd00::/8"));
        }
        network
    };
    texts.iter().filter_map(&mut read).collect()
}

fn is_word(text: &str, min: usize, max: usize) -> bool {
    (min..=max).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// An issuer of users' tokens, checked.
#[derive(Clone, Debug)]
pub struct Trusted {
    /// The `iss` of its tokens.
    pub issuer: String,
    /// At least one of these must be in `aud`.
    pub audiences: Vec<String>,
    /// Where its keys are.
    pub keys: Keys,
}

/// Where an issuer's public keys are.
#[derive(Clone, Debug)]
pub enum Keys {
    /// In a file.
    PemFile(PathBuf),
    /// In a JWKS.
    Jwks(reqwest::Url),
    /// At an OpenCRVS auth service.
    WellKnown(reqwest::Url),
}

impl From<Keys> for KeySource {
    fn from(keys: Keys) -> Self {
        match keys {
            Keys::PemFile(path) => Self::PemFile(path),
            Keys::Jwks(url) => Self::Jwks(url),
            Keys::WellKnown(url) => Self::WellKnownPem(url),
        }
    }
}

fn trusted(entry: &TrustedIssuer, wrong: &mut Vec<String>) -> Option<Trusted> {
    let mut say = |text: &str| wrong.push(format!("trusted issuer {}: {text}", entry.issuer));
    let url = |text: &str| reqwest::Url::parse(text).ok().filter(|u| matches!(u.scheme(), "http" | "https"));
    let keys = match (&entry.pem_file, &entry.jwks_url, &entry.well_known_url) {
        (Some(path), None, None) => Some(Keys::PemFile(path.clone())),
        (None, Some(text), None) => url(text).map(Keys::Jwks),
        (None, None, Some(text)) => url(text).map(Keys::WellKnown),
        _ => {
            say("exactly one of pem_file, jwks_url and well_known_url is needed");
            return None;
        }
    };
    if keys.is_none() {
        say("the url of its keys is none");
    }
    if entry.issuer.is_empty() || entry.audiences.is_empty() || entry.audiences.iter().any(String::is_empty) {
        say("issuer and audiences are needed");
    }
    Some(Trusted { issuer: entry.issuer.clone(), audiences: entry.audiences.clone(), keys: keys? })
}

/// What a process runs with.
#[derive(Clone)]
pub struct Settings {
    /// Where the database is. May hold a password: never logged.
    pub database_url: String,
    /// Where the bytes of attachments go.
    pub store: Store,
    /// Connections that this process may hold.
    pub connections: u32,
    /// Where clients and country configs reach the API.
    pub listen: SocketAddr,
    /// Where operators and probes reach this process.
    pub internal_addr: SocketAddr,
    /// How long a stop waits before it cuts short what is open.
    pub stop: Duration,
    /// What each listener allows.
    pub serve: serve::Settings,
    /// What clients may send.
    pub handlers: handlers::Settings,
    /// How messages are delivered.
    pub workers: workers::Settings,
    /// How one may wait to be told what moved.
    pub waiting: waiting::Settings,
    /// When records are possible duplicates of each other.
    pub duplicates: Rules,
    /// Past which submissions are refused.
    pub pressure: Limits,
    /// How often that is looked at.
    pub pressure_check: Duration,
    /// Whose tokens count, besides our own.
    pub trusted: Vec<Trusted>,
    /// Where our private key is.
    pub signing_key_file: PathBuf,
    /// Further keys whose public halves are published with it, and accepted.
    pub public_keys: Vec<PathBuf>,
    /// Where the private key of signed deliveries is.
    pub webhook_key_file: PathBuf,
    /// Further public keys that are published with it.
    pub webhook_public_keys: Vec<PathBuf>,
    /// What our tokens say.
    pub mint: MintSettings,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<Settings, ConfigError> {
        toml::from_str::<File>(text).unwrap().settings("postgres:///x".to_owned())
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let text = r#"
            connections = 1
            [tokens]
            delivery_seconds = 301
            [[trusted_issuers]]
            issuer = "a"
            audiences = ["b"]
            [[destinations]]
            name = "Search"
            url = "ftp://x"
            effects = []
            [[destinations]]
            name = "audit"
            url = "http://user:secret@audit/"
            effects = ["audit"]
        "#;
        let Err(ConfigError::Invalid(wrong)) = settings(text) else { panic!("accepted") };
        assert_eq!(wrong.len(), 7, "{wrong:#?}");
        assert!(!wrong.join(" ").contains("secret"));
    }

    #[test]
    fn a_secret_in_the_wrong_place_is_not_repeated() {
        let one = "[[destinations]]\nname = \"a\"\nurl = \"http://a\"\neffects = [\"search\"]\n";
        for wrong in
            ["signing_secrets = \"whsec_s3cr3t\"", "secret_headers = \"s3cr3t\"", "signing_secrets = [\"s3cr3t\"]"]
        {
            let parsed = File::parse(&format!("{one}{wrong}"), std::path::Path::new("x"));
            let error = parsed.and_then(|file| file.settings("postgres:///x".to_owned())).err().unwrap();
            assert!(!format!("{error} {error:?}").contains("s3cr3t"), "{error}");
        }
    }

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(toml::from_str::<File>("listn = \"127.0.0.1:1\"").is_err());
        assert!(toml::from_str::<File>("[tokens]\nkey = 1").is_err());
    }

    #[test]
    fn the_example_is_accepted() {
        let text = include_str!("../../crvs-outbox.example.toml");
        let settings = settings(text).unwrap();
        assert_eq!(settings.workers.destinations.len(), 5);
    }
}
