//! Which state is on disk: the timeline held and what of it is applied must survive a restart.
//!
//! One write is under way at a time; what changes meanwhile goes into the next one. A lowering does
//! not wait for its write. The acknowledgement of a timeline does, so that a timeline that the
//! switchboard counts as received is still known after a restart, unless writes fail. The writing
//! itself is left to the task.

use directive::Generation;

#[derive(Debug)]
pub(super) struct Record {
    /// Whether there is a state file. Without one, nothing survives a restart, and an
    /// acknowledgement waits for no write.
    has_file: bool,
    /// The state has changed since the last write began, or that write failed.
    unsaved: bool,
    /// A write is under way; inside is the number of the timeline that it contains.
    writing: Option<Option<Generation>>,
    /// The newest timeline whose write has ended, successfully or not.
    tried: Option<Generation>,
}

impl Record {
    /// The record of a state that was read from the file (if there is one) with timeline `number`.
    pub(super) const fn new(has_file: bool, number: Option<Generation>) -> Self {
        Self { has_file, unsaved: false, writing: None, tried: number }
    }

    /// Notes that the state has changed.
    pub(super) const fn changed(&mut self) {
        self.unsaved = true;
    }

    /// Returns whether a write has to begin now, of a state with timeline `number`. It counts as
    /// under way until [`Self::ended`].
    pub(super) fn begin(&mut self, number: Option<Generation>) -> bool {
        let due = self.has_file && self.unsaved && self.writing.is_none();
        if due {
            self.unsaved = false;
            self.writing = Some(number);
        }
        due
    }

    /// Notes the end of the write that is under way. After a failure, another write is due.
    pub(super) fn ended(&mut self, succeeded: bool) {
        if let Some(number) = self.writing.take() {
            self.tried = number;
            self.unsaved |= !succeeded;
        }
    }

    /// The timeline to acknowledge: the one in the last write that ended, or without a file `held`,
    /// the newest. A write that failed counts, too: it has raised an alarm, and will be repeated.
    pub(super) fn acknowledged(&self, held: Option<Generation>) -> Option<Generation> {
        if self.has_file { self.tried } else { held }
    }
}
