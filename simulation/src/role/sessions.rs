//! A model of the proxy's sessions: machines connect, get work as the control allows, and send
//! shares while they hash. Pools, jobs and difficulty are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use directive::{MachineId, Serving, SessionReport};
use proxy::simulate::Control;

use crate::facility::{Notice, Noticed};
use crate::record::Role;
use crate::stage::Stage;

/// From one share of a machine to its next.
const SHARE_EVERY: Duration = Duration::from_secs(10);
/// A machine without a session is reported this long.
const GONE_KEPT: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
pub(crate) struct Sessions {
    by_machine: BTreeMap<MachineId, Session>,
    /// Machines that have, or want, a connection.
    present: BTreeSet<MachineId>,
}

#[derive(Debug, Default)]
struct Session {
    open: bool,
    served: bool,
    /// It was given work on this connection and not parked since.
    has_worked: bool,
    next_share: Option<Duration>,
    last_share: Option<Duration>,
    shares: u64,
    still_hashing: u64,
    ended: Option<Duration>,
}

impl Sessions {
    /// Takes in what happens at a machine. Returns the machine if it wants to connect.
    pub(crate) fn notice(&mut self, notice: Notice) -> Option<MachineId> {
        let Notice { at, machine, what } = notice;
        match what {
            Noticed::Connected => {
                self.present.insert(machine.clone());
                return Some(machine);
            }
            Noticed::Disconnected => {
                self.present.remove(&machine);
                if let Some(session) = self.by_machine.get_mut(&machine) {
                    session.close(at);
                }
            }
            Noticed::HashingBegan => {
                if let Some(session) = self.by_machine.get_mut(&machine) {
                    session.next_share = Some(at + SHARE_EVERY);
                }
            }
            Noticed::HashingEnded => {
                if let Some(session) = self.by_machine.get_mut(&machine) {
                    session.count(at, false);
                    session.next_share = None;
                }
            }
        }
        None
    }

    /// Machines that want a connection.
    pub(crate) fn present(&self) -> impl Iterator<Item = &MachineId> {
        self.present.iter()
    }

    pub(crate) fn works(&self, machine: &MachineId) -> bool {
        self.by_machine.get(machine).is_some_and(|session| session.open && session.served)
    }

    /// A machine connects, if it still wants to.
    pub(crate) fn open(&mut self, machine: &MachineId, control: &Control, stage: &mut Stage) {
        if !self.present.contains(machine) {
            return;
        }
        let session = self.by_machine.entry(machine.clone()).or_default();
        if !session.open {
            let before = std::mem::take(session);
            *session = Session {
                open: true,
                shares: before.shares,
                still_hashing: before.still_hashing,
                last_share: before.last_share,
                ..Session::default()
            };
        }
        session.serve(machine, control, stage);
    }

    /// The control's orders have changed.
    pub(crate) fn serve_all(&mut self, control: &Control, stage: &mut Stage) {
        for (machine, session) in self.by_machine.iter_mut().filter(|(_, session)| session.open) {
            session.serve(machine, control, stage);
        }
    }

    /// The proxy dies: nobody has work, and counts begin anew.
    pub(crate) fn end_all(&mut self, stage: &mut Stage) {
        for (machine, session) in std::mem::take(&mut self.by_machine) {
            if session.served {
                stage.facility.serve(&machine, false, stage.now);
            }
        }
    }

    pub(crate) fn report(&mut self, control: &Control, stage: &Stage) -> Vec<SessionReport> {
        let now = stage.now;
        self.by_machine.retain(|_, session| {
            session.ended.is_none_or(|ended| now.saturating_sub(ended) < GONE_KEPT)
        });
        let report = |(machine, session): (&MachineId, &mut Session)| {
            session.count(now, control.starves(machine));
            SessionReport {
                machine: machine.clone(),
                sessions: u32::from(session.open),
                serving: session.serving(),
                shares: session.shares,
                work: session.shares as f64,
                last_share_at: session.last_share.map(|at| stage.clocks.wall(Role::Proxy, at)),
                still_hashing: session.still_hashing,
            }
        };
        self.by_machine.iter_mut().map(report).collect()
    }
}

impl Session {
    fn serving(&self) -> Serving {
        match (self.open, self.served) {
            (false, _) => Serving::Gone,
            (true, true) => Serving::Working,
            (true, false) => Serving::Parked,
        }
    }

    fn serve(&mut self, machine: &MachineId, control: &Control, stage: &mut Stage) {
        let serves = control.serves(machine, self.has_worked);
        self.has_worked = serves;
        if std::mem::replace(&mut self.served, serves) != serves {
            stage.facility.serve(machine, serves, stage.now);
        }
    }

    fn close(&mut self, at: Duration) {
        self.count(at, false);
        self.next_share = None;
        self.open = false;
        self.served = false;
        self.has_worked = false;
        self.ended = Some(at);
    }

    /// Counts the shares up to `now`.
    fn count(&mut self, now: Duration, starved: bool) {
        let Some(next) = self.next_share.filter(|next| *next <= now) else { return };
        let more = (now - next).as_secs() / SHARE_EVERY.as_secs();
        let last = next + SHARE_EVERY * u32::try_from(more).unwrap_or(u32::MAX);
        self.shares += more + 1;
        if starved {
            self.still_hashing += more + 1;
        }
        self.last_share = Some(last);
        self.next_share = Some(last + SHARE_EVERY);
    }
}
