//! A destination of the file, checked.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::file::DestinationEntry;
use super::is_word;
use crate::auth::WebhookSecret;
use crate::outbox::Effect;
use crate::outbox::destination::{Auth, Breaker, Definition, Format, LEASE_MARGIN};
use crate::outbox::retry::Policy;
use crate::workers;
use crate::workers::delivery::may_configure;
use crate::workers::egress::{self, Client, ClientSettings};
use crate::workers::wanted::{self, Wanted};

/// Adds everything that is wrong with it to `wrong`, and returns it only if nothing is.
///
/// Reads the files and variables that it names. Blocks.
pub(super) fn checked(
    entry: &DestinationEntry,
    all: &[DestinationEntry],
    allow: &Arc<[IpNet]>,
    wrong: &mut Vec<String>,
) -> Option<workers::Destination> {
    let before = wrong.len();
    let mut say = |text: &str| wrong.push(format!("destination {}: {text}", entry.name));
    if !is_word(&entry.name, 1, 63) {
        say("its name is 1 to 63 of a-z 0-9 - and begins with a letter");
    }
    if let Some(text) = url_fault(&entry.url) {
        say(text);
    }
    for text in subscription_faults(entry).into_iter().chain(number_faults(entry)) {
        say(text);
    }
    if let Some(text) = entry.notification_settings_url.as_deref().and_then(url_fault) {
        say(&format!("notification_settings_url: {text}"));
    }
    let headers = headers(entry, &mut say);
    let secrets = secrets(entry, &mut say).into();
    let client = client(entry, allow, &mut say);
    if wrong.len() > before {
        return None;
    }
    Some(workers::Destination {
        definition: definition(entry),
        audience: entry.audience.clone().unwrap_or_else(|| entry.name.clone()),
        client: client?,
        headers,
        secrets,
        ed25519: entry.sign_ed25519,
        wanted: entry.notification_settings_url.as_ref().map(|url| {
            let settings = wanted::Settings::new(url.clone(), audience_at(url, all));
            Arc::new(Wanted::new(settings))
        }),
    })
}

/// The audience that a country config has in OpenCRVS.
const COUNTRY_CONFIG: &str = "opencrvs:countryconfig-user";

/// The audience of a token for a country config's address: that of the destination there that gives verdicts, or none if
/// that one gets no token. Never that of the notifications' own destination, to which the country config could show it.
fn audience_at(url: &str, all: &[DestinationEntry]) -> Option<String> {
    let origin = |text: &str| reqwest::Url::parse(text).ok().map(|url| url.origin());
    let there = |d: &&DestinationEntry| d.effects.contains(&Effect::Validation) && origin(&d.url) == origin(url);
    match all.iter().find(there) {
        Some(DestinationEntry { auth: Auth::None, .. }) => None,
        Some(country) => Some(country.audience.clone().unwrap_or_else(|| country.name.clone())),
        None => Some(COUNTRY_CONFIG.to_owned()),
    }
}

/// An error's text with its causes.
fn whole(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

fn headers(entry: &DestinationEntry, say: &mut impl FnMut(&str)) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let open = entry.headers.iter().map(|(name, value)| (name, Ok(value.clone()), false));
    let secret = entry.secret_headers.iter().map(|(name, source)| (name, source.read(), true));
    for (name, value, is_secret) in open.chain(secret) {
        let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
            say(&format!("{name:?} is no header"));
            continue;
        };
        if !may_configure(&header, entry.auth == Auth::Token) {
            say(&format!("the header {header} is ours to set"));
            continue;
        }
        match value.map(|text| HeaderValue::from_str(&text)) {
            Ok(Ok(mut value)) => {
                value.set_sensitive(is_secret);
                headers.insert(header, value);
            }
            Ok(Err(_)) => say(&format!("the value of the header {header} cannot be sent")),
            Err(error) => say(&format!("the header {header}: {}", whole(&error))),
        }
    }
    headers
}

fn secrets(entry: &DestinationEntry, say: &mut impl FnMut(&str)) -> Vec<WebhookSecret> {
    let mut secrets = Vec::new();
    for source in &entry.signing_secrets {
        match source.read() {
            Ok(text) => match WebhookSecret::parse(&text) {
                Ok(secret) => secrets.push(secret),
                Err(error) => say(&format!("signing_secrets: {error}")),
            },
            Err(error) => say(&format!("signing_secrets: {}", whole(&error))),
        }
    }
    secrets
}

fn client(entry: &DestinationEntry, allow: &Arc<[IpNet]>, say: &mut impl FnMut(&str)) -> Option<Client> {
    let mut pem = |path: &Option<PathBuf>, what: &str| {
        let path = path.as_deref()?;
        let read = std::fs::read(path);
        if let Err(error) = &read {
            say(&format!("{what} {}: {error}", path.display()));
        }
        read.ok()
    };
    let (ca_pem, client_identity_pem) = (pem(&entry.ca_file, "ca_file"), pem(&entry.identity_file, "identity_file"));
    let proxy = match entry.proxy.as_deref().map(reqwest::Url::parse) {
        Some(Err(_)) => {
            say("its proxy is no url");
            return None;
        }
        Some(Ok(url)) => Some(url),
        None => None,
    };
    let settings = ClientSettings { allow: Arc::clone(allow), ca_pem, client_identity_pem, proxy };
    match egress::build(&settings) {
        Ok(client) => Some(client),
        Err(error) => {
            say(&whole(&error));
            None
        }
    }
}

fn url_fault(url: &str) -> Option<&'static str> {
    match reqwest::Url::parse(url) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") => Some("its url is neither http nor https"),
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            Some("its url holds credentials: they would be shown to everybody who reads the table destination")
        }
        Ok(url) if url.query().is_some() || url.fragment().is_some() => Some("its url has a query or a fragment"),
        Ok(_) => None,
        Err(_) => Some("its url is none"),
    }
}

fn subscription_faults(entry: &DestinationEntry) -> Vec<&'static str> {
    let validates = entry.effects.contains(&Effect::Validation);
    let notifies = entry.format == Format::OpencrvsNotification && entry.effects == [Effect::Notification];
    let told = entry.effects.contains(&Effect::Trigger);
    let asked = |effect: &Effect| matches!(effect, Effect::Validation | Effect::Trigger);
    let may = match entry.format {
        Format::OpencrvsEventRegistration => !told && entry.effects.iter().all(asked),
        Format::OpencrvsTrigger => entry.effects.iter().all(asked),
        Format::Cloudevents
        | Format::OpencrvsSearch
        | Format::OpencrvsMetrics
        | Format::OpencrvsAudit
        | Format::OpencrvsNotification => !validates && !told,
    };
    let rules = [
        (!entry.effects.is_empty(), "it has no effects"),
        (
            may,
            "a country config is asked with format = \"opencrvs-event-registration\" and effects = [\"validation\"], or with \
             format = \"opencrvs-trigger\" and effects = [\"validation\", \"trigger\"]; nothing else goes there",
        ),
        (
            entry.notification_settings_url.is_none() || notifies,
            "notification_settings_url is for format = \"opencrvs-notification\" and effects = [\"notification\"]",
        ),
        (
            !(entry.effects.contains(&Effect::Webhook) && entry.auth == Auth::Token),
            "a webhook is a third party and gets no token: auth = \"none\"",
        ),
    ];
    broken(&rules)
}

fn number_faults(entry: &DestinationEntry) -> Vec<&'static str> {
    let statuses = || entry.retry_on.iter().chain(&entry.dead_on);
    let rules = [
        (
            entry.concurrency > 0 && entry.batch > 0 && entry.timeout_ms > 0 && entry.retry_base_ms > 0,
            "concurrency, batch, timeout_ms and retry_base_ms are at least 1",
        ),
        (entry.retry_cap_ms >= entry.retry_base_ms, "retry_cap_ms is less than retry_base_ms"),
        (
            entry.lease_ms.is_none_or(|lease| lease >= entry.timeout_ms.saturating_add(10_000)),
            "lease_ms leaves less than 10 s beside timeout_ms for reading and settling",
        ),
        (entry.max_attempts != Some(0), "max_attempts is at least 1"),
        (
            entry.breaker_base_ms > 0 && entry.breaker_cap_ms >= entry.breaker_base_ms,
            "breaker_base_ms is at least 1 and no more than breaker_cap_ms",
        ),
        (
            statuses().all(|code| (300..=599).contains(code)),
            "retry_on and dead_on hold statuses from 300 to 599: any 2xx is success",
        ),
        (
            !entry.retry_on.iter().any(|code| entry.dead_on.contains(code)),
            "a status is both in retry_on and in dead_on",
        ),
        (
            entry.rate_limit.is_none_or(|rate| rate.is_finite() && (0.001..=1_000_000.0).contains(&rate)),
            "rate_limit is 0.001 to 1000000 requests per second",
        ),
    ];
    broken(&rules)
}

fn broken(rules: &[(bool, &'static str)]) -> Vec<&'static str> {
    rules.iter().filter(|(holds, _)| !holds).map(|(_, text)| *text).collect()
}

fn definition(entry: &DestinationEntry) -> Definition {
    let timeout = Duration::from_millis(entry.timeout_ms);
    Definition {
        name: entry.name.clone(),
        url: entry.url.clone(),
        format: entry.format,
        effects: entry.effects.clone(),
        auth: entry.auth,
        concurrency: entry.concurrency,
        batch: entry.batch,
        timeout,
        lease: entry.lease_ms.map_or(timeout + LEASE_MARGIN, Duration::from_millis),
        policy: Policy {
            base: Duration::from_millis(entry.retry_base_ms),
            cap: Duration::from_millis(entry.retry_cap_ms),
            max_attempts: entry.max_attempts,
            retry_on: entry.retry_on.clone(),
            dead_on: entry.dead_on.clone(),
            ..Policy::default()
        },
        on_dead: entry.on_dead,
        backpressure: entry.backpressure,
        rate_limit: entry.rate_limit,
        breaker: Breaker {
            failures: entry.breaker_failures,
            base: Duration::from_millis(entry.breaker_base_ms),
            cap: Duration::from_millis(entry.breaker_cap_ms),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ConfigError, File};

    fn faults(lines: &str) -> Vec<String> {
        let text = format!("[[destinations]]\nname = \"a\"\nurl = \"http://a\"\n{lines}");
        match toml::from_str::<File>(&text).unwrap().settings("postgres:///x".to_owned()) {
            Ok(_) => Vec::new(),
            Err(ConfigError::Invalid(wrong)) => wrong,
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_destination_that_could_lose_a_verdict_or_give_a_token_away_is_refused() {
        let one = |lines: &str| faults(lines).is_empty();
        assert!(one("format = \"opencrvs-event-registration\"\neffects = [\"validation\"]"));
        assert!(!one("format = \"opencrvs-event-registration\"\neffects = [\"validation\", \"search\"]"));
        assert!(!one("format = \"opencrvs-event-registration\"\neffects = [\"search\"]"));
        assert!(!one("effects = [\"validation\"]"));
        assert!(one("format = \"opencrvs-trigger\"\neffects = [\"validation\", \"trigger\"]"));
        assert!(one("format = \"opencrvs-trigger\"\neffects = [\"validation\"]"));
        assert!(!one("format = \"opencrvs-trigger\"\neffects = [\"validation\", \"search\"]"));
        assert!(!one("format = \"opencrvs-event-registration\"\neffects = [\"validation\", \"trigger\"]"));
        assert!(!one("effects = [\"trigger\"]"));
        assert!(!one("effects = [\"webhook\"]"));
        assert!(one("effects = [\"webhook\"]\nauth = \"none\""));
        assert!(!one("effects = [\"search\"]\naudience = \"opencrvs:gateway-user\""));
    }

    #[test]
    fn only_notifications_are_asked_about_and_with_a_token_for_the_country_config() {
        let settings = "notification_settings_url = \"http://cc:3040/record-notification\"";
        let formatted = format!("format = \"opencrvs-notification\"\n{settings}");
        assert!(faults(&format!("effects = [\"notification\"]\n{formatted}")).is_empty());
        assert_eq!(faults(&format!("effects = [\"notification\"]\n{settings}")).len(), 1);
        assert_eq!(faults(&format!("effects = [\"notification\", \"search\"]\n{formatted}")).len(), 1);
        let elsewhere = formatted.replace("http://cc", "http://user:secret@cc");
        assert_eq!(faults(&format!("effects = [\"notification\"]\n{elsewhere}")).len(), 1);

        let audience = |url: &str, more: &str| {
            let country = "name = \"country\"\neffects = [\"validation\"]\nformat = \"opencrvs-event-registration\"";
            let text = format!("[[destinations]]\n{country}\nurl = \"{url}\"\n{more}");
            let file = toml::from_str::<File>(&text).unwrap();
            super::audience_at("http://cc:3040/record-notification", &file.destinations)
        };
        assert_eq!(audience("http://cc:3040", "").as_deref(), Some("country"));
        assert_eq!(audience("http://cc:3040/x", "audience = \"c\"").as_deref(), Some("c"));
        assert_eq!(audience("http://cc:3040", "auth = \"none\""), None);
        assert_eq!(audience("http://cc", "audience = \"c\"").as_deref(), Some("opencrvs:countryconfig-user"));
    }

    #[test]
    fn what_makes_no_sense_is_said_all_at_once() {
        let lines = "effects = [\"search\"]\nlease_ms = 15000\nretry_on = [200]\ndead_on = [503]\nrate_limit = 0.0
                     max_attempts = 0\nbreaker_base_ms = 0\nbatch = 0";
        assert_eq!(faults(lines).len(), 6);
        assert_eq!(faults("effects = [\"search\"]\nretry_on = [404]\ndead_on = [404]").len(), 1);
        assert!(faults("effects = [\"search\"]\nlease_ms = 25000\nretry_on = [404]\nrate_limit = 0.5").is_empty());
    }
}
