//! The proxy's end of the link: it follows the switchboard's timeline and reports its sessions.
//!
//! Lowering steps are applied when they are due, whether or not the switchboard can be heard;
//! [`directive::Receiver`] decides what may rise. What was applied is written to the state file
//! afterwards ([`record`]), so that a restart knows it.

mod cadence;
pub(crate) mod metrics;
mod record;

use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon::clock;
use daemon::log_pace::LogPace;
use directive::{
    Change, Downlink, Generation, Link, MachineId, Means, Offer, Receiver, Report, ReportSender,
    SEEN_EVERY, Saved, Standing,
};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::directions::{Directions, Orders, Serve};
use crate::machines::Machines;
use crate::reasons::Alarm;
use cadence::Cadence;
use metrics::ControlMetrics;
pub(crate) use record::Record;
use record::WriteError;

/// Looks at the wall clock at least this often: it may jump.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What the task needs.
pub(crate) struct Control {
    pub(crate) receiver: Receiver,
    pub(crate) sender: ReportSender,
    pub(crate) record: Record,
    pub(crate) directions: Arc<watch::Sender<Directions>>,
    pub(crate) machines: Arc<Machines>,
    pub(crate) metrics: ControlMetrics,
    pub(crate) report_every: Duration,
    /// Whether the wall clock counts as stepped; it was logged then.
    pub(crate) stepped: bool,
    /// The timeline that was acknowledged last.
    pub(crate) reported: Option<Generation>,
    /// The older timeline that was refused last.
    pub(crate) refused: Option<Generation>,
    /// When the state last had to be written.
    pub(crate) saved_at: Option<Instant>,
    /// Whether the last write failed; it was logged then.
    pub(crate) unwritten: bool,
    pub(crate) starved: Starved,
}

/// Machines that only this proxy keeps from work, as far as the log has not been told.
#[derive(Debug, Default)]
pub(crate) struct Starved {
    parked: u64,
    resumed: u64,
    pace: LogPace,
}

impl Starved {
    fn tell(&mut self, now: Instant) {
        let (parked, resumed) = (self.parked, self.resumed);
        info!(parked, resumed, "starved machines changed");
        *self = Self { parked: 0, resumed: 0, ..*self };
        self.pace.told(now);
    }
}

/// What the timeline says at a given time.
#[derive(Debug, Default)]
struct Applied {
    /// The machines that it parks.
    parking: Vec<MachineId>,
    /// How long until the next step is due.
    wait: Option<Duration>,
}

/// Takes up the state of the former process.
pub(crate) fn restore(saved: Option<Saved>) -> (Receiver, Orders) {
    let heard = saved.as_ref().is_some_and(|saved| saved.timeline.is_some());
    let receiver = saved.map(Receiver::restore).unwrap_or_default();
    let orders =
        Orders { unheard: !heard, standing: receiver.applied().clone(), ..Orders::default() };
    (receiver, orders)
}

impl Control {
    /// Follows the link until shutdown. A link that closes leaves the timeline in force.
    pub(crate) async fn run(mut self, mut link: impl Link, cancel: CancellationToken) {
        let mut downlink = link.latest();
        let mut linked = true;
        let mut cadence = Cadence::new(self.report_every, clock::now());
        let mut apply_at = clock::now();
        loop {
            // It walks over all machines that the timeline names, so it is not done at each look at
            // who is parked.
            if clock::now() >= apply_at {
                let applied = self.apply(&downlink, clock::wall(), clock::now());
                let now = clock::now();
                cadence.parking(applied.parking, now);
                apply_at = now + applied.wait.unwrap_or(LOOK_EVERY).min(LOOK_EVERY);
            }
            let now = clock::now();
            if cadence.is_due(now, |machine| self.machines.works(machine)) {
                self.report(&link);
            }
            let wait = apply_at
                .saturating_duration_since(now)
                .min(cadence.wait(now).max(Duration::from_millis(5)));
            tokio::select! {
                () = cancel.cancelled() => {
                    if self.receiver.number().is_some() {
                        self.record.changed();
                    }
                    return self.stop().await;
                }
                written = self.record.ended(), if self.record.is_writing() => {
                    if self.written(written) {
                        self.report(&link);
                    }
                }
                changed = link.changed(), if linked => match changed {
                    Ok(newer) => {
                        if newer.resync != downlink.resync {
                            cadence.report_now(clock::now());
                        }
                        downlink = newer;
                        apply_at = clock::now();
                    }
                    Err(closed) => {
                        linked = false;
                        warn!(%closed, "following the last timeline");
                    }
                },
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Takes up what the switchboard sent and what is due.
    fn apply(&mut self, downlink: &Downlink, wall: Timestamp, now: Instant) -> Applied {
        let mut parking = Vec::new();
        let mut changed = false;
        if let Some(timeline) = &downlink.timeline {
            match self.receiver.offer(timeline) {
                Offer::Taken => {
                    debug!(number = %timeline.number, steps = timeline.steps.len(), "timeline taken");
                    changed = true;
                }
                Offer::Same => {}
                // Logged once: the downlink is state, and shows the same timeline at every look.
                Offer::Stale { .. } if self.refused == Some(timeline.number) => {}
                Offer::Stale { have } => {
                    self.refused = Some(timeline.number);
                    self.metrics.alarms.raise(Alarm::StaleTimeline);
                    warn!(got = %timeline.number, %have, "timeline refused: older than the one held");
                }
            }
        }
        match downlink.permit {
            Some(permit) => {
                self.receiver.permit(permit, wall, now);
            }
            None => self.receiver.withdraw(),
        }
        self.sender.request(downlink.resync);
        let advance = self.receiver.advance(wall, now);
        self.watch_clock();
        changed |= !advance.changes.is_empty();
        let heard = self.receiver.number().is_some();
        let former = self.directions.borrow().orders.clone();
        if !advance.changes.is_empty()
            || former.unheard == heard
            || former.asleep != downlink.asleep
        {
            self.count_starved(&advance.changes, now);
            let orders = Arc::new(Orders {
                unheard: !heard,
                standing: self.receiver.applied().clone(),
                asleep: downlink.asleep.clone(),
            });
            let parks = |machine: &&MachineId| orders.serve(machine, true) == Serve::Park;
            let lowered = advance.changes.iter().map(|change| &change.machine);
            let fell_asleep = orders.asleep.difference(&former.asleep);
            parking.extend(lowered.chain(fell_asleep).filter(parks).cloned());
            self.directions.send_modify(|directions| directions.orders = orders);
        }
        // Also when nothing has changed yet: a restart takes up a timeline and machines that are off.
        if let Some(number) = self.receiver.number() {
            let generation = i64::try_from(number.generation).unwrap_or(i64::MAX);
            self.metrics.generation.set(generation);
        }
        let shed = self.receiver.applied().len();
        self.metrics.machines_shed.set(i64::try_from(shed).unwrap_or(i64::MAX));
        if self.starved.pace.is_due(now) {
            self.starved.tell(now);
        }
        // A restart compares the wall clock with the time that was written last.
        let since = *self.saved_at.get_or_insert(now);
        changed |= heard && now.saturating_duration_since(since) >= SEEN_EVERY;
        if changed {
            self.saved_at = Some(now);
            self.record.changed();
        }
        self.record.write(&self.receiver);
        Applied { parking, wait: advance.wait }
    }

    /// Gathers for the log who is starved, or no longer. The agent tells of all others.
    fn count_starved(&mut self, changes: &[Change], now: Instant) {
        for change in changes {
            debug!(machine = %change.machine, from = ?change.from, to = ?change.to, "standing changed");
            let starved =
                |standing: Standing| standing.action.sheds() && standing.means == Means::Starve;
            let count = match (starved(change.from), starved(change.to)) {
                (false, true) => &mut self.starved.parked,
                (true, false) => &mut self.starved.resumed,
                _ => continue,
            };
            *count += 1;
            self.starved.pace.note(now);
        }
    }

    /// Tells when the wall clock is stepped, and when it is right again.
    fn watch_clock(&mut self) {
        let off = self.receiver.stepped();
        if std::mem::replace(&mut self.stepped, off.is_some()) == off.is_some() {
            return;
        }
        clock::tell_step(off);
        if self.receiver.number().is_some() {
            // What a restart compares its clock with is another time now.
            self.record.changed();
        }
        if off.is_some() {
            self.metrics.alarms.raise(Alarm::ClockStep);
        }
    }

    /// Takes up the end of a write. Returns whether a further timeline can be acknowledged by it. A
    /// disk that takes nothing is logged once, not at each try.
    fn written(&mut self, written: Result<(), WriteError>) -> bool {
        match &written {
            Err(failure) => {
                self.metrics.alarms.raise(Alarm::StateNotWritten);
                if !self.unwritten {
                    error!(%failure, "state not written: a restart would forget it, trying again");
                }
            }
            Ok(()) if self.unwritten => info!("state written again"),
            Ok(()) => {}
        }
        self.unwritten = written.is_err();
        let acknowledged = self.record.acknowledged(self.receiver.number());
        std::mem::replace(&mut self.reported, acknowledged) != acknowledged
    }

    /// Logs what was only counted, and writes what is not written yet: once, as a disk that fails
    /// now fails again in a moment.
    async fn stop(mut self) {
        if self.starved.parked + self.starved.resumed > 0 {
            self.starved.tell(clock::now());
        }
        if self.record.is_writing() {
            let written = self.record.ended().await;
            self.written(written);
        }
        self.record.write(&self.receiver);
        if self.record.is_writing() {
            let written = self.record.ended().await;
            self.written(written);
        }
    }

    fn report(&mut self, link: &impl Link) {
        let at = clock::wall();
        let number = self.record.acknowledged(self.receiver.number());
        let mut look = self.sender.begin();
        self.machines.report(at, &mut look);
        let report = look.finish(at, number);
        if link.report(Report::Sessions(report)) {
            self.sender.handed_over();
        } else {
            self.metrics.reports_dropped.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use daemon::state_file::StateFile;
    use directive::{Action, Generation, Permit, Step, Timeline};
    use jiff::SignedDuration;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::log_limit::tests::Log;
    use crate::reasons::metrics::Alarms;

    fn control(saved: Option<Saved>, state: Option<Arc<StateFile>>) -> Control {
        let (receiver, orders) = restore(saved);
        let directions = watch::channel(Directions {
            usable: [].into(),
            orders: Arc::new(orders),
            release: false,
            seats: 0,
        })
        .0;
        let mut registry = Registry::default();
        Control {
            sender: ReportSender::new(1),
            record: Record::new(state, &receiver),
            receiver,
            directions: Arc::new(directions),
            machines: Arc::default(),
            metrics: ControlMetrics::register(&Alarms::register(&mut registry), &mut registry),
            report_every: Duration::from_secs(1),
            stepped: false,
            reported: None,
            refused: None,
            saved_at: None,
            unwritten: false,
            starved: Starved::default(),
        }
    }

    /// A timeline with one machine.
    fn timeline(steps: &[(Timestamp, Action)]) -> Arc<Timeline> {
        let (issued_at, number) = (steps[0].0, Generation { epoch: 1, generation: 1 });
        let step = |(at, action): &(Timestamp, Action)| Step {
            at: *at,
            group: "g".into(),
            action: *action,
            means: Means::Starve,
            machines: vec!["rig".into()],
            lease: None,
            reason: String::new(),
        };
        let steps = steps.iter().map(step).collect();
        Arc::new(Timeline { number, issued_at, horizon: issued_at, ledger_head: None, steps })
    }

    #[tokio::test]
    async fn what_could_not_be_written_down_is_tried_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("late").join("proxy.json");
        let file = Arc::new(StateFile::new(&path));
        let mut control = control(None, Some(file.clone()));
        let timeline = timeline(&[(clock::wall(), Action::Drain)]);
        let downlink = Downlink { timeline: Some(timeline), ..Downlink::default() };
        control.apply(&downlink, clock::wall(), clock::now());
        assert_eq!(control.receiver.applied().len(), 1, "lowering does not wait for the disk");
        let acknowledged =
            |control: &Control| control.record.acknowledged(control.receiver.number());
        assert_eq!(acknowledged(&control), None, "not before its write has ended");
        let written = control.record.ended().await;
        assert!(written.is_err() && control.written(written));
        assert_eq!(acknowledged(&control), control.receiver.number());
        std::fs::create_dir(dir.path().join("late")).expect("a folder");
        control.apply(&downlink, clock::wall(), clock::now());
        control.record.ended().await.expect("written");
        let saved: Saved = file.load().expect("readable").expect("written by now");
        assert_eq!(saved.applied.len(), 1, "a restart knows the machine is off");
        control.apply(&downlink, clock::wall(), clock::now());
        assert!(!control.record.is_writing(), "nothing has changed");
    }

    #[tokio::test]
    async fn a_disk_that_takes_nothing_is_logged_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = Arc::new(StateFile::new(dir.path().join("late").join("proxy.json")));
        let mut control = control(None, Some(file));
        let timeline = timeline(&[(clock::wall(), Action::Drain)]);
        let downlink = Downlink { timeline: Some(timeline), ..Downlink::default() };
        let log = Log::new();
        let logged = tracing::subscriber::set_default(log.clone());
        for tries in 1..=12 {
            if tries == 11 {
                std::fs::create_dir(dir.path().join("late")).expect("a folder");
            }
            control.apply(&downlink, clock::wall(), clock::now());
            if control.record.is_writing() {
                let written = control.record.ended().await;
                control.written(written);
            }
        }
        drop(logged);
        let shown = log.shown();
        assert_eq!(
            shown,
            ["state not written: a restart would forget it, trying again", "state written again"]
        );
    }

    #[test]
    fn machines_that_a_former_life_took_off_count_from_the_start() {
        let standing = Standing { action: Action::Drain, means: Means::Starve };
        let saved = Saved {
            timeline: Some((*timeline(&[(clock::wall(), Action::Drain)])).clone()),
            applied: [("rig".into(), standing)].into(),
            seen: None,
        };
        let mut control = control(Some(saved), None);
        control.apply(&Downlink::default(), clock::wall(), clock::now());
        assert_eq!(control.metrics.machines_shed.get(), 1);
        assert_eq!(control.metrics.generation.get(), 1);
    }

    /// Returns the seconds at which the machine is parked and has work again, when the wall clock
    /// is wrong by `off(second)`. The timeline parks it from 60 s to 120 s.
    fn parked(control: &mut Control, off: impl Fn(i64) -> i64) -> (Option<i64>, Option<i64>) {
        let (begin, start) = (Timestamp::UNIX_EPOCH, clock::now());
        let at = |secs| begin + SignedDuration::from_secs(secs);
        let timeline = timeline(&[(at(60), Action::Drain), (at(120), Action::Run)]);
        let (mut parked, mut back) = (None, None);
        for secs in 0..300_i64 {
            let serial = secs.unsigned_abs() / 30 + 1;
            let permit = Permit { number: timeline.number, serial, ttl_ms: 60_000 };
            let downlink = Downlink {
                timeline: Some(timeline.clone()),
                permit: Some(permit),
                ..Downlink::default()
            };
            let now = start + Duration::from_secs(secs.unsigned_abs());
            control.apply(&downlink, at(secs + off(secs)), now);
            let orders = control.directions.borrow().orders.clone();
            let is_parked = orders.serve(&"rig".into(), true) == Serve::Park;
            if is_parked {
                parked.get_or_insert(secs);
            } else if parked.is_some() {
                back.get_or_insert(secs);
            }
        }
        (parked, back)
    }

    #[test]
    fn f46_a_stepped_clock_parks_nobody_late_and_gives_nobody_work() {
        for by in [-86_400, -3_600, -60, -1, 0, 1, 60, 3_600, 86_400] {
            for stepped_at in [1, 59, 61, 119] {
                let mut control = control(None, None);
                let off = |secs| if secs >= stepped_at { by } else { 0 };
                let (parked, back) = parked(&mut control, off);
                let case = format!("{by} s at {stepped_at} s: {parked:?} to {back:?}");
                if by.abs() <= 1 {
                    assert!(parked.is_some_and(|at| (59..=61).contains(&at)), "{case}");
                    assert!(back.is_some_and(|at| (119..=121).contains(&at)), "{case}");
                } else {
                    assert!(parked.is_some_and(|at| at <= 60), "{case}");
                    assert_eq!(back, None, "{case}");
                }
                assert_eq!(control.stepped, by.abs() > 1, "{case}");
            }
        }
    }

    #[test]
    fn f46_a_clock_that_was_stepped_during_a_restart_gives_nobody_work() {
        let mut former = control(None, None);
        parked(&mut former, |_| 0);
        let mut saved = former.receiver.saved().clone();
        let steps = saved.timeline.take().expect("it holds one").steps;
        saved.timeline = Some(Timeline::clone(&timeline(&[(steps[0].at, Action::Drain)])));
        saved.applied.insert(
            "rig".into(),
            directive::Standing { action: Action::Drain, means: Means::Starve },
        );
        let mut control = control(Some(saved), None);
        let (first, back) = parked(&mut control, |_| -3_600);
        assert_eq!((first, back), (Some(0), None));
    }

    #[tokio::test]
    async fn what_was_counted_is_logged_at_the_end() {
        let mut control = control(None, None);
        let timeline = timeline(&[(clock::wall(), Action::Drain)]);
        let downlink = Downlink { timeline: Some(timeline), ..Downlink::default() };
        let log = Log::new();
        let logged = tracing::subscriber::set_default(log.clone());
        control.apply(&downlink, clock::wall(), clock::now());
        assert_eq!(log.shown(), [""; 0], "it is counted first");
        control.stop().await;
        drop(logged);
        assert_eq!(log.shown(), ["starved machines changed"]);
    }

    /// 600 machines are parked one a second, rest, and come back as slowly.
    #[test]
    fn an_hour_of_a_lease_is_some_lines_and_each_machine_is_named_at_debug() {
        const MACHINES: i64 = 600;
        let (begin, start) = (Timestamp::UNIX_EPOCH, clock::now());
        let at = |secs: i64| begin + SignedDuration::from_secs(secs);
        let number = Generation { epoch: 1, generation: 1 };
        let step = |secs: i64, action, index: i64| Step {
            at: at(secs),
            group: "g".into(),
            action,
            means: Means::Starve,
            machines: vec![MachineId::from(format!("rig-{index}").as_str())],
            lease: None,
            reason: String::new(),
        };
        let down = (0..MACHINES).map(|index| step(60 + index, Action::Drain, index));
        let up = (0..MACHINES).map(|index| step(2400 + index, Action::Run, index));
        let steps = down.chain(up).collect();
        let timeline =
            Timeline { number, issued_at: begin, horizon: at(7200), ledger_head: None, steps };
        let timeline = Arc::new(timeline);
        let mut control = control(None, None);
        let log = Log::new();
        tracing::subscriber::with_default(log.clone(), || {
            for secs in 0..3600_i64 {
                let serial = secs.unsigned_abs() / 30 + 1;
                let downlink = Downlink {
                    timeline: Some(timeline.clone()),
                    permit: Some(Permit { number, serial, ttl_ms: 60_000 }),
                    ..Downlink::default()
                };
                let now = start + Duration::from_secs(secs.unsigned_abs());
                control.apply(&downlink, at(secs), now);
            }
        });
        assert!(control.receiver.applied().is_empty(), "everybody is back");
        let shown = log.shown();
        assert!((10..=40).contains(&shown.len()), "{shown:#?}");
        assert_eq!(log.details("standing changed"), 1200);
    }
}
