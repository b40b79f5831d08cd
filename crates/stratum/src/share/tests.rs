use std::borrow::Cow;

use super::*;
use crate::difficulty::Difficulty;

fn hex(digits: &str) -> Word<'_> {
    Word::Hex(Cow::Borrowed(digits))
}

fn submit<'a>(extranonce2: &'a str, ntime: &'a str, nonce: &'a str) -> Submit<'a> {
    Submit {
        worker: "u".into(),
        job_id: "j".into(),
        extranonce2: extranonce2.into(),
        ntime: hex(ntime),
        nonce: hex(nonce),
        version_bits: None,
    }
}

fn fault(submit: &Submit<'_>) -> ShareFault {
    let fault = decode(submit, 4).unwrap_err();
    assert_eq!(fault.code(), RejectCode::Other);
    fault
}

/// A job with version bit 23 set, which is inside the mask.
fn job() -> Job {
    Job {
        job_id: "j".to_owned(),
        prev_hash: [3; 32],
        coinb1: vec![1; 60],
        coinb2: vec![2; 90],
        branches: vec![[4; 32], [5; 32]],
        version: 0x2080_0000,
        nbits: 0x1703_255b,
        ntime: 1_000_000,
        clean: true,
    }
}

fn share(nonce: u32, version_bits: Option<u32>) -> Share {
    Share {
        extranonce2: SmallBytes::new(&[1, 2, 3, 4]).unwrap(),
        ntime: 1_000_000,
        nonce,
        version_bits,
    }
}

const MASK: Option<VersionMask> = Some(VersionMask::BIP320);
const ANY: Target = Target::from_le_bytes([0xff; 32]);

fn hash_of(version: u32, nonce: u32) -> [u8; 32] {
    let job = job();
    let root = job.merkle_root(&[&[9, 9], &[1, 2, 3, 4]]);
    sha256d::Hash::hash(&job.header(&root, version, 1_000_000, nonce)).to_byte_array()
}

/// A nonce with which the first version's hash is lower than the second's.
fn nonce_for(lower: u32, higher: u32) -> u32 {
    let is_lower = |nonce: &u32| {
        Target::from_le_bytes(hash_of(lower, *nonce))
            < Target::from_le_bytes(hash_of(higher, *nonce))
    };
    (0..100).find(is_lower).unwrap()
}

#[test]
fn s41_every_spelling_of_a_share_decodes_to_the_same_values() {
    let lower = decode(&submit("0a0b0c0d", "000f4240", "deadbeef"), 4).unwrap();
    let upper = decode(&submit("0A0B0C0D", "000F4240", "DEADBEEF"), 4).unwrap();
    let mut numbers = submit("0a0b0c0d", "f4240", "");
    numbers.nonce = Word::Number(Some(0xdead_beef));
    assert_eq!(lower, upper);
    assert_eq!(lower, decode(&numbers, 4).unwrap());
    assert_eq!(
        (lower.extranonce2.as_slice(), lower.ntime, lower.nonce),
        (&[10, 11, 12, 13][..], 1_000_000, 0xdead_beef)
    );
}

#[test]
fn s42_extranonce2_that_is_not_hex_is_refused() {
    for bad in ["0a0b0czz", "0a0b0c0d ", " a0b0c0d", "0x0b0c0d", "0a0b0c0\u{ff10}", "0a0b0c0d\0"] {
        assert_eq!(fault(&submit(bad, "1", "1")), ShareFault::BadHex, "{bad}");
    }
}

#[test]
fn s43_extranonce2_of_another_length_is_refused() {
    for bad in ["", "0", "0a0b0c", "0a0b0c0", "0a0b0c0d0", "0a0b0c0d0e", &"00".repeat(250)] {
        assert_eq!(fault(&submit(bad, "1", "1")), ShareFault::BadExtranonce2, "{bad}");
    }
    assert_eq!(decode(&submit(&"00".repeat(16), "1", "1"), 16).unwrap().extranonce2.len(), 16);
    assert_eq!(
        decode(&submit(&"00".repeat(17), "1", "1"), 17).unwrap_err(),
        ShareFault::BadExtranonce2
    );
}

#[test]
fn s46_s47_s63_short_words_are_padded_and_others_refused() {
    assert_eq!(decode(&submit("00000000", "1", "1234567"), 4).unwrap().nonce, 0x0123_4567);
    for bad in ["", "123456789", "1234567812345678"] {
        assert_eq!(fault(&submit("00000000", "1", bad)), ShareFault::BadNonce, "{bad}");
        assert_eq!(fault(&submit("00000000", bad, "1")), ShareFault::BadNtime, "{bad}");
    }
    for bad in ["gggggggg", "+1234567", "0x123456", "-1", "1 "] {
        assert_eq!(fault(&submit("00000000", "1", bad)), ShareFault::BadHex, "{bad}");
        assert_eq!(fault(&submit("00000000", bad, "1")), ShareFault::BadHex, "{bad}");
    }
    let mut bits = submit("00000000", "1", "1");
    bits.version_bits = Some(hex("000020000"));
    assert_eq!(fault(&bits), ShareFault::BadVersionBits);
    bits.version_bits = Some(Word::Number(None));
    assert_eq!(fault(&bits), ShareFault::BadVersionBits);
    bits.version_bits = Some(Word::Number(Some(8192)));
    assert_eq!(decode(&bits, 4).unwrap().version_bits, Some(0x2000));
}

#[test]
fn s60_to_s62_time_runs_from_the_jobs_to_7000_seconds_later() {
    let mut share = share(0, None);
    for (ntime, verdict) in [
        (999_999, Err(ShareFault::NtimeOutOfRange)),
        (1_000_000, Ok(())),
        (1_007_000, Ok(())),
        (1_007_001, Err(ShareFault::NtimeOutOfRange)),
        (0, Err(ShareFault::NtimeOutOfRange)),
        (u32::MAX, Err(ShareFault::NtimeOutOfRange)),
    ] {
        share.ntime = ntime;
        assert_eq!(prove(&job(), &[], &share, None, &ANY).map(drop), verdict, "{ntime}");
    }
    // The time of a job near the end of the 32-bit range does not overflow.
    let last = Job { ntime: u32::MAX - 1, ..job() };
    share.ntime = u32::MAX;
    assert!(prove(&last, &[], &share, None, &ANY).is_ok());
}

#[test]
fn s52_a_share_exactly_on_target_is_accepted_and_one_above_is_not() {
    let hash = proof_of(&job(), &[&[9, 9]], &share(7, None), None).unwrap().hash;
    assert!(prove(&job(), &[&[9, 9]], &share(7, None), None, &Target::from_le_bytes(hash)).is_ok());
    let mut below = hash;
    let borrow = below.iter().position(|byte| *byte > 0).unwrap();
    below[borrow] -= 1;
    below[..borrow].fill(0xff);
    let fault = prove(&job(), &[&[9, 9]], &share(7, None), None, &Target::from_le_bytes(below))
        .unwrap_err();
    assert_eq!((fault, fault.code()), (ShareFault::LowDifficulty, RejectCode::LowDifficulty));
}

#[test]
fn s45_random_nonces_miss_difficulty_one() {
    for nonce in 0..1000 {
        let fault =
            prove(&job(), &[], &share(nonce, None), None, &Difficulty::ONE.target()).unwrap_err();
        assert_eq!(fault.code().code(), 23);
    }
}

#[test]
fn s65_to_s67_version_bits_must_fit_what_was_negotiated() {
    let judge = |bits, mask| {
        prove(&job(), &[], &share(0, bits), mask, &ANY).map(|proof| proof.version_bits)
    };
    assert_eq!(judge(Some(0xe000_0000), MASK), Err(ShareFault::OutsideMask));
    assert_eq!(judge(Some(0x0000_1000), MASK), Err(ShareFault::OutsideMask));
    assert_eq!(
        judge(Some(0x0000_2000), Some(VersionMask(0xc0_0000))),
        Err(ShareFault::OutsideMask)
    );
    assert_eq!(judge(None, MASK), Err(ShareFault::VersionMissing));
    assert_eq!(judge(Some(0x2000), None), Err(ShareFault::OutsideMask));
    assert_eq!(judge(Some(0x2000), Some(VersionMask::NONE)), Err(ShareFault::OutsideMask));
    assert_eq!(judge(Some(0), None), Ok(None));
    assert_eq!(judge(None, Some(VersionMask::NONE)), Ok(None));
    assert_eq!(judge(None, None), Ok(None));
}

#[test]
fn bits_sent_unasked_are_judged_by_what_the_pool_rolls() {
    let pool = Some(VersionMask(0x5fff_e000));
    assert_eq!(mask_for(None, pool, &share(0, Some(0x2000))), MASK);
    assert_eq!(mask_for(None, pool, &share(0, None)), None);
    assert_eq!(mask_for(None, None, &share(0, Some(0x2000))), None);
    assert_eq!(
        mask_for(Some(VersionMask(0xc0_0000)), pool, &share(0, None)),
        Some(VersionMask(0xc0_0000))
    );
}

#[test]
fn bits_that_replace_the_jobs_are_found_and_forwarded() {
    let nonce = nonce_for(0x2000_2000, 0x2080_2000);
    let target = Target::from_le_bytes(hash_of(0x2000_2000, nonce));
    let proof = prove(&job(), &[&[9, 9]], &share(nonce, Some(0x2000)), MASK, &target).unwrap();
    assert_eq!((proof.rebuilt, proof.version_bits), (Rebuilt::Replaced, Some(0x2000)));
    assert_eq!(proof.header[..4], 0x2000_2000_u32.to_le_bytes());
    assert_eq!(proof_of(&job(), &[&[9, 9]], &share(nonce, Some(0x2000)), MASK), Ok(proof));
}

/// Stock Antminers leave out the bits that the job has set, so the header can only be rebuilt by
/// OR-ing. The forwarded bits must include the job's, so that pools of both kinds rebuild it.
#[test]
fn bits_that_add_to_the_jobs_are_found_and_forwarded_with_the_jobs_own() {
    let nonce = nonce_for(0x2080_2000, 0x2000_2000);
    let target = Target::from_le_bytes(hash_of(0x2080_2000, nonce));
    let proof = prove(&job(), &[&[9, 9]], &share(nonce, Some(0x2000)), MASK, &target).unwrap();
    assert_eq!((proof.rebuilt, proof.version_bits), (Rebuilt::Ored, Some(0x80_2000)));
    assert_eq!(proof.header[..4], 0x2080_2000_u32.to_le_bytes());
    assert_eq!(proof_of(&job(), &[&[9, 9]], &share(nonce, Some(0x2000)), MASK), Ok(proof));
    // The forwarded bits give the same header at a pool that replaces bits and at one that ORs
    // them.
    let forwarded =
        prove(&job(), &[&[9, 9]], &share(nonce, proof.version_bits), MASK, &target).unwrap();
    assert_eq!((forwarded.header, forwarded.rebuilt), (proof.header, Rebuilt::Plain));
}

#[test]
fn one_reading_is_plain() {
    let plain = Job { version: 0x2000_0000, ..job() };
    let proof = prove(&plain, &[], &share(0, Some(0x2000)), MASK, &ANY).unwrap();
    assert_eq!((proof.rebuilt, proof.version_bits), (Rebuilt::Plain, Some(0x2000)));
    assert_eq!(prove(&plain, &[], &share(0, Some(0)), MASK, &ANY).unwrap().version_bits, Some(0));
}

#[test]
fn a_share_whose_bits_fit_no_header_is_low_both_ways() {
    let best = proof_of(&job(), &[&[9, 9]], &share(1, Some(0x2000)), MASK).unwrap();
    let mut below = best.hash;
    below[31] = below[31].saturating_sub(1);
    assert!(below != best.hash);
    let reject =
        prove(&job(), &[&[9, 9]], &share(1, Some(0x2000)), MASK, &Target::from_le_bytes(below))
            .unwrap_err();
    assert_eq!(reject.code(), RejectCode::LowDifficulty);
}

#[test]
fn any_number_of_parts_makes_the_same_coinbase() {
    let whole = proof_of(&job(), &[&[1, 2, 3, 4, 5, 6]], &share(0, None), None).unwrap();
    for middle in [
        &[&[1, 2][..], &[3], &[4, 5, 6]][..],
        &[&[1], &[2], &[3], &[4], &[5], &[6]],
        &[&[], &[1, 2, 3, 4, 5, 6], &[], &[], &[]],
    ] {
        assert_eq!(proof_of(&job(), middle, &share(0, None), None).unwrap(), whole);
    }
    assert_ne!(proof_of(&job(), &[], &share(0, None), None).unwrap(), whole);
}
