//! Replays the corpus of `fuzz/` on stable Rust, with random changes of its inputs.

use std::fs;
use std::path::PathBuf;

use super::*;

/// Changed inputs for each target.
const MUTANTS: usize = 5000;

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{folder:?}: {error}"))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn the_corpus_and_its_mutants_hold() {
    for (target, body) in BODIES {
        let corpus = corpus(target);
        assert!(corpus.len() >= 20, "{target}: {} files", corpus.len());
        for (path, data) in &corpus {
            let ran = std::panic::catch_unwind(|| body(data));
            assert!(ran.is_ok(), "{target}: {path:?}");
        }
        let mut mutants = Mutants::new(17);
        for number in 0..MUTANTS {
            let (path, data) = &corpus[mutants.below(corpus.len())];
            let other = &corpus[mutants.below(corpus.len())].1;
            let mutant = mutants.of(data, other);
            let ran = std::panic::catch_unwind(|| body(&mutant));
            assert!(
                ran.is_ok(),
                "{target}: mutant {number} of {path:?}: {:?}",
                String::from_utf8_lossy(&mutant)
            );
        }
    }
}
