//! What the switchboard tells every receiver, as the core's outputs make it.
//!
//! The downlink is state: a receiver sees the newest timeline, permit and list of sleeping
//! machines. Links carry the downlink, and decide when.

use std::collections::BTreeSet;
use std::sync::Arc;

use directive::{Downlink, GuardTable, MachineId, Permit, Timeline};

use crate::core::Outputs;

/// The newest timeline and sleeping machines. Give it all outputs of the core, in order.
#[derive(Debug, Default)]
pub struct Broadcast {
    timeline: Option<Arc<Timeline>>,
    asleep: Arc<BTreeSet<MachineId>>,
    guard: Option<Arc<GuardTable>>,
}

/// A change of every receiver's downlink.
#[derive(Debug, Clone)]
pub struct Change {
    timeline: Option<Arc<Timeline>>,
    asleep: Arc<BTreeSet<MachineId>>,
    guard: Option<Arc<GuardTable>>,
    /// The permit from now on; `None` leaves the one that was sent.
    permit: Option<Option<Permit>>,
}

impl Broadcast {
    /// Applies the core's outputs. Returns the change for every receiver, if there is one.
    pub fn take(&mut self, outputs: &Outputs) -> Option<Change> {
        let Outputs { timeline, permit, withdraw, asleep, guard, .. } = outputs;
        let is_unchanged = timeline.is_none()
            && permit.is_none()
            && !withdraw
            && asleep.is_none()
            && guard.is_none();
        if is_unchanged {
            return None;
        }
        // The permit before a new timeline is taken back: the next one is given when the timeline's
        // decision is durable. A valid permit is not sent again, because its time of validity would
        // start again at receivers that have joined since.
        let permits = *withdraw || timeline.is_some() || permit.is_some();
        if guard.is_some() {
            self.guard.clone_from(guard);
        }
        if timeline.is_some() {
            self.timeline.clone_from(timeline);
        }
        if let Some(asleep) = asleep {
            self.asleep = asleep.clone();
        }
        Some(Change {
            timeline: self.timeline.clone(),
            asleep: self.asleep.clone(),
            guard: self.guard.clone(),
            permit: permits.then(|| permit.clone()),
        })
    }

    /// The downlink of a receiver that joins now. It has no permit: the next renewal includes it.
    #[must_use]
    pub fn joining(&self) -> Downlink {
        let (timeline, asleep) = (self.timeline.clone(), self.asleep.clone());
        Downlink { timeline, asleep, guard: self.guard.clone(), ..Downlink::default() }
    }
}

impl Change {
    /// Makes the change to one receiver's downlink.
    pub fn apply(&self, down: &mut Downlink) {
        down.timeline.clone_from(&self.timeline);
        down.asleep = self.asleep.clone();
        down.guard.clone_from(&self.guard);
        if let Some(permit) = &self.permit {
            down.permit.clone_from(permit);
        }
    }
}

#[cfg(test)]
mod tests {
    use directive::Generation;

    use super::*;

    fn timeline(generation: u64) -> Arc<Timeline> {
        let at = jiff::Timestamp::UNIX_EPOCH;
        let number = Generation { epoch: 1, generation };
        let steps = Vec::new();
        Arc::new(Timeline {
            number,
            issued_at: at,
            horizon: at,
            ledger_head: None,
            steps,
            holds_taken: std::collections::BTreeMap::new(),
        })
    }

    fn permit(serial: u64) -> Permit {
        let number = Generation { epoch: 1, generation: 1 };
        Permit { number, serial, ttl_ms: 60_000, machines: Arc::default() }
    }

    #[test]
    fn a_permit_lasts_until_a_timeline_or_a_withdrawal() {
        let (mut broadcast, mut down) = (Broadcast::default(), Downlink::default());
        let mut tell = |outputs: Outputs| {
            if let Some(change) = broadcast.take(&outputs) {
                change.apply(&mut down);
            }
            down.permit.as_ref().map(|permit| permit.serial)
        };
        let first = Outputs { timeline: Some(timeline(1)), ..Outputs::default() };
        assert_eq!(tell(first), None);
        let granted = || Outputs { permit: Some(permit(1)), ..Outputs::default() };
        assert_eq!(tell(granted()), Some(1));
        let asleep = Outputs { asleep: Some(Arc::default()), ..Outputs::default() };
        assert_eq!(tell(asleep), Some(1), "what sleeps says nothing of permits");
        assert_eq!(tell(Outputs { withdraw: true, ..Outputs::default() }), None);
        tell(granted());
        let second = Outputs { timeline: Some(timeline(2)), ..Outputs::default() };
        assert_eq!(tell(second), None, "it was for the timeline before");
    }

    #[test]
    fn a_receiver_that_joins_has_no_permit() {
        let mut broadcast = Broadcast::default();
        let outputs =
            Outputs { timeline: Some(timeline(1)), permit: Some(permit(1)), ..Outputs::default() };
        assert!(broadcast.take(&outputs).is_some());
        let down = broadcast.joining();
        assert_eq!((down.timeline, down.permit), (Some(timeline(1)), None));
        assert!(broadcast.take(&Outputs::default()).is_none());
    }
}
