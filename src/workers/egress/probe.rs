//! One look at a destination, for an operator who asks whether it can be reached.
//!
//! An `OPTIONS` request to the destination's own URL: safe by RFC 9110 §9.2.1, and unlike `HEAD` it runs no handler of
//! a resource that answers only POST. It carries no token, no header of the destination's and no body. Any answer of
//! HTTP, 405 included, shows that deliveries would arrive.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use reqwest::{Method, Url};
use serde::Serialize;

use super::client::{CONNECT_TIMEOUT, Client, NotBegun, http_url, literal};
use super::failure::{self, REFUSED_ADDRESS};

/// How long the request of a probe may take.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// What a probe found, step by step. Holds no credentials: of the URL it has the origin only.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// Scheme, host and port; `null` if the URL has none.
    pub origin: Option<String>,
    /// Where the addresses are from.
    pub found_by: FoundBy,
    /// The addresses, each with our verdict. One that is refused refuses all.
    pub addresses: Vec<Address>,
    /// How long finding them took.
    pub lookup_ms: u64,
    /// `ok`, or what TLS did not like, for example `certificate-expired`; `null` without TLS, or if it did not come
    /// to it.
    pub tls: Option<&'static str>,
    /// The answer's status.
    pub status: Option<u16>,
    /// The class of the failure, as deliveries have it; `null` if there was an answer.
    pub error: Option<&'static str>,
    /// How long the request took, its own lookup and connection included.
    pub request_ms: u64,
}

/// Where a destination's addresses are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum FoundBy {
    /// The name was looked up.
    Lookup,
    /// The URL has the address.
    Url,
    /// A proxy is configured, which looks the name up for us: we do not see the addresses.
    Proxy,
}

/// An address of a destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    /// The address.
    pub address: IpAddr,
    /// The range it is of: `public`, `private use`, `link-local` …
    pub range: &'static str,
    /// Whether deliveries to it are refused.
    pub refused: bool,
    /// The narrowest network that the configuration has to allow for it; `null` if it is not refused, or never
    /// allowed.
    pub allow: Option<IpNet>,
}

impl Probe {
    /// Whether something that speaks HTTP has answered.
    pub fn reached(&self) -> bool {
        self.status.is_some()
    }

    fn of(url: Option<&Url>) -> Self {
        Self {
            origin: url.map(|url| url.origin().ascii_serialization()),
            found_by: FoundBy::Lookup,
            addresses: Vec::new(),
            lookup_ms: 0,
            tls: None,
            status: None,
            error: None,
            request_ms: 0,
        }
    }
}

/// Probes a destination's URL. Takes [`CONNECT_TIMEOUT`] and [`TIMEOUT`] at most.
pub async fn probe(client: &Client, url: &str) -> Probe {
    let parsed = http_url(url);
    let mut probe = Probe::of(parsed.as_ref());
    let Some(parsed) = parsed else {
        probe.error = Some("unsendable-request");
        return probe;
    };
    let started = Instant::now();
    let found = find(client, &parsed, &mut probe).await;
    probe.lookup_ms = milliseconds(started);
    if let Err(error) = found {
        probe.error = Some(error);
        return probe;
    }
    let started = Instant::now();
    ask(client, &parsed, &mut probe).await;
    probe.request_ms = milliseconds(started);
    probe
}

async fn find(client: &Client, url: &Url, probe: &mut Probe) -> Result<(), &'static str> {
    let addresses = if let Some(address) = literal(url) {
        probe.found_by = FoundBy::Url;
        vec![address]
    } else if client.proxied {
        probe.found_by = FoundBy::Proxy;
        return Ok(());
    } else {
        let looking = client.resolver.lookup(url.host_str().unwrap_or_default());
        tokio::time::timeout(CONNECT_TIMEOUT, looking)
            .await
            .map_err(|_elapsed| "timeout")?
            .map_err(|_says_only_what_the_system_said| "dns")?
    };
    let judged = |address| match client.resolver.vet(address) {
        Ok(()) => Address { address, range: super::address::classify(address).range, refused: false, allow: None },
        Err(refused) => Address { address, range: refused.class.range, refused: true, allow: refused.allowed_by() },
    };
    probe.addresses = addresses.into_iter().map(judged).collect();
    if probe.addresses.iter().any(|address| address.refused) { Err(REFUSED_ADDRESS) } else { Ok(()) }
}

async fn ask(client: &Client, url: &Url, probe: &mut Probe) {
    let request = match client.request(Method::OPTIONS, url.as_str()) {
        Ok(request) => request,
        Err(NotBegun::Refused(_)) => return probe.error = Some(REFUSED_ADDRESS),
        Err(NotBegun::Url) => return probe.error = Some("unsendable-request"),
    };
    match request.timeout(TIMEOUT).send().await {
        Ok(answer) => {
            probe.status = Some(answer.status().as_u16());
            probe.tls = (url.scheme() == "https").then_some("ok");
        }
        Err(error) => {
            probe.error = Some(failure::class(&error));
            probe.tls = failure::tls_class(&error);
        }
    }
}

fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
