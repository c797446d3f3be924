use proptest::prelude::*;

use super::*;

/// The IANA registries as they stand (IPv4: 24 rows, IPv6: 24 rows), and what else is nobody's to reach.
const NEVER: [&str; 40] = [
    "0.0.0.0/8",
    "0.0.0.0/32",
    "169.254.0.0/16",
    "192.0.0.0/24",
    "192.0.0.0/29",
    "192.0.0.8/32",
    "192.0.0.9/32",
    "192.0.0.10/32",
    "192.0.0.170/31",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "255.255.255.255/32",
    "::/128",
    "64:ff9b:1::/48",
    "100::/64",
    "100:0:0:1::/64",
    "2001::/23",
    "2001::/32",
    "2001:1::1/128",
    "2001:1::2/128",
    "2001:1::3/128",
    "2001:2::/48",
    "2001:3::/32",
    "2001:4:112::/48",
    "2001:20::/28",
    "2001:30::/28",
    "2001:db8::/32",
    "2002::/16",
    "2620:4f:8000::/48",
    "3fff::/20",
    "5f00::/16",
    "fe80::/10",
];

const PRIVATE: [&str; 7] =
    ["10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7"];

/// Public addresses right beside special ranges.
const NEIGHBOURS: [&str; 49] = [
    "1.0.0.0",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "168.63.129.15",
    "168.63.129.17",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "191.255.255.255",
    "192.0.1.0",
    "192.0.1.255",
    "192.0.3.0",
    "192.31.195.255",
    "192.31.197.0",
    "192.52.192.255",
    "192.52.194.0",
    "192.88.98.255",
    "192.88.100.0",
    "192.167.255.255",
    "192.169.0.0",
    "192.175.47.255",
    "192.175.49.0",
    "198.17.255.255",
    "198.20.0.0",
    "198.51.99.255",
    "198.51.101.0",
    "203.0.112.255",
    "203.0.114.0",
    "223.255.255.255",
    "2000::",
    "2000:ffff::",
    "2001:200::",
    "2001:db7:ffff::",
    "2001:db9::",
    "2001:ffff::",
    "2003::",
    "2620:4f:7fff::",
    "2620:4f:8001::",
    "3ffe:ffff::",
    "3fff:1000::",
    "3fff:ffff::",
    "2606:4700:4700::1111",
    "::ffff:1.1.1.1",
    "64:ff9b::8.8.8.8",
];

const METADATA_ADDRESSES: [&str; 16] = [
    "169.254.169.254",
    "169.254.170.2",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "::ffff:169.254.169.254",
    "::ffff:100.100.100.200",
    "64:ff9b::169.254.169.254",
    "64:ff9b::a83f:8110",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd20:ce::254",
    "fd00:c1::a9fe:a9fe",
    "fd00:42::42",
    "fd00:a9fe:a9fe::1",
    "fe80::a9fe:a9fe",
];

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn everything() -> [IpNet; 2] {
    [net("0.0.0.0/0"), net("::/0")]
}

/// An address of the network, chosen by `dice`.
fn inside(net: IpNet, dice: u128) -> IpAddr {
    match net {
        IpNet::V4(v4) => {
            let host = u32::from(v4.hostmask()) & u32::try_from(dice & u128::from(u32::MAX)).unwrap();
            Ipv4Addr::from(u32::from(v4.network()) | host).into()
        }
        IpNet::V6(v6) => Ipv6Addr::from(u128::from(v6.network()) | (u128::from(v6.hostmask()) & dice)).into(),
    }
}

fn verdict(address: impl Into<IpAddr>) -> Verdict {
    classify(address.into()).verdict
}

/// The rules for IPv4 once more, by other means than the table.
fn by_bits(v4: Ipv4Addr) -> Verdict {
    let [a, b, c, d] = v4.octets();
    let metadata = [[100, 100, 100, 200], [168, 63, 129, 16]].contains(&[a, b, c, d]);
    let registered =
        matches!([a, b, c], [192, 0, 0] | [192, 31, 196] | [192, 52, 193] | [192, 88, 99] | [192, 175, 48]);
    let benchmarking = a == 198 && b & 0xfe == 18;
    if metadata || registered || benchmarking || a == 0 || a >= 224 || v4.is_link_local() || v4.is_documentation() {
        Verdict::Forbidden
    } else if v4.is_private() || v4.is_loopback() || (a == 100 && b & 0xc0 == 64) {
        Verdict::Private
    } else {
        Verdict::Public
    }
}

/// The last 32 bits of an address under a prefix.
fn under(prefix: &str, v4: u32) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(prefix.parse::<Ipv6Addr>().unwrap()) | u128::from(v4))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_special_range_is_refused_whatever_the_configuration_says(dice: u128) {
        for range in NEVER {
            let address = inside(net(range), dice);
            prop_assert_eq!(verdict(address), Verdict::Forbidden, "{} of {}", address, range);
            let refused = check(address, &everything()).unwrap_err();
            prop_assert_eq!(refused.allowed_by(), None);
            prop_assert!(check(address, &[IpNet::from(address)]).is_err());
        }
    }

    #[test]
    fn a_private_address_is_reached_only_if_the_configuration_names_its_network(dice: u128) {
        for range in PRIVATE {
            let address = inside(net(range), dice);
            if classify(address) == METADATA {
                continue;
            }
            prop_assert_eq!(verdict(address), Verdict::Private, "{} of {}", address, range);
            let others: Vec<IpNet> = PRIVATE.iter().filter(|other| **other != range).map(|other| net(other)).collect();
            prop_assert!(check(address, &[]).is_err() && check(address, &others).is_err());
            prop_assert!(check(address, &[net(range)]).is_ok());
            let advised = check(address, &[]).unwrap_err().allowed_by().unwrap();
            prop_assert!(check(address, &[advised]).is_ok());
        }
    }

    #[test]
    fn every_ipv4_address_is_judged_by_the_registry(v4: u32) {
        let drawn = Ipv4Addr::from(v4);
        let special = NEVER.iter().chain(&PRIVATE).map(|range| inside(net(range), v4.into()));
        for address in special.chain([drawn.into()]) {
            if let IpAddr::V4(v4) = address {
                prop_assert_eq!(verdict(v4), by_bits(v4), "{}", v4);
            }
        }
    }

    #[test]
    fn mapped_and_nat64_addresses_inherit_the_verdict_of_the_ipv4_address_inside(v4: u32, range in 0..PRIVATE.len() - 2) {
        let special = NEVER.iter().chain(&PRIVATE).filter_map(|range| match net(range) {
            IpNet::V4(_) => Some(inside(net(range), v4.into())),
            IpNet::V6(_) => None,
        });
        for inner in special.chain([Ipv4Addr::from(v4).into()]) {
            let IpAddr::V4(bits) = inner else { continue };
            for prefix in ["::ffff:0:0", "64:ff9b::"] {
                let outer = IpAddr::V6(under(prefix, bits.into()));
                prop_assert_eq!(classify(outer), classify(inner), "{}", outer);
                for allow in [vec![], vec![net(PRIVATE[range])], everything().to_vec()] {
                    prop_assert_eq!(check(outer, &allow).is_ok(), check(inner, &allow).is_ok(), "{} {:?}", outer, allow);
                }
            }
        }
    }

    #[test]
    fn every_other_embedding_of_an_ipv4_address_is_refused(v4: u32, dice: u128) {
        let v4_bits = u128::from(v4);
        let six_to_four = Ipv6Addr::from((0x2002_u128 << 112) | (v4_bits << 80) | (dice >> 48));
        let teredo = Ipv6Addr::from((0x2001_0000_u128 << 96) | (dice >> 64 << 32) | (!v4_bits & 0xffff_ffff));
        let local = under("64:ff9b:1::", v4);
        for address in [six_to_four, teredo, local, under("::ffff:0:0:0", v4), under("64:ff9b:1:fffe::", v4)] {
            prop_assert!(check(address.into(), &everything()).is_err(), "{}", address);
        }
        let compatible = IpAddr::V6(under("::", v4));
        prop_assert!(v4 == 1 || check(compatible, &everything()).is_err(), "{}", compatible);
    }

    #[test]
    fn only_2000_slash_3_has_public_addresses(bits: u128) {
        // The reserved block at the bottom, where the embeddings live, is drawn as often as the rest.
        for address in [Ipv6Addr::from(bits), Ipv6Addr::from(bits >> 8)] {
            if matches!(canonical(address.into()), IpAddr::V6(_)) && verdict(address) != Verdict::Forbidden {
                let (first, loopback) = (address.octets()[0], address == Ipv6Addr::LOCALHOST);
                let expected = if first & 0xfe == 0xfc || loopback { Verdict::Private } else { Verdict::Public };
                prop_assert_eq!(verdict(address), expected, "{}", address);
                prop_assert!(expected == Verdict::Private || first >> 5 == 1, "{}", address);
            }
        }
    }
}

#[test]
fn the_edges_of_every_range_are_where_the_registry_has_them() {
    let rows = NEVER.iter().map(|r| (r, Verdict::Forbidden)).chain(PRIVATE.iter().map(|r| (r, Verdict::Private)));
    for (range, expected) in rows {
        assert_eq!(verdict(net(range).network()), expected, "first of {range}");
        assert_eq!(verdict(net(range).broadcast()), expected, "last of {range}");
    }
    for text in NEIGHBOURS {
        assert_eq!(verdict(text.parse::<IpAddr>().unwrap()), Verdict::Public, "{text}");
    }
    for text in
        ["1fff:ffff::", "4000::", "fbff:ffff::", "fe00::", "fe7f:ffff::", "fec0::1", "ff02::1", "ff0e::1", "8000::"]
    {
        assert_eq!(verdict(text.parse::<IpAddr>().unwrap()), Verdict::Forbidden, "{text}");
    }
}

#[test]
fn metadata_services_are_refused_though_every_network_is_allowed() {
    for text in METADATA_ADDRESSES {
        let refused = check(text.parse().unwrap(), &everything()).unwrap_err();
        assert_eq!(refused.class.verdict, Verdict::Forbidden, "{text}");
        assert!(check(text.parse().unwrap(), &[net("fd00::/8"), net("100.64.0.0/10"), net("169.254.0.0/16")]).is_err());
    }
}
