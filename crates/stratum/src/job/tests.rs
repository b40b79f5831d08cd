use super::*;
use crate::pool_message::{PoolLine, parse_pool};
use bitcoin::hashes::hex::FromHex;

/// The coinbase of block 1. No pool split it: here everything but the last byte is coinb1, and the
/// last byte is coinb2.
const BLOCK_1_COINBASE: &str = "01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff0704ffff001d0104ffffffff0100f2052a0100000043410496b538e853519c726a2c91e61ec11600ae1390813a627c66fb8be7947be63c52da7589379515d4e0a604f8141781e62294721166bf621e73a82cbf2342c858eeac00000000";
const BLOCK_1_HEADER: &str = "010000006fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000982051fd1e4ba744bbbe680e1fee14677ba1a3c3540bf7b1cdb606e857233e0e61bc6649ffff001d01e36299";
/// Block 170 holds the first payment. It has two transactions, so there is one merkle branch.
const BLOCK_170_COINBASE: &str = "01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff0704ffff001d0102ffffffff0100f2052a01000000434104d46c4968bde02899d2aa0963367c7a6ce34eec332b32e42e5f3407e052d64ac625da6f0718e7b302140434bd725706957c092db53805b821a85b23a7ac61725bac00000000";
const BLOCK_170_HEADER: &str = "0100000055bd840a78798ad0da853f68974f3d183e2bd1db6a842c1feecf222a00000000ff104ccb05421ab93e63f8c3ce5c2c2e9dbb37de2764b3a3175c8166562cac7d51b96a49ffff001d283e9e70";
const BLOCK_170_PAYMENT: &str = "f4184fc596403b9d638783cf57adfe4c75c605f6356fbc91338530e9831e9e16";

fn bytes(digits: &str) -> Vec<u8> {
    Vec::from_hex(digits).unwrap()
}

fn header(digits: &str) -> [u8; 80] {
    bytes(digits).try_into().unwrap()
}

fn word(header: &[u8; 80], at: usize) -> u32 {
    u32::from_le_bytes(header[at..at + 4].try_into().unwrap())
}

/// The job a pool would have sent for a block; four bytes in the middle of its coinbase are taken
/// as the extranonce.
fn job_of(header: &[u8; 80], coinbase: &[u8], branches: Vec<[u8; 32]>) -> (Job, [u8; 4]) {
    let job = Job {
        job_id: "1".to_owned(),
        prev_hash: header[4..36].try_into().unwrap(),
        coinb1: coinbase[..42].to_vec(),
        coinb2: coinbase[46..].to_vec(),
        branches,
        version: word(header, 0),
        nbits: word(header, 72),
        ntime: word(header, 68),
        clean: true,
    };
    (job, coinbase[42..46].try_into().unwrap())
}

fn assert_mined(job: &Job, extranonce: &[&[u8]], expected: &[u8; 80], block_hash: &str) {
    let root = job.merkle_root(extranonce);
    let header = job.header(&root, job.version, job.ntime, word(expected, 76));
    assert_eq!(header, *expected);
    let hash = sha256d::Hash::hash(&header);
    assert_eq!(hash.to_string().len(), 64);
    let mut displayed = bytes(block_hash);
    displayed.reverse();
    assert_eq!(hash.to_byte_array().to_vec(), displayed);
    assert!(job.network_target().is_met_by(&hash.to_byte_array()));
}

#[test]
fn the_genesis_block_is_rebuilt_from_its_coinbase() {
    let genesis = bitcoin::constants::genesis_block(bitcoin::Network::Bitcoin);
    let header: [u8; 80] = bitcoin::consensus::serialize(&genesis.header).try_into().unwrap();
    let coinbase = bitcoin::consensus::serialize(&genesis.txdata[0]);
    let (job, extranonce) = job_of(&header, &coinbase, Vec::new());
    assert_mined(
        &job,
        &[&extranonce],
        &header,
        "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f",
    );
}

#[test]
fn block_1_is_rebuilt_from_its_coinbase() {
    let (job, extranonce) = job_of(&header(BLOCK_1_HEADER), &bytes(BLOCK_1_COINBASE), Vec::new());
    let hash = "00000000839a8e6886ab5951d76f411475428afc90947ee320161bbf18eb6048";
    assert_mined(&job, &[&extranonce], &header(BLOCK_1_HEADER), hash);
    // The coinbase does not depend on how the extranonce is divided into parts.
    assert_mined(
        &job,
        &[&extranonce[..1], &extranonce[1..3], &[], &extranonce[3..]],
        &header(BLOCK_1_HEADER),
        hash,
    );
}

#[test]
fn block_170_is_rebuilt_through_a_merkle_branch() {
    let mut branch: [u8; 32] = bytes(BLOCK_170_PAYMENT).try_into().unwrap();
    branch.reverse();
    let (job, extranonce) =
        job_of(&header(BLOCK_170_HEADER), &bytes(BLOCK_170_COINBASE), vec![branch]);
    assert_mined(
        &job,
        &[&extranonce],
        &header(BLOCK_170_HEADER),
        "00000000d1145790a8694403d4063f323d499e655c83426834d4ce2f8dd4a2ee",
    );
}

#[test]
fn block_125552_hashes_to_what_the_network_recorded() {
    let root: [u8; 32] = bytes("e320b6c2fffc8d750423db8b1eb942ae710e951ed797f7affc8892b0f1fc122b")
        .try_into()
        .unwrap();
    let prev_hash = bytes("81cd02ab7e569e8bcd9317e2fe99f2de44d49ab2b8851ba4a308000000000000")
        .try_into()
        .unwrap();
    let job = Job {
        job_id: "1".to_owned(),
        prev_hash,
        coinb1: vec![1],
        coinb2: vec![2],
        branches: Vec::new(),
        version: 1,
        nbits: 0x1a44_b9f2,
        ntime: 0x4dd7_f5c7,
        clean: false,
    };
    let hash = sha256d::Hash::hash(&job.header(&root, 1, 0x4dd7_f5c7, 0x9546_a142)).to_byte_array();
    let mut displayed = bytes("00000000000000001e8d6829a8a21adc5d38d0a473b144b6765798e61f98bd1d");
    displayed.reverse();
    assert_eq!(hash.to_vec(), displayed);
    assert!(job.network_target().is_met_by(&hash));
    let mut worse = hash;
    worse[31] = 1;
    assert!(!job.network_target().is_met_by(&worse));
}

/// A notify with good params, some of them replaced by `changes` (index, JSON text).
fn notify(changes: &[(usize, &str)]) -> Result<Job, BadNotify> {
    let mut params = vec![
        "\"j1\"".to_owned(),
        format!("\"{}\"", "0011223344556677".repeat(4)),
        "\"01000000ff\"".to_owned(),
        "\"0a6363\"".to_owned(),
        format!("[\"{}\"]", "ab".repeat(32)),
        "\"20000000\"".to_owned(),
        "\"1703255b\"".to_owned(),
        "\"6b02d5f2\"".to_owned(),
        "true".to_owned(),
    ];
    for (at, value) in changes {
        match params.get_mut(*at) {
            Some(param) => *param = (*value).to_owned(),
            None => params.push((*value).to_owned()),
        }
    }
    params.retain(|param| !param.is_empty());
    read(&params.join(","))
}

fn read(params: &str) -> Result<Job, BadNotify> {
    let line = format!("{{\"id\":null,\"method\":\"mining.notify\",\"params\":[{params}]}}");
    match parse_pool(line.as_bytes()).unwrap().unwrap() {
        PoolLine::Notify(job) => job,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_notify_is_read_into_header_order() {
    let job = notify(&[]).unwrap();
    assert_eq!(job.prev_hash[..8], [0x33, 0x22, 0x11, 0x00, 0x77, 0x66, 0x55, 0x44]);
    assert_eq!(
        (job.job_id.as_str(), job.version, job.nbits, job.ntime, job.clean),
        ("j1", 0x2000_0000, 0x1703_255b, 0x6b02_d5f2, true)
    );
    assert_eq!(
        (job.coinb1, job.coinb2, job.branches),
        (vec![1, 0, 0, 0, 0xff], vec![0x0a, 0x63, 0x63], vec![[0xab; 32]])
    );
}

#[test]
fn u20_only_nine_params_and_known_extensions_are_a_job() {
    assert_eq!(read(""), Err(BadNotify::ParamCount { count: 0 }));
    assert_eq!(notify(&[(8, "")]), Err(BadNotify::ParamCount { count: 8 }));
    assert!(!notify(&[(8, "false"), (9, "\"extra\"")]).unwrap().clean);
    assert!(!notify(&[(8, "\"extra\""), (9, "false")]).unwrap().clean);
    assert_eq!(notify(&[(8, "\"a\""), (9, "\"b\"")]), Err(BadNotify::ParamCount { count: 10 }));
    let many: Vec<(usize, &str)> = (9..40).map(|at| (at, "true")).collect();
    assert_eq!(notify(&many), Err(BadNotify::ParamCount { count: 40 }));
    let line = br#"{"id":null,"method":"mining.notify"}"#;
    assert_eq!(
        parse_pool(line).unwrap().unwrap(),
        PoolLine::Notify(Err(BadNotify::ParamCount { count: 0 }))
    );
}

#[test]
fn u21_to_u24_fields_of_the_wrong_length_or_alphabet_bring_no_job() {
    let hash = |digits: usize| format!("\"{}\"", "a".repeat(digits));
    let (short, long, even) = (hash(63), hash(65), hash(62));
    let huge = format!("\"{}\"", "ab".repeat(COINBASE_PART_MAX + 1));
    let branch = format!("[{short}]");
    let prefixed = format!("\"0x{}\"", "a".repeat(62));
    let cases: [(usize, &str, &[&str]); 7] = [
        (1, "prevhash", &[&short, &long, &even, &prefixed, "null", "7", "\"\""]),
        (2, "coinb1", &["\"\"", "\"abc\"", "\"zz\"", "null", &huge]),
        (3, "coinb2", &["\"\"", "\"abc\"", "\"0x00\"", "[]", &huge]),
        (4, "merkle_branch", &[&branch, "\"\"", "null", "[null]", "[[]]"]),
        (
            5,
            "version",
            &["\"2000000\"", "\"200000000\"", "\"2000000g\"", "536870912", "\"0x200000\""],
        ),
        (6, "nbits", &["\"1703255\"", "\"01703255b\"", "\"+703255b\"", "null"]),
        (7, "ntime", &["\"6b02d5f\"", "\"06b02d5f2\"", "\" b02d5f2\"", "1"]),
    ];
    for (at, field, bad) in cases {
        for value in bad {
            assert_eq!(notify(&[(at, value)]), Err(BadNotify::Field { field }), "{value:.80}");
        }
    }
}

#[test]
fn u22_up_to_32_branches_are_taken() {
    let list =
        |count: usize| format!("[{}]", vec![format!("\"{}\"", "cd".repeat(32)); count].join(","));
    assert_eq!(notify(&[(4, "[]")]).unwrap().branches.len(), 0);
    assert_eq!(notify(&[(4, &list(32))]).unwrap().branches.len(), 32);
    for count in [33, 64, 65, 10_000] {
        assert_eq!(notify(&[(4, &list(count))]), Err(BadNotify::Branches { count }));
    }
}

#[test]
fn u25_impossible_targets_bring_no_job() {
    for (digits, nbits) in [
        ("00000000", 0),
        ("1d80ffff", 0x1d80_ffff),
        ("ff123456", 0xff12_3456),
        ("217fffff", 0x217f_ffff),
    ] {
        assert_eq!(notify(&[(6, &format!("\"{digits}\""))]), Err(BadNotify::Nbits { nbits }));
    }
}

#[test]
fn u26_job_ids_are_short_and_plain() {
    for good in ["\"0xc01490b3b0_184\"", "\"a\"", "\"job\\u0031\"", "\"a b\""] {
        assert!(notify(&[(0, good)]).is_ok(), "{good}");
    }
    let long = format!("\"{}\"", "x".repeat(65));
    for bad in ["\"\"", "\"a\\\"b\"", "\"a\\nb\"", "\"a\\\\b\"", "\"é\"", "7", "null", &long] {
        assert_eq!(notify(&[(0, bad)]), Err(BadNotify::Field { field: "job_id" }), "{bad}");
    }
}

#[test]
fn u27_any_time_is_served() {
    for digits in ["00000000", "ffffffff"] {
        assert!(notify(&[(7, &format!("\"{digits}\""))]).is_ok());
    }
}

#[test]
fn u29_a_clean_flag_that_says_neither_counts_as_clean() {
    for (flag, clean) in [
        ("true", true),
        ("false", false),
        ("0", false),
        ("1", true),
        ("\"true\"", true),
        ("\"false\"", true),
        ("null", true),
        ("2", true),
    ] {
        assert_eq!(notify(&[(8, flag)]).unwrap().clean, clean, "{flag}");
    }
}

#[test]
fn a_job_made_by_hand_with_impossible_nbits_is_never_solved() {
    let job = Job { nbits: 0, ..notify(&[]).unwrap() };
    assert_eq!(job.network_target(), Target::NEVER);
}
