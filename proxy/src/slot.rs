//! Slots: the one byte of extranonce1 that a miner holds for the life of its connection.
//!
//! ```text
//! miner sees   extranonce1 = slot (1)   extranonce2 = its own (d)
//! pool sees    extranonce2 = lane (S-1-d) | slot (1) | miner's (d)
//! ```
//!
//! Many sessions may have the same slot value, each on another lane. [`Slots`] gives out the value
//! that the fewest live sessions have, so that few lanes are needed. [`crate::space`] ensures that
//! a session never gets work that an earlier holder of its slot value has had.

/// A set of slot values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SlotSet([u64; 4]);

impl SlotSet {
    pub(crate) fn contains(&self, slot: u8) -> bool {
        self.0[usize::from(slot >> 6)] & (1 << (slot & 63)) != 0
    }

    pub(crate) fn insert(&mut self, slot: u8) {
        self.0[usize::from(slot >> 6)] |= 1 << (slot & 63);
    }

    pub(crate) fn remove(&mut self, slot: u8) {
        self.0[usize::from(slot >> 6)] &= !(1 << (slot & 63));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }

    pub(crate) fn intersects(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(mine, theirs)| mine & theirs != 0)
    }

    pub(crate) fn extend(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine |= theirs;
        }
    }

    pub(crate) fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }
}

/// Counts how many sessions hold each slot value.
#[derive(Debug)]
pub(crate) struct Slots {
    holders: [u32; 256],
    /// Where the search for a value begins. It moves on, so that a value that was just returned is
    /// used last: at a pool without lane bytes its next holder would get no work before the next
    /// job.
    next: u8,
}

impl Default for Slots {
    fn default() -> Self {
        Self { holders: [0; 256], next: 0 }
    }
}

impl Slots {
    /// Takes the value with the fewest holders. Also returns how many sessions now hold it.
    pub(crate) fn take(&mut self) -> (u8, u32) {
        let values = (0..=u8::MAX).map(|offset| self.next.wrapping_add(offset));
        let slot = values
            .min_by_key(|slot| self.holders[usize::from(*slot)])
            .expect("there are 256 values");
        self.next = slot.wrapping_add(1);
        let holders = &mut self.holders[usize::from(slot)];
        *holders += 1;
        (slot, *holders)
    }

    /// Gives a value back.
    pub(crate) fn give_back(&mut self, slot: u8) {
        let holders = &mut self.holders[usize::from(slot)];
        *holders = holders.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_spread_evenly() {
        let mut slots = Slots::default();
        let first: std::collections::BTreeSet<u8> = (0..256).map(|_| slots.take().0).collect();
        assert_eq!(first.len(), 256, "256 sessions hold 256 different values");
        slots.give_back(77);
        assert_eq!(slots.take(), (77, 1));
        assert_eq!(slots.take().1, 2);
    }

    #[test]
    fn a_value_given_back_rests_while_others_are_free() {
        let mut slots = Slots::default();
        let (first, _) = slots.take();
        slots.give_back(first);
        let later: Vec<u8> = (0..255).map(|_| slots.take().0).collect();
        assert!(!later.contains(&first));
        assert_eq!(slots.take(), (first, 1));
    }

    #[test]
    fn sets_hold_every_value() {
        let mut set = SlotSet::default();
        for slot in 0..=u8::MAX {
            assert!(!set.contains(slot));
            set.insert(slot);
            assert!(set.contains(slot));
        }
        assert_eq!(set.len(), 256);
        set.remove(64);
        assert!(!set.contains(64) && set.contains(63) && set.contains(65));
    }
}
