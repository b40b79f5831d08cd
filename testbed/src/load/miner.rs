//! One miner of the load tool, without its socket: the lines it sends, and how it handles the lines
//! it receives.

use std::io::Write;
use std::rc::Rc;

use super::job::Job;
use super::line::{Line, elements, number, text};
use crate::arithmetic::scan::Scan;
use crate::arithmetic::{Hash, Target, parse_u32};

/// How the miners behave.
#[derive(Debug, Clone)]
pub(super) struct Habits {
    /// A worker's name is this and the miner's number.
    pub(super) worker: String,
    pub(super) password: String,
    pub(super) version_rolling: bool,
}

/// A job as a miner holds it.
#[derive(Debug, Clone)]
struct Work {
    job: Rc<Job>,
    /// The target in force when the job came.
    target: Target,
    /// The merkle root with this miner's extranonces, computed when it is first needed.
    root: Option<Hash>,
}

/// The state of one miner.
#[derive(Debug)]
pub(super) struct Miner {
    number: usize,
    stage: Stage,
    extranonce: Extranonce,
    /// The extranonce of the last `set_extranonce`, valid from the next job on.
    next_extranonce: Option<Box<Extranonce>>,
    mask: u32,
    target: Option<Target>,
    work: Option<Work>,
    /// The nonce at which the next search starts. It only increases, so that no header is searched
    /// twice.
    nonce: u32,
    shares: u32,
}

/// The extranonce1, and the size of extranonce2.
#[derive(Debug)]
struct Extranonce {
    first: Vec<u8>,
    size: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Configuring,
    Subscribing,
    Authorizing,
    Authorized,
}

/// What follows from an answer of the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Goes,
    Refused,
}

/// Why no share could be made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum NoShare {
    /// The miner has no job or no difficulty.
    NoWork,
    /// The difficulty needs more hashes than a load tool should compute.
    TooHard,
}

impl Miner {
    pub(super) const fn new(number: usize) -> Self {
        Self {
            number,
            stage: Stage::Configuring,
            extranonce: Extranonce { first: Vec::new(), size: 0 },
            next_extranonce: None,
            mask: 0,
            target: None,
            work: None,
            nonce: 0,
            shares: 0,
        }
    }

    /// Whether the miner is authorized and has a job.
    pub(super) fn is_ready(&self) -> bool {
        self.stage == Stage::Authorized && self.work.is_some()
    }

    /// Writes the first requests of a connection.
    pub(super) fn greet(&mut self, habits: &Habits, out: &mut Vec<u8>) {
        if habits.version_rolling {
            say(
                out,
                format_args!(
                    r#"{{"id":{CONFIGURE},"method":"mining.configure","params":[["version-rolling"],{{"version-rolling.mask":"1fffe000","version-rolling.min-bit-count":2}}]}}"#
                ),
            );
        } else {
            self.subscribe(out);
        }
    }

    /// Handles the answer to one of the three requests of the handshake.
    pub(super) fn answered(&mut self, line: &Line<'_>, habits: &Habits, out: &mut Vec<u8>) -> Step {
        match (self.stage, line.number()) {
            (Stage::Configuring, Some(CONFIGURE)) => {
                self.mask = granted(line.result).unwrap_or(0);
                self.subscribe(out);
            }
            (Stage::Subscribing, Some(SUBSCRIBE)) => {
                let mut parts = elements(line.result).skip(1);
                let Some(given) = Extranonce::read(parts.next(), parts.next()) else {
                    return Step::Refused;
                };
                self.extranonce = given;
                self.stage = Stage::Authorizing;
                let Habits { worker, password, .. } = habits;
                let number = self.number;
                say(
                    out,
                    format_args!(
                        r#"{{"id":{AUTHORIZE},"method":"mining.authorize","params":["{worker}{number}","{password}"]}}"#
                    ),
                );
            }
            (Stage::Authorizing, Some(AUTHORIZE)) => {
                if line.result != b"true" {
                    return Step::Refused;
                }
                self.stage = Stage::Authorized;
            }
            _ => {}
        }
        Step::Goes
    }

    /// Handles a request or notification of the pool, except a job.
    pub(super) fn told(&mut self, line: &Line<'_>, out: &mut Vec<u8>) {
        let mut params = elements(line.params);
        match line.method {
            b"mining.set_difficulty" => {
                let difficulty =
                    params.next().and_then(|number| str::from_utf8(number).ok()?.parse().ok());
                self.target = difficulty.and_then(Target::of_difficulty).or(self.target);
            }
            b"mining.set_extranonce" => {
                self.next_extranonce = Extranonce::read(params.next(), params.next()).map(Box::new);
            }
            b"mining.set_version_mask" => {
                self.mask = params.next().and_then(hex_number).unwrap_or(self.mask);
            }
            b"mining.ping" if line.wants_answer() => {
                let id = str::from_utf8(line.id).unwrap_or("null");
                say(out, format_args!(r#"{{"id":{id},"result":"pong","error":null}}"#));
            }
            b"client.get_version" if line.wants_answer() => {
                let id = str::from_utf8(line.id).unwrap_or("null");
                say(out, format_args!(r#"{{"id":{id},"result":"bench/1","error":null}}"#));
            }
            _ => {}
        }
    }

    pub(super) fn take(&mut self, job: Rc<Job>) {
        // Without a `set_difficulty`, the difficulty is 1.
        let target = self.target.or_else(|| Target::of_difficulty(1.0)).unwrap_or(Target::MAX);
        if let Some(next) = self.next_extranonce.take() {
            self.extranonce = *next;
        }
        self.work = Some(Work { job, target, root: None });
    }

    /// Finds a share for the newest job and appends its submit.
    pub(super) fn share(
        &mut self,
        id: u64,
        habits: &Habits,
        scratch: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<(), NoShare> {
        let extranonce2 = [0; EXTRANONCE2_MAX];
        let extranonce2 = &extranonce2[..self.extranonce.size];
        let Some(Work { job, target, root }) = &mut self.work else { return Err(NoShare::NoWork) };
        let root = *root
            .get_or_insert_with(|| job.merkle_root([&self.extranonce.first, extranonce2], scratch));
        // The two lowest bits of the mask differ from share to share.
        let lowest = self.mask & self.mask.wrapping_neg();
        let second = self.mask & !lowest & (self.mask & !lowest).wrapping_neg();
        let bits = [0, lowest, second, lowest | second][self.shares as usize % 4];
        let version = (job.version & !self.mask) | bits;
        let mut scan = Scan::new(&job.header(root, version, job.ntime, self.nonce));
        let (found, _) = scan.run(target, HASHES_MAX);
        self.nonce = scan.nonce();
        let Some((nonce, _)) = found else { return Err(NoShare::TooHard) };
        self.shares += 1;
        let worker = &habits.worker;
        write!(
            out,
            r#"{{"id":{id},"method":"mining.submit","params":["{worker}{}","{}",""#,
            self.number, job.id
        )
        .expect(TAKES);
        out.extend(std::iter::repeat_n(b'0', 2 * self.extranonce.size));
        write!(out, r#"","{:08x}","{nonce:08x}""#, job.ntime).expect(TAKES);
        if self.mask != 0 {
            write!(out, r#","{bits:08x}""#).expect(TAKES);
        }
        out.extend_from_slice(b"]}\n");
        Ok(())
    }

    fn subscribe(&mut self, out: &mut Vec<u8>) {
        self.stage = Stage::Subscribing;
        say(
            out,
            format_args!(
                r#"{{"id":{SUBSCRIBE},"method":"mining.subscribe","params":["bench/1"]}}"#
            ),
        );
    }
}

impl Extranonce {
    fn read(first: Option<&[u8]>, size: Option<&[u8]>) -> Option<Self> {
        let size = usize::try_from(number(size?)?).ok().filter(|size| *size <= EXTRANONCE2_MAX)?;
        Some(Self { first: const_hex::decode(text(first?)?).ok()?, size })
    }
}

/// The version mask in the answer to a configure, if rolling was granted.
fn granted(result: &[u8]) -> Option<u32> {
    let mut rest = result;
    let key = b"\"version-rolling.mask\"";
    let at = memchr::memmem::find(rest, key)?;
    rest = &rest[at + key.len()..];
    let from = memchr::memchr(b'"', rest)?;
    hex_number(rest.get(from..from + 10)?)
}

fn hex_number(value: &[u8]) -> Option<u32> {
    parse_u32(str::from_utf8(text(value)?).ok()?)
}

fn say(out: &mut Vec<u8>, words: std::fmt::Arguments<'_>) {
    out.write_fmt(words).expect(TAKES);
    out.push(b'\n');
}

const TAKES: &str = "a vector takes everything";
const CONFIGURE: u64 = 1;
const SUBSCRIBE: u64 = 2;
const AUTHORIZE: u64 = 3;
/// The id of the first submit.
pub(super) const FIRST_SHARE: u64 = 16;
const EXTRANONCE2_MAX: usize = 16;
/// The maximum number of hashes for one share. At 2^-26 a share takes about 64; with far more, the
/// tool would measure itself.
const HASHES_MAX: u32 = 1 << 14;

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::arithmetic::parse_bytes;
    use crate::load::job::Mark;

    fn habits(version_rolling: bool) -> Habits {
        Habits { worker: "w.".into(), password: "x".into(), version_rolling }
    }

    fn hear(miner: &mut Miner, line: &str, habits: &Habits) -> String {
        let mut out = Vec::new();
        let line = Line::parse(line.as_bytes()).unwrap();
        if line.method.is_empty() {
            assert_eq!(miner.answered(&line, habits, &mut out), Step::Goes);
        } else {
            miner.told(&line, &mut out);
        }
        String::from_utf8(out).unwrap()
    }

    fn job(number: u32) -> Rc<Job> {
        Rc::new(Job::new(Mark { run: 1, pool: 0, number }, 3, 12, 7, &mut StdRng::seed_from_u64(1)))
    }

    /// A miner with a job at difficulty 2^-28.
    fn ready(habits: &Habits) -> Miner {
        let mut miner = Miner::new(7);
        let mut out = Vec::new();
        miner.greet(habits, &mut out);
        if habits.version_rolling {
            let granted = r#"{"id":1,"result":{"version-rolling":true,"version-rolling.mask":"0fffe000"},"error":null}"#;
            assert!(hear(&mut miner, granted, habits).contains("mining.subscribe"));
        }
        let authorize =
            hear(&mut miner, r#"{"id":2,"result":[[],"01020304",8],"error":null}"#, habits);
        assert_eq!(
            authorize,
            "{\"id\":3,\"method\":\"mining.authorize\",\"params\":[\"w.7\",\"x\"]}\n"
        );
        assert!(!miner.is_ready());
        hear(&mut miner, r#"{"id":3,"result":true,"error":null}"#, habits);
        hear(
            &mut miner,
            r#"{"method":"mining.set_difficulty","params":[0.0000000037252902984619140625]}"#,
            habits,
        );
        miner.take(job(1));
        assert!(miner.is_ready());
        miner
    }

    #[test]
    fn its_shares_are_real_and_never_the_same() {
        for rolling in [true, false] {
            let habits = habits(rolling);
            let mut miner = ready(&habits);
            let target = Target::of_difficulty(2_f64.powi(-28)).unwrap();
            let mut hashes = std::collections::HashSet::new();
            for id in 0..64 {
                if id == 32 {
                    // The same job comes again under a new job id of a proxy: no work may be done
                    // twice.
                    miner.take(job(1));
                }
                let mut out = Vec::new();
                miner.share(id, &habits, &mut Vec::new(), &mut out).unwrap();
                let message: serde_json::Value = serde_json::from_slice(&out).unwrap();
                let text = |index: usize| message["params"][index].as_str();
                assert_eq!(
                    (text(0), text(1), text(2)),
                    (Some("w.7"), Some("1"), Some("0000000000000000"))
                );
                let number = |index: usize| parse_u32(text(index).unwrap()).unwrap();
                let version =
                    if rolling { (0x2000_0000 & !0x0fff_e000) | number(5) } else { 0x2000_0000 };
                assert_eq!(text(5).is_some(), rolling);
                let extranonce2 = parse_bytes(text(2).unwrap()).unwrap();
                let root = job(1).merkle_root([&[1, 2, 3, 4], &extranonce2], &mut Vec::new());
                let hash = job(1).header(root, version, number(3), number(4)).hash();
                assert!(target.met_by(&hash));
                assert!(hashes.insert(hash));
            }
        }
    }

    #[test]
    fn a_difficulty_counts_from_the_next_job_on_and_one_too_hard_is_said() {
        let habits = habits(false);
        let mut miner = ready(&habits);
        hear(&mut miner, r#"{"method":"mining.set_difficulty","params":[65536]}"#, &habits);
        let share = |miner: &mut Miner| miner.share(1, &habits, &mut Vec::new(), &mut Vec::new());
        assert_eq!(share(&mut miner), Ok(()), "the job in hand keeps its own");
        miner.take(job(2));
        assert_eq!(share(&mut miner), Err(NoShare::TooHard));
        assert_eq!(share(&mut Miner::new(1)), Err(NoShare::NoWork));
    }

    #[test]
    fn questions_are_answered() {
        let habits = habits(true);
        let mut miner = ready(&habits);
        let pong = hear(&mut miner, r#"{"id":"a","method":"mining.ping","params":[]}"#, &habits);
        assert_eq!(pong, "{\"id\":\"a\",\"result\":\"pong\",\"error\":null}\n");
        hear(
            &mut miner,
            r#"{"id":null,"method":"mining.set_version_mask","params":["00006000"]}"#,
            &habits,
        );
        assert_eq!(miner.mask, 0x6000);
        let refused = Line::parse(br#"{"id":3,"result":false}"#).unwrap();
        let mut new = Miner { stage: Stage::Authorizing, ..Miner::new(1) };
        assert_eq!(new.answered(&refused, &habits, &mut Vec::new()), Step::Refused);
    }
}
