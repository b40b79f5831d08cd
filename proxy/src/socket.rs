//! Socket options of both sides.

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// Sends at once, and notices a dead peer by keepalive; with `unacked` also by bytes that stay
/// unacknowledged so long. What a listener is given, the connections it accepts have: with ten
/// thousand that come at once, that saves a lot of calls.
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
