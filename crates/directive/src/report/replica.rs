//! The receiving end of deltas: a copy of the sender's view.

use std::collections::BTreeMap;

use super::delta::Delta;
use super::digest::Digest;
use super::entry::Entry;
use crate::MachineId;

/// A copy of a view that is kept up to date by [`Delta`]s, which may be lost, repeated or reordered.
///
/// Newer changes are applied even if a report before them is missing, and the digest then tells
/// whether anything is wrong. If it is, the replica asks for a full report: put
/// [`Self::resync`] into [`crate::Downlink::resync`]. It asks again only when the sender shows that
/// it answered, and the answer has not arrived.
#[derive(Debug)]
pub struct Replica<T> {
    entries: BTreeMap<MachineId, T>,
    digest: Digest,
    /// The newest report applied: its incarnation and number.
    newest: Option<(u64, u64)>,
    resync: u64,
    /// Whether the digests of both ends can be the same. They cannot if entries were above the bound,
    /// or if the two ends compute them in different ways. Then only the numbers of the reports
    /// show that something is missing.
    comparable: bool,
    /// Whether the newest report left no change missing.
    current: bool,
}

/// What a report did to the replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Whether the replica has the sender's view as of this report.
    pub current: bool,
    /// Whether this report is the newest of its sender's view. An older report has changed nothing.
    pub newest: bool,
    /// Why a full report is asked for from now on, if this report is the reason.
    pub asked: Option<ResyncReason>,
    /// Entries that were above the bound.
    pub ignored: u64,
}

/// Why a full report is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ResyncReason {
    /// The changes are to a view of which no full report has arrived.
    NoBase,
    /// Reports before this one are missing, and they had changes.
    Gap,
    /// No report is missing, but the digest of the copy differs from the sender's.
    Digest,
}

impl<T> Default for Replica<T> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            digest: Digest::default(),
            newest: None,
            resync: 0,
            comparable: true,
            current: false,
        }
    }
}

impl<T> Replica<T> {
    /// The sender's view as far as it has arrived.
    #[must_use]
    pub fn entries(&self) -> &BTreeMap<MachineId, T> {
        &self.entries
    }

    /// The number of the request for a full report; the report that answers it has the same number.
    #[must_use]
    pub fn resync(&self) -> u64 {
        self.resync
    }
}

impl<T: Entry> Replica<T> {
    /// Applies a report. `changed` is called for each entry that it changes, with what it was and
    /// what it is. New entries above `limit` are ignored and counted.
    pub fn take(
        &mut self,
        delta: Delta<T>,
        limit: usize,
        mut changed: impl FnMut(Option<&T>, Option<&T>),
    ) -> Taken {
        let Delta { incarnation, seq, full, resync, digest, changed: entries, removed, .. } = delta;
        let before = self.newest.filter(|(known, _)| *known == incarnation).map(|(_, seq)| seq);
        let mut taken = Taken { current: false, newest: true, asked: None, ignored: 0 };
        match before {
            Some(last) if seq <= last => return Taken { newest: false, ..taken },
            None if !full => {
                let asked = self.ask(resync, ResyncReason::NoBase);
                return Taken { newest: false, asked, ..taken };
            }
            _ => {}
        }
        self.newest = Some((incarnation, seq));
        if full {
            self.replace(entries, limit, &mut taken, &mut changed);
        } else {
            // Removals come first, so that they make room.
            removed.iter().for_each(|machine| self.remove(machine, &mut changed));
            entries.into_iter().for_each(|entry| self.set(entry, limit, &mut taken, &mut changed));
        }
        let equal = self.digest == digest;
        let compared = self.comparable;
        self.comparable = (compared || full) && taken.ignored == 0 && (equal || !full);
        let follows = full || before.is_some_and(|newest| newest + 1 == seq);
        // Numbers show a gap only in the first report after it. The changes that are missing then
        // stay missing until a full report.
        taken.current = if self.comparable { equal } else { full || (follows && self.current) };
        self.current = taken.current;
        // If the digest of a full report differs, one more full report is asked for, because this
        // one may have been damaged. If the next one differs as well, the two ends compute digests
        // in different ways.
        let doubtful = full && compared && !equal && taken.ignored == 0;
        let reason = if taken.current {
            doubtful.then_some(ResyncReason::Digest)
        } else if follows && self.comparable {
            Some(ResyncReason::Digest)
        } else {
            Some(ResyncReason::Gap)
        };
        taken.asked = reason.and_then(|reason| self.ask(resync, reason));
        taken
    }

    fn replace(
        &mut self,
        entries: Vec<T>,
        limit: usize,
        taken: &mut Taken,
        changed: &mut impl FnMut(Option<&T>, Option<&T>),
    ) {
        let mut former = std::mem::take(&mut self.entries);
        self.digest = Digest::default();
        for entry in entries {
            if self.entries.len() >= limit && !self.entries.contains_key(entry.machine()) {
                taken.ignored += 1;
                continue;
            }
            let machine = entry.machine().clone();
            let digest = &mut self.digest;
            let twice = self.entries.remove(&machine);
            let twice = twice.inspect(|twice| digest.remove(twice.fingerprint()));
            let old = former.remove(&machine).or(twice);
            digest.add(entry.fingerprint());
            changed(old.as_ref(), Some(&entry));
            self.entries.insert(machine, entry);
        }
        former.values().for_each(|old| changed(Some(old), None));
    }

    fn set(
        &mut self,
        entry: T,
        limit: usize,
        taken: &mut Taken,
        changed: &mut impl FnMut(Option<&T>, Option<&T>),
    ) {
        let full = self.entries.len() >= limit;
        match self.entries.get_mut(entry.machine()) {
            Some(present) => {
                self.digest.remove(present.fingerprint());
                self.digest.add(entry.fingerprint());
                changed(Some(present), Some(&entry));
                *present = entry;
            }
            None if full => taken.ignored += 1,
            None => {
                self.digest.add(entry.fingerprint());
                changed(None, Some(&entry));
                self.entries.insert(entry.machine().clone(), entry);
            }
        }
    }

    fn remove(&mut self, machine: &MachineId, changed: &mut impl FnMut(Option<&T>, Option<&T>)) {
        if let Some(old) = self.entries.remove(machine) {
            self.digest.remove(old.fingerprint());
            changed(Some(&old), None);
        }
    }

    /// Asks for a full report, unless the sender has not answered the present request yet.
    /// `answered` is the request that it answered last: if that is the present one, the answer was
    /// lost.
    fn ask(&mut self, answered: u64, reason: ResyncReason) -> Option<ResyncReason> {
        (self.resync == answered).then(|| {
            self.resync += 1;
            reason
        })
    }
}
