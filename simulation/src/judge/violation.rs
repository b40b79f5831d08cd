//! What the judge finds: a kind, its cause, where, when, how much, and one sentence.

use std::fmt;
use std::time::Duration;

use directive::{FeedId, LeaseId, MachineId, Watts};

use crate::record::Span;

/// A rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub kind: Kind,
    pub cause: Cause,
    pub place: Place,
    pub span: Span,
    /// How much power it is about; for a ramp, what is beyond that which is allowed.
    pub watts: Watts,
    /// One sentence for a person.
    pub says: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    Feed(FeedId),
    Machine(MachineId),
    Lease(LeaseId),
    Site,
}

/// Which rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// More was drawn at a feed than may be planned, for longer than it takes to shed.
    AboveUsable,
    /// A meter showed that its feed carries too much, and nothing was told to sleep.
    Unanswered,
    /// A permit named more machines than there was room for.
    PermittedWithoutRoom,
    /// A machine was said to sleep that had not slept since it was told to.
    SaidAsleep,
    /// A machine was woken, or served again, without a live permit.
    RaisedWithoutPermit,
    /// A machine was woken, or served again, against the timeline held.
    RaisedAgainstTimeline,
    /// A machine was told what only an older timeline than the one held wanted.
    OldTimelineObeyed,
    /// A machine was put to sleep before its step was due.
    EarlyShed,
    /// A machine was put to sleep that no timeline wanted asleep.
    SleptUnwanted,
    /// A machine was not told to sleep in time.
    LateShed,
    /// A lease was shown proven while its power was not free.
    ProvenNotFree,
    /// A lease stayed proven or active while its power was missing, and no breach was recorded.
    MissingUnrecorded,
    /// A breach was recorded while nothing was missing.
    BreachOfNothing,
    /// A breach was recorded against one side, and the other one caused it.
    BreachOfWrongSide,
    /// A lease was not shown proven although its power was free.
    FreeNotProven,
    /// A meter that was off by far was shown as believed.
    ImplausibleBelieved,
    /// A meter that was right was called wrong.
    HonestDoubted,
    /// A feed was called dead that had power.
    LiveCalledDead,
    /// A feed had no power for long, and was never called dead.
    DarkNotCalled,
    /// A machine got work at a feed that was known to be dead and had not been steady for long enough.
    ServedUnsteady,
    /// A machine sleeps that nobody wants asleep, and no view shows it.
    AsleepUnshown,
    /// A view says that a machine is off for what it is not.
    CauseUntrue,
    /// A machine was never woken again.
    Forgotten,
    /// More machines sleep than any lease or limit needs.
    ShedTooMuch,
    /// A machine was switched to and fro.
    Flapping,
    /// More power was raised in a minute than the ramp allows.
    RampUp,
    /// More machines were raised at once than a step allows.
    StepUp,
    /// More power was shed in a minute than the ramp allows.
    RampDown,
}

/// What brought a violation about, as far as the record shows. The judge names the first that
/// explains it whole; [`Cause::Decision`] is left when none does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// A decision of a role: nothing else explains it.
    Decision,
    /// The house drew more than the policy declares.
    House,
    /// Tenants drew more than they reserved.
    TenantOver,
    /// Tenants drew before their start or after their end.
    TenantOutside,
    /// Machines told to sleep did not, or woke by themselves.
    Device,
    /// Machines that only the proxy reaches drew without work.
    Starved,
    /// Machines drew more or less than their nameplate.
    Nameplate,
    /// The limit was lowered.
    Derate,
    /// A meter was wrong, or silent.
    Meter,
    /// Tenants without a meter.
    Unmetered,
    /// A role was down, or did not hear what was sent.
    Outage,
    /// A role lost its state, or found an older one.
    StateLost,
    /// A role's wall clock was wrong when it started, or stepped meanwhile.
    Clock,
    /// Machines come back for several leases at once, each within its own ramp.
    Leases,
    /// Raises that waited for a permit happened together when it came.
    Permit,
    /// The policy's `settle` is shorter than its meters take to show a change.
    Settle,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Feed(feed) => write!(f, "feed {feed}"),
            Self::Machine(machine) => write!(f, "machine {machine}"),
            Self::Lease(lease) => write!(f, "lease {lease}"),
            Self::Site => f.write_str("site"),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} ({:?}): {}, {:.1} s to {:.1} s, {}: {}",
            self.kind,
            self.cause,
            self.place,
            self.span.from.as_secs_f64(),
            self.span.to.as_secs_f64(),
            self.watts,
            self.says,
        )
    }
}

/// A time in seconds, for sentences.
pub(super) fn secs(at: Duration) -> String {
    format!("{:.1} s", at.as_secs_f64())
}
