//! Connecting, and asking a pool for its sizes without mining there.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use stratum::client_role::{ClientEvent, ClientRole};
use stratum::frame::{POOL_LINE_MAX, Splitter};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::Target;
use crate::socket;

/// How long one address may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long sent bytes may stay unacknowledged: a black hole is noticed in seconds, not in a quarter of an hour.
const UNACKED_MAX: Duration = Duration::from_secs(20);
/// Addresses tried of those a name resolves to.
const ADDRESSES_MAX: usize = 16;

/// Connects to the target, address by address.
pub(super) async fn connect(target: &Target) -> Result<TcpStream, String> {
    let lookup = tokio::net::lookup_host((target.host.as_str(), target.port));
    let addresses = timeout(CONNECT_TIMEOUT, lookup)
        .await
        .map_err(|_| format!("{}: name lookup timed out", target.host))?
        .map_err(|failure| format!("{}: {failure}", target.host))?;
    let mut last = format!("{}: no usable address", target.host);
    for address in addresses.filter(is_usable).take(ADDRESSES_MAX) {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                if let Err(failure) = socket::tune(&stream, Some(UNACKED_MAX)) {
                    tracing::debug!(%failure, "socket options not set");
                }
                return Ok(stream);
            }
            Ok(Err(failure)) => last = format!("{address}: {failure}"),
            Err(_) => last = format!("{address}: connect timed out"),
        }
    }
    Err(last)
}

/// Refuses addresses that a name server gives when it lies or fails (F16).
fn is_usable(address: &SocketAddr) -> bool {
    match address.ip() {
        IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast(),
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast(),
    }
}

/// Asks one target for its extranonce2_size on a connection of its own.
pub(super) async fn extranonce_size(target: &Target, within: Duration) -> Result<u8, String> {
    timeout(within, async {
        let mut stream = connect(target).await?;
        let mut role = ClientRole::new(super::client_config(target));
        let mut out = Vec::new();
        role.start(&mut out);
        stream.write_all(&out).await.map_err(|failure| failure.to_string())?;
        let mut splitter = Splitter::new(POOL_LINE_MAX);
        let mut scratch = vec![0; 8192];
        loop {
            let read = stream.read(&mut scratch).await.map_err(|failure| failure.to_string())?;
            if read == 0 {
                return Err("closed before subscribe was answered".into());
            }
            let mut input = &scratch[..read];
            let mut ignored = Vec::new();
            while let Some(line) = splitter.next_line(&mut input).map_err(|fault| fault.to_string())? {
                match role.receive(line, &mut ignored) {
                    Ok(ClientEvent::Subscribed { extranonce2_size, .. }) => return Ok(extranonce2_size),
                    Ok(ClientEvent::Fatal(error)) => return Err(error.to_string()),
                    Ok(_) => {}
                    Err(fault) => return Err(fault.to_string()),
                }
            }
        }
    })
    .await
    .unwrap_or_else(|_| Err("no answer in time".into()))
}

/// Asks all targets at once. An entry is `None` where a target did not answer in time.
pub(crate) async fn probe_sizes(targets: &[Target], within: Duration) -> Vec<Option<u8>> {
    let probes: Vec<_> = targets
        .iter()
        .cloned()
        .map(Arc::new)
        .map(|target| {
            tokio::spawn(async move {
                match extranonce_size(&target, within).await {
                    Ok(size) => Some(size),
                    Err(why) => {
                        tracing::warn!(upstream = %target.name, why = ?why, "extranonce2_size not learned");
                        None
                    }
                }
            })
        })
        .collect();
    let mut sizes = Vec::with_capacity(probes.len());
    for probe in probes {
        sizes.push(probe.await.unwrap_or(None));
    }
    sizes
}
