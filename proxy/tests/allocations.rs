//! A submit's way through a session allocates next to nothing: what it does is bounded here, so
//! that it does not creep up.

use allocation_counter::measure;
use proxy::bench_support::SessionBench;

const SHARES: usize = 16;

/// Allocations of one submit, on average over a job's first sixteen.
fn per_share(forwarded: bool) -> f64 {
    let mut session = SessionBench::new(forwarded, daemon::clock::now());
    // The first job lets buffers grow that are kept.
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

/// One, and now and then one more where what is remembered of the job's shares has to grow.
const LOCAL_MAX: f64 = 1.5;
/// And one for what is owed, whose queue is given back when nothing is: ten thousand idle sessions
/// count for more.
const FORWARDED_MAX: f64 = 2.5;
