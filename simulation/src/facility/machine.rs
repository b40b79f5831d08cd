//! One machine: how its state and its power follow from commands, its habits and the work it gets.
//!
//! [`Machine::advance`] does everything that is due up to a time and returns what changed;
//! [`Machine::next`] tells when there is something to do again.

use std::time::Duration;

use directive::{ActuatorError, DeviceState, Watts};
use rand::Rng;
use rand::rngs::StdRng;

use super::spec::{MachineSpec, Start, TUNING_PERCENT};
use crate::record::{Cause, Commander, Order, State};

#[derive(Debug)]
pub(super) struct Machine {
    pub(super) spec: MachineSpec,
    state: State,
    /// When it took up this state.
    since: Duration,
    /// When falling asleep or waking ends.
    until: Option<Duration>,
    /// Whether the second half of waking has begun.
    tuning: bool,
    served: bool,
    /// When it notices that it gets no work.
    starves_at: Option<Duration>,
    /// Whether it has noticed that it gets no work. It then draws `poolless`, not `awake`.
    starved: bool,
    /// When it restarts next.
    reboots_at: Option<Duration>,
    /// Commands that are to take effect, the earliest first.
    pending: Vec<Pending>,
    /// What a liar was told last.
    told_asleep: bool,
    /// While its feed has no power: what it does when power is back, and not before when.
    dark: Option<Dark>,
    /// What it does when it comes up.
    comes_up: State,
}

#[derive(Debug, Clone, Copy)]
struct Dark {
    /// `None` if it was broken before.
    comes_up: Option<State>,
    not_before: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Pending {
    at: Duration,
    order: Order,
    by: Commander,
    arrived: Duration,
}

/// What a device does with a command: its answer, and how long that takes. `None` when it never
/// answers.
pub type Answer<T> = Option<(Result<T, ActuatorError>, Duration)>;

/// A change of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) at: Duration,
    pub(super) from: State,
    pub(super) to: State,
    pub(super) cause: Cause,
}

impl Machine {
    pub(super) fn new(spec: MachineSpec) -> Self {
        let starves_at = Some(spec.poolless_after);
        let (state, until) = match spec.start {
            Start::Awake => (State::Awake, None),
            Start::Asleep => (State::Asleep, None),
            Start::OffUntil(at) => (State::Dead, Some(at)),
        };
        Self {
            state,
            since: Duration::ZERO,
            until,
            tuning: false,
            served: false,
            starves_at,
            starved: false,
            reboots_at: spec.habits.reboots_every,
            pending: Vec::new(),
            told_asleep: false,
            dark: None,
            comes_up: State::Awake,
            spec,
        }
    }

    /// Its feed loses its power.
    pub(super) fn lose_power(&mut self, at: Duration) -> Option<Change> {
        if self.dark.is_some() {
            return None;
        }
        let from = self.state;
        let sleeps = matches!(from, State::Asleep | State::FallingAsleep);
        let comes_up = match from {
            State::Dead => self.until.map(|_| self.comes_up),
            _ if sleeps && self.spec.habits.remembers_sleep => Some(State::Asleep),
            _ => Some(State::Awake),
        };
        let not_before = self.until.filter(|_| from == State::Dead);
        self.dark = Some(Dark { comes_up, not_before });
        self.pending.clear();
        self.told_asleep = false;
        self.turn(State::Dead, None, at);
        let change = Change { at, from, to: State::Dead, cause: Cause::Power };
        Some(change).filter(|change| change.from != change.to)
    }

    /// Its feed has power again: it comes up at `up`, unless it was broken.
    pub(super) fn regain_power(&mut self, up: Duration) {
        let Some(Dark { comes_up, not_before }) = self.dark.take() else { return };
        if let Some(comes_up) = comes_up {
            self.comes_up = comes_up;
            self.until = Some(not_before.map_or(up, |at| at.max(up)));
        }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Whether it has a connection to the proxy.
    pub(super) fn is_connected(&self) -> bool {
        match self.state {
            State::Awake | State::FallingAsleep => true,
            State::Asleep => self.spec.habits.keeps_session,
            State::Waking | State::Dead => false,
        }
    }

    pub(super) fn is_served(&self) -> bool {
        self.served
    }

    /// Whether it works on jobs of the proxy.
    pub(super) fn is_hashing(&self) -> bool {
        self.served && matches!(self.state, State::Awake | State::FallingAsleep)
    }

    /// What it draws at the time to which it was advanced.
    pub(super) fn watts(&self) -> Watts {
        match self.state {
            State::Awake | State::FallingAsleep if self.starved => self.spec.poolless,
            State::Awake | State::FallingAsleep => self.spec.awake,
            State::Waking if self.tuning => Watts(self.spec.awake.0 * TUNING_PERCENT / 100),
            State::Waking | State::Asleep => self.spec.residual,
            State::Dead => Watts::ZERO,
        }
    }

    /// The proxy gives it work, or none.
    pub(super) fn serve(&mut self, served: bool, now: Duration) {
        self.served = served;
        self.starves_at = (!served).then_some(now + self.spec.poolless_after);
        self.starved = false;
    }

    /// Takes a command that arrives now.
    pub(super) fn command(
        &mut self,
        order: Order,
        by: Commander,
        now: Duration,
        rng: &mut StdRng,
    ) -> Answer<()> {
        if self.state == State::Dead {
            return None;
        }
        let habits = &self.spec.habits;
        let takes = habits.answers_after;
        if by == Commander::Technician {
            self.put_off(order, by, now, now);
            return Some((Ok(()), takes));
        }
        if order == Order::Sleep && habits.refuses {
            let why = "the simulated device says no".into();
            return Some((Err(ActuatorError::Refused { why }), takes));
        }
        let hangs = percent(habits.hangs_percent, rng);
        if hangs && percent(50, rng) {
            return None;
        }
        let late = habits.late.filter(|(chance, _)| percent(*chance, rng));
        let again = habits.repeated.filter(|(chance, _)| percent(*chance, rng));
        let first = now + late.map_or(Duration::ZERO, |(_, by)| by);
        self.put_off(order, by, now, first);
        if let Some((_, after)) = again {
            self.put_off(order, by, now, first + after);
        }
        (!hangs).then_some((Ok(()), takes))
    }

    fn put_off(&mut self, order: Order, by: Commander, arrived: Duration, at: Duration) {
        let place = self.pending.partition_point(|other| other.at <= at);
        self.pending.insert(place, Pending { at, order, by, arrived });
    }

    /// What it says of itself.
    pub(super) fn read(&self, rng: &mut StdRng) -> Answer<(DeviceState, Watts)> {
        let habits = &self.spec.habits;
        if self.state == State::Dead || percent(habits.hangs_percent, rng) {
            return None;
        }
        let says = match self.state {
            _ if self.told_asleep => (DeviceState::Asleep, self.spec.residual),
            State::Awake | State::FallingAsleep => (DeviceState::Awake, self.watts()),
            // Firmware that boots out of a sleep answers as it did before.
            State::Waking => (DeviceState::Asleep, self.watts()),
            State::Asleep | State::Dead => (DeviceState::Asleep, self.spec.residual),
        };
        Some((Ok(says), habits.answers_after))
    }

    /// When something of its own is due.
    pub(super) fn next(&self) -> Option<Duration> {
        let half = (self.state == State::Waking && !self.tuning).then(|| self.half_awake());
        let wakes = self.spec.habits.wakes_after.map(|after| self.since + after);
        let is_dead = self.state == State::Dead;
        [
            self.until,
            half,
            self.pending.first().map(|pending| pending.at),
            self.starves_at,
            wakes.filter(|_| self.state == State::Asleep),
            self.reboots_at.filter(|_| !is_dead),
            self.spec
                .habits
                .dies_at
                .filter(|at| !is_dead || self.until.is_some_and(|up| up <= *at)),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what is due at `at`, which is not after [`Self::next`], and returns the changes of
    /// state.
    pub(super) fn advance(&mut self, at: Duration) -> Option<Change> {
        let from = self.state;
        let cause = self.take_due(at)?;
        let to = self.state;
        Some(Change { at, from, to, cause }).filter(|change| change.from != change.to)
    }

    /// The first thing that is due at `at`, and its cause.
    fn take_due(&mut self, at: Duration) -> Option<Cause> {
        let due = |time: Option<Duration>| time.is_some_and(|time| time <= at);
        if self.state != State::Dead && due(self.spec.habits.dies_at) {
            self.pending.clear();
            self.turn(State::Dead, None, at);
            return Some(Cause::Failure);
        }
        if due(self.until) {
            let cause = if self.state == State::Dead { Cause::ByItself } else { Cause::Completed };
            let to = match self.state {
                State::FallingAsleep => State::Asleep,
                State::Dead => std::mem::replace(&mut self.comes_up, State::Awake),
                _ => State::Awake,
            };
            self.turn(to, None, at);
            return Some(cause);
        }
        if self.state == State::Waking && !self.tuning && self.half_awake() <= at {
            self.tuning = true;
        }
        if due(self.starves_at) {
            self.starves_at = None;
            self.starved = true;
        }
        if let Some(pending) = self.pending.first().copied().filter(|pending| pending.at <= at) {
            self.pending.remove(0);
            self.obey(pending);
            return Some(Cause::Commanded { by: pending.by, arrived: pending.arrived });
        }
        if self.state == State::Asleep
            && due(self.spec.habits.wakes_after.map(|after| self.since + after))
        {
            self.wake(at);
            return Some(Cause::ByItself);
        }
        if self.state != State::Dead && due(self.reboots_at) {
            self.reboots_at = self.spec.habits.reboots_every.map(|every| at + every);
            self.told_asleep = false;
            self.wake(at);
            return Some(Cause::ByItself);
        }
        None
    }

    fn obey(&mut self, pending: Pending) {
        let is_lie = self.spec.habits.lies && pending.by == Commander::Agent;
        self.told_asleep = is_lie && pending.order == Order::Sleep;
        match (pending.order, self.state) {
            (_, State::Dead) => {}
            (Order::Sleep, State::Awake | State::Waking) if !is_lie => {
                // A machine that still boots is off at once.
                let takes =
                    if self.state == State::Awake { self.spec.sleep_time } else { Duration::ZERO };
                self.turn(State::FallingAsleep, Some(pending.at + takes), pending.at);
            }
            (Order::Wake, State::FallingAsleep | State::Asleep) => self.wake(pending.at),
            (Order::Wake, State::Waking) if self.spec.habits.wake_starts_over => {
                self.wake(pending.at);
            }
            _ => {}
        }
    }

    fn wake(&mut self, at: Duration) {
        self.turn(State::Waking, Some(at + self.spec.wake_time), at);
    }

    fn turn(&mut self, to: State, until: Option<Duration>, at: Duration) {
        self.state = to;
        if to != State::FallingAsleep {
            // Its next connection has had no work yet.
            self.served = false;
            self.starved = false;
            self.starves_at = (to == State::Awake).then_some(at + self.spec.poolless_after);
        }
        self.until = until;
        self.tuning = false;
        self.since = at;
    }

    fn half_awake(&self) -> Duration {
        self.since + self.spec.wake_time / 2
    }
}

fn percent(chance: u32, rng: &mut StdRng) -> bool {
    chance > 0 && rng.random_ratio(chance.min(100), 100)
}
