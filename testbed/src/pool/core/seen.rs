//! The headers a pool has credited: what tells a duplicate.

use std::collections::{HashSet, VecDeque};

use crate::arithmetic::Hash;

/// Hashes seen, bounded: past the limit the oldest is forgotten, long after its job.
#[derive(Debug, Default)]
pub(super) struct SeenHashes {
    known: HashSet<Hash>,
    order: VecDeque<Hash>,
}

const LIMIT: usize = 1 << 20;

impl SeenHashes {
    /// Remembers a hash. `false` where it was known.
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
