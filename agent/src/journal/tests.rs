use super::intent::tests::intent;
use super::*;
use crate::state::AgentState;

fn intents(numbers: std::ops::RangeInclusive<u64>) -> Vec<Intent> {
    numbers.map(|number| intent(number, &format!("m{number}"), Order::Sleep)).collect()
}

fn numbers(contents: &Contents) -> Vec<u64> {
    contents.intents.iter().map(|intent| intent.number).collect()
}

fn found(path: &Path) -> Contents {
    Journal::open(path).1.unwrap()
}

#[test]
fn what_was_appended_is_found_and_what_the_state_has_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.journal");
    let (journal, contents) = Journal::open(&path);
    assert_eq!(contents.unwrap(), Contents::default(), "a first start");
    journal.append(&intents(1..=2)).unwrap();
    journal.append(&intents(3..=4)).unwrap();
    assert_eq!(numbers(&found(&path)), [1, 2, 3, 4]);
    journal.forget(2).unwrap();
    // A short journal is not rewritten: the fold skips what the state contains.
    let mut state = AgentState { intents: 2, ..AgentState::default() };
    fold(&mut state, &found(&path).intents);
    assert_eq!(state.marks.len(), 2);
    journal.forget(4).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    journal.append(&intents(5..=5)).unwrap();
    assert_eq!(numbers(&found(&path)), [5]);
}

#[test]
fn a_long_journal_is_rewritten_and_taken_up_where_it_stops() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.journal");
    let (journal, _) = Journal::open(&path);
    journal.append(&intents(1..=1000)).unwrap();
    assert!(fs::metadata(&path).unwrap().len() > REWRITE_ABOVE);
    journal.forget(990).unwrap();
    assert!(fs::metadata(&path).unwrap().len() < 2000);
    journal.append(&intents(1001..=1001)).unwrap();
    assert_eq!(numbers(&found(&path)), (991..=1001).collect::<Vec<_>>());
}

#[test]
fn a_torn_end_does_not_spoil_the_next_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.journal");
    Journal::open(&path).0.append(&intents(1..=2)).unwrap();
    let length = fs::metadata(&path).unwrap().len();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(length - 5).unwrap();
    let (journal, contents) = Journal::open(&path);
    let contents = contents.unwrap();
    assert_eq!((numbers(&contents), contents.is_torn), (vec![1], true));
    journal.append(&intents(3..=3)).unwrap();
    let contents = found(&path);
    assert_eq!(numbers(&contents), [1, 3]);
    assert_eq!(contents.damaged_count, 1, "the torn line is named at the next start");
    journal.forget(3).unwrap();
    assert_eq!(found(&path), Contents::default());
}

#[test]
fn a_full_journal_keeps_the_newest_of_each_machine_and_then_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.journal");
    let (mut journal, _) = Journal::open(&path);
    journal.inner.get_mut().unwrap().max = 2000;
    for number in 1..=100 {
        journal.append(&[intent(number, &format!("m{}", number % 3), Order::Sleep)]).unwrap();
        assert!(fs::metadata(&path).unwrap().len() <= 2000);
    }
    assert!(numbers(&found(&path)).ends_with(&[98, 99, 100]));
    let refused = (200..=400)
        .map(|number| journal.append(&intents(number..=number)))
        .find_map(Result::err)
        .expect("that many machines do not fit");
    assert!(matches!(refused, JournalError::Full { .. }), "{refused}");
    assert!(numbers(&found(&path)).contains(&100), "what is in it stays");
}

#[test]
fn a_journal_that_cannot_be_opened_is_an_error_and_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gone").join("agent.journal");
    let (journal, contents) = Journal::open(&path);
    assert!(contents.unwrap_err().to_string().contains("agent.journal: open"));
    assert!(journal.append(&intents(1..=1)).is_err());
    fs::create_dir(path.parent().unwrap()).unwrap();
    journal.append(&intents(2..=2)).unwrap();
    assert_eq!(numbers(&found(&path)), [2]);
}

/// The process has too few file descriptors at its start, say. What is in the file is read before
/// anything is written to it, and nothing of it is removed before.
#[test]
fn a_journal_that_was_not_read_at_the_start_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (path, aside) = (folder.path().join("agent.journal"), folder.path().join("aside"));
    Journal::open(&path).0.append(&intents(1..=3)).unwrap();
    let unreadable = || {
        fs::rename(&path, &aside).unwrap();
        fs::create_dir(&path).unwrap();
        let (journal, contents) = Journal::open(&path);
        contents.unwrap_err();
        assert!(journal.append(&intents(7..=7)).is_err());
        assert!(journal.forget(7).is_err());
        assert_eq!(journal.take_late(), None);
        fs::remove_dir(&path).unwrap();
        fs::rename(&aside, &path).unwrap();
        journal
    };
    let journal = unreadable();
    journal.forget(7).unwrap();
    assert_eq!(numbers(&journal.take_late().unwrap()), [1, 2, 3]);
    assert_eq!(numbers(&found(&path)), [1, 2, 3], "read instead of emptied");

    let journal = unreadable();
    journal.append(&intents(8..=8)).unwrap();
    assert_eq!(numbers(&journal.take_late().unwrap()), [1, 2, 3]);
    assert_eq!(journal.take_late(), None, "once");
    assert_eq!(numbers(&found(&path)), [1, 2, 3, 8]);
    journal.forget(8).unwrap();
    assert_eq!(found(&path), Contents::default(), "from then on as ever");
}
