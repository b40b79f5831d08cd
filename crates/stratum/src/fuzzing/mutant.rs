//! Random changes of known inputs, repeatable by a seed: what a fuzzer does without its feedback
//! from coverage.

/// Makes changed inputs. The same seed makes the same ones.
#[derive(Debug)]
pub struct Mutants {
    state: u64,
}

/// Words on which the parsers branch.
const WORDS: [&[u8]; 28] = [
    b"\"id\":",
    b"\"method\":",
    b"\"params\":",
    b"\"result\":",
    b"\"error\":",
    b"null",
    b"true",
    b"[]",
    b"{}",
    b"[[[[[[[[",
    b"]]]]]]]]",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"\n",
    b"\r\n",
    b"mining.submit",
    b"mining.notify",
    b"mining.subscribe",
    b"mining.authorize",
    b"mining.configure",
    b"mining.set_difficulty",
    b"mining.set_extranonce",
    b"client.reconnect",
    b"1e400",
    b"-1",
    b"99999999999999999999",
    b"\xc0\x80",
];

impl Mutants {
    #[must_use]
    /// Makes a generator with this seed.
    pub const fn new(seed: u64) -> Self {
        Self { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 }
    }

    /// Changes `input` in one to four places. A part of `other` may be copied into it.
    pub fn of(&mut self, input: &[u8], other: &[u8]) -> Vec<u8> {
        let mut bytes = input.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len() + 1);
            let end = (at + self.below(16)).min(bytes.len());
            match self.below(7) {
                0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                1 if at < bytes.len() => bytes[at] = self.next().to_le_bytes()[0],
                2 => drop(bytes.drain(at..end)),
                3 => {
                    let again = bytes[at..end].to_vec();
                    bytes.splice(at..at, again);
                }
                4 => drop(bytes.splice(at..end, WORDS[self.below(WORDS.len())].iter().copied())),
                5 => {
                    let from = self.below(other.len() + 1);
                    let to = (from + self.below(64)).min(other.len());
                    drop(bytes.splice(at..end, other[from..to].iter().copied()));
                }
                _ => bytes.truncate(bytes.len().max(1) - 1),
            }
        }
        bytes
    }

    /// A number below `end`; 0 when there is none.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end.max(1) as u64)).expect("below a usize")
    }

    /// The next number of a xorshift64 generator, which is random enough for tests.
    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }
}
