//! The numbers an agent exports, all under `tieline_agent_`. Machines are never labels; meters are,
//! because the policy names them and there are few.

use std::sync::atomic::AtomicU64;

use directive::{Generation, GuardReport, GuardState, MeterReport};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::core::{Kind, MachineCounts};

/// Handles of every metric. Clones count into the same numbers.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    commands: Family<CommandLabels, Counter>,
    machines: Family<StateLabels, Gauge>,
    failing: Gauge,
    meter_up: Family<MeterLabels, Gauge>,
    reports_dropped: Counter,
    directives: Family<DirectiveLabels, Counter>,
    generation: Gauge<u64, AtomicU64>,
    state_writes: Family<WriteLabels, Counter>,
    journal_writes: Family<JournalLabels, Counter>,
    commands_unrecorded: Gauge,
    clock_steps: Counter,
    machines_ignored: Counter,
    guard_trips: Counter,
    hook_runs: Family<WriteLabels, Counter>,
    guard_feeds: Family<GuardLabels, Gauge>,
    guard_held: Gauge,
    guard_wants: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CommandLabels {
    kind: KindLabel,
    outcome: CommandOutcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are the label values")]
enum KindLabel {
    sleep,
    wake,
    read,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are the label values")]
pub(crate) enum CommandOutcome {
    /// The driver reported success.
    ok,
    /// No answer in time.
    timeout,
    /// The device or its tool refused the command.
    refused,
    /// The driver could not be run.
    failed,
    /// The device's answer could not be read.
    unreadable,
    /// A reading that was not waited for, because the machine had to be told to sleep.
    given_up,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: StateLabel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are the label values")]
enum StateLabel {
    awake,
    asleep,
    unknown,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MeterLabels {
    meter: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GuardLabels {
    state: GuardLabel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are the label values")]
enum GuardLabel {
    watching,
    tripped,
    suspect,
    meter_lost,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectiveLabels {
    outcome: DirectiveOutcome,
}

/// What happened to an offered timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are the label values")]
pub(crate) enum DirectiveOutcome {
    taken,
    /// The timeline is the one held.
    same,
    stale,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    outcome: CommandOutcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct JournalLabels {
    outcome: JournalOutcome,
}

/// How a write of the journal ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are the label values")]
pub(crate) enum JournalOutcome {
    ok,
    /// The commands did not wait for it.
    late,
    failed,
}

const GUARD_STATES: [(GuardState, GuardLabel); 4] = [
    (GuardState::Watching, GuardLabel::watching),
    (GuardState::Tripped, GuardLabel::tripped),
    (GuardState::Suspect, GuardLabel::suspect),
    (GuardState::MeterLost, GuardLabel::meter_lost),
];

impl Metrics {
    /// Registers every metric under its name.
    pub fn register(&self, registry: &mut Registry) {
        self.begin();
        let registry = registry.sub_registry_with_prefix("tieline_agent");
        registry.register(
            "commands",
            "Commands to machines, by kind and how the driver answered",
            self.commands.clone(),
        );
        registry.register(
            "machines",
            "Machines a driver reaches, by what they say of themselves",
            self.machines.clone(),
        );
        registry.register(
            "machines_failing",
            "Machines whose last command failed or was not followed",
            self.failing.clone(),
        );
        registry.register(
            "meter_up",
            "Whether the meter's last reading was a measurement",
            self.meter_up.clone(),
        );
        registry.register(
            "reports_dropped",
            "Reports dropped because the switchboard was slow or away",
            self.reports_dropped.clone(),
        );
        registry.register(
            "directives",
            "Timelines offered, by what became of them",
            self.directives.clone(),
        );
        registry.register(
            "directive_generation",
            "Generation of the timeline held",
            self.generation.clone(),
        );
        registry.register(
            "state_writes",
            "Writes of the state file, by outcome",
            self.state_writes.clone(),
        );
        registry.register(
            "journal_writes",
            "Writes of the journal of commands, by outcome",
            self.journal_writes.clone(),
        );
        registry.register(
            "commands_unrecorded",
            "Commands that went before the journal had them, and that it still has not",
            self.commands_unrecorded.clone(),
        );
        registry.register(
            "clock_steps",
            "Steps of the wall clock by more than two seconds",
            self.clock_steps.clone(),
        );
        registry.register(
            "machines_ignored",
            "Machines not taken on because the agent's table is full",
            self.machines_ignored.clone(),
        );
        registry.register(
            "guard_trips",
            "How often a guarded feed was found to carry too much",
            self.guard_trips.clone(),
        );
        registry.register(
            "hook_runs",
            "Runs of the hook for a feed that carries too much with no machine left, by result",
            self.hook_runs.clone(),
        );
        registry.register(
            "guard_feeds",
            "Feeds that the guard watches, by what it is doing there",
            self.guard_feeds.clone(),
        );
        registry.register(
            "guard_held_machines",
            "Machines that the guard holds asleep",
            self.guard_held.clone(),
        );
        registry.register(
            "guard_wants_watts",
            "The most power that the guard would have to shed at one feed and cannot",
            self.guard_wants.clone(),
        );
    }

    /// Creates the series that are known beforehand, so that a first event shows as an increase.
    fn begin(&self) {
        use CommandOutcome::{failed, ok, refused, timeout, unreadable};
        for kind in [KindLabel::sleep, KindLabel::wake, KindLabel::read] {
            for outcome in [ok, timeout, refused, failed, unreadable] {
                self.commands.get_or_create_owned(&CommandLabels { kind, outcome });
            }
        }
        for state in [StateLabel::awake, StateLabel::asleep, StateLabel::unknown] {
            self.machines.get_or_create_owned(&StateLabels { state });
        }
        for outcome in [DirectiveOutcome::taken, DirectiveOutcome::same, DirectiveOutcome::stale] {
            self.directives.get_or_create_owned(&DirectiveLabels { outcome });
        }
        let given_up = CommandLabels { kind: KindLabel::read, outcome: CommandOutcome::given_up };
        self.commands.get_or_create_owned(&given_up);
        for (_, state) in GUARD_STATES {
            self.guard_feeds.get_or_create_owned(&GuardLabels { state });
        }
        for outcome in [ok, failed] {
            self.state_writes.get_or_create_owned(&WriteLabels { outcome });
        }
        for outcome in [ok, timeout, refused, failed] {
            self.hook_runs.get_or_create_owned(&WriteLabels { outcome });
        }
        for outcome in [JournalOutcome::ok, JournalOutcome::late, JournalOutcome::failed] {
            self.journal_writes.get_or_create_owned(&JournalLabels { outcome });
        }
    }

    pub(crate) fn command(&self, kind: Kind, outcome: CommandOutcome) {
        let kind = match kind {
            Kind::Sleep => KindLabel::sleep,
            Kind::Wake => KindLabel::wake,
            Kind::Read => KindLabel::read,
        };
        self.commands.get_or_create(&CommandLabels { kind, outcome }).inc();
    }

    pub(crate) fn directive(&self, outcome: DirectiveOutcome) {
        self.directives.get_or_create(&DirectiveLabels { outcome }).inc();
    }

    pub(crate) fn state_written(&self, ok: bool) {
        let outcome = if ok { CommandOutcome::ok } else { CommandOutcome::failed };
        self.state_writes.get_or_create(&WriteLabels { outcome }).inc();
    }

    pub(crate) fn journal_written(&self, outcome: JournalOutcome) {
        self.journal_writes.get_or_create(&JournalLabels { outcome }).inc();
    }

    /// Sets how many commands are on no record.
    pub(crate) fn show_unrecorded(&self, commands: u64) {
        self.commands_unrecorded.set(i64::try_from(commands).unwrap_or(i64::MAX));
    }

    pub(crate) fn clock_stepped(&self) {
        self.clock_steps.inc();
    }

    pub(crate) fn machine_ignored(&self) {
        self.machines_ignored.inc();
    }

    /// Counts a report that the link did not take.
    pub(crate) fn report_dropped(&self) {
        self.reports_dropped.inc();
    }

    /// Sets the gauges that belong to a report.
    pub(crate) fn show(&self, counts: MachineCounts, number: Option<Generation>) {
        for (state, count) in [
            (StateLabel::awake, counts.awake),
            (StateLabel::asleep, counts.asleep),
            (StateLabel::unknown, counts.unknown),
        ] {
            self.machines.get_or_create(&StateLabels { state }).set(count);
        }
        self.failing.set(counts.failing);
        if let Some(number) = number {
            self.generation.set(number.generation);
        }
    }

    /// Counts the end of a run of the hook.
    pub(crate) fn hook_ended(&self, outcome: CommandOutcome) {
        self.hook_runs.get_or_create_owned(&WriteLabels { outcome }).inc();
    }

    pub(crate) fn guard_tripped(&self) {
        self.guard_trips.inc();
    }

    /// Sets the gauges of the guard.
    pub(crate) fn show_guard(&self, report: &GuardReport) {
        let held: usize = report.holds.iter().map(|hold| hold.machines.len()).sum();
        self.guard_held.set(i64::try_from(held).unwrap_or(i64::MAX));
        self.guard_wants.set(report.feeds.iter().map(|feed| feed.wants.0).max().unwrap_or(0));
        for (state, label) in GUARD_STATES {
            let feeds = report.feeds.iter().filter(|feed| feed.state == state).count();
            let gauge = self.guard_feeds.get_or_create_owned(&GuardLabels { state: label });
            gauge.set(i64::try_from(feeds).unwrap_or(i64::MAX));
        }
    }

    pub(crate) fn show_meters(&self, meters: &[MeterReport]) {
        for meter in meters {
            let labels = MeterLabels { meter: meter.meter.to_string() };
            self.meter_up.get_or_create(&labels).set(i64::from(meter.watts.is_some()));
        }
    }
}

#[cfg(test)]
mod tests {
    use directive::{GuardHold, GuardedFeed, Watts};

    use super::*;

    fn guard() -> GuardReport {
        let feed = GuardedFeed {
            feed: "f".into(),
            state: GuardState::Tripped,
            guardable: Watts(0),
            wants: Watts(700),
            acts: 1,
        };
        let machines = vec!["a".into(), "b".into()];
        GuardReport {
            at: jiff::Timestamp::UNIX_EPOCH,
            table: None,
            last_hold: 1,
            holds: vec![GuardHold { number: 1, feed: "f".into(), machines }],
            feeds: vec![feed],
        }
    }

    #[test]
    fn every_name_is_exported_as_documented() {
        let metrics = Metrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        metrics.command(Kind::Sleep, CommandOutcome::refused);
        metrics.directive(DirectiveOutcome::stale);
        metrics.show(MachineCounts { asleep: 1, failing: 1, ..MachineCounts::default() }, None);
        metrics.report_dropped();
        metrics.guard_tripped();
        metrics.hook_ended(CommandOutcome::timeout);
        metrics.show_guard(&guard());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            r#"tieline_agent_commands_total{kind="sleep",outcome="refused"} 1"#,
            r#"tieline_agent_machines{state="asleep"} 1"#,
            r#"tieline_agent_machines{state="awake"} 0"#,
            "tieline_agent_machines_failing 1",
            "tieline_agent_reports_dropped_total 1",
            r#"tieline_agent_directives_total{outcome="stale"} 1"#,
            "tieline_agent_guard_trips_total 1",
            r#"tieline_agent_hook_runs_total{outcome="timeout"} 1"#,
            r#"tieline_agent_guard_feeds{state="tripped"} 1"#,
            r#"tieline_agent_guard_feeds{state="watching"} 0"#,
            "tieline_agent_guard_held_machines 2",
            "tieline_agent_guard_wants_watts 700",
        ] {
            assert!(text.contains(line), "{line} is missing in:\n{text}");
        }
    }
}
