//! Parsing and judging a share must not allocate: ten thousand miners send thousands of shares a
//! second.

use allocation_counter::measure;
use stratum::client_message::{Call, ClientLine, parse_client};
use stratum::difficulty::{Difficulty, Target};
use stratum::job::Job;
use stratum::share::{decode, prove};
use stratum::version::VersionMask;

/// How many allocations a share with two escaped strings may take; no firmware sends one.
const ODD_MAX: u64 = 6;

fn job(branches: usize) -> Job {
    Job {
        job_id: "1".into(),
        prev_hash: [7; 32],
        coinb1: vec![1; 64],
        coinb2: vec![2; 260],
        branches: vec![[9; 32]; branches],
        version: 0x2000_0000,
        nbits: 0x1703_1abe,
        ntime: 0x6746_a5c8,
        clean: true,
    }
}

/// Parses and judges a share; returns whether it was accepted.
fn validate(line: &[u8], job: &Job, target: &Target) -> bool {
    let Ok(Some(ClientLine::Call { call: Ok(Call::Submit(submit)), .. })) = parse_client(line)
    else {
        return false;
    };
    let Ok(share) = decode(&submit, 4) else { return false };
    let middle: [&[u8]; 3] = [&[0xaa; 4], &[1, 2, 3], &[0x5c]];
    prove(job, &middle, &share, Some(VersionMask::BIP320), target).is_ok()
}

#[test]
fn a_share_is_validated_without_an_allocation() {
    let target = Difficulty::new(1e-12).unwrap().target();
    // The forms firmware uses: numbers and strings as ids, version bits in capitals, spaces.
    let lines: [&[u8]; 3] = [
        br#"{"id":4711,"method":"mining.submit","params":["acme.rack3-17","1","00000001","6746a5c8","9a4e2c01","00c0e000"]}"#,
        br#"{"params": ["acme.rack3-17", "1", "00000001", "6746A5C8", "9A4E2C01", "00C0E000"], "id": "s17", "method": "mining.submit"}"#,
        br#"{"id": 4, "method": "mining.submit", "params": ["w", "1", "00000001", "6746a5c8", "1", "00000000"]}"#,
    ];
    for branches in [0, 12, 32] {
        let job = job(branches);
        for line in lines {
            let mut good = false;
            let counted = measure(|| good = validate(line, &job, &target));
            let text = String::from_utf8_lossy(line);
            assert!(good, "{text}");
            assert_eq!(counted.count_total, 0, "{text}");
        }
    }
}

#[test]
fn bad_shares_cost_no_more_than_good_ones() {
    let (job, target) = (job(12), Difficulty::ONE.target());
    let lines: [&[u8]; 3] = [
        br#"{"id":1,"method":"mining.submit","params":["acme.rack3-17","1","00000001","6746a5c8","9a4e2c01","00c0e000"]}"#,
        br#"{"id":1,"method":"mining.submit","params":["acme.rack3-17","1","00","6746a5c8","9a4e2c01","00c0e000"]}"#,
        br#"{"id":1,"method":"mining.submit","params":["acme.rack3-17","1","00000001","zz","9a4e2c01"]}"#,
    ];
    for line in lines {
        let mut good = true;
        let counted = measure(|| good = validate(line, &job, &target));
        let text = String::from_utf8_lossy(line);
        assert!(!good, "{text}");
        assert_eq!(counted.count_total, 0, "{text}");
    }
}

/// Resolving escapes needs an allocation. This test also shows that allocations are counted.
#[test]
fn an_escaped_share_costs_its_escapes() {
    let target = Difficulty::new(1e-12).unwrap().target();
    let line: &[u8] = br#"{"id":1,"method":"mining.submit","params":["acme.\u0072ack","1","0000000\u0031","6746a5c8","9a4e2c01","00c0e000"]}"#;
    let job = job(12);
    let mut good = false;
    let counted = measure(|| good = validate(line, &job, &target));
    assert!(good);
    assert!((1..=ODD_MAX).contains(&counted.count_total), "{} allocations", counted.count_total);
    assert_eq!(counted.count_current, 0, "nothing is kept");
}
