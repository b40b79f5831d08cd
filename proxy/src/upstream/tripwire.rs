//! Watches the jobs of a pool for signs of an impostor: their payees and the pool's tag (U40), and
//! their time (U27).
//!
//! An attacker who impersonates the pool wants to be paid, so the outputs of the coinbase change.
//! So the payees and the tag of each target's jobs are remembered, and new ones raise an alarm.
//! Amounts, outputs that pay nobody (commitments) and numbers in the tag are ignored, because they
//! change with each block. Bytes that cannot be parsed as a coinbase are not judged.
//!
//! Only the jobs that this process has seen are remembered: an attacker who was there before it
//! started is not noticed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bitcoin::Transaction;
use bitcoin::consensus::deserialize;
use sha2::{Digest, Sha256};
use stratum::job::Job;

/// By how many seconds the time of a job may differ from the clock without an alarm.
const TIME_OFF_MAX: u64 = 2 * 3600;
/// How many sets of payees, and how many tags, are remembered per target; beyond that the oldest is
/// forgotten.
const KNOWN_MAX: usize = 32;
/// The minimum time between two reports of a change: the coinbase of some pools pays their miners,
/// and changes with each block.
const TELL_EVERY: Duration = Duration::from_secs(3600);
/// The minimum number of consecutive printable characters in a tag: fewer can occur by chance in
/// the numbers next to it.
const TAG_MIN: usize = 6;
const TAG_MAX: usize = 64;
/// How many bytes of a number next to a word may be printable by chance, and so look like a part of
/// the word.
const BESIDE_MAX: usize = 4;

/// What was new about a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    /// The payees are new, not only the tag.
    pub(super) payees: bool,
    /// The change is to be reported, besides being acted upon.
    pub(super) news: bool,
    pub(super) detail: String,
}

/// What is remembered of the jobs of a target.
#[derive(Debug, Default)]
pub(super) struct Tripwire {
    payees: VecDeque<[u8; 32]>,
    tags: VecDeque<Vec<String>>,
    /// When a change of payees was last reported, and when one of the tag alone. They are separate,
    /// so that the less important report does not suppress the other.
    payees_told_at: Option<Instant>,
    tag_told_at: Option<Instant>,
}

impl Tripwire {
    /// Checks a job. With `learn`, new payees count as known from now on; without it they stay new.
    pub(super) fn look(
        &mut self,
        job: &Job,
        extranonce_len: usize,
        learn: bool,
        now: Instant,
    ) -> Option<Change> {
        let coinbase = Coinbase::parse(job, extranonce_len)?;
        let first = self.payees.is_empty();
        let payees = !self.payees.contains(&coinbase.payees);
        let tag = !self.tags.iter().any(|known| is_same_tag(known, &coinbase.tag));
        if payees && (first || learn) {
            remember(&mut self.payees, coinbase.payees);
        }
        if tag {
            remember(&mut self.tags, coinbase.tag.clone());
        }
        if first || !(payees || tag) {
            return None;
        }
        let told_at = if payees { &mut self.payees_told_at } else { &mut self.tag_told_at };
        let news = told_at.is_none_or(|last| now >= last + TELL_EVERY);
        if news {
            *told_at = Some(now);
        }
        let what = if payees { "pays others" } else { "has another tag" };
        let words = coinbase.tag.join(" ");
        let detail =
            format!("the coinbase {what} than before: {} outputs, tag {words:?}", coinbase.outputs);
        Some(Change { payees, news, detail })
    }
}

fn remember<T>(known: &mut VecDeque<T>, new: T) {
    if known.len() >= KNOWN_MAX {
        known.pop_front();
    }
    known.push_back(new);
}

/// Whether the time of a job is so far off that one of the clocks is wrong. The proxy never sets a
/// clock by it.
pub(super) fn is_time_off(ntime: u32, wall_secs: i64) -> bool {
    i64::from(ntime).abs_diff(wall_secs) > TIME_OFF_MAX
}

/// The parts of a coinbase that stay the same from job to job.
#[derive(Debug, PartialEq, Eq)]
struct Coinbase {
    /// A digest of the set of output scripts that are paid.
    payees: [u8; 32],
    outputs: usize,
    tag: Vec<String>,
}

impl Coinbase {
    fn parse(job: &Job, extranonce_len: usize) -> Option<Self> {
        let mut bytes = job.coinb1.clone();
        bytes.resize(bytes.len() + extranonce_len, 0);
        bytes.extend_from_slice(&job.coinb2);
        let transaction: Transaction = deserialize(&bytes).ok()?;
        let [input] = &transaction.input[..] else { return None };
        let paid = transaction.output.iter().filter(|output| output.value.to_sat() > 0);
        let mut scripts: Vec<&[u8]> = paid.map(|output| output.script_pubkey.as_bytes()).collect();
        scripts.sort_unstable();
        scripts.dedup();
        let mut digest = Sha256::new();
        for script in &scripts {
            digest.update(u64::try_from(script.len()).unwrap_or(u64::MAX).to_le_bytes());
            digest.update(script);
        }
        Some(Self {
            payees: digest.finalize().into(),
            outputs: scripts.len(),
            tag: tag(input.script_sig.as_bytes()),
        })
    }
}

/// The marker of a merge-mining commitment; a hash and two numbers follow it.
const MERGE_MINING: [u8; 4] = [0xfa, 0xbe, b'm', b'm'];

/// The words in the script of a coinbase, with each number replaced by `0`.
fn tag(script: &[u8]) -> Vec<String> {
    let mut script = script.to_vec();
    if let Some(at) = script.windows(4).position(|window| window == MERGE_MINING) {
        let end = script.len().min(at + 4 + 40);
        script[at..end].fill(0);
    }
    let printable = |byte: &u8| matches!(byte, b' '..=b'~');
    let mut words: Vec<String> = Vec::new();
    let mut room = TAG_MAX;
    for run in script.split(|byte| !printable(byte)).filter(|run| run.len() >= TAG_MIN) {
        let mut word = String::new();
        for byte in run {
            let next = if byte.is_ascii_digit() { '0' } else { char::from(*byte) };
            if !(next == '0' && word.ends_with('0')) {
                word.push(next);
            }
        }
        word.truncate(room);
        room -= word.len();
        words.push(word);
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Whether two tags have the same words, ignoring characters of numbers next to them: para 0.6.0
/// writes the time directly after its `|parasite|`, and in one of three seconds a byte of it is
/// printable.
fn is_same_tag(known: &[String], new: &[String]) -> bool {
    known.len() == new.len()
        && known.iter().zip(new).all(|(known, new)| known == new || is_same_word(known, new))
}

/// Whether two words are equal except for a few characters at their ends, and long enough to be
/// words.
fn is_same_word(known: &str, new: &str) -> bool {
    let fits = |front: usize, back: usize| {
        let core = known.len().checked_sub(back).and_then(|end| known.get(front..end));
        core.filter(|core| core.len() >= TAG_MIN).is_some_and(|core| {
            new.find(core)
                .is_some_and(|at| at <= BESIDE_MAX && new.len() - at - core.len() <= BESIDE_MAX)
        })
    };
    (0..=BESIDE_MAX).any(|front| (0..=BESIDE_MAX).any(|back| fits(front, back)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin; only differences matter")]
    fn origin() -> Instant {
        Instant::now()
    }

    const OURS: &str = "0014aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const THEIRS: &str = "0014bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    const NOTHING: &str =
        "6a24aa21a9edcccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc";

    /// A job whose coinbase has this height and text in its script, and these outputs (satoshis and
    /// script).
    fn job(height: u32, text: &[u8], outputs: &[(u64, &str)]) -> Job {
        let mut script = vec![3];
        script.extend_from_slice(&height.to_le_bytes()[..3]);
        let extranonce_at = script.len();
        script.extend([0; 12]);
        script.extend_from_slice(text);
        let mut coinb1 = const_hex::decode(
            "01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff",
        )
        .expect("hex");
        coinb1.push(u8::try_from(script.len()).expect("short"));
        coinb1.extend_from_slice(&script[..extranonce_at]);
        let mut coinb2 = script[extranonce_at + 12..].to_vec();
        coinb2.extend([0xff; 4]);
        coinb2.push(u8::try_from(outputs.len()).expect("few"));
        for (sats, script) in outputs {
            let script = const_hex::decode(script).expect("hex");
            coinb2.extend(sats.to_le_bytes());
            coinb2.push(u8::try_from(script.len()).expect("short"));
            coinb2.extend(script);
        }
        coinb2.extend([0; 4]);
        Job {
            job_id: "j".into(),
            prev_hash: [1; 32],
            coinb1,
            coinb2,
            branches: vec![],
            version: 0x2000_0000,
            nbits: 0x1703_ffff,
            ntime: 1_800_000_000,
            clean: true,
        }
    }

    /// The coinbase is built like that of para 0.6.0, which raised a false alarm at its second
    /// block.
    #[test]
    fn u40_a_time_beside_the_tag_is_not_a_part_of_it() {
        let mut wire = Tripwire::default();
        let text = |time: u32, number: u8| {
            [&b"|parasite|"[..], &time.to_le_bytes(), &[0; 4], &[number; 4], b"/mined by us/"]
                .concat()
        };
        for second in 0..600 {
            let time = 0x6b08_b900 + second;
            let job =
                job(900_000 + second, &text(time, (second % 256) as u8), &[(312_500_000, OURS)]);
            assert_eq!(wire.look(&job, 12, true, origin()), None, "second {second}");
        }
        let job = job(
            900_600,
            &[&b"|leech|"[..], &[0; 12], b"/mined by us/"].concat(),
            &[(312_500_000, OURS)],
        );
        assert!(
            wire.look(&job, 12, true, origin()).is_some_and(|change| !change.payees),
            "other words are another tag"
        );
    }

    #[test]
    fn u40_heights_amounts_commitments_and_numbers_in_the_tag_may_change() {
        let mut wire = Tripwire::default();
        let now = origin();
        let first = job(900_000, b"/OurPool 17/", &[(312_500_000, OURS), (0, NOTHING)]);
        let next = job(
            900_001,
            b"/OurPool 1804/",
            &[(313_000_000, OURS), (0, &NOTHING.replace('c', "d"))],
        );
        assert_eq!(wire.look(&first, 12, true, now), None, "the first is how it is");
        assert_eq!(wire.look(&next, 12, true, now), None);
        let mut merge_mined = b"/OurPool 17/".to_vec();
        merge_mined.extend(MERGE_MINING);
        merge_mined.extend(b"printable bytes of a hash, by chance....");
        assert_eq!(wire.look(&job(900_002, &merge_mined, &[(1, OURS)]), 12, true, now), None);
    }

    #[test]
    fn u40_a_new_payee_is_told_of_once_and_then_known() {
        let mut wire = Tripwire::default();
        let now = origin();
        let ours = job(900_000, b"/OurPool/", &[(312_500_000, OURS)]);
        let theirs = job(900_000, b"/OurPool/", &[(312_500_000, THEIRS)]);
        wire.look(&ours, 12, true, now);
        let change = wire.look(&theirs, 12, true, now).expect("new");
        assert!(change.payees && change.news, "{change:?}");
        for again in [&ours, &theirs] {
            assert_eq!(wire.look(again, 12, true, now), None, "both are known");
        }
        let both = job(900_000, b"/OurPool/", &[(312_500_000, OURS), (1000, THEIRS)]);
        let third = wire.look(&both, 12, true, now).expect("new again");
        assert!(third.payees && !third.news, "but told of within the hour: {third:?}");
        let later = wire.look(
            &job(1, b"/OurPool/", &[(1, &THEIRS.replace('b', "e"))]),
            12,
            true,
            now + TELL_EVERY,
        );
        assert!(later.is_some_and(|change| change.news));
    }

    #[test]
    fn u40_what_is_not_learned_stays_new() {
        let mut wire = Tripwire::default();
        let now = origin();
        let ours = job(900_000, b"/OurPool/", &[(312_500_000, OURS)]);
        let theirs = job(900_000, b"/OurPool/", &[(312_500_000, THEIRS)]);
        wire.look(&ours, 12, false, now);
        for _ in 0..3 {
            assert!(wire.look(&theirs, 12, false, now).is_some_and(|change| change.payees));
        }
        assert_eq!(wire.look(&ours, 12, false, now), None);
    }

    #[test]
    fn u40_another_tag_is_told_of_and_is_no_theft() {
        let mut wire = Tripwire::default();
        let now = origin();
        wire.look(&job(900_000, b"/OurPool/", &[(1, OURS)]), 12, true, now);
        let change =
            wire.look(&job(900_000, b"/Other Pool/", &[(1, OURS)]), 12, true, now).expect("new");
        assert!(!change.payees && change.detail.contains("/Other Pool/"), "{change:?}");
        // An attacker who first changes only the tag is still noticed.
        let change =
            wire.look(&job(900_000, b"/Other Pool/", &[(1, THEIRS)]), 12, true, now).expect("new");
        assert!(change.payees && change.news, "{change:?}");
    }

    #[test]
    fn u40_what_is_no_coinbase_is_not_judged() {
        let mut wire = Tripwire::default();
        let now = origin();
        let mut odd = job(900_000, b"/OurPool/", &[(1, OURS)]);
        assert_eq!(
            wire.look(&odd, 11, true, now),
            None,
            "an extranonce of another length does not fit"
        );
        odd.coinb2.truncate(10);
        assert_eq!(wire.look(&odd, 12, true, now), None);
        assert!(wire.payees.is_empty());
        for n in 0..100u8 {
            let script = THEIRS.replace("bb", &const_hex::encode([n]));
            wire.look(&job(1, b"/OurPool/", &[(1, &script)]), 12, true, now);
        }
        assert_eq!(wire.payees.len(), KNOWN_MAX);
    }

    #[test]
    fn u27_a_time_two_hours_off_is_told_of() {
        for (ntime, off) in [
            (0, true),
            (u32::MAX, true),
            (1_800_007_200, false),
            (1_799_992_799, true),
            (1_800_000_000, false),
        ] {
            assert_eq!(is_time_off(ntime, 1_800_000_000), off, "{ntime}");
        }
    }
}
