//! One direction of one connection: reads bytes at one end, applies the disturbances, and writes
//! them at the other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;

use super::{Extra, Fate, Flow, Shared, Way, Weather};
use crate::clock::now;

/// The maximum number of bytes in transit; at the bound, reading pauses.
const UNDER_WAY_MAX: usize = 256 * 1024;

/// One direction of one connection.
pub(super) struct Pump {
    shared: Arc<Shared>,
    way: Way,
    weather: watch::Receiver<Weather>,
    fate: watch::Sender<Fate>,
    changed_fate: watch::Receiver<Fate>,
    extra: mpsc::UnboundedReceiver<Extra>,
    random: StdRng,
    under_way: VecDeque<(Instant, Vec<u8>)>,
    bytes_under_way: usize,
    /// When the next byte may be written, at the configured rate.
    free_at: Instant,
    ended: bool,
}

impl Pump {
    pub(super) fn new(
        shared: &Arc<Shared>,
        way: Way,
        number: u64,
        fate: watch::Sender<Fate>,
        extra: mpsc::UnboundedReceiver<Extra>,
    ) -> Self {
        let weather = if way == Way::There { &shared.there } else { &shared.back };
        let seed = shared.seed
            ^ (number << 1 | u64::from(way == Way::Back)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self {
            shared: Arc::clone(shared),
            way,
            weather: weather.subscribe(),
            changed_fate: fate.subscribe(),
            fate,
            extra,
            random: StdRng::seed_from_u64(seed),
            under_way: VecDeque::new(),
            bytes_under_way: 0,
            free_at: now(),
            ended: false,
        }
    }

    /// Relays bytes until this direction has ended or the connection is reset.
    pub(super) async fn run(mut self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        if self.carry(&mut from, &mut to).await.is_err() {
            // One end was reset, or must be: reset the other end, too.
            self.fate.send_replace(Fate::Reset);
        }
        if *self.fate.borrow() == Fate::Reset {
            for stream in [from.as_ref(), to.as_ref()] {
                // This fails only if the connection has already ended.
                let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
            }
            // Dropping the half would send an orderly end before the reset.
            to.forget();
            return;
        }
        let _ = to.shutdown().await;
    }

    async fn carry(
        &mut self,
        from: &mut OwnedReadHalf,
        to: &mut OwnedWriteHalf,
    ) -> std::io::Result<()> {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let weather = *self.weather.borrow_and_update();
            let fate = *self.changed_fate.borrow_and_update();
            if fate == Fate::Reset {
                return Ok(());
            }
            let loses = fate == Fate::Forgotten || weather.flow == Flow::Lost;
            if loses {
                self.lose();
            } else if self.ended && self.under_way.is_empty() {
                return Ok(());
            }
            let due = self.due(&weather);
            let reads = !self.ended
                && weather.flow != Flow::Stalled
                && self.bytes_under_way < UNDER_WAY_MAX;
            tokio::select! {
                changed = self.weather.changed() => if changed.is_err() { return Ok(()) },
                changed = self.changed_fate.changed() => if changed.is_err() { return Ok(()) },
                Some(extra) = self.extra.recv() => match extra {
                    Extra::Bytes(bytes) => self.take(&bytes, &weather),
                    Extra::End => self.ended = true,
                },
                read = from.read(&mut buffer), if reads => match read? {
                    0 => self.ended = true,
                    read if loses => self.shared.count(|counts| counts.lost += read as u64),
                    read => self.take(&buffer[..read], &weather),
                },
                () = until(due), if due.is_some() => self.write(to, &weather).await?,
            }
        }
    }

    fn lose(&mut self) {
        if self.bytes_under_way > 0 {
            let lost = std::mem::take(&mut self.bytes_under_way);
            self.under_way.clear();
            self.shared.count(|counts| counts.lost += lost as u64);
        }
    }

    /// Adds bytes to those in transit.
    fn take(&mut self, bytes: &[u8], weather: &Weather) {
        let mut bytes = bytes.to_vec();
        if let Some(one_in) = weather.corrupt_one_in {
            let mut corrupted = 0;
            for byte in &mut bytes {
                if self.random.random_ratio(1, one_in.max(1)) {
                    *byte ^= 1 << self.random.random_range(0..8);
                    corrupted += 1;
                }
            }
            if corrupted > 0 {
                self.shared.count(|counts| counts.corrupted += corrupted);
            }
        }
        let jitter = weather.jitter.mul_f64(self.random.random());
        let earliest = self.under_way.back().map_or_else(now, |(due, _)| *due);
        self.bytes_under_way += bytes.len();
        self.under_way.push_back(((now() + weather.delay + jitter).max(earliest), bytes));
    }

    /// When the next bytes are to be written.
    fn due(&self, weather: &Weather) -> Option<Instant> {
        let (due, _) = self.under_way.front()?;
        let mut due = *due;
        if let Some((enough, patience)) = weather.gather
            && self.bytes_under_way < enough
            && !self.ended
        {
            due += patience;
        }
        Some(due.max(self.free_at))
    }

    /// Writes the bytes that are due, in pieces of the configured size.
    async fn write(&mut self, to: &mut OwnedWriteHalf, weather: &Weather) -> std::io::Result<()> {
        let most = weather.cut.unwrap_or(64 * 1024).max(1);
        let mut piece = Vec::new();
        while piece.len() < most
            && let Some((due, bytes)) = self.under_way.front_mut()
            && (*due <= now() || piece.is_empty() || weather.gather.is_some())
        {
            let taken = bytes.len().min(most - piece.len());
            piece.extend(bytes.drain(..taken));
            if bytes.is_empty() {
                self.under_way.pop_front();
            }
        }
        self.bytes_under_way -= piece.len();
        if let Some(rate) = weather.rate {
            let takes = Duration::from_secs_f64(piece.len() as f64 / f64::from(rate.max(1)));
            self.free_at = self.free_at.max(now()) + takes;
        }
        let mut fate = self.changed_fate.clone();
        tokio::select! {
            written = to.write_all(&piece) => written?,
            // A peer that does not read can still be reset.
            _ = fate.wait_for(|fate| *fate != Fate::Open) => return Ok(()),
        }
        self.shared.count(|counts| match self.way {
            Way::There => counts.there += piece.len() as u64,
            Way::Back => counts.back += piece.len() as u64,
        });
        Ok(())
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
