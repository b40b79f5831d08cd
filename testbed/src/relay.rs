//! A TCP relay between two peers that disturbs the traffic; the disturbances are called *weather*.
//!
//! Bytes are delayed, split, gathered, changed, slowed down, stalled or lost, separately in each
//! direction. Connections are half-closed, reset, or forgotten as by a NAT. The relay knows no
//! protocol. Its random choices are repeatable by a seed; the arrival times of bytes are not.

mod pump;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::wait::{self, NotInTime};
use pump::Pump;

/// The direction of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// From the peer that connected to the relay.
    There,
    /// From the peer to which the relay connected.
    Back,
}

/// The disturbances of one direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weather {
    /// How long bytes are delayed.
    pub delay: Duration,
    /// The largest random addition to the delay. The order is kept, as TCP keeps it.
    pub jitter: Duration,
    /// The maximum number of bytes in one write.
    pub cut: Option<usize>,
    /// Bytes are held until there are this many, or until the first of them has waited this long.
    pub gather: Option<(usize, Duration)>,
    /// One byte in this many is changed in one bit.
    pub corrupt_one_in: Option<u32>,
    pub rate: Option<u32>,
    /// Whether bytes pass at all.
    pub flow: Flow,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Flow {
    #[default]
    Open,
    /// Bytes are not read: the sender's window fills up.
    Stalled,
    /// Bytes are read and dropped, so the sender notices nothing.
    Lost,
}

impl Weather {
    /// No disturbance.
    pub const FINE: Self = Self {
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        cut: None,
        gather: None,
        corrupt_one_in: None,
        rate: None,
        flow: Flow::Open,
    };
    /// All bytes are lost, and the sender does not notice.
    pub const LOST: Self = Self { flow: Flow::Lost, ..Self::FINE };
    /// No bytes pass, and the sender's buffer fills up.
    pub const STALLED: Self = Self { flow: Flow::Stalled, ..Self::FINE };
}

/// Counts of a relay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RelayCounts {
    pub connects: u64,
    pub open: u64,
    /// Accepted connections whose other end could not be reached.
    pub failed: u64,
    /// Bytes passed on from the peer that connected.
    pub there: u64,
    /// Bytes passed on from the peer to which the relay connected.
    pub back: u64,
    pub lost: u64,
    pub corrupted: u64,
}

/// What the relay does to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Open,
    /// No more bytes pass.
    Forgotten,
    /// Both ends get a reset.
    Reset,
}

/// A running relay. Dropping it closes its port and its connections.
#[derive(Debug)]
pub struct Relay {
    shared: Arc<Shared>,
    addr: SocketAddr,
}

#[derive(Debug)]
struct Shared {
    to: SocketAddr,
    seed: u64,
    there: watch::Sender<Weather>,
    back: watch::Sender<Weather>,
    counts: Mutex<RelayCounts>,
    changed: watch::Sender<u64>,
    lines: Mutex<Vec<Line>>,
    token: CancellationToken,
    tasks: TaskTracker,
}

/// The handles of one connection.
#[derive(Debug)]
struct Line {
    fate: watch::Sender<Fate>,
    there: mpsc::UnboundedSender<Extra>,
    back: mpsc::UnboundedSender<Extra>,
}

/// Bytes and events injected into one direction.
#[derive(Debug)]
enum Extra {
    Bytes(Vec<u8>),
    /// This direction ends after the bytes in transit.
    End,
}

impl Relay {
    /// Starts a relay to `to` on a free local port, without disturbances.
    ///
    /// # Errors
    /// When the system gives it no port.
    pub async fn start(to: SocketAddr, seed: u64) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            to,
            seed,
            there: watch::Sender::new(Weather::FINE),
            back: watch::Sender::new(Weather::FINE),
            counts: Mutex::default(),
            changed: watch::Sender::new(0),
            lines: Mutex::default(),
            token: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        let task = Arc::clone(&shared).listen(listener);
        let token = shared.token.clone();
        shared.tasks.spawn(async move { token.run_until_cancelled(task).await });
        Ok(Self { shared, addr })
    }

    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns everything counted so far.
    #[must_use]
    pub fn counts(&self) -> RelayCounts {
        *self.shared.counts.lock()
    }

    /// Waits until `wanted` is true of the counts, and returns them.
    ///
    /// # Errors
    /// [`NotInTime`] with the last counts.
    pub async fn until(
        &self,
        limit: Duration,
        wanted: impl FnMut(&RelayCounts) -> bool,
    ) -> Result<RelayCounts, NotInTime> {
        wait::until(self.shared.changed.subscribe(), limit, || self.counts(), wanted).await
    }

    /// Changes the weather of one direction, for present and future connections.
    pub fn set(&self, way: Way, weather: Weather) {
        match way {
            Way::There => self.shared.there.send_replace(weather),
            Way::Back => self.shared.back.send_replace(weather),
        };
    }

    /// Changes the weather of both directions.
    pub fn set_both(&self, weather: Weather) {
        self.set(Way::There, weather);
        self.set(Way::Back, weather);
    }

    /// Resets every connection at both ends.
    pub fn reset(&self) {
        self.decide(Fate::Reset);
    }

    /// Silently drops all bytes of the present connections, as a NAT that has forgotten them does.
    /// New connections pass.
    pub fn forget(&self) {
        self.decide(Fate::Forgotten);
    }

    /// Ends one direction of every connection after the bytes in transit; the other stays open.
    pub fn half_close(&self, way: Way) {
        self.put(way, || Extra::End);
    }

    /// Injects bytes into one direction of every connection.
    pub fn inject(&self, way: Way, bytes: &[u8]) {
        self.put(way, || Extra::Bytes(bytes.to_vec()));
    }

    /// Closes the port and every connection, and waits until they are closed.
    pub async fn stop(&self) {
        self.shared.token.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    fn decide(&self, fate: Fate) {
        for line in self.shared.lines.lock().iter() {
            line.fate.send_replace(fate);
        }
    }

    fn put(&self, way: Way, extra: impl Fn() -> Extra) {
        for line in self.shared.lines.lock().iter() {
            let sender = if way == Way::There { &line.there } else { &line.back };
            // A direction that has ended accepts nothing more.
            let _ = sender.send(extra());
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.token.cancel();
    }
}

impl Shared {
    fn count(&self, change: impl FnOnce(&mut RelayCounts)) {
        change(&mut self.counts.lock());
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    async fn listen(self: Arc<Self>, listener: TcpListener) {
        let mut number = 0;
        loop {
            let Ok((client, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            number += 1;
            let task = Arc::clone(&self).carry(client, number);
            let token = self.token.clone();
            self.tasks.spawn(async move { token.run_until_cancelled(task).await });
        }
    }

    /// Relays one connection until it ends.
    async fn carry(self: Arc<Self>, client: TcpStream, number: u64) {
        let server = TcpStream::connect(self.to).await;
        self.count(|counts| {
            counts.connects += 1;
            counts.open += u64::from(server.is_ok());
            counts.failed += u64::from(server.is_err());
        });
        let Ok(server) = server else { return };
        for stream in [&client, &server] {
            // This fails only if the connection has ended, which the next read reports.
            let _ = stream.set_nodelay(true);
        }
        let fate = watch::Sender::new(Fate::Open);
        let (there, extra_there) = mpsc::unbounded_channel();
        let (back, extra_back) = mpsc::unbounded_channel();
        self.lines.lock().push(Line { fate: fate.clone(), there, back });
        let (client_read, client_write) = client.into_split();
        let (server_read, server_write) = server.into_split();
        let one = Pump::new(&self, Way::There, number, fate.clone(), extra_there);
        let other = Pump::new(&self, Way::Back, number, fate.clone(), extra_back);
        tokio::join!(one.run(client_read, server_write), other.run(server_read, client_write));
        self.lines.lock().retain(|line| !line.fate.same_channel(&fate));
        self.count(|counts| counts.open -= 1);
    }
}

#[cfg(test)]
mod tests;
