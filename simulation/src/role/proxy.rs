//! The proxy's host: its control with a state file and a link, and the model of its sessions.

use std::time::Duration;

use directive::{Downlink, Generation, MachineId, Report, ReportSender, Saved, SessionReport};
use proxy::simulate::{Control, Output};

use super::sessions::Sessions;
use crate::disk::Disk;
use crate::due::{Due, Life};
use crate::facility::Notice;
use crate::heard::Heard;
use crate::record::{Role, StateFound};
use crate::scenario::Path;
use crate::stage::{Stage, Ticker};

const ROLE: Role = Role::Proxy;
/// Miners come back within this time after a restart.
const COME_BACK: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) struct Proxy {
    control: Option<Control>,
    sender: ReportSender,
    sessions: Sessions,
    pub(crate) disk: Disk<Saved>,
    heard: Heard,
    ticker: Ticker,
    life: Life,
    report_every: Duration,
}

impl Proxy {
    pub(crate) fn new(report_every: Duration) -> Self {
        Self {
            control: None,
            sender: ReportSender::new(0),
            sessions: Sessions::default(),
            disk: Disk::default(),
            heard: Heard::default(),
            ticker: Ticker::default(),
            life: 0,
            report_every,
        }
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.control.is_some()
    }

    /// The timeline held.
    pub(crate) fn held(&self) -> Option<Generation> {
        self.control.as_ref()?.number()
    }

    pub(crate) fn start(&mut self, stage: &mut Stage, found: StateFound) {
        let saved = self.disk.load(found, &mut stage.rng);
        let now = stage.clocks.monotonic(stage.now);
        self.life += 1;
        self.control = Some(Control::new(saved, true, self.report_every, now));
        self.sender = ReportSender::new(self.life);
        self.heard = Heard::default();
        self.ticker.clear();
        let machines: Vec<MachineId> = self.sessions.present().cloned().collect();
        for machine in machines {
            let wait = stage.within(COME_BACK);
            stage.after(wait, Due::Connects { life: self.life, machine });
        }
        self.turn(stage);
    }

    pub(crate) fn die(&mut self, stage: &mut Stage) {
        self.control = None;
        self.disk.crash(&mut stage.rng);
        self.sessions.end_all(stage);
    }

    /// Takes what the switchboard says.
    pub(crate) fn hear(&mut self, stage: &mut Stage, downlink: Downlink) {
        let Some(control) = &mut self.control else { return };
        self.heard.note(stage, ROLE, &downlink);
        self.sender.request(downlink.resync);
        control.hear(downlink, stage.clocks.monotonic(stage.now));
        self.turn(stage);
    }

    pub(crate) fn tick(&mut self, stage: &mut Stage) {
        if self.ticker.is_due(stage.now) {
            self.turn(stage);
        }
    }

    /// Takes in the end of a write.
    pub(crate) fn written(&mut self, stage: &mut Stage, life: Life) {
        if life != self.life || self.control.is_none() {
            return;
        }
        let succeeded = self.disk.end();
        let wall = stage.clocks.wall(ROLE, stage.now);
        if let Some(control) = &mut self.control {
            control.written(succeeded, wall);
        }
        self.turn(stage);
    }

    /// Takes in what happens at a machine.
    pub(crate) fn notice(&mut self, stage: &mut Stage, notice: Notice) {
        if let Some(machine) = self.sessions.notice(notice) {
            self.connects(stage, self.life, &machine);
        }
    }

    /// A machine opens a connection.
    pub(crate) fn connects(&mut self, stage: &mut Stage, life: Life, machine: &MachineId) {
        if let Some(control) = self.control.as_ref().filter(|_| life == self.life) {
            self.sessions.open(machine, control, stage);
        }
    }

    fn turn(&mut self, stage: &mut Stage) {
        let Some(control) = &mut self.control else { return };
        let (wall, now) = (stage.clocks.wall(ROLE, stage.now), stage.clocks.monotonic(stage.now));
        control.turn(wall, now, |machine| self.sessions.works(machine));
        while let Some(output) = control.poll_output() {
            match output {
                Output::Orders => self.sessions.serve_all(control, stage),
                Output::Write(saved) => {
                    self.disk.begin(*saved);
                    let wait = stage.delay(Path::Disk);
                    stage.after(wait, Due::Written { role: ROLE, life: self.life, version: 0 });
                }
                Output::Report { acknowledged, at } => {
                    let sessions = self.sessions.report(control, stage);
                    let seen = sessions.iter().map(SessionReport::seen);
                    let delta = self.sender.report(seen, at, acknowledged);
                    if stage.report(ROLE, Report::Sessions(delta)) {
                        self.sender.handed_over();
                    }
                }
                Output::Stale => {
                    stage.story.tell(stage.now, "proxy", || "refuses an older timeline");
                }
                Output::Clock(off) => stage.tell_clock(ROLE, off),
            }
        }
        let at = stage.now + control.wait(now);
        self.ticker.wish(stage, at, Due::Tick(ROLE));
    }
}
