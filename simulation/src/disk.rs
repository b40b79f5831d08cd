//! A simulated state file: its writes take time, fail while the disk takes nothing, and are lost
//! when the role dies first. A restart may find the newest version, an older one, or none.

use std::collections::VecDeque;

use rand::Rng;
use rand::rngs::StdRng;

use crate::record::StateFound;

/// Versions that an older copy is drawn from.
const KEPT: usize = 16;

#[derive(Debug)]
pub(crate) struct Disk<T> {
    versions: VecDeque<T>,
    /// The write under way.
    writing: Option<T>,
    pub(crate) fails: bool,
}

impl<T> Default for Disk<T> {
    fn default() -> Self {
        Self { versions: VecDeque::new(), writing: None, fails: false }
    }
}

impl<T: Clone> Disk<T> {
    pub(crate) fn begin(&mut self, version: T) {
        self.writing = Some(version);
    }

    /// Ends the write under way. Returns whether it succeeded.
    pub(crate) fn end(&mut self) -> bool {
        let Some(version) = self.writing.take().filter(|_| !self.fails) else { return false };
        if self.versions.len() == KEPT {
            self.versions.pop_front();
        }
        self.versions.push_back(version);
        true
    }

    /// The newest version on the disk.
    pub(crate) fn newest(&self) -> Option<&T> {
        self.versions.back()
    }

    /// The role dies: a write under way is on the disk or is not.
    pub(crate) fn crash(&mut self, rng: &mut StdRng) {
        if rng.random_bool(0.5) {
            self.end();
        }
        self.writing = None;
    }

    /// What a restart finds.
    pub(crate) fn load(&mut self, found: StateFound, rng: &mut StdRng) -> Option<T> {
        match found {
            StateFound::New | StateFound::Kept => {}
            StateFound::Lost => self.versions.clear(),
            StateFound::Older if self.versions.len() > 1 => {
                let kept = rng.random_range(1..self.versions.len());
                self.versions.truncate(kept);
            }
            StateFound::Older => {}
        }
        self.versions.back().cloned()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn a_restart_finds_what_it_is_said_to_find() {
        let (mut disk, mut rng) = (Disk::default(), StdRng::seed_from_u64(1));
        for version in 0..5 {
            disk.begin(version);
            assert!(disk.end());
        }
        disk.fails = true;
        disk.begin(5);
        assert!(!disk.end());
        assert_eq!(disk.load(StateFound::Kept, &mut rng), Some(4));
        assert!(disk.load(StateFound::Older, &mut rng).is_some_and(|version| version < 4));
        assert_eq!(disk.load(StateFound::Lost, &mut rng), None);
        assert_eq!(disk.load(StateFound::Older, &mut rng), None);
    }

    #[test]
    fn a_write_under_way_at_a_crash_is_there_or_is_not() {
        let mut seen = [false; 2];
        for seed in 0..50 {
            let (mut disk, mut rng) = (Disk::default(), StdRng::seed_from_u64(seed));
            disk.begin(1);
            disk.crash(&mut rng);
            seen[usize::from(disk.load(StateFound::Kept, &mut rng).is_some())] = true;
        }
        assert_eq!(seen, [true; 2]);
    }
}
