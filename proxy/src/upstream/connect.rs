//! Makes a usable connection from the address of a target: name lookup, TCP, TLS.
//!
//! The addresses of one lookup are raced as in RFC 8305, the two families taking turns, so that a
//! dead IPv6 costs a quarter of a second (F18). The answer is used for this connection only: the
//! next one looks up again (U58), and [`known_addresses`](super::known_addresses) decides what to use if that fails.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use daemon::clock;
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::end::{End, Fault};
use super::known_addresses::KnownAddresses;
use super::stream::PoolStream;
use crate::config::{HostPort, Target};
use crate::tls::TlsFault;
use crate::{socket, tls};

/// The deadline for connecting to one address, and for a name lookup.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The head start of each address before the next one is tried.
const HEAD_START: Duration = Duration::from_millis(250);
/// How long sent bytes may stay unacknowledged, so that a dead path is noticed within seconds and
/// not after a quarter of an hour.
const UNACKED_MAX: Duration = Duration::from_secs(20);
/// The maximum number of addresses of a name that are tried (U56).
const ADDRESSES_MAX: usize = 16;

/// Connects to the target at `at`, which is its own address or one that the operator has listed for
/// it. A target with TLS is never connected to without it.
pub(super) async fn connect(
    target: &Target,
    at: &HostPort,
    known: &Mutex<KnownAddresses>,
) -> Result<PoolStream, Fault> {
    let lookup = tokio::net::lookup_host((at.host.as_str(), at.port));
    let tcp = tcp(at, known, lookup).await.map_err(|detail| Fault::new(End::Connect, detail))?;
    if let Err(failure) = socket::tune(&tcp, Some(UNACKED_MAX)) {
        tracing::debug!(%failure, "socket options not set");
    }
    let Some(tls) = &target.tls else { return Ok(PoolStream::plain(tcp)) };
    let name: ServerName<'static> = tls::server_name(&at.host).ok_or_else(|| {
        let detail = format!("{:?} is no name a certificate can bear", at.host);
        Fault::new(End::Tls(TlsFault::WrongName), detail)
    })?;
    PoolStream::secure(tcp, tls, name).await
}

async fn tcp(
    at: &HostPort,
    known: &Mutex<KnownAddresses>,
    lookup: impl Future<Output = io::Result<impl Iterator<Item = SocketAddr>>>,
) -> Result<TcpStream, String> {
    let found = match timeout(CONNECT_TIMEOUT, lookup).await {
        Ok(Ok(found)) => match in_turns(found) {
            none if none.is_empty() => Err("no usable address".to_owned()),
            some => Ok(some),
        },
        Ok(Err(failure)) => Err(failure.to_string()),
        Err(_) => Err("name lookup timed out".to_owned()),
    };
    let settled = known.lock().settle(at, found, clock::now());
    let addresses = settled.map_err(|why| format!("{}: {why}", at.host))?;
    race(addresses)
        .await
        .map_err(|why| why.unwrap_or_else(|| format!("{}: no connection", at.host)))
}

/// Connects to the addresses in order, each with a head start before the next, and returns the
/// first connection. If an address fails, the next one is tried at once.
async fn race(addresses: Vec<SocketAddr>) -> Result<TcpStream, Option<String>> {
    let mut running = JoinSet::new();
    let mut last = None;
    let mut addresses = addresses.into_iter();
    loop {
        let next = addresses.next();
        match next {
            Some(address) => {
                running.spawn(async move {
                    match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
                        Ok(Ok(stream)) => Ok(stream),
                        Ok(Err(failure)) => Err(format!("{address}: {failure}")),
                        Err(_) => Err(format!("{address}: connect timed out")),
                    }
                });
            }
            None if running.is_empty() => return Err(last),
            None => {}
        }
        tokio::select! {
            Some(finished) = running.join_next() => match finished {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(why)) => last = Some(why),
                Err(_) => {}
            },
            () = sleep(HEAD_START), if addresses.len() > 0 => {}
        }
    }
}

/// Orders the usable addresses so that the families alternate, beginning with the first of the
/// resolver.
fn in_turns(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let usable: Vec<SocketAddr> = found.filter(is_usable).collect();
    let first_is_v6 = usable.first().is_some_and(SocketAddr::is_ipv6);
    let (mut first, mut second): (Vec<_>, Vec<_>) =
        usable.into_iter().partition(|at| at.is_ipv6() == first_is_v6);
    first.reverse();
    second.reverse();
    let mut turns = Vec::new();
    while turns.len() < ADDRESSES_MAX && !(first.is_empty() && second.is_empty()) {
        turns.extend(first.pop());
        turns.extend(second.pop());
    }
    turns.truncate(ADDRESSES_MAX);
    turns
}

/// Refuses impossible addresses, which a name server may give when it fails or is forged (F16).
fn is_usable(address: &SocketAddr) -> bool {
    match address.ip() {
        IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast(),
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn f18_the_families_take_turns() {
        let found = addresses(&[
            "[2001:db8::1]:1",
            "[2001:db8::2]:1",
            "[2001:db8::3]:1",
            "192.0.2.1:1",
            "192.0.2.2:1",
        ]);
        let want = addresses(&[
            "[2001:db8::1]:1",
            "192.0.2.1:1",
            "[2001:db8::2]:1",
            "192.0.2.2:1",
            "[2001:db8::3]:1",
        ]);
        assert_eq!(in_turns(found.into_iter()), want);
    }

    #[test]
    fn u56_of_500_addresses_16_are_tried_and_nonsense_is_not() {
        let many = (0..500u32).map(|host| SocketAddr::from((host.to_be_bytes(), 1)));
        let taken = in_turns(many);
        assert_eq!(
            (taken.len(), taken[0]),
            (ADDRESSES_MAX, "0.0.0.1:1".parse().expect("an address"))
        );
        let nonsense =
            addresses(&["0.0.0.0:1", "[::]:1", "255.255.255.255:1", "224.0.0.1:1", "[ff02::1]:1"]);
        assert_eq!(in_turns(nonsense.into_iter()), []);
    }

    /// Connects to a name for which the resolver returns `said`.
    async fn reach(
        known: &Mutex<KnownAddresses>,
        said: Result<Vec<SocketAddr>, io::ErrorKind>,
    ) -> Result<SocketAddr, String> {
        let at = HostPort { host: "pool.example".into(), port: 3333 };
        let lookup = async { said.map(Vec::into_iter).map_err(io::Error::from) };
        tcp(&at, known, lookup).await.map(|stream| stream.peer_addr().expect("connected"))
    }

    async fn listener() -> (tokio::net::TcpListener, SocketAddr) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        (listener, address)
    }

    /// F16, U58: each connection uses the name's current addresses or, if there are none or only
    /// impossible ones, the last good ones.
    #[tokio::test]
    async fn f16_u58_a_name_is_looked_up_for_each_connection_and_a_failure_costs_nothing() {
        let ((_first, first), (_second, second)) = (listener().await, listener().await);
        let known = Mutex::default();
        assert_eq!(reach(&known, Ok(vec![first])).await, Ok(first));
        assert_eq!(reach(&known, Ok(vec![second])).await, Ok(second), "it has moved");
        assert_eq!(reach(&known, Err(io::ErrorKind::NotFound)).await, Ok(second), "SERVFAIL");
        let nonsense = addresses(&["0.0.0.0:3333", "[::]:3333", "224.0.0.1:3333"]);
        assert_eq!(reach(&known, Ok(nonsense)).await, Ok(second), "a resolver that lies");
        assert_eq!(reach(&known, Ok(vec![])).await, Ok(second));
        assert_eq!(reach(&known, Ok(vec![first])).await, Ok(first), "it is told of again");
    }

    /// U56: a name that was never resolved ends the attempt with a fault that says so, so that the
    /// next target is used.
    #[tokio::test]
    async fn u56_a_name_that_never_resolved_is_a_fault() {
        for said in [Err(io::ErrorKind::NotFound), Ok(vec![]), Ok(addresses(&["0.0.0.0:1"]))] {
            let fault = reach(&Mutex::default(), said).await.expect_err("nowhere to go");
            assert!(fault.starts_with("pool.example: "), "{fault}");
        }
    }

    /// U56: of five hundred addresses only the seventeenth would answer, and it is not tried.
    #[tokio::test]
    async fn u56_of_500_addresses_the_first_sixteen_are_connected_to() {
        let (_alive, alive) = listener().await;
        let held = tokio::net::TcpSocket::new_v4().expect("a socket");
        held.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let refused = held.local_addr().expect("bound");
        let at = |place: usize| {
            (0..500).map(|index| if index == place { alive } else { refused }).collect::<Vec<_>>()
        };
        assert_eq!(reach(&Mutex::default(), Ok(at(15))).await, Ok(alive));
        assert!(reach(&Mutex::default(), Ok(at(16))).await.is_err());
    }

    /// F18: an address that does not answer delays the connection by its head start, not by its
    /// timeout.
    #[tokio::test]
    async fn f18_a_dead_address_does_not_keep_the_next_one_waiting() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let alive = listener.local_addr().expect("bound");
        // The port is bound without listening, so that connections are refused at once.
        let held = tokio::net::TcpSocket::new_v4().expect("a socket");
        held.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let refused = held.local_addr().expect("bound");
        // The accept queue has room for two connections and is full, so packets to it are dropped.
        let full = tokio::net::TcpSocket::new_v4().expect("a socket");
        full.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let full = full.listen(1).expect("a listener");
        let dead = full.local_addr().expect("bound");
        let waiting: Vec<_> = (0..8).map(|_| tokio::spawn(TcpStream::connect(dead))).collect();
        while waiting.iter().filter(|one| one.is_finished()).count() < 2 {
            sleep(Duration::from_millis(1)).await;
        }
        let raced = timeout(CONNECT_TIMEOUT, race(vec![refused, dead, alive])).await;
        let stream = raced.expect("before the dead one gives up").expect("connected");
        assert_eq!(stream.peer_addr().expect("connected"), alive);
        let error = race(vec![refused]).await.expect_err("refused").expect("with its address");
        assert!(error.starts_with(&format!("{refused}:")), "{error}");
    }
}
