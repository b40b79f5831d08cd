//! The fleet's account of work handed out: finds a miner given the same work again, and two miners
//! given the same.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::arithmetic::Hash;

/// Work handed out to a fleet; clones are the same account. Bounded: past a million pieces the
/// oldest is forgotten.
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

/// Whether work is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    Fresh,
    /// The same miner had it.
    Own,
    /// Another miner had it.
    Others,
}

const LIMIT: usize = 1 << 20;

impl SearchSpace {
    /// Numbers a miner of the fleet.
    pub(super) fn join(&self) -> u64 {
        let mut inner = self.inner.lock();
        inner.next_miner += 1;
        inner.next_miner
    }

    /// Claims a piece of work for a miner; the first to claim it keeps it.
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
