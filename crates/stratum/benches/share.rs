//! Measures one share (parse the submit, judge it) and one job (parse the notify, render it).

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use stratum::client_message::{Call, ClientLine, parse_client};
use stratum::difficulty::{Difficulty, Target};
use stratum::job::Job;
use stratum::pool_message::parse_pool;
use stratum::server_message::render_notify;
use stratum::share::{Proof, Share, decode, prove};
use stratum::version::VersionMask;

const SUBMIT: &[u8] = br#"{"id":4711,"method":"mining.submit","params":["acme.rack3-17","4b1d0f2a","00000001","6746a5c8","9a4e2c01","00c0e000"]}"#;

/// A job of usual size: twelve branches, 1.6 kB on the wire.
fn job() -> Job {
    Job {
        job_id: "4b1d0f2a".into(),
        prev_hash: [7; 32],
        coinb1: vec![1; 64],
        coinb2: vec![2; 260],
        branches: (0..12).map(|index| [index; 32]).collect(),
        version: 0x2000_0000,
        nbits: 0x1703_1abe,
        ntime: 0x6746_a5c8,
        clean: true,
    }
}

fn read(line: &[u8]) -> Share {
    match parse_client(line) {
        Ok(Some(ClientLine::Call { call: Ok(Call::Submit(submit)), .. })) => {
            decode(&submit, 4).expect("all hex")
        }
        other => panic!("{other:?} is no submit"),
    }
}

fn judge(job: &Job, share: &Share, target: &Target) -> Proof {
    let middle: [&[u8]; 3] = [&[0xaa; 4], &[1, 2, 3], &[0x5c]];
    prove(job, &middle, share, Some(VersionMask::BIP320), target)
        .expect("every hash is good enough")
}

fn share(c: &mut Criterion) {
    let job = job();
    // Every hash meets this target, so that the path of an accepted share is measured.
    let target = Difficulty::new(1e-12).expect("positive").target();
    let share = read(SUBMIT);
    c.bench_function("parse a submit line", |b| b.iter(|| parse_client(black_box(SUBMIT))));
    c.bench_function("validate a share, 12 branches", |b| {
        b.iter(|| judge(black_box(&job), black_box(&share), &target));
    });
    c.bench_function("submit line to proof", |b| {
        b.iter(|| judge(black_box(&job), &read(black_box(SUBMIT)), &target));
    });
}

fn notify(c: &mut Criterion) {
    let job = job();
    let mut line = render_notify("4b1d0f2a", &job, &[]).to_vec();
    line.extend_from_slice(b"true]}");
    assert!(parse_pool(&line).is_ok_and(|line| line.is_some()), "a notify is read back");
    c.bench_function("render a notify", |b| {
        b.iter(|| render_notify(black_box("4b1d0f2a"), black_box(&job), &[9; 7]));
    });
    c.bench_function("read a notify", |b| b.iter(|| parse_pool(black_box(&line))));
}

criterion_group!(benches, share, notify);
criterion_main!(benches);
