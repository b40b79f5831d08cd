//! The records of the miners: for each share, when it was sent and how it was answered; for each
//! job, which miners read it and when.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::load::job::Mark;
use crate::load::line::{Line, elements, mentions, number, text};
use crate::load::pool::POOLS;

/// The records of one run.
#[derive(Debug)]
pub(in crate::load) struct Books {
    from: Instant,
    shares: Vec<Share>,
    unanswered: u64,
    /// How many of the unanswered shares will get no answer, because their connection has ended.
    given_up: u64,
    pub(in crate::load) answered_true: u64,
    /// Refused shares, by code and message.
    pub(in crate::load) refused: BTreeMap<String, u64>,
    pub(in crate::load) stale: u64,
    /// Answers to a submit that was not sent, was another miner's, or was answered before.
    pub(in crate::load) odd_answers: u64,
    /// Shares that were due when there was no session to send them.
    pub(in crate::load) unsendable: u64,
    pub(in crate::load) disconnects: u64,
    pub(in crate::load) unreadable: u64,
    pub(in crate::load) foreign_jobs: u64,
    pub(in crate::load) reconnects_asked: u64,
    /// When any miner last read a job, even one it had before.
    pub(in crate::load) last_notify: Option<Instant>,
    /// For each pool, its jobs by number, and who read them.
    jobs: [Vec<Read>; POOLS],
    /// For each move of the miners between the pools: the new pool, and which miners have moved.
    moves: Vec<(u8, Read)>,
}

/// One share. Times are nanoseconds since the records were opened.
#[derive(Debug, Clone, Copy)]
struct Share {
    due: u64,
    sent: u64,
    answered: Option<std::num::NonZeroU64>,
    miner: u32,
}

/// Who has read a job.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::load) struct Read {
    pub(in crate::load) first: Option<Instant>,
    pub(in crate::load) last: Option<Instant>,
    pub(in crate::load) miners: usize,
}

impl Read {
    fn by_one_more(&mut self, at: Instant) {
        self.first.get_or_insert(at);
        self.last = Some(at);
        self.miners += 1;
    }
}

/// Spans of some shares.
#[derive(Debug, Default)]
pub(in crate::load) struct Spans {
    /// The time from writing a submit until its answer was read.
    pub(in crate::load) answers: Vec<Duration>,
    /// The time from when a share was due until its submit was written: the tool's own lateness.
    pub(in crate::load) late: Vec<Duration>,
}

impl Books {
    pub(in crate::load) const fn new(from: Instant) -> Self {
        Self {
            from,
            shares: Vec::new(),
            unanswered: 0,
            given_up: 0,
            answered_true: 0,
            refused: BTreeMap::new(),
            stale: 0,
            odd_answers: 0,
            unsendable: 0,
            disconnects: 0,
            unreadable: 0,
            foreign_jobs: 0,
            reconnects_asked: 0,
            last_notify: None,
            jobs: [const { Vec::new() }; POOLS],
            moves: Vec::new(),
        }
    }

    pub(in crate::load) fn submitted(&self) -> u64 {
        self.shares.len() as u64
    }

    pub(in crate::load) const fn unanswered(&self) -> u64 {
        self.unanswered
    }

    /// Shares whose answer may still come.
    pub(super) const fn awaited(&self) -> u64 {
        self.unanswered - self.given_up
    }

    /// Records that a ready miner's connection ended with `owed` shares unanswered.
    pub(super) fn lost(&mut self, owed: u32) {
        self.disconnects += 1;
        self.given_up += u64::from(owed);
    }

    pub(super) fn sent(&mut self, miner: usize, due: Instant, at: Instant) {
        let miner = u32::try_from(miner).expect("bounded by open files");
        self.shares.push(Share {
            due: self.nanos(due),
            sent: self.nanos(at),
            answered: None,
            miner,
        });
        self.unanswered += 1;
    }

    /// Records an answer. Returns `false` if none was awaited.
    pub(super) fn answered(
        &mut self,
        miner: usize,
        share: u64,
        line: &Line<'_>,
        at: Instant,
    ) -> bool {
        let nanos = self.nanos(at).max(1);
        let share = usize::try_from(share).ok().and_then(|share| self.shares.get_mut(share));
        let Some(share) =
            share.filter(|share| share.miner as usize == miner && share.answered.is_none())
        else {
            self.odd_answers += 1;
            return false;
        };
        share.answered = std::num::NonZeroU64::new(nanos);
        self.unanswered -= 1;
        if line.result == b"true" {
            self.answered_true += 1;
            return true;
        }
        let why = refusal(line);
        if why.starts_with("21 ")
            || mentions(why.as_bytes(), "stale")
            || mentions(why.as_bytes(), "job not found")
        {
            self.stale += 1;
        }
        // The texts of a peer that puts a number into each of them must not fill our memory.
        let why = if self.refused.len() < REFUSALS_MAX { why } else { "other".to_owned() };
        *self.refused.entry(why).or_default() += 1;
        true
    }

    pub(super) fn read_job(&mut self, mark: Mark, at: Instant) {
        let jobs = &mut self.jobs[usize::from(mark.pool)];
        let index = mark.number as usize;
        if index >= jobs.len() {
            jobs.resize(index + 1, Read::default());
        }
        jobs[index].by_one_more(at);
    }

    /// Records that a miner which had jobs of the other pool has a job of pool `to`.
    pub(super) fn moved(&mut self, to: u8, at: Instant) {
        match self.moves.last_mut() {
            Some((pool, read)) if *pool == to => read.by_one_more(at),
            _ => {
                let mut read = Read::default();
                read.by_one_more(at);
                self.moves.push((to, read));
            }
        }
    }

    /// Who has read a job.
    pub(in crate::load) fn job(&self, mark: Mark) -> Read {
        self.jobs[usize::from(mark.pool)].get(mark.number as usize).copied().unwrap_or_default()
    }

    /// Tells whether the newest job any miner has read was read by `miners`.
    pub(in crate::load) fn newest_was_read_by(&self, miners: usize) -> bool {
        self.jobs.iter().all(|jobs| jobs.last().is_none_or(|read| read.miners >= miners))
    }

    /// For each move of the miners between the pools, in order: the new pool, and which miners have
    /// moved.
    pub(in crate::load) fn moves(&self) -> impl Iterator<Item = (usize, Read)> {
        self.moves.iter().map(|(to, read)| (usize::from(*to), *read))
    }

    /// The spans of all shares from number `from` on.
    pub(in crate::load) fn spans(&self, from: u64) -> Spans {
        let mut spans = Spans::default();
        for share in self.shares.iter().skip(usize::try_from(from).unwrap_or(usize::MAX)) {
            spans.late.push(Duration::from_nanos(share.sent.saturating_sub(share.due)));
            if let Some(answered) = share.answered {
                spans.answers.push(Duration::from_nanos(answered.get().saturating_sub(share.sent)));
            }
        }
        spans
    }

    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.from).as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The code and the text of a refusal, in any of the forms that peers use.
fn refusal(line: &Line<'_>) -> String {
    let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).chars().take(80).collect::<String>();
    if !line.reject_reason.is_empty() {
        return words(line.reject_reason);
    }
    if let Some(words_only) = text(line.error) {
        return words(words_only);
    }
    let mut parts = elements(line.error);
    match (parts.next().and_then(number), parts.next().and_then(text)) {
        (Some(code), Some(why)) => format!("{code} {}", words(why)),
        _ => words(line.error),
    }
}

const REFUSALS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(books: &mut Books, share: u64, line: &str) {
        books.answered(
            3,
            share,
            &Line::parse(line.as_bytes()).unwrap(),
            books.from + Duration::from_millis(5),
        );
    }

    #[test]
    fn every_form_of_refusal_is_counted_once() {
        let from = crate::clock::now();
        let mut books = Books::new(from);
        for _ in 0..6 {
            books.sent(3, from, from + Duration::from_millis(2));
        }
        answer(&mut books, 0, r#"{"id":16,"result":true,"error":null}"#);
        answer(&mut books, 1, r#"{"id":17,"result":null,"error":[21,"job not found",null]}"#);
        answer(&mut books, 2, r#"{"reject-reason":"Stale","result":false,"error":null,"id":18}"#);
        answer(&mut books, 3, r#"{"result":false,"error":"No nonce","id":19}"#);
        answer(&mut books, 4, r#"{"result":null,"error":{"code":23,"message":"low"},"id":20}"#);
        assert_eq!((books.answered_true, books.stale, books.unanswered()), (1, 2, 1));
        let refused: Vec<&str> = books.refused.keys().map(String::as_str).collect();
        assert_eq!(
            refused,
            ["21 job not found", "No nonce", "Stale", r#"{"code":23,"message":"low"}"#]
        );
        answer(&mut books, 4, r#"{"id":20,"result":true}"#);
        answer(&mut books, 99, r#"{"id":115,"result":true}"#);
        books.answered(4, 5, &Line::parse(br#"{"id":21,"result":true}"#).unwrap(), from);
        assert_eq!(
            (books.odd_answers, books.unanswered()),
            (3, 1),
            "twice, to nothing, to another"
        );
        let spans = books.spans(1);
        assert_eq!((spans.answers.len(), spans.late.len()), (4, 5));
        assert_eq!(
            (spans.answers[0], spans.late[0]),
            (Duration::from_millis(3), Duration::from_millis(2))
        );
    }

    #[test]
    fn miners_that_go_to_and_fro_are_counted_each_time() {
        let from = crate::clock::now();
        let mut books = Books::new(from);
        for (pool, after) in [(1, 1), (1, 5), (0, 9)] {
            books.moved(pool, from + Duration::from_millis(after));
        }
        let moves: Vec<_> =
            books.moves().map(|(to, read)| (to, read.miners, read.last.unwrap() - from)).collect();
        assert_eq!(moves, [(1, 2, Duration::from_millis(5)), (0, 1, Duration::from_millis(9))]);
    }

    #[test]
    fn a_job_is_read_when_the_last_has_it() {
        let from = crate::clock::now();
        let mut books = Books::new(from);
        let mark = Mark { run: 1, pool: 1, number: 2 };
        assert!(books.newest_was_read_by(2));
        books.read_job(mark, from);
        assert!(!books.newest_was_read_by(2));
        books.read_job(mark, from + Duration::from_millis(4));
        assert!(books.newest_was_read_by(2));
        let read = books.job(mark);
        assert_eq!(
            (read.miners, read.last.unwrap() - read.first.unwrap()),
            (2, Duration::from_millis(4))
        );
        assert_eq!(books.job(Mark { number: 9, ..mark }).miners, 0);
    }
}
