//! What the lines of a journal add to the state: which machines the agent has put to sleep, and
//! which it has told to wake. Pure.

use directive::AsleepBy;

use super::intent::{BadLine, Intent, Order};
use crate::state::{AgentState, Mark};

/// What a journal's bytes contain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// The intents that can be read, in the order of their numbers.
    pub intents: Vec<Intent>,
    /// The first lines that cannot be read, at most `DAMAGED`, each with its line number from 1.
    pub damaged: Vec<(usize, BadLine)>,
    /// How many lines cannot be read.
    pub damaged_count: usize,
    /// Whether the last line has no end: the process, or the host, died while it was written.
    pub is_torn: bool,
}

/// The maximum number of damaged lines that are named.
pub(super) const DAMAGED: usize = 10;

/// Reads a journal. What is damaged is left out: ownership is a union, so that every line that can
/// be read counts.
#[must_use]
pub(super) fn read(bytes: &[u8]) -> Contents {
    let mut contents = Contents::default();
    let mut rest = bytes;
    let mut number = 0;
    while !rest.is_empty() {
        number += 1;
        let end = rest.iter().position(|byte| *byte == b'\n');
        let line = &rest[..end.unwrap_or(rest.len())];
        rest = &rest[end.map_or(rest.len(), |end| end + 1)..];
        contents.is_torn = end.is_none();
        if line.is_empty() {
            continue;
        }
        match Intent::from_line(line) {
            Ok(intent) => contents.intents.push(intent),
            // What was being written when the process died was not on its way to a device yet, or
            // went unrecorded.
            Err(_) if end.is_none() => {}
            Err(why) => {
                contents.damaged_count += 1;
                if contents.damaged.len() < DAMAGED {
                    contents.damaged.push((number, why));
                }
            }
        }
    }
    contents.intents.sort_by_key(|intent| intent.number);
    contents
}

/// Adds to `state` the intents that it does not contain yet. Returns whether there were any.
///
/// A state that is older than the journal's beginning misses intents, and gets what there is: a
/// machine that was put to sleep counts as ours until it is seen awake.
pub fn fold(state: &mut AgentState, intents: &[Intent]) -> bool {
    let known = state.intents;
    let new = intents.iter().filter(|intent| intent.number > known);
    for intent in new {
        state.intents = state.intents.max(intent.number);
        let mark = state.marks.get(&intent.machine).copied();
        let mark = match (intent.order, mark) {
            // A machine that somebody else put to sleep keeps that mark until it is seen awake.
            (Order::Sleep, Some(mark)) => Mark { slept_at: Some(intent.at), ..mark },
            (Order::Sleep, None) => Mark::ours(Some(intent.at)),
            // Only a machine of ours is told to wake. It is ours until it is seen awake.
            (Order::Wake, mark) => Mark {
                asleep_by: AsleepBy::Us,
                woken_at: Some(intent.at),
                slept_at: mark.and_then(|mark| mark.slept_at),
            },
        };
        state.marks.insert(intent.machine.clone(), mark);
    }
    state.intents > known
}

/// The intents that are still needed when the journal has no room: the newest sleep and the newest
/// wake of each machine.
#[must_use]
pub(super) fn newest(intents: &[Intent]) -> Vec<Intent> {
    let mut seen = std::collections::HashSet::new();
    let newest = intents.iter().rev().filter(|one| seen.insert((&one.machine, one.order)));
    let mut newest: Vec<Intent> = newest.cloned().collect();
    newest.reverse();
    newest
}

#[cfg(test)]
mod tests {
    use rand::prelude::*;

    use super::super::intent::tests::intent;
    use super::*;

    fn text(intents: &[Intent]) -> String {
        intents.iter().map(Intent::to_line).collect()
    }

    #[test]
    fn a_sleep_makes_a_machine_ours_and_a_wake_keeps_it_so() {
        let lines = [
            intent(1, "a", Order::Sleep),
            intent(2, "b", Order::Sleep),
            intent(3, "a", Order::Wake),
        ];
        let mut state = AgentState::default();
        assert!(fold(&mut state, &lines));
        let (a, b) = (state.marks["a"], state.marks["b"]);
        assert_eq!((a.asleep_by, b.asleep_by), (AsleepBy::Us, AsleepBy::Us));
        assert_eq!((a.slept_at, a.woken_at), (Some(lines[0].at), Some(lines[2].at)));
        assert_eq!((b.slept_at, b.woken_at), (Some(lines[1].at), None));
        assert_eq!(state.intents, 3);
    }

    /// The agent saved its state and died before it emptied its journal. One machine was seen awake
    /// before that, and is not ours any more.
    #[test]
    fn what_the_state_contains_is_not_added_again() {
        let lines = [intent(1, "a", Order::Sleep), intent(2, "b", Order::Sleep)];
        let mut state = AgentState { intents: 2, ..AgentState::default() };
        assert!(!fold(&mut state, &lines));
        assert!(state.marks.is_empty());
        let more = [lines[0].clone(), lines[1].clone(), intent(3, "c", Order::Sleep)];
        assert!(fold(&mut state, &more));
        assert_eq!(state.marks.keys().map(|id| id.as_str()).collect::<Vec<_>>(), ["c"]);
    }

    #[test]
    fn a_machine_of_somebody_else_stays_so() {
        let other = Mark { asleep_by: AsleepBy::Other, ..Mark::ours(None) };
        let mut state = AgentState { marks: [("a".into(), other)].into(), ..AgentState::default() };
        fold(&mut state, &[intent(1, "a", Order::Sleep)]);
        assert_eq!(state.marks["a"].asleep_by, AsleepBy::Other);
        assert!(state.marks["a"].slept_at.is_some());
    }

    #[test]
    fn a_torn_end_is_left_out_wherever_it_is_torn() {
        let lines = [intent(1, "a", Order::Sleep), intent(2, "b", Order::Sleep)];
        let whole = text(&lines);
        let first = lines[0].to_line().len();
        for length in 0..=whole.len() {
            let contents = read(&whole.as_bytes()[..length]);
            // A line without its end may be whole nevertheless.
            let expected =
                usize::from(length >= first - 1) + usize::from(length >= whole.len() - 1);
            assert_eq!(contents.intents, lines[..expected], "{length} bytes");
            assert_eq!(contents.damaged_count, 0, "{length} bytes");
            let ends = [0, first, whole.len()];
            assert_eq!(contents.is_torn, !ends.contains(&length), "{length} bytes");
        }
    }

    #[test]
    fn a_damaged_line_is_named_and_the_others_count() {
        let lines: Vec<Intent> =
            (1..=40).map(|number| intent(number, &format!("m{number}"), Order::Sleep)).collect();
        let mut text = text(&lines);
        text = text.replacen("\"m3\"", "\"m9\"", 1);
        let contents = read(text.as_bytes());
        assert_eq!(contents.damaged, [(3, BadLine::WrongChecksum)]);
        assert_eq!(contents.intents.len(), 39);
        let noise = read(&[0xff, b'\n'].repeat(1000));
        assert_eq!((noise.damaged.len(), noise.damaged_count), (DAMAGED, 1000));
        assert_eq!(noise.damaged[0], (1, BadLine::NotText));
    }

    /// Whatever is in the file, reading it ends, and what was whole before is found.
    #[test]
    fn random_damage_costs_only_the_lines_that_it_touches() {
        for seed in 0..200 {
            let mut rng = StdRng::seed_from_u64(seed);
            let lines: Vec<Intent> =
                (1..=20).map(|n| intent(n, &format!("m{n}"), Order::Sleep)).collect();
            let mut bytes = text(&lines).into_bytes();
            let place = rng.random_range(0..bytes.len());
            let length = rng.random_range(1..30).min(bytes.len() - place);
            rng.fill(&mut bytes[place..place + length]);
            let found = read(&bytes).intents;
            // At most three lines are touched by 30 bytes of lines this long.
            assert!(found.len() >= 17, "seed {seed}: {}", found.len());
            assert!(found.iter().all(|one| lines.contains(one)), "seed {seed}");
        }
    }

    #[test]
    fn the_newest_of_each_kind_is_kept_when_there_is_no_room() {
        let lines = [
            intent(1, "a", Order::Sleep),
            intent(2, "a", Order::Sleep),
            intent(3, "a", Order::Wake),
            intent(4, "b", Order::Sleep),
            intent(5, "a", Order::Wake),
        ];
        let kept: Vec<u64> = newest(&lines).iter().map(|one| one.number).collect();
        assert_eq!(kept, [2, 4, 5]);
        let (mut all, mut few) = (AgentState::default(), AgentState::default());
        fold(&mut all, &lines);
        fold(&mut few, &newest(&lines));
        assert_eq!(all, few);
    }
}
