//! A network in CIDR notation, such as `10.0.0.0/8`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A range of addresses with the same leading bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    bits: u8,
}

/// Why a text is not a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// The text is not an address, optionally followed by a prefix length.
    #[error("{text:?} is not a network such as 10.0.0.0/8")]
    Malformed { text: String },
    /// Bits after the prefix are set, which is most likely a typing error.
    #[error("{text:?} has bits set behind its length; did you mean {meant}?")]
    HostBits {
        text: String,
        /// The network that contains the address.
        meant: Network,
    },
}

impl Network {
    /// Whether the network contains the address. An IPv4 address mapped into IPv6 counts as IPv4.
    #[must_use]
    pub fn contains(&self, addr: IpAddr) -> bool {
        let addr = addr.to_canonical();
        addr.is_ipv4() == self.base.is_ipv4() && masked(addr, self.bits) == self.base
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let malformed = || NetworkError::Malformed { text: text.to_owned() };
        let (base, bits) =
            text.split_once('/').map_or((text, None), |(base, bits)| (base, Some(bits)));
        let base: IpAddr = base.parse().map_err(|_| malformed())?;
        let most = if base.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), |bits| bits.parse().map_err(|_| malformed()))?;
        if bits > most {
            return Err(malformed());
        }
        let meant = Self { base: masked(base, bits), bits };
        if meant.base != base {
            return Err(NetworkError::HostBits { text: text.to_owned(), meant });
        }
        Ok(meant)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

fn masked(addr: IpAddr, bits: u8) -> IpAddr {
    let bits = u32::from(bits);
    match addr {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(bits)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(bits)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lie_in_their_networks_only() {
        for (network, addr, want) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("192.168.1.7", "192.168.1.7", true),
            ("192.168.1.7", "192.168.1.8", false),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("::/0", "10.0.0.1", false),
        ] {
            let parsed: Network = network.parse().unwrap();
            assert_eq!(parsed.contains(addr.parse().unwrap()), want, "{addr} in {network}");
        }
    }

    #[test]
    fn texts_that_are_no_networks_are_refused() {
        for text in [
            "",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0/8",
            "::/129",
            "localhost",
            "10.0.0.0/8/8",
            "fe80::1%eth0",
        ] {
            assert_eq!(
                text.parse::<Network>(),
                Err(NetworkError::Malformed { text: text.to_owned() })
            );
        }
        let told = "10.1.0.0/8".parse::<Network>().unwrap_err().to_string();
        assert_eq!(told, "\"10.1.0.0/8\" has bits set behind its length; did you mean 10.0.0.0/8?");
    }
}
