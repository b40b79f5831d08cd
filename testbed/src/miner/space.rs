//! A record of the work that the miners in a fleet received. It finds a miner that gets the same
//! work again, and two miners that get the same work.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::arithmetic::Hash;

/// The work that a fleet received. Clones are the same record. Beyond a million entries, the oldest
/// is forgotten.
#[derive(Debug, Clone, Default)]
pub struct SearchSpace {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    next_miner: u64,
    holders: HashMap<Hash, u64>,
    order: VecDeque<Hash>,
}

/// Whether work was received before, and by whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    Fresh,
    /// The same miner has received the work before.
    Own,
    /// A different miner has received the work before.
    Others,
}

const LIMIT: usize = 1 << 20;

impl SearchSpace {
    /// Gives a miner in the fleet its number for this record.
    pub(super) fn join(&self) -> u64 {
        let mut inner = self.inner.lock();
        inner.next_miner += 1;
        inner.next_miner
    }

    /// Records that a miner received this work. The first miner that receives it counts as its
    /// owner.
    pub(super) fn claim(&self, miner: u64, work: Hash) -> Claim {
        let mut inner = self.inner.lock();
        match inner.holders.get(&work) {
            Some(holder) if *holder == miner => return Claim::Own,
            Some(_) => return Claim::Others,
            None => {}
        }
        if inner.order.len() >= LIMIT
            && let Some(oldest) = inner.order.pop_front()
        {
            inner.holders.remove(&oldest);
        }
        inner.holders.insert(work, miner);
        inner.order.push_back(work);
        Claim::Fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_belongs_to_who_had_it_first() {
        let space = SearchSpace::default();
        let (one, two) = (space.join(), space.clone().join());
        assert_eq!(space.claim(one, [1; 32]), Claim::Fresh);
        assert_eq!(space.claim(one, [1; 32]), Claim::Own);
        assert_eq!(space.claim(two, [1; 32]), Claim::Others);
        assert_eq!(space.claim(two, [2; 32]), Claim::Fresh);
    }
}
