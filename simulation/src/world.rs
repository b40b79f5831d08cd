//! One world: the roles' hosts, the facility and a client, joined by one queue of events under one
//! virtual clock. `play` runs a scenario to its end and returns what happened.

use std::sync::Arc;
use std::time::Duration;

use agent::simulate::{Assignment, Claims, CoreConfig, DriverLimits, Timing};
use switchboard::simulate::{Command, Policy, parse_policy};

use crate::client::{Client, PATIENCE};
use crate::due::Due;
use crate::record::{Commander, Event, Record, Role, StateFound};
use crate::role::agent::{Agent, at_device};
use crate::role::proxy::Proxy;
use crate::role::switchboard::Switchboard;
use crate::scenario::{Act, Scenario, Weather, policy_text};
use crate::stage::{Stage, name};
use crate::story::Story;

/// A role that could not start tries again after this long.
const TRY_AGAIN: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct World<'a> {
    scenario: &'a Scenario,
    stage: Stage,
    switchboard: Switchboard,
    agent: Agent,
    proxy: Proxy,
    client: Client,
    /// Edits of the policy so far.
    revision: u64,
    /// The facility as the policy's file has it now.
    edited: crate::facility::spec::FacilitySpec,
}

/// Plays `scenario` to its end.
pub(crate) fn play(scenario: &Scenario, story: Story) -> (Record, Story) {
    let mut world = World::new(scenario, story);
    for role in [Role::Switchboard, Role::Agent, Role::Proxy] {
        world.start(role, StateFound::New);
    }
    for (at, act) in &scenario.acts {
        world.stage.queue.add(*at, Due::Act(act.clone()));
    }
    world.stage.after(scenario.roles.look_every, Due::Look);
    while world.step() {}
    let Stage { facility, story, .. } = world.stage;
    (facility.end(scenario.length), story)
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario, story: Story) -> Self {
        let policy = policy(&scenario.facility, scenario, 1);
        Self {
            scenario,
            stage: Stage::new(scenario, story),
            switchboard: Switchboard::new(policy, scenario.roles.switchboard_tick),
            agent: Agent::new(agent_config(scenario)),
            proxy: Proxy::new(scenario.roles.proxy_report_every),
            client: Client::new(scenario.leases.clone()),
            revision: 1,
            edited: scenario.facility.clone(),
        }
    }

    /// Lets the next thing happen. Returns whether the run goes on.
    fn step(&mut self) -> bool {
        let (queued, own) = (self.stage.queue.next(), self.stage.facility.next());
        let Some(at) = queued.into_iter().chain(own).min() else { return false };
        if at > self.scenario.length {
            return false;
        }
        self.stage.now = at;
        if queued == Some(at)
            && let Some((_, due)) = self.stage.queue.take()
        {
            self.happen(due);
        }
        for notice in self.stage.facility.step(at) {
            self.proxy.notice(&mut self.stage, notice);
        }
        true
    }

    fn happen(&mut self, due: Due) {
        let stage = &mut self.stage;
        match due {
            Due::Tick(Role::Switchboard) => self.switchboard.tick(stage),
            Due::Tick(Role::Agent) => return self.agent.tick(stage),
            Due::Tick(Role::Proxy) => return self.proxy.tick(stage),
            Due::Down { to, downlink } => {
                if !stage.cut.contains(&to) {
                    match to {
                        Role::Agent => self.agent.hear(stage, &downlink),
                        Role::Proxy | Role::Switchboard => self.proxy.hear(stage, *downlink),
                    }
                }
                return;
            }
            Due::Reconnect(receiver) => self.switchboard.attach(stage, receiver),
            Due::Up { from, report } => self.switchboard.report(stage, from, *report),
            Due::Written { role: Role::Switchboard, life, .. } => {
                self.switchboard.written(stage, life);
            }
            Due::Written { role: Role::Agent, life, version } => {
                return self.agent.written(stage, life, version);
            }
            Due::Written { role: Role::Proxy, life, .. } => return self.proxy.written(stage, life),
            Due::AtDevice { life, machine, kind, sent } => {
                return at_device(stage, life, machine, kind, sent);
            }
            Due::Commanded { life, machine, kind, answer } => {
                return self.agent.commanded(stage, life, &machine, kind, answer);
            }
            Due::Read { life, machine, sent, answer } => {
                return self.agent.read(stage, life, &machine, sent, answer);
            }
            Due::Measured { life, meter, answer } => {
                return self.agent.measured(stage, life, &meter, answer);
            }
            Due::Connects { life, machine } => return self.proxy.connects(stage, life, &machine),
            Due::Answer { asked, answer } => {
                if self.client.answered(stage, asked, *answer) {
                    self.policy_in_force();
                }
            }
            Due::Look => self.look(),
            Due::AskAgain { lease } => {
                if !self.client.is_answered(lease) {
                    self.ask(lease);
                }
            }
            Due::Act(act) => self.act(act),
        }
        self.see();
    }

    /// The client sees how the leases stand.
    fn see(&mut self) {
        if let Some(core) = self.switchboard.core() {
            self.client.see(&mut self.stage, core);
            self.client.see_closed(&mut self.stage, core);
        }
    }

    fn look(&mut self) {
        if self.switchboard.core().is_some() {
            let (asked, command) = self.client.look();
            self.switchboard.ask(&mut self.stage, asked, command);
        }
        self.stage.after(self.scenario.roles.look_every, Due::Look);
    }

    fn ask(&mut self, lease: usize) {
        let (asked, command) = self.client.ask(&mut self.stage, lease);
        self.switchboard.ask(&mut self.stage, asked, command);
        self.stage.after(PATIENCE, Due::AskAgain { lease });
    }

    fn act(&mut self, act: Act) {
        let stage = &mut self.stage;
        match act {
            Act::Ask(lease) => self.ask(lease),
            Act::Cancel { lease, force } => {
                let (asked, command) = self.client.cancel(stage, lease, force);
                self.switchboard.ask(stage, asked, command);
            }
            Act::Kill(roles) => roles.into_iter().for_each(|role| self.kill(role)),
            Act::Start(role, found) => self.start(role, found),
            Act::Step(roles, by) => {
                for role in roles {
                    stage.clocks.step(role, by);
                    stage.story.tell(stage.now, name(role), || {
                        format!("has its wall clock stepped by {} s", by.as_secs())
                    });
                    stage.note(Event::ClockStepped { role, by });
                }
            }
            Act::Disk(role, works) => {
                stage.story.tell(stage.now, name(role), || {
                    format!(
                        "has a disk that takes {}",
                        if works { "writes again" } else { "nothing" }
                    )
                });
                match role {
                    Role::Switchboard => self.switchboard.ledger.fails = !works,
                    Role::Agent => self.agent.disk.fails = !works,
                    Role::Proxy => self.proxy.disk.fails = !works,
                }
            }
            Act::Link(receiver, works) => {
                stage.story.tell(stage.now, name(receiver), || {
                    format!("has a link that is {}", if works { "mended" } else { "cut" })
                });
                stage.note(Event::Link { receiver, works });
                if works {
                    stage.cut.remove(&receiver);
                    self.switchboard.attach(stage, receiver);
                } else {
                    stage.cut.insert(receiver);
                }
            }
            Act::Technician(machine, order) => {
                stage.story.tell(stage.now, "technician", || format!("{order:?} at {machine}"));
                let _ = stage.facility.command(&machine, order, Commander::Technician, stage.now);
            }
            Act::Calm => stage.weather = Weather::default(),
            Act::Limit(feed, percent) => self.edit(&feed, percent),
            Act::Dark(feed) => {
                stage.story.tell(stage.now, "grid", || format!("{feed} loses its power"));
                stage.facility.set_power(&feed, false, stage.now);
            }
            Act::Light(feed) => {
                stage.story.tell(stage.now, "grid", || format!("{feed} has its power again"));
                stage.facility.set_power(&feed, true, stage.now);
            }
        }
    }

    fn kill(&mut self, role: Role) {
        let stage = &mut self.stage;
        let lived = match role {
            Role::Switchboard => {
                let lived = self.switchboard.core().is_some();
                self.switchboard.die(stage);
                self.client.forget_looks();
                lived
            }
            Role::Agent => {
                let lived = self.agent.is_alive();
                self.agent.die(stage);
                lived
            }
            Role::Proxy => {
                let lived = self.proxy.is_alive();
                self.proxy.die(stage);
                lived
            }
        };
        if lived {
            stage.story.tell(stage.now, name(role), || "is killed");
            stage.note(Event::Stopped { role });
        }
    }

    /// Starts a role, if it does not run.
    fn start(&mut self, role: Role, found: StateFound) {
        let stage = &mut self.stage;
        match role {
            Role::Switchboard if self.switchboard.core().is_none() => {
                if !self.switchboard.start(stage, found) {
                    stage.after(TRY_AGAIN, Due::Act(Act::Start(role, found)));
                    return;
                }
            }
            Role::Agent if !self.agent.is_alive() => {
                self.agent.start(stage, found);
                self.switchboard.attach(stage, role);
            }
            Role::Proxy if !self.proxy.is_alive() => {
                self.proxy.start(stage, found);
                self.switchboard.attach(stage, role);
            }
            _ => return,
        }
        stage.story.tell(stage.now, name(role), || format!("starts with its state {found:?}"));
        let holds = match role {
            Role::Switchboard => None,
            Role::Agent => self.agent.held(),
            Role::Proxy => self.proxy.held(),
        };
        self.stage.note(Event::Started { role, state: found, holds });
        if role == Role::Switchboard {
            self.policy_in_force();
        }
    }

    /// The operator writes another limit into the policy's file.
    fn edit(&mut self, feed: &directive::FeedId, percent: u32) {
        let rating = self.scenario.facility.feeds.iter().find(|known| known.id == *feed);
        let Some(rating) = rating else { return };
        let Some(edited) = self.edited.feeds.iter_mut().find(|known| known.id == *feed) else {
            return;
        };
        let scaled = |rating: directive::Watts| {
            directive::Watts(rating.scale(f64::from(percent) / 100.0).0 / 1000 * 1000)
        };
        edited.limit = scaled(rating.limit);
        edited.limits = rating.limits.iter().map(|(at, watts)| (*at, scaled(*watts))).collect();
        edited.default_constraint = edited.default_constraint.min(edited.usable());
        self.revision += 1;
        let limit = edited.limit;
        let stage = &mut self.stage;
        stage.story.tell(stage.now, "operator", || format!("limits {feed} to {limit}"));
        let policy = policy(&self.edited, self.scenario, self.revision);
        if self.switchboard.core().is_some() {
            let asked = self.client.edit();
            self.switchboard.ask(stage, asked, Command::Policy(policy.clone()));
        }
        self.switchboard.set_policy(policy);
    }

    /// The policy as edited last is in force.
    fn policy_in_force(&mut self) {
        for feed in &self.edited.feeds {
            self.stage.facility.set_limits(feed, self.stage.now);
        }
    }
}

fn policy(
    facility: &crate::facility::spec::FacilitySpec,
    scenario: &Scenario,
    revision: u64,
) -> Arc<Policy> {
    let text = policy_text(facility, &scenario.rules, revision);
    let policy = parse_policy(&text, "policy.toml");
    Arc::new(policy.unwrap_or_else(|mistakes| panic!("seed {}: {mistakes}\n{text}", scenario.seed)))
}

fn agent_config(scenario: &Scenario) -> CoreConfig {
    let facility = &scenario.facility;
    // One driver reaches all machines that can be reached.
    let reached = facility.groups.iter().filter(|group| group.reachable);
    let assignments = reached.map(|group| Assignment {
        claims: Claims::globs([format!("{}-*", group.id)]),
        driver: 0,
        sleeps_within: group.shed_p95,
        wakes_within: group.restore_p95,
    });
    CoreConfig {
        receiver: "agent".into(),
        timing: Timing {
            read_at_rest: scenario.roles.read_at_rest,
            report_every: scenario.roles.agent_report_every,
            ..Timing::default()
        },
        drivers: vec![DriverLimits {
            name: "driver".to_owned(),
            in_flight: scenario.roles.in_flight,
        }],
        assignments: assignments.collect(),
        meters: facility.meters.iter().map(|meter| (meter.id.clone(), meter.period)).collect(),
        machines_max: 100_000,
        calls_every: None,
        own_guards: Vec::new(),
    }
}
