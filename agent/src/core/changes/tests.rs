use std::time::Duration;

use super::*;

#[expect(clippy::disallowed_methods, reason = "an arbitrary origin; only differences matter")]
fn origin() -> Instant {
    Instant::now()
}

fn note(changes: &mut Changes, group: &str, change: Change, now: Instant) {
    changes.note(&"rig".into(), &group.into(), change, now);
}

/// The seconds at which lines come while a machine of `groups` groups changes every second.
fn told(groups: usize, seconds: u64) -> Vec<(u64, Vec<Line>)> {
    let (start, mut changes) = (origin(), Changes::default());
    let mut told = Vec::new();
    for second in 0..seconds {
        let now = start + Duration::from_secs(second);
        for group in 0..groups {
            note(&mut changes, &format!("g{group}"), Change::Asleep, now);
        }
        let lines = changes.due(now);
        if !lines.is_empty() {
            told.push((second, lines));
        }
    }
    told
}

#[test]
fn each_change_is_told_once_however_many_lines_there_are() {
    let told = told(1, 3600);
    let counted: u32 = told
        .iter()
        .flat_map(|(_, lines)| lines)
        .map(|line| match line {
            Line::Group(_, counts) => counts.asleep,
            other => panic!("{other:?}"),
        })
        .sum();
    let (last, _) = told.last().expect("there are lines");
    assert_eq!(u64::from(counted), last + 1);
    assert!(told.len() < 70, "{} lines in an hour", told.len());
}

#[test]
fn the_lines_do_not_grow_with_the_groups() {
    for (groups, lines) in [(1, 1), (5, 5), (6, 5), (300, 5)] {
        assert_eq!(told(groups, 2)[0].1.len(), lines, "{groups} groups");
    }
    let all = &told(300, 2)[0].1;
    let Some(Line::Others(296, counts)) = all.last() else { panic!("{all:?}") };
    assert_eq!(counts.asleep, 592, "two seconds of 296 groups");
}

#[test]
fn who_failed_is_named_once_with_the_reason() {
    let (start, mut changes) = (origin(), Changes::default());
    for fault in ["sleep: refused", "sleep: no answer"] {
        note(&mut changes, "g", Change::Failed { fault: fault.into() }, start);
    }
    changes.ignored(start);
    let lines = changes.take(start);
    let [Line::Ignored(1), Line::Group(_, counts)] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!(counts.failed, 2);
    assert_eq!(counts.example, Some(("rig".into(), "sleep: refused".into())));
}
