//! Which targets are usable and which machines may work. Every session follows these directions.
//!
//! All sessions of a set of pools share one snapshot, which is replaced as a whole. When it
//! changes, each session looks up what concerns it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use directive::{Action, Claims, MachineId, Means, Permitted, Standing};

use crate::route::Usable;

/// The default directs every machine to work, and names no target yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Directions {
    /// Usable targets, the active one first.
    pub(crate) usable: Arc<[Usable]>,
    /// What machines may do.
    pub(crate) orders: Arc<Orders>,
    /// All targets have been down for `release_after`: miners that are not curtailed may use their
    /// own backup pools.
    pub(crate) release: bool,
    /// Increases when seats may have become free, so that waiting sessions ask again.
    pub(crate) seats: u64,
}

/// What machines may do, and which are known to be asleep.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    /// A switchboard is configured, but neither this process nor an earlier one has heard from it:
    /// no machine works.
    pub(crate) unheard: bool,
    /// Machines whose action is not `run`.
    pub(crate) standing: BTreeMap<MachineId, Standing>,
    /// Machines that a device has confirmed to be asleep.
    pub(crate) asleep: Arc<BTreeSet<MachineId>>,
    /// The machines that groups claim; `None` if nothing was heard of it, so that all may be served.
    pub(crate) claims: Option<Arc<Claims>>,
    /// The machines that may have work without a permit; `None` if nothing was heard of it, so that all
    /// may.
    pub(crate) permitted: Option<Permitted>,
}

/// How a session is to be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Serve {
    Work,
    /// The session stays connected, and gets no work.
    Park,
}

impl Orders {
    /// Returns the standing of `machine`.
    pub(crate) fn standing(&self, machine: &MachineId) -> Standing {
        self.standing.get(machine).copied().unwrap_or_default()
    }

    /// Returns how a session of `machine` is served. `has_worked` says whether it had work on this
    /// connection since it was last parked.
    pub(crate) fn serve(&self, machine: &MachineId, has_worked: bool) -> Serve {
        if self.unheard {
            return Serve::Park;
        }
        let standing = self.standing(machine);
        let work = match (standing.action, standing.means) {
            // A machine whose group was removed from the policy works on. A session that is new, or
            // was parked, must be claimed and permitted.
            (Action::Run, _) => has_worked || self.admits(machine),
            (Action::Hold, _) => has_worked,
            // Work is served until sleep is confirmed. Taking it away earlier saves no power and
            // wastes shares (docs/protocol.md 2.9).
            (Action::Drain | Action::Curtail, Means::Device) => {
                has_worked && !self.asleep.contains(machine)
            }
            (Action::Drain | Action::Curtail, Means::Starve) | (Action::Lockout, _) => false,
        };
        if work { Serve::Work } else { Serve::Park }
    }

    /// Whether `machine` is starved, so that a share from it proves that it still hashes.
    pub(crate) fn starved(&self, machine: &MachineId) -> bool {
        let standing = self.standing(machine);
        standing.action.sheds() && standing.means == Means::Starve
    }

    /// Whether a session of `machine` that has no work may have some.
    fn admits(&self, machine: &MachineId) -> bool {
        self.claims.as_ref().is_none_or(|claims| claims.claims(machine))
            && self.permitted.as_ref().is_none_or(|permitted| permitted.permits(machine))
    }

    /// Whether the machine must not simply run. Such a machine is never released to its own backup
    /// pools.
    pub(crate) fn curtailed(&self, machine: &MachineId, has_worked: bool) -> bool {
        self.unheard
            || self.standing(machine).action != Action::Run
            || !(has_worked || self.admits(machine))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders(action: Action, means: Means, asleep: bool) -> Orders {
        let machine = MachineId::from("m");
        let asleep = asleep.then(|| machine.clone()).into_iter().collect();
        Orders {
            unheard: false,
            standing: [(machine, Standing { action, means })].into(),
            asleep: Arc::new(asleep),
            claims: None,
            permitted: None,
        }
    }

    /// Tests each row of the table "Curtailed sessions" in ARCHITECTURE.md.
    #[test]
    fn sessions_are_served_as_their_action_says() {
        use Serve::{Park, Work};
        for (action, means, asleep, present, new) in [
            (Action::Run, Means::Device, false, Work, Work),
            (Action::Hold, Means::Device, false, Work, Park),
            (Action::Drain, Means::Device, false, Work, Park),
            (Action::Drain, Means::Device, true, Park, Park),
            (Action::Drain, Means::Starve, false, Park, Park),
            (Action::Curtail, Means::Device, false, Work, Park),
            (Action::Curtail, Means::Starve, false, Park, Park),
            (Action::Lockout, Means::Device, false, Park, Park),
        ] {
            let orders = orders(action, means, asleep);
            let machine = MachineId::from("m");
            assert_eq!(
                orders.serve(&machine, true),
                present,
                "{action:?} {means:?} asleep {asleep}, present"
            );
            assert_eq!(
                orders.serve(&machine, false),
                new,
                "{action:?} {means:?} asleep {asleep}, new"
            );
            assert_eq!(orders.serve(&MachineId::from("other"), false), Work);
        }
    }

    /// F12: when all pools are down, only machines that may run are released to their own backup
    /// pools.
    #[test]
    fn f12_whoever_is_kept_off_power_is_never_released() {
        let machine = MachineId::from("m");
        for action in [Action::Hold, Action::Drain, Action::Curtail, Action::Lockout] {
            for (means, asleep) in
                [(Means::Device, false), (Means::Device, true), (Means::Starve, false)]
            {
                assert!(
                    orders(action, means, asleep).curtailed(&machine, true),
                    "{action:?} {means:?}"
                );
            }
        }
        assert!(!orders(Action::Run, Means::Device, false).curtailed(&machine, true));
        assert!(Orders { unheard: true, ..Orders::default() }.curtailed(&machine, true));
    }

    #[test]
    fn machines_of_no_group_keep_the_work_they_have_and_get_none() {
        let claims: Claims = ["rack1.*"].into_iter().collect();
        let orders = Orders { claims: Some(Arc::new(claims)), ..Orders::default() };
        let (ours, other) = (MachineId::from("rack1.7"), MachineId::from("stranger"));
        let serve = |machine, has_worked| orders.serve(machine, has_worked);
        assert_eq!((serve(&ours, false), serve(&ours, true)), (Serve::Work, Serve::Work));
        assert_eq!((serve(&other, false), serve(&other, true)), (Serve::Park, Serve::Work));
        assert!(!orders.curtailed(&ours, false) && !orders.curtailed(&other, true));
        assert!(orders.curtailed(&other, false), "it waits for the policy, not for a pool");
    }

    #[test]
    fn a_machine_that_is_not_permitted_waits_and_one_that_works_works_on() {
        let only = |names: &[&str]| {
            let machines = names.iter().map(|name| MachineId::from(*name)).collect();
            Orders { permitted: Some(Permitted::Only(Arc::new(machines))), ..Orders::default() }
        };
        let machine = MachineId::from("rack1.7");
        let orders = only(&["rack1.1"]);
        assert_eq!(orders.serve(&machine, false), Serve::Park);
        assert_eq!(orders.serve(&machine, true), Serve::Work);
        assert!(orders.curtailed(&machine, false), "it waits for room, not for a pool");
        assert!(!orders.curtailed(&machine, true));
        assert_eq!(only(&["rack1.7"]).serve(&machine, false), Serve::Work);
        let everyone = Orders { permitted: Some(Permitted::Everyone), ..Orders::default() };
        assert_eq!(everyone.serve(&machine, false), Serve::Work);
    }

    #[test]
    fn a_permitted_machine_that_no_group_claims_waits() {
        let claims: Claims = ["rack1.*"].into_iter().collect();
        let permitted = Some(Permitted::Only(Arc::new(["other".into()].into())));
        let orders = Orders { claims: Some(Arc::new(claims)), permitted, ..Orders::default() };
        assert_eq!(orders.serve(&"other".into(), false), Serve::Park);
    }

    #[test]
    fn nobody_works_before_a_configured_switchboard_was_heard() {
        let orders = Orders { unheard: true, ..Orders::default() };
        assert_eq!(orders.serve(&MachineId::from("m"), true), Serve::Park);
    }
}
