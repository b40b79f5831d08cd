//! The address of a pool: `scheme://host:port`.

use std::fmt;

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// A host name or an IP address, without brackets.
    pub host: String,
    /// Never 0.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl HostPort {
    /// Whether both are the same address. Host names are compared without regard to case, and are
    /// not resolved.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.port == other.port && self.host.eq_ignore_ascii_case(&other.host)
    }
}

/// Reads the url of a target: its address, and whether it uses TLS.
pub(super) fn parse_url(url: &str) -> Result<(HostPort, bool), String> {
    let (address, tls) = match url.split_once("://") {
        None => (url, false),
        Some(("stratum+tcp" | "tcp", address)) => (address, false),
        Some(("stratum+ssl" | "stratum+tls" | "stratum+tcps", address)) => (address, true),
        Some((scheme, _)) => {
            return Err(format!(
                "{scheme:?} is no Stratum scheme: use stratum+tcp://host:port or stratum+ssl://host:port"
            ));
        }
    };
    Ok((parse_host_port(address)?, tls))
}

/// Reads `host:port`.
pub(super) fn parse_host_port(address: &str) -> Result<HostPort, String> {
    if address.contains(['/', '@', ' ', '?', '#']) || address.chars().any(char::is_control) {
        return Err(format!("{address:?} must be host:port, without user, path or spaces"));
    }
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => rest.split_once("]:").ok_or("an IPv6 address is written [::1]:3333")?,
        None => address.rsplit_once(':').ok_or("missing port: host:port")?,
    };
    if host.is_empty() {
        return Err("missing host: host:port".to_owned());
    }
    if host.contains(':') && !address.starts_with('[') {
        return Err("an IPv6 address is written [::1]:3333".to_owned());
    }
    if host.contains('%') {
        return Err("an address zone is not supported".to_owned());
    }
    match port.parse::<u16>() {
        Ok(port) if port > 0 => Ok(HostPort { host: host.to_owned(), port }),
        _ => Err(format!("port {port:?} is not 1 to 65535")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, port: u16) -> HostPort {
        HostPort { host: host.to_owned(), port }
    }

    #[test]
    fn ipv6_addresses_are_written_in_brackets() {
        assert_eq!(parse_url("[::1]:3333"), Ok((at("::1", 3333), false)));
        assert_eq!(at("::1", 3333).to_string(), "[::1]:3333");
        assert!(parse_url("stratum+tcp://[fe80::1%eth0]:3333").is_err());
    }

    #[test]
    fn the_scheme_alone_says_whether_it_is_tls() {
        for (url, tls) in [
            ("pool.example:443", false),
            ("tcp://pool.example:443", false),
            ("stratum+tcp://pool.example:443", false),
            ("stratum+ssl://pool.example:443", true),
            ("stratum+tls://pool.example:443", true),
            ("stratum+tcps://pool.example:443", true),
        ] {
            assert_eq!(parse_url(url), Ok((at("pool.example", 443), tls)), "{url}");
        }
        for url in ["stratum+SSL://p:1", "ssl://p:1", "https://p:1", "stratum2+tcp://p:1/KEY"] {
            assert!(parse_url(url).expect_err(url).contains("scheme"), "{url}");
        }
    }

    #[test]
    fn u59_spaces_and_control_characters_are_no_part_of_a_host() {
        for url in [
            "pool.example :3333",
            "pool.example:3333 ",
            " pool.example:3333",
            "pool.example\u{7f}:3333",
        ] {
            assert!(parse_url(url).is_err(), "{url:?}");
        }
    }
}
