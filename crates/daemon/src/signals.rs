//! The signals of a service: SIGTERM and SIGINT ask it to stop, SIGHUP to reload its files.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info};

/// Waits until the process is asked to stop, and returns the signal's name. If signals cannot be
/// received, it never returns.
pub async fn shutdown_requested() -> &'static str {
    let name = match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        },
        (Err(err), _) | (_, Err(err)) => {
            error!(%err, "cannot listen for signals");
            std::future::pending().await
        }
    };
    info!(signal = name, "shutdown requested");
    name
}

/// Receives SIGHUP, any number of times. Once this exists, the signal no longer terminates the
/// process.
#[derive(Debug)]
pub struct Hangup(Signal);

/// Starts to listen for SIGHUP. Returns the system's error if that cannot be done.
pub fn hangup() -> io::Result<Hangup> {
    signal(SignalKind::hangup()).map(Hangup)
}

impl Hangup {
    /// Waits for the next SIGHUP. Several that came since the last call count as one. Cancel-safe.
    pub async fn recv(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn send(signal: &str) {
        // `kill` built into the shell: a small system may have no program of that name.
        let sent = Command::new("sh")
            .args(["-c", &format!("kill {signal} {}", std::process::id())])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    #[tokio::test]
    async fn term_asks_to_stop_and_hup_to_read_again() {
        let mut again = hangup().unwrap();
        send("-HUP");
        again.recv().await;
        let stop = tokio::spawn(shutdown_requested());
        // The handler is installed at the first poll.
        tokio::task::yield_now().await;
        send("-TERM");
        assert_eq!(stop.await.unwrap(), "SIGTERM");
    }
}
