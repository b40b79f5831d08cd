use directive::Means;

use super::*;
use crate::cause::Cause;
use crate::fixture::at;

/// A deterministic source of numbers (xorshift), so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn cause(number: u64) -> Cause {
    match number {
        0 => Cause::Load("hall".into()),
        1 => Cause::Guard("hall".into()),
        2 => Cause::Stays("l-1".into()),
        lease => Cause::Lease(format!("l-{lease}").into()),
    }
}

fn chosen(lease: u64, from: u64) -> Chosen {
    let time = |secs: u64| at(i64::try_from(secs).unwrap());
    Chosen {
        group: "g".into(),
        cause: cause(lease),
        at: time(from),
        until: from.is_multiple_of(2).then(|| time(from + 100)),
        edge: None,
        means: Means::Device,
        passed_on: false,
    }
}

fn selection(random: &mut Random) -> Selection {
    let mut selection = Selection::default();
    for n in 0..40 {
        let machine = MachineId::from(format!("rack{}.{n:02}", n / 10));
        if random.below(2) == 0 {
            let periods = (0..=random.below(2)).map(|_| chosen(random.below(5), random.below(5)));
            selection.off.insert(machine.clone(), periods.collect());
        }
        if random.below(4) == 0 {
            selection.woken.insert(machine.clone(), at(5));
        }
        if random.below(4) == 0 {
            let (lease, since) = ("l-1".into(), at(3));
            let returning = Returning { lease, since, means: Means::Starve };
            selection.returning.insert(machine, returning);
        }
    }
    selection
}

/// Writes the change and reads it again, as the ledger does.
fn through_json(change: &SelectionChange) -> SelectionChange {
    serde_json::from_str(&serde_json::to_string(change).unwrap()).unwrap()
}

#[test]
fn changes_lead_from_each_selection_to_the_next() {
    let mut random = Random(0x5eed);
    let mut folded = Selection::default();
    let mut before = Some(Selection::default());
    for round in 0..300 {
        let after = selection(&mut random);
        // From time to time it is not known what was recorded before.
        before = before.filter(|_| random.below(10) > 0);
        if let Some(change) = SelectionChange::between(before.as_ref(), &after) {
            assert_eq!(change.anew, before.is_none());
            through_json(&change).apply(&mut folded);
        }
        assert_eq!(folded, after, "round {round}");
        before = Some(after);
    }
}

#[test]
fn two_changes_in_one_do_what_both_do() {
    let mut random = Random(0xfeed);
    for round in 0..300 {
        let (first, second, third) =
            (selection(&mut random), selection(&mut random), selection(&mut random));
        let known = random.below(5) > 0;
        let change = |from: &Selection, to: &Selection, known: bool| {
            SelectionChange::between(known.then_some(from), to).unwrap_or_default()
        };
        let both = change(&first, &second, true).then(change(&second, &third, known));
        let mut folded = first.clone();
        both.apply(&mut folded);
        assert_eq!(folded, third, "round {round}");
        assert_eq!(both.anew, !known);
    }
}

#[test]
fn nothing_is_written_where_nothing_changes() {
    let same = selection(&mut Random(1));
    assert_eq!(SelectionChange::between(Some(&same), &same), None);
    let empty = SelectionChange::between(None, &Selection::default());
    assert!(empty.is_some_and(|change| change.anew), "an empty selection may have to be recorded");
}

/// All machines of a large site, 100 in each step of a ramp, go for these causes in turn.
fn bytes(causes: u64) -> usize {
    let mut after = Selection::default();
    for n in 0..10_000_u64 {
        let name = format!("hall{}.rack{:02}.{:02}", n / 5000, n / 50 % 100, n % 50);
        after.off.insert(name.into(), vec![chosen(3 + n % causes, n / 100 * 2)]);
    }
    let change = SelectionChange::between(Some(&Selection::default()), &after).unwrap();
    serde_json::to_string(&change).unwrap().len()
}

#[test]
fn a_machine_takes_a_few_bytes() {
    assert!(bytes(1) < 25_000 + 4 * 10_000, "{} bytes", bytes(1));
}

#[test]
fn causes_that_alternate_keep_a_decision_within_its_bound() {
    assert!(bytes(2) < 50_000 + 4 * 10_000, "{} bytes", bytes(2));
}
