//! The sending end of deltas: finds what has changed in a view since the last report.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;

use super::delta::Delta;
use super::digest::{Digest, Fingerprint};
use super::entry::{Entry, SeenEntry};
use crate::{Generation, MachineId};

/// Turns the present view into the changes since what was handed to the link last.
///
/// For each report: [`Self::begin`], [`Look::see`] every entry of the view, [`Look::finish`], give
/// the result to the link, and call [`Self::handed_over`] if the link took it. Without that call the
/// next report has the same number, and the changes of both. The sender remembers a fingerprint for
/// each machine, not the entries.
#[derive(Debug)]
pub struct ReportSender {
    incarnation: u64,
    /// The number of the next report.
    seq: u64,
    known: HashMap<MachineId, Known>,
    digest: Digest,
    /// Machines that have left the view since the last report that the link took.
    removed: BTreeSet<MachineId>,
    /// Counts the looks at the view, so that a machine that was not seen in one is noticed.
    looks: u64,
    /// The newest request for a full report.
    requested: u64,
    /// The request that the report being made answers, if the link takes it.
    answering: u64,
    /// The request that was answered last.
    answered: u64,
}

/// What is remembered of an entry.
#[derive(Debug, Clone, Copy)]
struct Known {
    fingerprint: Fingerprint,
    /// The number of the report that last contained the entry.
    reported_in: u64,
    /// The number of the look that last saw the entry.
    seen_in: u64,
}

/// One look at the whole view.
#[derive(Debug)]
pub struct Look<'a, T> {
    sender: &'a mut ReportSender,
    full: bool,
    /// Machines seen so far.
    seen: usize,
    changed: Vec<T>,
}

impl ReportSender {
    /// A sender of a process that starts at `wall`.
    #[must_use]
    pub fn started(wall: Timestamp) -> Self {
        Self::new(wall.as_microsecond().unsigned_abs())
    }

    /// A sender whose first report is full. `incarnation` must differ from that of every other
    /// start, and fit into 53 bits.
    #[must_use]
    pub fn new(incarnation: u64) -> Self {
        Self {
            incarnation,
            seq: 1,
            known: HashMap::new(),
            digest: Digest::default(),
            removed: BTreeSet::new(),
            looks: 0,
            requested: 0,
            answering: 0,
            answered: 0,
        }
    }

    /// Takes [`crate::Downlink::resync`]. Returns whether it asks for a full report that is yet to
    /// be made.
    pub fn request(&mut self, resync: u64) -> bool {
        self.requested = resync;
        self.owes_full()
    }

    /// Begins a report, for which the caller must then show every entry of the view.
    pub fn begin<T>(&mut self) -> Look<'_, T> {
        self.looks += 1;
        self.answering = self.requested;
        let full = self.owes_full();
        Look { sender: self, full, seen: 0, changed: Vec::new() }
    }

    /// Makes a report of `view`, which must have every entry.
    pub fn report<S: SeenEntry>(
        &mut self,
        view: impl IntoIterator<Item = S>,
        at: Timestamp,
        number: Option<Generation>,
    ) -> Delta<S::Entry> {
        let mut look = self.begin();
        for entry in view {
            look.see(&entry);
        }
        look.finish(at, number)
    }

    /// Records that the link took the last report.
    pub fn handed_over(&mut self) {
        self.seq += 1;
        self.answered = self.answering;
        self.removed.clear();
    }

    fn owes_full(&self) -> bool {
        self.seq == 1 || self.requested != self.answered
    }
}

impl<T: Entry> Look<'_, T> {
    /// Looks at one entry of the view. It is copied only if it has changed.
    pub fn see(&mut self, entry: &impl SeenEntry<Entry = T>) {
        let ReportSender { known, digest, removed, seq, looks, .. } = &mut *self.sender;
        let fingerprint = entry.fingerprint();
        let now = Known { fingerprint, reported_in: *seq, seen_in: *looks };
        let Some(before) = known.get_mut(entry.machine()) else {
            known.insert(entry.machine().clone(), now);
            digest.add(fingerprint);
            removed.remove(entry.machine());
            self.seen += 1;
            self.changed.push(entry.to_entry());
            return;
        };
        self.seen += usize::from(before.seen_in != *looks);
        before.seen_in = *looks;
        let same = before.fingerprint == fingerprint;
        // An entry of this same report was in an earlier attempt that the link did not take.
        if same && !self.full && before.reported_in != *seq {
            return;
        }
        digest.remove(before.fingerprint);
        digest.add(fingerprint);
        *before = now;
        self.changed.push(entry.to_entry());
    }

    /// Ends the look: entries that were not seen are no longer in the view. `number` is the
    /// timeline held.
    #[must_use]
    pub fn finish(self, at: Timestamp, number: Option<Generation>) -> Delta<T> {
        let Self { sender, full, seen, changed } = self;
        if seen < sender.known.len() {
            let ReportSender { known, digest, removed, looks, .. } = &mut *sender;
            known.retain(|machine, entry| {
                let stays = entry.seen_in == *looks;
                if !stays {
                    digest.remove(entry.fingerprint);
                    removed.insert(machine.clone());
                }
                stays
            });
        }
        Delta {
            incarnation: sender.incarnation,
            seq: sender.seq,
            at,
            number,
            full,
            resync: sender.answering,
            digest: sender.digest,
            changed,
            removed: if full { Vec::new() } else { sender.removed.iter().cloned().collect() },
        }
    }
}
