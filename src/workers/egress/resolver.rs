//! Names to vetted addresses.
//!
//! Promises: an answer with one refused address is refused as a whole (a mixed answer is an attack, not a
//! configuration); at most [`LOOKUPS`] lookups of a destination run at once, so that a name server which never answers
//! takes that many threads from the others and no more. Nothing is kept: each new connection asks again.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;

use super::address::{self, Refused};

/// Lookups of one destination that run at once. Each holds a thread until the system's resolver gives up, which may
/// be long after we have.
pub const LOOKUPS: usize = 4;

/// Looks a name up: the system's resolver, or what a test says.
pub type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// The system's resolver.
pub fn system() -> Lookup {
    Arc::new(|name| {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name, 0)).await?;
            Ok(found.map(|socket| socket.ip()).collect())
        })
    })
}

/// Why a name leads nowhere.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// It has no address, or nobody could say.
    #[error("the name could not be resolved")]
    Lookup(#[source] io::Error),
    /// It has an address that may not be reached. Not transparent: whoever classifies looks for the cause.
    #[error("the name leads to an address that may not be reached")]
    Refused(#[from] Refused),
}

/// Looks names up and vets the answers.
#[derive(Clone)]
pub struct Resolver {
    lookup: Lookup,
    allow: Arc<[IpNet]>,
    room: Arc<Semaphore>,
}

impl Resolver {
    /// A resolver that lets private addresses through if one of `allow` holds them.
    pub fn new(lookup: Lookup, allow: Arc<[IpNet]>) -> Self {
        Self { lookup, allow, room: Arc::new(Semaphore::new(LOOKUPS)) }
    }

    /// Refuses an address that may not be reached.
    pub fn vet(&self, address: IpAddr) -> Result<(), Refused> {
        address::check(address, &self.allow)
    }

    /// Every address of a name, unvetted. Never an empty list.
    pub async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let closed = |error| io::Error::other(error);
        let permit = Arc::clone(&self.room).acquire_owned().await.map_err(closed)?;
        let looking = (self.lookup)(name.to_owned());
        // A task of its own: a caller that gives up leaves a thread behind, which still counts until it is free.
        let looked = tokio::spawn(async move {
            let found = looking.await;
            drop(permit);
            found
        });
        let found = looked.await.map_err(io::Error::other)??;
        if found.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(found) }
    }

    /// Every address of a name, if all of them may be reached.
    pub async fn resolve_vetted(&self, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let found = self.lookup(name).await.map_err(ResolveError::Lookup)?;
        for address in &found {
            self.vet(*address)?;
        }
        Ok(found)
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let vetted = resolver.resolve_vetted(name.as_str()).await?;
            // The connector puts the port of the URL in the place of 0.
            let sockets = vetted.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(sockets) as Addrs)
        })
    }
}
