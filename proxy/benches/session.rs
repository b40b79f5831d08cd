//! Measures one submit in a session: parsing its line, judging it, and writing the answer. A job
//! has sixteen shares, as with real machines.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use proxy::bench_support::SessionBench;

const SHARES: usize = 16;

fn step(c: &mut Criterion) {
    let mut group = c.benchmark_group("session");
    group.throughput(Throughput::Elements(SHARES as u64));
    for (name, forwarded) in
        [("16 shares, local", false), ("16 shares, forwarded and answered", true)]
    {
        group.bench_function(name, |b| {
            let setup = || {
                let mut session = SessionBench::new(forwarded, daemon::clock::now());
                let lines = session.job(SHARES);
                (session, lines)
            };
            b.iter_batched_ref(
                setup,
                |(session, lines)| {
                    lines.iter().map(|line| session.submit(black_box(line))).sum::<usize>()
                },
                BatchSize::SmallInput,
            );
        });
    }
}

criterion_group!(benches, step);
criterion_main!(benches);
