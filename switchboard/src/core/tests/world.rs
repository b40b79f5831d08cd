//! A simulated facility around the core: machines that obey, refuse or lie, meters that fall
//! silent, restarts, and the real rules of receivers. The world keeps the truth; the core sees
//! reports only.

use super::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    Obeys,
    /// The machine never sleeps, and its device says so.
    Refuses,
    /// The device says that the machine sleeps, but the machine continues to hash.
    Lies,
    /// The device says that the machine sleeps. The machine sends no shares but still draws power.
    Idles,
    /// Once the machine is asleep, it does not wake.
    Stays,
    /// The machine sleeps when told; its device stops answering once it was told.
    Mute,
    /// The device stops answering once it was told, and the machine does not sleep.
    MuteAwake,
    /// The machine falls asleep 25 s after it is told to, whatever it is told meanwhile, and stays
    /// asleep.
    Late,
}

#[derive(Debug)]
pub(super) struct Machine {
    pub(super) id: MachineId,
    pub(super) feed: &'static str,
    pub(super) device: bool,
    /// The driver that reaches the machine's device.
    pub(super) driver: Option<String>,
    /// When the device was last read before its driver was out.
    pub(super) read_at: Option<i64>,
    /// Until when that driver was out last.
    pub(super) out_until: i64,
    /// How many of its commands have failed because the driver was out.
    pub(super) unanswered: u32,
    pub(super) manner: Manner,
    /// Since when the machine has been told to sleep.
    pub(super) told: Option<i64>,
    /// When the machine was last told to sleep.
    pub(super) slept: Option<i64>,
    /// When the machine was last told to sleep, by the agent's clock.
    pub(super) slept_says: Option<i64>,
    /// Whether the machine draws power.
    pub(super) draws: bool,
    pub(super) asleep_says: bool,
    /// When the machine's last share came, by the proxy's clock.
    pub(super) last_share: Option<i64>,
    pub(super) woken: i64,
}

impl Machine {
    /// A machine that runs. Without a driver, no device reaches it.
    pub(super) fn new(
        id: &str,
        feed: &'static str,
        driver: Option<String>,
        manner: Manner,
    ) -> Self {
        Self {
            manner,
            id: id.into(),
            feed,
            device: driver.is_some(),
            driver,
            read_at: None,
            out_until: 0,
            unanswered: 0,
            told: None,
            slept: None,
            slept_says: None,
            draws: true,
            asleep_says: false,
            last_share: None,
            woken: 0,
        }
    }
}

pub(super) const AGENT: &str = "agent";
pub(super) const PROXY: &str = "proxy";

/// The sums that the core has kept agree with sums made anew from its leases and their phases.
pub(super) fn assert_sums(core: &Core) {
    let Some((wall, now)) = core.at else { return };
    let feeds = core.policy.facility.feeds();
    let mut afresh = FeedSums::new(feeds);
    afresh.take_leases(feeds, &core.leases);
    for (lease, commitment) in &core.commitments {
        afresh.set_active(feeds, lease, commitment.phase == Phase::Active);
    }
    afresh.read(feeds, wall, |meter| Some(core.inventory.metered(meter, wall, now)?.0));
    for feed in feeds.numbers() {
        let sums = |sums: &FeedSums| {
            let reserved = [0, 500, 1000, 2000, 4000]
                .map(|later| sums.reserved(feed, wall + Duration::from_secs(later)));
            (reserved, sums.leased(feed), sums.unmetered(feed))
        };
        assert_eq!(sums(&core.sums), sums(&afresh), "{} at {wall}", feeds[feed].id);
    }
}

pub(super) struct World {
    pub(super) policy: Policy,
    pub(super) core: Core,
    pub(super) ledger: Vec<Entry>,
    pub(super) head: Head,
    pub(super) origin: Instant,
    pub(super) secs: i64,
    pub(super) machines: Vec<Machine>,
    pub(super) agent: Receiver,
    pub(super) proxy: Receiver,
    /// The sender of the agent's reports.
    pub(super) agent_reports: ReportSender,
    pub(super) proxy_reports: ReportSender,
    pub(super) meters_silent: bool,
    /// How much more power the meters of `a` and above it show than is drawn.
    pub(super) meter_adds: Watts,
    /// By which factor the meter of `a` is off.
    pub(super) meter_factor: f64,
    /// How much more these meters and those of the tenants show than tenants draw.
    pub(super) tenant_adds: Watts,
    pub(super) devices_silent: bool,
    /// The drivers that reach no device now.
    pub(super) drivers_out: BTreeSet<&'static str>,
    /// A feed whose meter cannot be read.
    pub(super) lost_meter: Option<&'static str>,
    /// The feeds that have no power.
    pub(super) dark: BTreeSet<&'static str>,
    /// Machines whose sessions seem to work on although they have no power.
    pub(super) lingering: BTreeSet<MachineId>,
    /// Machines that came up when their power was back, and have no work yet.
    pub(super) booted: BTreeSet<MachineId>,
    /// Whether tenants draw on when their leases have ended.
    pub(super) tenants_stay: bool,
    pub(super) ledger_fails: bool,
    pub(super) last_number: Option<Generation>,
    /// The newest timeline.
    pub(super) timeline: Option<Arc<Timeline>>,
    /// The newest guard table.
    pub(super) guard: Option<Arc<GuardTable>>,
    /// Whether the agent has lost its state: it does not know that it put machines to sleep.
    pub(super) agent_forgot: bool,
    /// What agents were told last of the machines that are ours, and how often without delay.
    pub(super) owned: Arc<BTreeMap<MachineId, Timestamp>>,
    pub(super) told_owned: u32,
    pub(super) asked: u64,
    pub(super) answers: BTreeMap<u64, Answer>,
    /// The shortages that the core wanted logged.
    pub(super) notices: Vec<Notice>,
    pub(super) rises_allowed: bool,
    /// The permitted set that receivers heard last.
    pub(super) permitted: Option<Permitted>,
    /// Machines that connect besides those that the world began with. No device reaches them.
    pub(super) visitors: Vec<Visitor>,
    /// Whether machines that connect need a place in the permitted set for work.
    pub(super) reconnects: bool,
    /// By how many seconds the switchboard's wall clock is wrong.
    pub(super) wall_off: i64,
    /// By how many seconds the receivers' wall clocks are wrong.
    pub(super) receivers_off: i64,
}

/// A machine that works, and then draws `watts`, from when it is permitted to.
#[derive(Debug)]
pub(super) struct Visitor {
    pub(super) id: MachineId,
    pub(super) feed: &'static str,
    pub(super) watts: Watts,
    /// What it draws without work.
    pub(super) idle: Watts,
    pub(super) works: bool,
}

impl World {
    pub(super) fn new(manner: impl Fn(&str) -> Manner) -> Self {
        Self::with(policy(), manner)
    }

    pub(super) fn with(policy: Policy, manner: impl Fn(&str) -> Manner) -> Self {
        let feed = |feed: &str| if feed == "a" { "a" } else { "b" };
        let mut machines = Vec::new();
        for group in policy.facility.groups() {
            for i in 0..group.machines {
                let id = format!("{}.{i:03}", group.id);
                let (feed, driver) = (feed(group.feed.as_str()), group.driver.clone());
                machines.push(Machine::new(&id, feed, driver, manner(&id)));
            }
        }
        let opened = Entry { at: at(0), event: Event::Opened { epoch: 1 } };
        let mut world = Self {
            core: Core::new(
                Arc::new(policy.clone()),
                LedgerState::default(),
                Head::default(),
                at(0),
            ),
            policy,
            ledger: vec![opened],
            head: Head::default(),
            origin: origin(),
            secs: 0,
            machines,
            agent: Receiver::default(),
            proxy: Receiver::default(),
            agent_reports: ReportSender::new(1),
            proxy_reports: ReportSender::new(2),
            meters_silent: false,
            meter_adds: Watts::ZERO,
            meter_factor: 1.0,
            tenant_adds: Watts::ZERO,
            devices_silent: false,
            drivers_out: BTreeSet::new(),
            lost_meter: None,
            dark: BTreeSet::new(),
            lingering: BTreeSet::new(),
            booted: BTreeSet::new(),
            tenants_stay: false,
            ledger_fails: false,
            last_number: None,
            timeline: None,
            guard: None,
            agent_forgot: false,
            owned: Arc::default(),
            told_owned: 0,
            asked: 0,
            answers: BTreeMap::new(),
            notices: Vec::new(),
            rises_allowed: true,
            permitted: None,
            visitors: Vec::new(),
            reconnects: false,
            wall_off: 0,
            receivers_off: 0,
        };
        world.open();
        world
    }

    /// A new life of the switchboard, with nothing but the ledger.
    pub(super) fn restart(&mut self) {
        let epoch = self.core.state.epoch + 1;
        self.ledger.push(Entry { at: at(self.secs), event: Event::Opened { epoch } });
        self.open();
    }

    pub(super) fn open(&mut self) {
        let mut state = LedgerState::default();
        for entry in &self.ledger {
            state.apply(entry.at, &entry.event).unwrap();
        }
        self.core = Core::new(Arc::new(self.policy.clone()), state, self.head, at(self.secs));
        self.permit_lost();
        for (receiver, role) in [(AGENT, ReceiverRole::Agent), (PROXY, ReceiverRole::Proxy)] {
            let attach = Input::Attach { receiver: receiver.into(), role };
            let outputs = self.core.handle(attach, at(self.secs + self.wall_off), self.now());
            let Some(Ok(Attached { resync, .. })) = outputs.attached else {
                panic!("{receiver} is attached")
            };
            self.sender(receiver).request(resync);
            self.perform(outputs);
        }
    }

    pub(super) fn sender(&mut self, receiver: &str) -> &mut ReportSender {
        if receiver == AGENT { &mut self.agent_reports } else { &mut self.proxy_reports }
    }

    /// Whether a receiver may raise any machine now.
    pub(super) fn may_raise(&self) -> bool {
        let mut receivers = [&self.agent, &self.proxy].into_iter();
        let now = self.now();
        receivers.any(|receiver| self.machines.iter().any(|one| receiver.may_raise(&one.id, now)))
    }

    pub(super) fn permit_lost(&mut self) {
        self.rises_allowed = false;
    }

    pub(super) fn now(&self) -> Instant {
        self.origin + Duration::from_secs(u64::try_from(self.secs).unwrap())
    }

    pub(super) fn input(&mut self, input: Input) {
        let mut input = Some(input);
        while let Some(next) = input.take() {
            let outputs = self.core.handle(next, at(self.secs + self.wall_off), self.now());
            assert_sums(&self.core);
            input = outputs.again.then_some(Input::Tick);
            self.perform(outputs);
        }
        self.check_last_decision();
    }

    /// The last timeline of this process is in the ledger, or on its way there.
    fn check_last_decision(&self) {
        let Some(told) = self.last_number.filter(|told| told.epoch == self.core.number.epoch)
        else {
            return;
        };
        let written = self.ledger.iter().map(|entry| &entry.event);
        let number = |event: &Event| match event {
            Event::Decided { number, .. } => Some(*number),
            _ => None,
        };
        let last = written.chain(self.core.outbox.pending()).filter_map(number).max();
        assert_eq!(last, Some(told), "the last timeline is recorded");
    }

    pub(super) fn perform(&mut self, outputs: Outputs) {
        self.guard = outputs.guard.or(self.guard.take());
        self.permitted = outputs.permitted.or(self.permitted.take());
        self.owned = outputs.owned.unwrap_or_else(|| self.owned.clone());
        self.told_owned += u32::from(outputs.tells_owned);
        if let Some(timeline) = outputs.timeline {
            assert!(
                self.last_number.is_none_or(|last| last < timeline.number),
                "numbers only grow"
            );
            self.last_number = Some(timeline.number);
            self.timeline = Some(timeline.clone());
            self.agent.offer(&timeline);
            self.proxy.offer(&timeline);
        }
        if outputs.withdraw {
            self.agent.withdraw();
            self.proxy.withdraw();
        }
        if let Some(permit) = outputs.permit {
            let sleeps =
                |machine: &&Machine| !machine.draws && permit.machines.contains(&machine.id);
            assert!(
                !self.meters_silent
                    || self.secs % 1000 < 15
                    || !self.machines.iter().any(|machine| sleeps(&machine)),
                "no sleeping machine may be raised while meters are silent"
            );
            assert!(
                self.core.outbox.failure().is_none(),
                "no permit while the ledger is known to fail"
            );
            let (wall, now) = (at(self.secs + self.receivers_off), self.now());
            self.agent.permit(&permit, wall, now);
            self.proxy.permit(&permit, wall, now);
        }
        if let Some((receiver, resync)) = outputs.resync {
            self.sender(receiver.as_str()).request(resync);
        }
        self.answers.extend(outputs.answers);
        self.notices.extend(outputs.notices);
        if let Some(entries) = outputs.append {
            let result = if self.ledger_fails {
                Err(WriteError::Full("test".into()))
            } else {
                self.ledger.extend(entries.iter().cloned());
                for entry in &entries {
                    self.head = self.head.next(&entry.at.to_string(), entry.event.kind(), "");
                }
                Ok(self.head)
            };
            self.input(Input::Written(result));
        }
    }

    pub(super) fn ask(&mut self, command: Command) -> Answer {
        self.asked += 1;
        self.input(Input::Command(self.asked, Box::new(command)));
        self.answers.remove(&self.asked).expect("every command is answered")
    }

    pub(super) fn commit(
        &mut self,
        id: &str,
        feed: &str,
        watts: i64,
        start: i64,
        end: i64,
    ) -> Answer {
        self.commit_metered(id, feed, watts, start, end, None)
    }

    pub(super) fn commit_metered(
        &mut self,
        id: &str,
        feed: &str,
        watts: i64,
        start: i64,
        end: i64,
        meter: Option<&str>,
    ) -> Answer {
        let body = json!({
            "id": id, "tenant": "t", "it_kw": Watts(watts).kw(), "feed": feed, "ready_before": "60s",
            "start": at(start).to_string(), "end": at(end).to_string(), "meter": meter,
        });
        let request: LeaseRequest = serde_json::from_value(body).unwrap();
        self.ask(Command::Commit(request, None))
    }

    pub(super) fn step(&mut self) {
        self.secs += 1;
        let (wall, now) = (at(self.secs + self.receivers_off), self.now());
        for change in self.agent.advance(wall, now).changes {
            let sleeps = change.to.action.sheds();
            if let Some(machine) = self
                .machines
                .iter_mut()
                .find(|machine| machine.id == change.machine && machine.device)
            {
                machine.told = sleeps.then_some(self.secs);
                machine.slept = machine.told.or(machine.slept);
                if sleeps {
                    machine.slept_says = Some(self.secs + self.receivers_off);
                }
                if !sleeps {
                    machine.woken = self.secs;
                }
            }
        }
        self.proxy.advance(wall, now);
        let is_out = |machine: &Machine| {
            machine.driver.as_deref().is_some_and(|driver| self.drivers_out.contains(driver))
        };
        for machine in &mut self.machines {
            if self.dark.contains(machine.feed) {
                machine.draws = false;
                // The agent repeats its command, which fails.
                if machine.told.is_some_and(|told| (self.secs - told) % 20 == 19) {
                    machine.unanswered += 1;
                }
                continue;
            }
            if self.booted.contains(&machine.id) {
                machine.read_at = Some(self.secs + self.receivers_off);
                if self.permitted.as_ref().is_none_or(|all| all.permits(&machine.id)) {
                    self.booted.remove(&machine.id);
                } else {
                    continue;
                }
            }
            if is_out(machine) {
                machine.out_until = self.secs;
                // The agent repeats the command, which does not reach the device.
                if machine.told.is_some_and(|told| (self.secs - told) % 5 == 4) {
                    machine.unanswered += 1;
                    machine.slept_says = Some(self.secs + self.receivers_off);
                }
                if machine.draws && self.secs % 3 == 0 {
                    machine.last_share = Some(self.secs + self.receivers_off);
                }
                continue;
            }
            machine.read_at = Some(self.secs + self.receivers_off);
            let falls_asleep_at = match machine.manner {
                Manner::Refuses | Manner::MuteAwake => None,
                Manner::Late => machine.slept.map(|slept| slept + 25),
                _ => machine.told.map(|told| told.max(machine.out_until) + 4),
            };
            let stays = machine.manner == Manner::Stays && machine.asleep_says;
            match machine.told {
                _ if falls_asleep_at.is_some_and(|at| at <= self.secs) => {
                    machine.asleep_says = true;
                    machine.draws = matches!(machine.manner, Manner::Lies | Manner::Idles);
                }
                None if !stays => {
                    machine.asleep_says = false;
                    machine.draws = true;
                }
                _ => {}
            }
            if machine.asleep_says || machine.told.is_none() {
                machine.unanswered = 0;
            }
            if machine.draws
                && !(machine.asleep_says && machine.manner == Manner::Idles)
                && self.secs % 3 == 0
            {
                machine.last_share = Some(self.secs + self.receivers_off);
            }
        }
        self.report();
        self.input(Input::Tick);
        self.check();
    }

    pub(super) fn drawn(&self, which: impl Fn(&Lease) -> bool) -> Watts {
        let open = self.core.state.open().filter(|standing| which(&standing.lease));
        // A tenant draws all the power it may from the moment its lease is active.
        let drawn = open.filter(|standing| {
            let phase = self.core.commitments[&standing.lease.id].phase;
            (phase == Phase::Active && (at(self.secs) < standing.lease.ends() || self.tenants_stay))
                || (phase == Phase::Releasing && self.tenants_stay)
        });
        drawn.map(|standing| standing.lease.gross).sum()
    }

    pub(super) fn load(&self, feed: &str) -> Watts {
        let house_of_a = if self.dark.contains("a") { 0 } else { 1000 };
        let house = match feed {
            "root" => 4000 + house_of_a,
            "a" => house_of_a,
            _ => 0,
        };
        let watts = |machine: &Machine| match machine.draws {
            _ if self.dark.contains(machine.feed) => Watts::ZERO,
            // It is awake.
            _ if self.booted.contains(&machine.id) => Watts(200),
            true => Watts(3000),
            false => Watts(30),
        };
        let below = self.machines.iter().filter(|machine| feed == "root" || machine.feed == feed);
        let draws = |lease: &Lease| {
            let is_here = feed == "root" || lease.feed.as_str() == feed;
            is_here && !self.dark.contains(lease.feed.as_str())
        };
        Watts(house) + below.map(watts).sum() + self.visitors_draw(feed) + self.drawn(draws)
    }

    pub(super) fn report(&mut self) {
        // Reports carry the time of the receivers' clock.
        let stamp = at(self.secs + self.receivers_off);
        let is_out = |machine: &Machine| {
            let is_dark = self.dark.contains(machine.feed);
            is_dark
                || machine.driver.as_deref().is_some_and(|driver| self.drivers_out.contains(driver))
        };
        let reading = |machine: &Machine| MachineReport {
            machine: machine.id.clone(),
            state: if self.devices_silent
                || is_out(machine)
                || (machine.told.is_some()
                    && matches!(machine.manner, Manner::Mute | Manner::MuteAwake))
            {
                DeviceState::Unknown
            } else if machine.asleep_says {
                DeviceState::Asleep
            } else {
                DeviceState::Awake
            },
            watts: None,
            // What was read last, before the driver was out.
            read_at: if is_out(machine) { machine.read_at.map(at) } else { Some(stamp) },
            slept_at: machine.slept_says.map(at),
            asleep_by: match machine.slept_says.filter(|_| !self.agent_forgot) {
                Some(_) if machine.asleep_says || machine.told.is_some() => Some(AsleepBy::Us),
                _ => machine.asleep_says.then_some(AsleepBy::Other),
            },
            unrecorded: false,
            failures: match machine.told {
                Some(since) if machine.manner == Manner::Refuses => {
                    u32::try_from((self.secs - since) / 5).unwrap()
                }
                _ => machine.unanswered,
            },
            fault: is_out(machine).then(|| "read: no answer within 5 s".to_owned()),
        };
        let is_read = |feed| !self.meters_silent && self.lost_meter != Some(feed);
        let meters = ["root", "a", "b"].map(|feed| MeterReport {
            meter: format!("m-{feed}").into(),
            watts: is_read(feed).then(|| match feed {
                "a" => {
                    let adds = self.meter_adds + self.tenant_adds;
                    (self.load(feed) + adds).scale(self.meter_factor)
                }
                "root" => self.load(feed) + self.meter_adds + self.tenant_adds,
                _ => self.load(feed),
            }),
            taken_at: is_read(feed).then_some(stamp),
            fault: None,
        });
        let mut meters = meters.to_vec();
        meters.push(MeterReport {
            meter: "tenant".into(),
            watts: Some(self.drawn(|lease| lease.meter.is_some()) + self.tenant_adds),
            taken_at: Some(stamp),
            fault: None,
        });
        let machines: Vec<MachineReport> =
            self.machines.iter().filter(|machine| machine.device).map(reading).collect();
        let waits = |id: &MachineId| {
            let permitted = self.permitted.as_ref();
            self.reconnects && permitted.is_some_and(|permitted| !permitted.permits(id))
        };
        let session = |machine: &Machine| SessionReport {
            machine: machine.id.clone(),
            sessions: u32::from(
                self.lingering.contains(&machine.id)
                    || !self.dark.contains(machine.feed)
                        && (machine.told.is_some()
                            || machine.draws
                            || self.booted.contains(&machine.id)),
            ),
            serving: match machine.told {
                _ if self.lingering.contains(&machine.id) => Serving::Working,
                _ if self.dark.contains(machine.feed) => Serving::Gone,
                _ if self.booted.contains(&machine.id) => Serving::Parked,
                Some(_) if machine.draws && is_out(machine) => Serving::Working,
                Some(_) => Serving::Parked,
                None if waits(&machine.id) => Serving::Parked,
                None if machine.draws => Serving::Working,
                None => Serving::Gone,
            },
            shares: 0,
            work: 0.0,
            last_share_at: machine.last_share.map(at),
            still_hashing: 0,
        };
        for visitor in &mut self.visitors {
            // One that works works on.
            visitor.works |=
                self.permitted.as_ref().is_none_or(|permitted| permitted.permits(&visitor.id));
        }
        let visit = |visitor: &Visitor| SessionReport {
            machine: visitor.id.clone(),
            sessions: 1,
            serving: if visitor.works { Serving::Working } else { Serving::Parked },
            shares: 0,
            work: 0.0,
            last_share_at: None,
            still_hashing: 0,
        };
        let sessions = self.machines.iter().filter(|_| !self.devices_silent).map(session);
        let sessions: Vec<SessionReport> =
            sessions.chain(self.visitors.iter().map(visit)).collect();
        let number = self.agent.number();
        let seen = machines.iter().map(MachineReport::seen);
        let machines = Report::Machines(self.agent_reports.report(seen, stamp, number));
        self.agent_reports.handed_over();
        let meters = Report::Meters(MetersReport { at: stamp, full: true, meters });
        let number = self.proxy.number();
        let seen = sessions.iter().map(SessionReport::seen);
        let sessions = Report::Sessions(self.proxy_reports.report(seen, stamp, number));
        self.proxy_reports.handed_over();
        self.input(Input::Report(AGENT.into(), meters));
        self.input(Input::Report(AGENT.into(), machines));
        self.input(Input::Report(PROXY.into(), sessions));
    }

    /// `feed` has its power again. Its machines boot awake and have no work.
    pub(super) fn light(&mut self, feed: &'static str) {
        self.dark.remove(feed);
        for machine in self.machines.iter_mut().filter(|machine| machine.feed == feed) {
            machine.asleep_says = false;
            self.booted.insert(machine.id.clone());
        }
    }

    fn visitors_draw(&self, feed: &str) -> Watts {
        let here = |visitor: &&Visitor| feed == "root" || visitor.feed == feed;
        let draws = |visitor: &Visitor| if visitor.works { visitor.watts } else { visitor.idle };
        self.visitors.iter().filter(here).map(draws).sum()
    }

    /// The names of the visitors that work.
    pub(super) fn working_visitors(&self) -> Vec<&str> {
        let working = self.visitors.iter().filter(|visitor| visitor.works);
        working.map(|visitor| visitor.id.as_str()).collect()
    }

    pub(super) fn visit(&mut self, name: &str, feed: &'static str, watts: i64) {
        let (id, watts) = (name.into(), Watts(watts));
        self.visitors.push(Visitor { id, feed, watts, idle: Watts::ZERO, works: false });
    }

    pub(super) fn check(&self) {
        // Whatever devices report, no feed is ever overloaded in fact.
        for feed in self.policy.facility.feeds().iter() {
            let (feed, usable) = (feed.id.as_str(), feed.usable(at(self.secs)));
            assert!(
                self.load(feed) <= usable,
                "{feed} carries {} at {}",
                self.load(feed),
                self.secs
            );
        }
        // A machine that the plan still wants off stays told to be off: nothing is raised too
        // early.
        for (machine, chosen) in self.core.selection.iter() {
            // A decision of this second is applied in the next one.
            if chosen.covers(at(self.secs))
                && chosen.at < at(self.secs)
                && self.agent.number() == self.last_number
            {
                let standing = self.agent.applied().get(machine).copied().unwrap_or_default();
                assert!(
                    standing.action >= Action::Drain,
                    "{machine} runs at {}: {chosen:?}",
                    self.secs
                );
            }
        }
        let mut replayed = LedgerState::default();
        if self.secs % 50 == 0 {
            for entry in &self.ledger {
                replayed.apply(entry.at, &entry.event).unwrap();
            }
            assert_eq!(
                replayed.leases, self.core.state.leases,
                "the ledger replays to what is in memory"
            );
            assert_eq!(replayed.selection, self.core.state.selection);
            assert_eq!(replayed.sleepers, self.core.state.sleepers);
            assert_eq!(replayed.permitted, self.core.state.permitted);
        }
    }

    pub(super) fn run_to(&mut self, secs: i64) {
        while self.secs < secs {
            self.step();
        }
    }

    /// Lets time pass in which nothing happens.
    pub(super) fn jump_to(&mut self, secs: i64) {
        self.secs = secs;
        self.step();
    }

    pub(super) fn phase(&self, lease: &str) -> Phase {
        let id = LeaseId::from(lease);
        self.core
            .commitments
            .get(&id)
            .map_or_else(|| self.core.state.leases[&id].phase, |live| live.phase)
    }

    pub(super) fn chosen(&self) -> BTreeMap<MachineId, Vec<Chosen>> {
        self.core.selection.off.clone()
    }
}

pub(super) fn obedient() -> World {
    let mut world = World::new(|_| Manner::Obeys);
    world.run_to(20);
    world
}
