//! Which addresses are global: what [`Reach::Global`] permits.
//!
//! Rust's own `IpAddr::is_global` is not stable. The tables here are those of the IANA registries "IPv4
//! Special-Purpose Address Space", "IPv6 Special-Purpose Address Space" and "IPv6 Global Unicast Address Assignments"
//! (RFC 6890), read strictly: an address is global if a server on the Internet can have it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::Host;

use crate::call::Reach;

/// Where no server on the Internet is, with the bits that count.
const IPV4: [(Ipv4Addr, u32); 17] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),       // "this network" (RFC 791, section 3.2)
    (Ipv4Addr::new(10, 0, 0, 0), 8),      // private use (RFC 1918)
    (Ipv4Addr::new(100, 64, 0, 0), 10),   // shared by the customers of a provider (RFC 6598)
    (Ipv4Addr::new(127, 0, 0, 0), 8),     // loopback (RFC 1122, section 3.2.1.3)
    (Ipv4Addr::new(169, 254, 0, 0), 16),  // link-local (RFC 3927); metadata servers of clouds
    (Ipv4Addr::new(172, 16, 0, 0), 12),   // private use (RFC 1918)
    (Ipv4Addr::new(192, 0, 0, 0), 24),    // IETF protocol assignments (RFC 6890); its anycast is the next router
    (Ipv4Addr::new(192, 0, 2, 0), 24),    // documentation (RFC 5737)
    (Ipv4Addr::new(192, 31, 196, 0), 24), // AS112, answers DNS alone (RFC 7535)
    (Ipv4Addr::new(192, 52, 193, 0), 24), // multicast tunnels (RFC 7450)
    (Ipv4Addr::new(192, 88, 99, 0), 24),  // 6to4 relays, no longer in use (RFC 7526)
    (Ipv4Addr::new(192, 168, 0, 0), 16),  // private use (RFC 1918)
    (Ipv4Addr::new(192, 175, 48, 0), 24), // AS112, answers DNS alone (RFC 7534)
    (Ipv4Addr::new(198, 18, 0, 0), 15),   // benchmarking (RFC 2544)
    (Ipv4Addr::new(198, 51, 100, 0), 24), // documentation (RFC 5737)
    (Ipv4Addr::new(203, 0, 113, 0), 24),  // documentation (RFC 5737)
    (Ipv4Addr::new(224, 0, 0, 0), 3),     // multicast (RFC 5771), reserved (RFC 1112), broadcast (RFC 919)
];

/// The only addresses of IPv6 that are assigned to servers: all others are of another kind or reserved. So are
/// loopback, link-local, site-local, unique local, multicast, `100::/64` and `5f00::/16` outside of them.
const GLOBAL_UNICAST: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Those among them where no server on the Internet is.
const IPV6: [(Ipv6Addr, u32); 5] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // protocol assignments (RFC 2928); Teredo, ORCHID, benchmarking
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation (RFC 3849)
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16), // 6to4 (RFC 3056): a tunnel to the IPv4 address within
    (Ipv6Addr::new(0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0), 48), // AS112, answers DNS alone (RFC 7534)
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation (RFC 9637)
];

/// Where the last 32 bits are the IPv4 address that is reached: mapped addresses (RFC 4291, section 2.5.5.2), and
/// NAT64 with its well-known prefix (RFC 6052, section 2.1). The prefix for local use, `64:ff9b:1::/48` (RFC 8215), and
/// the compatible addresses `::/96` (RFC 4291, section 2.5.5.1) are not global.
const LEADS_TO_IPV4: [(Ipv6Addr, u32); 2] =
    [(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96), (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96)];

/// Names that no public name server has: this machine (RFC 6761, section 6.3), this link (RFC 6762, section 3), this
/// home (RFC 8375), and private use (`internal`, reserved by ICANN in 2024).
const PRIVATE_NAMES: [&str; 4] = ["localhost", "local", "home.arpa", "internal"];

impl Reach {
    /// Whether a request of this reach may be sent to this IP address: for drivers, after they have looked up a name
    /// and before they connect.
    ///
    /// ```
    /// use grantflow::machine::Reach;
    ///
    /// assert!(Reach::Public.permits_address("10.0.0.1".parse()?));
    /// assert!(!Reach::Global.permits_address("10.0.0.1".parse()?));
    /// assert!(!Reach::Global.permits_address("::ffff:169.254.169.254".parse()?));
    /// assert!(Reach::Global.permits_address("2001:4860:4860::8888".parse()?));
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
    pub fn permits_address(self, address: IpAddr) -> bool {
        match (self, address) {
            (Self::Public | Self::Local, _) => true,
            (Self::Global, IpAddr::V4(address)) => is_global_v4(address),
            (Self::Global, IpAddr::V6(address)) => is_global_v6(address),
        }
    }

    /// Whether a request of this reach may go to this host, judged by the host's text alone: for drivers, before they
    /// look the name up. Where a proxy looks it up, this is the only check. With [`Reach::Global`] these are refused:
    /// IP addresses that are not global, IPv4 addresses in other spellings than the usual one (`127.1`), `localhost`,
    /// `local`, `internal` and `home.arpa` with the names below them, and any host that a URL would write in another
    /// way.
    pub fn permits_host(self, host: &str) -> bool {
        match self {
            Self::Public | Self::Local => true,
            Self::Global => match Host::parse(host) {
                // Others must read it as this does.
                Ok(parsed) if !parsed.to_string().eq_ignore_ascii_case(host) => false,
                Ok(Host::Ipv4(address)) => is_global_v4(address),
                Ok(Host::Ipv6(address)) => is_global_v6(address),
                Ok(Host::Domain(name)) => !is_private_name(&name),
                Err(_) => false,
            },
        }
    }
}

fn is_private_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    PRIVATE_NAMES
        .iter()
        .any(|private| name.strip_suffix(private).is_some_and(|before| before.is_empty() || before.ends_with('.')))
}

fn is_global_v4(address: Ipv4Addr) -> bool {
    let within = |(range, bits): &(Ipv4Addr, u32)| {
        let differs = address.to_bits() ^ range.to_bits();
        differs.leading_zeros() >= *bits
    };
    !IPV4.iter().any(within)
}

fn is_global_v6(address: Ipv6Addr) -> bool {
    let within = |(range, bits): &(Ipv6Addr, u32)| {
        let differs = address.to_bits() ^ range.to_bits();
        differs.leading_zeros() >= *bits
    };
    if LEADS_TO_IPV4.iter().any(within) {
        let [.., a, b, c, d] = address.octets();
        return is_global_v4(Ipv4Addr::new(a, b, c, d));
    }
    within(&GLOBAL_UNICAST) && !IPV6.iter().any(within)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first and the last address of each range, and the neighbours beyond.
    #[test]
    fn addresses_are_global_as_the_registries_say() {
        let table = include_str!("../tests/global/addresses.txt");
        let mut lines = 0;
        for line in table.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (kind, addresses) = line.split_once(' ').unwrap();
            let global = match kind {
                "global" => true,
                "not" => false,
                _ => panic!("{line}"),
            };
            for text in addresses.split('#').next().unwrap().split_whitespace() {
                let address: IpAddr = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
                assert_eq!(Reach::Global.permits_address(address), global, "{text}");
                assert!(Reach::Public.permits_address(address) && Reach::Local.permits_address(address), "{text}");
                let host = match address {
                    IpAddr::V4(address) => address.to_string(),
                    IpAddr::V6(address) => Host::<String>::Ipv6(address).to_string(),
                };
                assert_eq!(Reach::Global.permits_host(&host), global, "{host}");
                lines += 1;
            }
        }
        assert!(lines > 120, "{lines}");
    }

    #[test]
    fn no_address_is_global_that_the_standard_library_counts_among_the_private_ones() {
        let mut seed = 1_u64;
        let mut random = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 32) as u32
        };
        let mut global = 0;
        for _ in 0..200_000 {
            let v4 = Ipv4Addr::from_bits(random());
            let v6 = Ipv6Addr::from_bits(u128::from(random()) << 96 | u128::from(random()));
            let private = v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4.is_documentation()
                || v4.is_unspecified();
            assert!(!(private && is_global_v4(v4)), "{v4}");
            let private = v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unique_local()
                || v6.is_unicast_link_local();
            assert!(!(private && is_global_v6(v6)), "{v6}");
            assert_eq!(is_global_v6(v4.to_ipv6_mapped()), is_global_v4(v4), "{v4}");
            global += u32::from(is_global_v4(v4));
        }
        assert!((160_000..180_000).contains(&global), "most of IPv4 is global: {global}");
    }

    #[test]
    fn hosts_are_refused_by_their_text() {
        for host in [
            "as.example",
            "AS.example",
            "as.example.",
            "localhost.example",
            "mylocalhost",
            "not-internal",
            "8.8.8.8",
            "[2001:4860:4860::8888]",
            "xn--bcher-kva.example",
        ] {
            assert!(Reach::Global.permits_host(host), "{host}");
        }
        for host in [
            "",
            "localhost",
            "LOCALHOST",
            "localhost.",
            "a.localhost",
            "a.b.localhost.",
            "metadata.google.internal",
            "printer.local",
            "nas.home.arpa",
            "127.0.0.1",
            "127.0.0.1.",
            "127.1",
            "0x7f.1",
            "0177.0.0.1",
            "2130706433",
            "134744072",
            "0",
            "10.1",
            "[::1]",
            "[::ffff:7f00:1]",
            "[::ffff:127.0.0.1]",
            "[fe80::1%25eth0]",
            "::1",
            "%6c%6f%63alhost",
            "127.0.0.1%00",
            "bücher.example",
            "\u{ff11}27.0.0.1",
            "as example",
            "as.example/x",
            "user@as.example",
        ] {
            assert!(!Reach::Global.permits_host(host), "{host}");
            assert!(Reach::Public.permits_host(host) && Reach::Local.permits_host(host), "{host}");
        }
    }
}
