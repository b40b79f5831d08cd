//! A simulated ledger: appends take time and fail while the disk takes nothing; a crash decides
//! whether the append under way is there. A restart may find it whole, cut off, or gone.
//!
//! The state is the real fold over the entries. Only the hashes are not real: nothing in a run
//! compares them, and real ones would take most of its time.

use rand::Rng;
use rand::rngs::StdRng;
use switchboard::simulate::{Entry, Event, Head, LedgerState, WriteError};

use crate::record::StateFound;

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    entries: Vec<Entry>,
    writing: Option<Vec<Entry>>,
    pub(crate) fails: bool,
}

impl Ledger {
    pub(crate) fn begin(&mut self, entries: Vec<Entry>) {
        self.writing = Some(entries);
    }

    /// Ends the append under way.
    pub(crate) fn end(&mut self) -> Result<Head, WriteError> {
        let entries = self.writing.take().unwrap_or_default();
        if self.fails {
            return Err(WriteError::Full("the simulated disk takes nothing".to_owned()));
        }
        self.entries.extend(entries);
        Ok(self.head())
    }

    /// The switchboard dies: the append under way is there, as a whole, or is not.
    pub(crate) fn crash(&mut self, rng: &mut StdRng) {
        if rng.random_bool(0.5) && !self.fails {
            self.entries.extend(self.writing.take().unwrap_or_default());
        }
        self.writing = None;
    }

    /// Opens it for a new life of the switchboard, which begins an epoch. `None` when the disk takes
    /// nothing: then the switchboard does not start.
    pub(crate) fn open(
        &mut self,
        found: StateFound,
        wall: jiff::Timestamp,
        rng: &mut StdRng,
    ) -> Option<(LedgerState, Head)> {
        if self.fails {
            return None;
        }
        match found {
            StateFound::New | StateFound::Kept => {}
            StateFound::Lost => self.entries.clear(),
            StateFound::Older => {
                let kept = rng.random_range(self.entries.len() / 2..=self.entries.len());
                self.entries.truncate(kept);
            }
        }
        let mut state = LedgerState::default();
        for entry in &self.entries {
            state.apply(entry.at, &entry.event).expect("a core writes only what fits its state");
        }
        let opened = Event::Opened { epoch: state.epoch + 1 };
        state.apply(wall, &opened).expect("it is the next epoch");
        self.entries.push(Entry { at: wall, event: opened });
        Some((state, self.head()))
    }

    fn head(&self) -> Head {
        let seq = self.entries.len() as u64;
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&seq.to_be_bytes());
        Head { seq, hash }
    }
}
