//! Which addresses a delivery may go to. Pure: no lookup, no configuration but a list of networks.
//!
//! Promises: an address that an attacker gains from – cloud metadata, link-local, multicast, unspecified, broadcast,
//! reserved, documentation, benchmarking – is [`Verdict::Forbidden`] and no configuration allows it; an address inside
//! somebody's network is [`Verdict::Private`] and is reached only if the configuration names its network; an IPv4
//! address in the clothes of IPv6 is judged as the IPv4 address it is. Outside `2000::/3`, the one block from which
//! public IPv6 addresses are given out, everything is forbidden that is not listed.
//! Not promised: to know a NAT64 prefix that an operator chose from their own addresses (RFC 6052 §2.2).
//!
//! Sources: the IANA registries of special-purpose addresses for IPv4 and for IPv6 (RFC 6890), and the documentation
//! of the cloud providers for their metadata services.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// What an address is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Anybody's; may be reached.
    Public,
    /// Inside a network; may be reached if the configuration names its network.
    Private,
    /// May never be reached, whatever the configuration says.
    Forbidden,
}

/// An address's verdict, and the range it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    /// The verdict.
    pub verdict: Verdict,
    /// The range in a few words, for operators.
    pub range: &'static str,
}

/// An address that may not be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the address may not be reached")]
pub struct Refused {
    /// The address, as it was found.
    pub address: IpAddr,
    /// Why.
    pub class: Class,
}

impl Refused {
    /// The narrowest network whose entry in the configuration would allow it; `None` if nothing can.
    pub fn allowed_by(&self) -> Option<IpNet> {
        (self.class.verdict == Verdict::Private).then(|| IpNet::from(canonical(self.address)))
    }
}

/// Refuses an address unless it is public, or private and inside one of the networks of `allow`.
pub fn check(address: IpAddr, allow: &[IpNet]) -> Result<(), Refused> {
    let class = classify(address);
    let reachable = match class.verdict {
        Verdict::Public => true,
        Verdict::Private => allow.iter().any(|net| net.contains(&canonical(address))),
        Verdict::Forbidden => false,
    };
    if reachable { Ok(()) } else { Err(Refused { address, class }) }
}

/// Classifies an address.
pub fn classify(address: IpAddr) -> Class {
    match canonical(address) {
        IpAddr::V4(v4) => find(V4, |net| net.contains(&v4)).unwrap_or(PUBLIC),
        IpAddr::V6(v6) => find(V6, |net| net.contains(&v6)).unwrap_or(UNASSIGNED),
    }
}

/// The IPv4 address that an IPv4-mapped (RFC 4291 §2.5.5.2) or NAT64 (RFC 6052 §2.1) address leads to, or the address
/// itself. The other embeddings are forbidden as a whole, below.
fn canonical(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    match v6.octets() {
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
        | [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d] => Ipv4Addr::new(a, b, c, d).into(),
        _ => address,
    }
}

/// The first row that holds the address: narrow ranges stand before the wider ones around them.
fn find<N>(table: &[(N, Class)], holds: impl Fn(&N) -> bool) -> Option<Class> {
    table.iter().find(|(net, _)| holds(net)).map(|(_, class)| *class)
}

const PUBLIC: Class = Class { verdict: Verdict::Public, range: "public" };
const UNASSIGNED: Class = Class { verdict: Verdict::Forbidden, range: "not assigned" };
const METADATA: Class = Class { verdict: Verdict::Forbidden, range: "cloud metadata" };

const fn private(range: &'static str) -> Class {
    Class { verdict: Verdict::Private, range }
}

const fn forbidden(range: &'static str) -> Class {
    Class { verdict: Verdict::Forbidden, range }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

/// From the two halves of its bits.
const fn v6(high: u64, low: u64, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::from_bits(((high as u128) << 64) | low as u128), prefix)
}

const V4: &[(Ipv4Net, Class)] = &[
    (v4(100, 100, 100, 200, 32), METADATA), // Alibaba, inside the shared address space
    (v4(168, 63, 129, 16, 32), METADATA),   // Azure, inside a public range
    (v4(192, 0, 0, 192, 32), METADATA),     // Oracle Classic
    (v4(169, 254, 169, 254, 32), METADATA), // nearly everybody
    (v4(169, 254, 170, 2, 32), METADATA),   // credentials of containers at Amazon
    (v4(0, 0, 0, 0, 8), forbidden("this network")),
    (v4(10, 0, 0, 0, 8), private("private use")),
    (v4(100, 64, 0, 0, 10), private("shared address space")),
    (v4(127, 0, 0, 0, 8), private("loopback")),
    (v4(169, 254, 0, 0, 16), forbidden("link-local")),
    (v4(172, 16, 0, 0, 12), private("private use")),
    (v4(192, 0, 0, 0, 24), forbidden("protocol assignments")),
    (v4(192, 0, 2, 0, 24), forbidden("documentation")),
    (v4(192, 31, 196, 0, 24), forbidden("AS112")),
    (v4(192, 52, 193, 0, 24), forbidden("multicast tunnels")),
    (v4(192, 88, 99, 0, 24), forbidden("6to4 relays")),
    (v4(192, 168, 0, 0, 16), private("private use")),
    (v4(192, 175, 48, 0, 24), forbidden("AS112")),
    (v4(198, 18, 0, 0, 15), forbidden("benchmarking")),
    (v4(198, 51, 100, 0, 24), forbidden("documentation")),
    (v4(203, 0, 113, 0, 24), forbidden("documentation")),
    (v4(224, 0, 0, 0, 4), forbidden("multicast")),
    (v4(255, 255, 255, 255, 32), forbidden("broadcast")),
    (v4(240, 0, 0, 0, 4), forbidden("reserved")),
];

const V6: &[(Ipv6Net, Class)] = &[
    (v6(0, 0, 128), forbidden("unspecified")),
    (v6(0, 1, 128), private("loopback")),
    // IPv4-compatible (RFC 4291 §2.5.5.1), deprecated: nobody has a service there.
    (v6(0, 0, 96), forbidden("IPv4-compatible")),
    // The place of the IPv4 address inside depends on the operator (RFC 8215), so it cannot be judged.
    (v6(0x0064_ff9b_0001_0000, 0, 48), forbidden("NAT64 of an operator")),
    (v6(0x0100_0000_0000_0000, 0, 64), forbidden("discard")),
    // Teredo 2001::/32, benchmarking 2001:2::/48, AMT, AS112, ORCHID, DRIP.
    (v6(0x2001_0000_0000_0000, 0, 23), forbidden("protocol assignments")),
    (v6(0x2001_0db8_0000_0000, 0, 32), forbidden("documentation")),
    // Leads to any IPv4 address over relays that are switched off since RFC 7526.
    (v6(0x2002_0000_0000_0000, 0, 16), forbidden("6to4")),
    (v6(0x2620_004f_8000_0000, 0, 48), forbidden("AS112")),
    (v6(0x3fff_0000_0000_0000, 0, 20), forbidden("documentation")),
    (v6(0x2000_0000_0000_0000, 0, 3), PUBLIC),
    (v6(0x5f00_0000_0000_0000, 0, 16), forbidden("segment routing")),
    (v6(0xfd00_0ec2_0000_0000, 0, 32), METADATA), // Amazon: metadata, credentials of pods, DNS, time
    (v6(0xfd20_00ce_0000_0000, 0x0000_0000_0000_0254, 128), METADATA), // Google
    (v6(0xfd00_00c1_0000_0000, 0x0000_0000_a9fe_a9fe, 128), METADATA), // Oracle
    (v6(0xfd00_0042_0000_0000, 0x0000_0000_0000_0042, 128), METADATA), // Scaleway
    (v6(0xfd00_a9fe_a9fe_0000, 1, 128), METADATA), // Akamai
    (v6(0xfc00_0000_0000_0000, 0, 7), private("unique local")),
    (v6(0xfe80_0000_0000_0000, 0, 10), forbidden("link-local")),
    (v6(0xfec0_0000_0000_0000, 0, 10), forbidden("site-local")),
    (v6(0xff00_0000_0000_0000, 0, 8), forbidden("multicast")),
];

#[cfg(test)]
mod tests;
