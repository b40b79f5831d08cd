//! Socket options of both sides.

use std::time::Duration;

use tokio::net::TcpStream;

/// Sends at once, and notices a dead peer by keepalive; with `unacked` also by bytes that stay unacknowledged so long.
pub(crate) fn tune(stream: &TcpStream, unacked: Option<Duration>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(10))
        .with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    match unacked {
        Some(unacked) => socket.set_tcp_user_timeout(Some(unacked)),
        None => Ok(()),
    }
}
