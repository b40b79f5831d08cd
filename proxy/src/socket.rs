//! Socket options for connections to miners and to pools.

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// Disables Nagle's algorithm and enables keepalive. With `unacked`, the system closes a connection
/// whose bytes stay unacknowledged for that long. Accepted connections inherit the options of their
/// listener, which saves many calls when ten thousand miners connect at once.
pub(crate) fn tune<'s>(
    socket: impl Into<SockRef<'s>>,
    unacked: Option<Duration>,
) -> std::io::Result<()> {
    let socket = socket.into();
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(10))
        .with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    match unacked {
        Some(unacked) => socket.set_tcp_user_timeout(Some(unacked)),
        None => Ok(()),
    }
}
