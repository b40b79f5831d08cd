//! The corpus of `fuzz/`, replayed on stable, with mutants.

use std::fs;
use std::path::PathBuf;

use stratum::fuzzing::Mutants;

use super::*;

#[test]
fn the_corpus_of_the_session_machine_and_its_mutants_hold() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/session_machine");
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 20, "{} files", files.len());
    let corpus: Vec<Vec<u8>> = files.iter().map(|path| fs::read(path).unwrap()).collect();
    for (path, data) in files.iter().zip(&corpus) {
        let ran = std::panic::catch_unwind(|| session_machine(data));
        assert!(ran.is_ok(), "{path:?}");
    }
    let mut mutants = Mutants::new(17);
    for number in 0..1500 {
        let at = mutants.below(corpus.len());
        let mutant = mutants.of(&corpus[at], &corpus[(at + number) % corpus.len()]);
        let ran = std::panic::catch_unwind(|| session_machine(&mutant));
        assert!(ran.is_ok(), "mutant {number} of {:?}: {mutant:?}", files[at]);
    }
}
