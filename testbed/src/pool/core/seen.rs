//! The headers that a pool has credited, by which it finds duplicates.

use std::collections::{HashSet, VecDeque};

use crate::arithmetic::Hash;

/// A bounded set of hashes. Beyond the bound the oldest is forgotten, which is long after its job.
#[derive(Debug, Default)]
pub(super) struct SeenHashes {
    known: HashSet<Hash>,
    order: VecDeque<Hash>,
}

const LIMIT: usize = 1 << 20;

impl SeenHashes {
    /// Adds a hash. Returns `false` if it was already there.
    pub(super) fn insert(&mut self, hash: Hash) -> bool {
        if !self.known.insert(hash) {
            return false;
        }
        if self.order.len() >= LIMIT
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back(hash);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_new_once() {
        let mut seen = SeenHashes::default();
        assert!(seen.insert([1; 32]));
        assert!(seen.insert([2; 32]));
        assert!(!seen.insert([1; 32]));
    }
}
