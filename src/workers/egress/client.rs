//! One destination's HTTP client. Where it connects is vetted; what it sends is not its business.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use reqwest::{Certificate, ClientBuilder, Identity, Method, Proxy, RequestBuilder, Url};

use super::address::{Refused, Verdict, classify};
use super::resolver::{self, Lookup, Resolver};

/// How long a connection may take to be made: lookup, TCP and TLS together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What is particular about the way to a destination.
#[derive(Clone, Default)]
pub struct ClientSettings {
    /// Networks of private addresses that may be reached, in IPv4 or IPv6 as the addresses are. What is forbidden
    /// stays forbidden, whatever stands here; what is public needs no entry.
    pub allow: Arc<[IpNet]>,
    /// PEM of the certificate authorities to trust *instead of* the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// PEM of our certificate, its chain, and its private key.
    pub client_identity_pem: Option<Vec<u8>>,
    /// The proxy that everything goes through: `http://` or `https://`, with credentials if it wants them.
    ///
    /// Whoever configures a proxy trusts it: its own address may be private without an entry in `allow` (but not
    /// forbidden), and it resolves the names of destinations, which we then cannot vet. Destinations that are
    /// written as addresses are vetted all the same.
    pub proxy: Option<Url>,
}

impl fmt::Debug for ClientSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The rest holds secrets.
        f.debug_struct("ClientSettings").field("allow", &self.allow).finish_non_exhaustive()
    }
}

/// Why there is no client. No text of it holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The file of authorities is not what it should be.
    #[error("the certificate authorities cannot be read: certificates in PEM are expected")]
    Authorities,
    /// Our certificate or its key is not what it should be.
    #[error("the client certificate cannot be read: certificates and one private key in PEM are expected")]
    Identity,
    /// The proxy is nothing that we can speak through.
    #[error("the proxy cannot be used: its URL starts with http:// or https:// and names a host")]
    Proxy,
    /// The proxy is at an address that nothing may reach.
    #[error("the proxy cannot be used: {} is {}", .0.address, .0.class.range)]
    ProxyAddress(Refused),
    /// The parts do not fit: a key of another certificate, an authority that is none.
    #[error("the HTTP client cannot be built")]
    Build(#[source] reqwest::Error),
}

/// Why a request was not even begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotBegun {
    /// Not the URL of anything that speaks HTTP.
    #[error("the URL is not one of HTTP")]
    Url,
    /// The URL names an address that may not be reached.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// The way to one destination. Clones share their connections.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    /// Vets the destination's own addresses.
    pub(super) resolver: Resolver,
    /// Whether a proxy resolves names for us.
    pub(super) proxied: bool,
    /// Requests that were made and not sent, where none is.
    nowhere: Option<Arc<AtomicUsize>>,
    /// The URL that was asked for last, as text and as it was read: the next one too, where its path is always the same.
    last: Arc<Mutex<Option<(String, Url)>>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("proxied", &self.proxied).finish_non_exhaustive()
    }
}

impl Client {
    /// Begins a request. The only way to one, so that no address in a URL goes unvetted: the HTTP library asks its
    /// resolver about names only. Vetted is what the URL means: `0x7f000001` is `127.0.0.1`.
    pub fn request(&self, method: Method, url: &str) -> Result<RequestBuilder, NotBegun> {
        let url = self.read(url).ok_or(NotBegun::Url)?;
        if let Some(address) = literal(&url) {
            self.resolver.vet(address)?;
        }
        Ok(self.http.request(method, url))
    }

    /// A URL, which takes longer to read than all else that a request is made of.
    fn read(&self, text: &str) -> Option<Url> {
        let last = || self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, url)) = last().as_ref().filter(|(known, _)| known == text) {
            return Some(url.clone());
        }
        let url = http_url(text)?;
        *last() = Some((text.to_owned(), url.clone()));
        Some(url)
    }

    /// A client that sends nothing: whatever is to be sent counts as answered with 200 as soon as it is made. For measuring
    /// what a delivery costs without its exchange.
    pub fn nowhere() -> Result<Self, ClientError> {
        Ok(Self { nowhere: Some(Arc::default()), ..build(&ClientSettings::default())? })
    }

    /// Whether requests are to be sent. If not this one is counted.
    pub(in crate::workers) fn sends(&self) -> bool {
        self.nowhere.as_ref().is_none_or(|unsent| {
            unsent.fetch_add(1, Ordering::Relaxed);
            false
        })
    }

    /// How many requests were made and not sent.
    pub fn unsent(&self) -> usize {
        self.nowhere.as_ref().map_or(0, |unsent| unsent.load(Ordering::Relaxed))
    }
}

/// A URL of HTTP with a host.
pub(super) fn http_url(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// The address that a URL names, if it names none by DNS.
pub(super) fn literal(url: &Url) -> Option<IpAddr> {
    url.host_str()?.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Builds the client of a destination.
pub fn build(settings: &ClientSettings) -> Result<Client, ClientError> {
    build_with(settings, resolver::system())
}

/// The same, with another way to look names up.
pub fn build_with(settings: &ClientSettings, lookup: Lookup) -> Result<Client, ClientError> {
    let resolver = Resolver::new(Arc::clone(&lookup), Arc::clone(&settings.allow));
    let proxied = settings.proxy.is_some();
    // Behind a proxy the connector looks up the proxy's name and no other.
    let connecting = if proxied { Resolver::new(lookup, anywhere()) } else { resolver.clone() };
    let configured = || -> Result<ClientBuilder, ClientError> {
        let builder = basics().dns_resolver(connecting.clone());
        let builder = with_identity(builder, settings.client_identity_pem.as_deref())?;
        with_proxy(builder, settings.proxy.as_ref())
    };
    let http = match &settings.ca_pem {
        Some(pem) => configured()?.tls_certs_only(authorities(pem)?).build(),
        None => with_system_authorities(configured)?,
    };
    Ok(Client { http: http.map_err(ClientError::Build)?, resolver, proxied, nowhere: None, last: Arc::default() })
}

/// A client without the vetting, for peers that we did not choose by configuration: the sandbox and its gateway.
pub fn unguarded() -> reqwest::Result<reqwest::Client> {
    with_system_authorities(|| Ok::<_, reqwest::Error>(basics())).flatten()
}

/// What every client has: no redirects, no proxies from the environment, no delay for small writes.
fn basics() -> ClientBuilder {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .no_proxy()
        .tcp_nodelay(true)
        .user_agent(concat!("crvs-outbox/", env!("CARGO_PKG_VERSION")))
}

/// A machine without CA certificates can still reach plain http destinations.
fn with_system_authorities<E>(
    builder: impl Fn() -> Result<ClientBuilder, E>,
) -> Result<reqwest::Result<reqwest::Client>, E> {
    match builder()?.build() {
        Ok(client) => Ok(Ok(client)),
        Err(_without_authorities) => Ok(builder()?.tls_certs_only([]).build()),
    }
}

fn authorities(pem: &[u8]) -> Result<Vec<Certificate>, ClientError> {
    let read = Certificate::from_pem_bundle(pem).unwrap_or_default();
    if read.is_empty() { Err(ClientError::Authorities) } else { Ok(read) }
}

fn with_identity(builder: ClientBuilder, pem: Option<&[u8]>) -> Result<ClientBuilder, ClientError> {
    let Some(pem) = pem else { return Ok(builder) };
    // The error's text is dropped: it may quote the file, and the file holds a key.
    let identity = Identity::from_pem(pem).map_err(|_may_quote_the_key| ClientError::Identity)?;
    Ok(builder.identity(identity))
}

fn with_proxy(builder: ClientBuilder, proxy: Option<&Url>) -> Result<ClientBuilder, ClientError> {
    let Some(url) = proxy else { return Ok(builder) };
    let url = http_url(url.as_str()).ok_or(ClientError::Proxy)?;
    if let Some(address) = literal(&url) {
        let class = classify(address);
        if class.verdict == Verdict::Forbidden {
            return Err(ClientError::ProxyAddress(Refused { address, class }));
        }
    }
    let proxy = Proxy::all(url).map_err(|_may_quote_credentials| ClientError::Proxy)?;
    Ok(builder.proxy(proxy))
}

/// Every private address, and nothing that is forbidden.
fn anywhere() -> Arc<[IpNet]> {
    Arc::new([IpNet::V4(ipnet::Ipv4Net::default()), IpNet::V6(ipnet::Ipv6Net::default())])
}
