//! What the switchboard tells every receiver, as the core's outputs make it.
//!
//! The downlink is state: a receiver sees the newest timeline, permit and list of sleeping
//! machines. Links carry the downlink, and decide when.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use directive::{Claims, Downlink, GuardTable, MachineId, Permit, Permitted, Timeline};
use jiff::Timestamp;

use crate::core::Outputs;

/// The newest state of everything that receivers are told. Give it all outputs of the core, in order.
#[derive(Debug, Default)]
pub struct Broadcast {
    timeline: Option<Arc<Timeline>>,
    asleep: Arc<BTreeSet<MachineId>>,
    claims: Option<Arc<Claims>>,
    permitted: Option<Permitted>,
    guard: Option<Arc<GuardTable>>,
    owned: Option<Arc<BTreeMap<MachineId, Timestamp>>>,
}

/// A change of every receiver's downlink.
#[derive(Debug, Clone)]
pub struct Change {
    timeline: Option<Arc<Timeline>>,
    asleep: Arc<BTreeSet<MachineId>>,
    claims: Option<Arc<Claims>>,
    permitted: Option<Permitted>,
    guard: Option<Arc<GuardTable>>,
    owned: Option<Arc<BTreeMap<MachineId, Timestamp>>>,
    /// The permit from now on; `None` leaves the one that was sent.
    permit: Option<Option<Permit>>,
}

impl Broadcast {
    /// Applies the core's outputs. Returns the change for every receiver, if there is one.
    pub fn take(&mut self, outputs: &Outputs) -> Option<Change> {
        let Outputs {
            timeline,
            permit,
            withdraw,
            asleep,
            claims,
            permitted,
            guard,
            owned,
            tells_owned,
            ..
        } = outputs;
        // Who owns which machine changes with every command, and receivers need to hear of it only
        // when one of them does not know. Else it goes with the next change.
        if owned.is_some() {
            self.owned.clone_from(owned);
        }
        let is_unchanged = timeline.is_none()
            && permit.is_none()
            && !withdraw
            && asleep.is_none()
            && claims.is_none()
            && permitted.is_none()
            && guard.is_none()
            && !tells_owned;
        if is_unchanged {
            return None;
        }
        // The permit before a new timeline is taken back: the next one is given when the timeline's
        // decision is durable. A valid permit is not sent again, because its time of validity would
        // start again at receivers that have joined since.
        let permits = *withdraw || timeline.is_some() || permit.is_some();
        if claims.is_some() {
            self.claims.clone_from(claims);
        }
        if permitted.is_some() {
            self.permitted.clone_from(permitted);
        }
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
            claims: self.claims.clone(),
            permitted: self.permitted.clone(),
            guard: self.guard.clone(),
            owned: self.owned.clone(),
            permit: permits.then(|| permit.clone()),
        })
    }

    /// The downlink of a receiver that joins now. It has no permit: the next renewal includes it.
    #[must_use]
    pub fn joining(&self) -> Downlink {
        let (timeline, asleep) = (self.timeline.clone(), self.asleep.clone());
        let (guard, owned) = (self.guard.clone(), self.owned.clone());
        let (claims, permitted) = (self.claims.clone(), self.permitted.clone());
        Downlink { timeline, asleep, claims, permitted, guard, owned, ..Downlink::default() }
    }
}

impl Change {
    /// Makes the change to one receiver's downlink.
    pub fn apply(&self, down: &mut Downlink) {
        down.timeline.clone_from(&self.timeline);
        down.asleep = self.asleep.clone();
        down.claims.clone_from(&self.claims);
        down.permitted.clone_from(&self.permitted);
        down.guard.clone_from(&self.guard);
        down.owned.clone_from(&self.owned);
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
    fn who_owns_which_machine_goes_with_other_changes_unless_somebody_needs_it() {
        let mut broadcast = Broadcast::default();
        let owned = |name: &str| Arc::new([(name.into(), Timestamp::UNIX_EPOCH)].into());
        let outputs = Outputs { owned: Some(owned("a")), ..Outputs::default() };
        assert!(broadcast.take(&outputs).is_none());
        assert_eq!(broadcast.joining().owned, Some(owned("a")));
        let outputs = Outputs { owned: Some(owned("b")), tells_owned: true, ..Outputs::default() };
        let mut down = Downlink::default();
        broadcast.take(&outputs).expect("somebody needs it").apply(&mut down);
        assert_eq!(down.owned, Some(owned("b")));
        let outputs = Outputs { owned: Some(owned("c")), ..Outputs::default() };
        assert!(broadcast.take(&outputs).is_none());
        let outputs = Outputs { withdraw: true, ..Outputs::default() };
        broadcast.take(&outputs).expect("a change").apply(&mut down);
        assert_eq!(down.owned, Some(owned("c")));
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
