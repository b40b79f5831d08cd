//! Judges a pool by its answers to shares (F59, F17).
//!
//! A pool is left after ten refusals in a row, or after half a minute of only refusals: it may be
//! on another chain. More than a tenth refused raises an alarm: somebody may have taken over the
//! session (docs/faults.md, "Theft of hashrate"). Stale shares count in the tenth but not in the
//! ten, because they come in bursts at each new block.
//!
//! A pool that answers every share with `true` cannot be detected here: that would need a share
//! that is known to be bad, and we never send one. What the pool credits and pays must be compared
//! with our counts.

use std::time::{Duration, Instant};

use stratum::error::RejectCode;

/// The result of judging the answers so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    Fair,
    /// More than a tenth of the shares were refused.
    RefusesMany {
        refused: u32,
        of: u32,
    },
    TakesNothing {
        refused: u32,
    },
}

/// The answers of one connection.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    refused_in_a_row: u32,
    since: Option<Instant>,
    accepted: u32,
    refused: u32,
}

/// The number of refusals in a row after which a pool is left (F17).
const IN_A_ROW_MAX: u32 = 10;
/// The time after which answers are judged, if there are enough of them.
const WEIGHED_AFTER: Duration = Duration::from_secs(30);
const WEIGHED_FROM: u32 = 20;

impl Verdicts {
    /// Counts an answer; `None` means accepted.
    pub(super) fn add(&mut self, refusal: Option<RejectCode>, now: Instant) -> Finding {
        let since = *self.since.get_or_insert(now);
        match refusal {
            None => {
                self.accepted += 1;
                self.refused_in_a_row = 0;
            }
            Some(code) => {
                self.refused += 1;
                // A stale share says little about the pool: it was in transit when the block
                // changed.
                self.refused_in_a_row += u32::from(code != RejectCode::JobNotFound);
            }
        }
        if self.refused_in_a_row >= IN_A_ROW_MAX {
            return Finding::TakesNothing { refused: self.refused_in_a_row };
        }
        let (refused, of) = (self.refused, self.refused + self.accepted);
        if of < WEIGHED_FROM || now < since + WEIGHED_AFTER {
            return Finding::Fair;
        }
        *self = Self { refused_in_a_row: self.refused_in_a_row, ..Self::default() };
        if refused == of {
            return Finding::TakesNothing { refused };
        }
        if refused * 10 > of { Finding::RefusesMany { refused, of } } else { Finding::Fair }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin; only differences matter")]
    fn origin() -> Instant {
        Instant::now()
    }

    /// Counts one answer a second; returns the first finding, and after how many seconds it came.
    fn first(answer: impl Fn(u32) -> Option<RejectCode>) -> Option<(u32, Finding)> {
        let start = origin();
        let mut verdicts = Verdicts::default();
        (0..600).find_map(|second| {
            let finding = verdicts.add(answer(second), start + Duration::from_secs(second.into()));
            (finding != Finding::Fair).then_some((second, finding))
        })
    }

    #[test]
    fn f17_f59_a_pool_that_says_false_to_everything_is_left_after_ten() {
        let found = first(|_| Some(RejectCode::LowDifficulty));
        assert_eq!(found, Some((9, Finding::TakesNothing { refused: 10 })));
        let stale = first(|_| Some(RejectCode::JobNotFound));
        assert!(
            matches!(stale, Some((0..=60, Finding::TakesNothing { .. }))),
            "stale is no excuse for ever: {stale:?}"
        );
    }

    #[test]
    fn f59_a_pool_that_refuses_many_is_told_of_within_a_minute() {
        let found = first(|second| (second % 5 == 0).then_some(RejectCode::LowDifficulty));
        assert!(matches!(found, Some((0..=60, Finding::RefusesMany { .. }))), "{found:?}");
    }

    #[test]
    fn f59_an_honest_pool_is_not_suspected_and_one_that_says_true_to_all_cannot_be() {
        assert_eq!(first(|second| (second % 25 == 0).then_some(RejectCode::JobNotFound)), None);
        assert_eq!(first(|_| None), None);
    }
}
