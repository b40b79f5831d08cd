//! Answers every submit exactly once, and submits with the same id in the order in which they came.
//!
//! cpuminer sends every submit with id 4 and matches answers only by their order; other clients use
//! an id once. So the order is kept only among equal ids, and a share that needs no pool does not
//! wait for one that does.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use stratum::error::RejectCode;
use stratum::id::Id;
use stratum::server_message::{write_error, write_true};

use super::outbox::Outbox;
use crate::outcome::AnsweredBy;

/// What a submit is answered with: `true`, or an error code and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    True,
    Error(RejectCode, Arc<str>),
}

#[derive(Debug)]
struct Owed {
    ticket: u32,
    id: Id,
    /// When the submit was read.
    read_at: Instant,
    by: AnsweredBy,
    /// Set when the answer is known, but the answer to an earlier submit with the same id is not.
    ready: Option<Answer>,
}

/// The answers that a session owes.
#[derive(Debug, Default)]
pub(super) struct Answers {
    owed: VecDeque<Owed>,
}

impl Answers {
    /// How many submits wait.
    pub(super) fn waiting(&self) -> usize {
        self.owed.len()
    }

    /// Registers a submit with `id`; it is answered when [`Self::resolve`] is called with `ticket`.
    pub(super) fn wait(&mut self, ticket: u32, id: Id, read_at: Instant) {
        if self.owed.is_empty() {
            // Usually there is only one at a time.
            self.owed.reserve_exact(1);
        }
        self.owed.push_back(Owed { ticket, id, read_at, by: AnsweredBy::Pool, ready: None });
    }

    /// Answers at once, or as soon as all earlier submits with this id are answered.
    pub(super) fn answer_now(
        &mut self,
        id: Id,
        answer: Answer,
        read_at: Instant,
        out: &mut Outbox,
    ) {
        let by = AnsweredBy::Proxy;
        if self.owed.iter().any(|owed| owed.id == id) {
            // The answer is written after the answer to the earlier submit. No verdict will come
            // for this submit, so its ticket is one that is never resolved.
            self.owed.push_back(Owed { ticket: u32::MAX, id, read_at, by, ready: Some(answer) });
        } else {
            write(&id, &answer, by, read_at, out);
        }
    }

    /// Handles the answer for `ticket`. A ticket that was already answered changes nothing.
    pub(super) fn resolve(&mut self, ticket: u32, answer: Answer, out: &mut Outbox) {
        let Some(index) =
            self.owed.iter().position(|owed| owed.ticket == ticket && owed.ready.is_none())
        else {
            return;
        };
        let id = self.owed[index].id.clone();
        self.owed[index].ready = Some(answer);
        // Write the first answer for this id, and those that were only waiting for it.
        while let Some(first) = self.owed.iter().position(|owed| owed.id == id) {
            if self.owed[first].ready.is_none() {
                break;
            }
            let owed = self.owed.remove(first).expect("found just now");
            write(&owed.id, &owed.ready.expect("checked above"), owed.by, owed.read_at, out);
        }
        if self.owed.is_empty() {
            // Free the memory: most of the time a session owes no answer.
            self.owed = VecDeque::new();
        }
    }
}

fn write(id: &Id, answer: &Answer, by: AnsweredBy, read_at: Instant, out: &mut Outbox) {
    match answer {
        Answer::True => write_true(id, &mut out.bytes),
        Answer::Error(code, message) => write_error(id, *code, message, &mut out.bytes),
    }
    out.answered.push((by, read_at));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin; only differences matter")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn reject() -> Answer {
        Answer::Error(RejectCode::LowDifficulty, "low".into())
    }

    #[test]
    fn equal_ids_are_answered_in_the_order_of_submits() {
        let mut answers = Answers::default();
        let mut out = Outbox::default();
        let (four, now) = (Id::number(4), origin());
        answers.wait(1, four.clone(), now);
        answers.wait(2, four.clone(), now);
        answers.answer_now(four.clone(), reject(), now, &mut out);
        answers.resolve(2, Answer::True, &mut out);
        assert!(out.bytes.is_empty(), "the first is not known yet");
        answers.resolve(1, reject(), &mut out);
        let verdicts: Vec<bool> = String::from_utf8(out.bytes)
            .unwrap()
            .lines()
            .map(|line| line.contains("\"result\":true"))
            .collect();
        assert_eq!(verdicts, [false, true, false]);
        let by: Vec<AnsweredBy> = out.answered.iter().map(|(by, _)| *by).collect();
        assert_eq!(
            by,
            [AnsweredBy::Pool, AnsweredBy::Pool, AnsweredBy::Proxy],
            "each with its own wait"
        );
        assert_eq!(answers.waiting(), 0);
    }

    #[test]
    fn another_id_does_not_wait() {
        let mut answers = Answers::default();
        let mut out = Outbox::default();
        answers.wait(1, Id::number(10), origin());
        answers.answer_now(Id::number(11), Answer::True, origin(), &mut out);
        assert_eq!(out.bytes.iter().filter(|byte| **byte == b'\n').count(), 1);
    }

    #[test]
    fn a_second_verdict_changes_nothing() {
        let mut answers = Answers::default();
        let mut out = Outbox::default();
        answers.wait(1, Id::number(10), origin());
        answers.resolve(1, Answer::True, &mut out);
        let once = out.bytes.len();
        answers.resolve(1, reject(), &mut out);
        assert_eq!(out.bytes.len(), once);
    }
}
