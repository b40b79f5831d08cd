//! Remembers the addresses of a target's host names, so that a failing name server does not make a
//! working pool unreachable (F16).
//!
//! Each connection looks its name up again. If that gives no usable address, the last good answer
//! is used for one more hour: the pool was reached there recently, and with TLS it must still prove
//! its identity.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tracing::warn;

use crate::config::HostPort;

/// How long the last answer is used, counted from the first failed lookup.
const HOLDS: Duration = Duration::from_secs(3600);

/// The last answers for the host names of one target: its own and those listed in
/// `reconnect_hosts`.
#[derive(Debug, Default)]
pub(super) struct KnownAddresses {
    known: Vec<Known>,
}

#[derive(Debug)]
struct Known {
    at: HostPort,
    addresses: Vec<SocketAddr>,
    failing_since: Option<Instant>,
}

impl KnownAddresses {
    /// Handles the result of a lookup: its usable addresses, or why there are none. Returns the
    /// addresses to connect to.
    pub(super) fn settle(
        &mut self,
        at: &HostPort,
        found: Result<Vec<SocketAddr>, String>,
        now: Instant,
    ) -> Result<Vec<SocketAddr>, String> {
        let known = self.known.iter_mut().find(|known| known.at == *at);
        match (found, known) {
            (Ok(addresses), known) => {
                let fresh =
                    Known { at: at.clone(), addresses: addresses.clone(), failing_since: None };
                match known {
                    Some(known) => *known = fresh,
                    None => self.known.push(fresh),
                }
                Ok(addresses)
            }
            (Err(why), Some(known)) => {
                // Each connection looks up, so only the first failure is logged.
                if known.failing_since.is_none() {
                    warn!(host = ?at.host, why, addresses = ?known.addresses, "name not resolved, using its last addresses");
                }
                if now >= *known.failing_since.get_or_insert(now) + HOLDS {
                    return Err(why);
                }
                Ok(known.addresses.clone())
            }
            (Err(why), None) => Err(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin; only differences matter")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn addresses(text: &str) -> Vec<SocketAddr> {
        vec![text.parse().expect("an address")]
    }

    #[test]
    fn f16_a_name_that_no_longer_resolves_has_its_last_addresses_for_an_hour() {
        let at = HostPort { host: "pool.example".into(), port: 3333 };
        let other = HostPort { port: 443, ..at.clone() };
        let (old, new) = (addresses("192.0.2.1:3333"), addresses("192.0.2.2:3333"));
        let failed = || Err::<Vec<SocketAddr>, _>("no such name".to_owned());
        let (mut names, start) = (KnownAddresses::default(), origin());
        assert_eq!(names.settle(&at, failed(), start), failed(), "never heard of");
        assert_eq!(names.settle(&at, Ok(old.clone()), start), Ok(old.clone()));
        // The hour is counted from the first failure, however long the connection before it lasted.
        let lost = start + 24 * HOLDS;
        assert_eq!(names.settle(&at, failed(), lost), Ok(old.clone()));
        assert_eq!(names.settle(&at, failed(), lost + HOLDS - Duration::from_secs(1)), Ok(old));
        assert_eq!(names.settle(&at, failed(), lost + HOLDS), failed());
        assert_eq!(
            names.settle(&other, failed(), lost),
            failed(),
            "another place's answer is not this one's"
        );
        assert_eq!(
            names.settle(&at, Ok(new.clone()), lost + 2 * HOLDS),
            Ok(new.clone()),
            "it moved"
        );
        assert_eq!(names.settle(&at, failed(), lost + 3 * HOLDS), Ok(new), "and has an hour anew");
    }
}
