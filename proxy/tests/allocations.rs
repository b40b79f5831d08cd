//! Bounds the allocations of a submit in a session, so that they do not grow unnoticed.

use allocation_counter::measure;
use proxy::bench_support::SessionBench;

const SHARES: usize = 16;

/// The average number of allocations per submit, over the first sixteen of a job.
fn per_share(forwarded: bool) -> f64 {
    let mut session = SessionBench::new(forwarded, daemon::clock::now());
    // During the first job, buffers grow that are kept later.
    for line in session.job(SHARES) {
        session.submit(&line);
    }
    let lines = session.job(SHARES);
    let mut written = 0;
    let counted = measure(|| written = lines.iter().map(|line| session.submit(line)).sum());
    assert!(written >= SHARES * 20, "every submit was answered: {written} bytes");
    counted.count_total as f64 / SHARES as f64
}

#[test]
fn a_submit_through_a_session_allocates_next_to_nothing() {
    let (local, forwarded) = (per_share(false), per_share(true));
    assert!(local <= LOCAL_MAX, "{local} allocations for a local share");
    assert!(forwarded <= FORWARDED_MAX, "{forwarded} allocations for a forwarded share");
}

/// The maximum for a share that the proxy answers: one allocation, and sometimes another one when
/// the record of the job's shares grows.
const LOCAL_MAX: f64 = 1.5;
/// The maximum for a forwarded share: one allocation more, for the queue of owed answers, which is
/// freed when nothing is owed, because the memory of ten thousand idle sessions matters more.
const FORWARDED_MAX: f64 = 2.5;
