use super::*;
use crate::pool_message::{PoolLine, PoolResult, parse_pool};
use proptest::prelude::*;

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

fn read(text: &str) -> PoolLine {
    let line = text.strip_suffix('\n').unwrap();
    assert!(!line.contains('\n'));
    parse_pool(line.as_bytes()).unwrap().unwrap()
}

fn job() -> Job {
    Job {
        job_id: "pool's".to_owned(),
        prev_hash: std::array::from_fn(|at| u8::try_from(at).unwrap()),
        coinb1: vec![1, 2, 3],
        coinb2: vec![0xfe, 0xff],
        branches: vec![[0xab; 32], [0xcd; 32]],
        version: 0x2000_0000,
        nbits: 0x1703_255b,
        ntime: 0x6b02_d5f2,
        clean: true,
    }
}

#[test]
fn answers_echo_the_id_and_always_have_three_keys() {
    let id = Id::from_raw("\"auth\"").unwrap();
    assert_eq!(
        written(|out| write_true(&id, out)),
        "{\"id\":\"auth\",\"result\":true,\"error\":null}\n"
    );
    assert_eq!(
        written(|out| write_error(&Id::number(4), RejectCode::JobNotFound, "Job not found", out)),
        "{\"id\":4,\"result\":null,\"error\":[21,\"Job not found\",null]}\n"
    );
    assert_eq!(
        written(|out| write_text(&Id::NULL, "a\"\n", out)),
        "{\"id\":null,\"result\":\"a\\\"\\n\",\"error\":null}\n"
    );
}

#[test]
fn a_subscription_is_answered_in_the_two_pair_form() {
    assert_eq!(
        written(|out| write_subscribed(&Id::number(1), "s1", &[7], 4, out)),
        "{\"id\":1,\"result\":[[[\"mining.set_difficulty\",\"s1\"],[\"mining.notify\",\"s1\"]],\"07\",4],\"error\":null}\n"
    );
}

#[test]
fn a_configure_is_answered_key_by_key() {
    let granted = [
        Granted::VersionRolling(Some(VersionMask(0xc0_0000))),
        Granted::MinimumDifficulty(true),
        Granted::SubscribeExtranonce(true),
        Granted::Unknown("a\"b"),
    ];
    assert_eq!(
        written(|out| write_configured(&Id::number(9966), granted, out)),
        "{\"id\":9966,\"result\":{\"version-rolling\":true,\"version-rolling.mask\":\"00c00000\",\"minimum-difficulty\":true,\
         \"subscribe-extranonce\":true,\"a\\\"b\":false},\"error\":null}\n"
    );
    assert_eq!(
        written(|out| write_configured(&Id::number(1), [Granted::VersionRolling(None)], out)),
        "{\"id\":1,\"result\":{\"version-rolling\":false},\"error\":null}\n"
    );
}

#[test]
fn notifications_carry_a_null_id_and_requests_a_number() {
    let of = |value| written(|out| write_set_difficulty(Difficulty::new(value).unwrap(), out));
    assert_eq!(
        of(1024.0),
        "{\"id\":null,\"method\":\"mining.set_difficulty\",\"params\":[1024]}\n"
    );
    assert_eq!(of(0.5), "{\"id\":null,\"method\":\"mining.set_difficulty\",\"params\":[0.5]}\n");
    assert_eq!(
        written(|out| write_set_version_mask(VersionMask::BIP320, out)),
        "{\"id\":null,\"method\":\"mining.set_version_mask\",\"params\":[\"1fffe000\"]}\n"
    );
    assert_eq!(
        written(|out| write_set_extranonce(&[8, 0, 0, 2], 4, out)),
        "{\"id\":null,\"method\":\"mining.set_extranonce\",\"params\":[\"08000002\",4]}\n"
    );
    assert_eq!(
        written(write_reconnect),
        "{\"id\":null,\"method\":\"client.reconnect\",\"params\":[]}\n"
    );
    assert_eq!(
        written(|out| write_show_message("hi \"you\"", out)),
        "{\"id\":null,\"method\":\"client.show_message\",\"params\":[\"hi \\\"you\\\"\"]}\n"
    );
    assert_eq!(
        written(|out| write_ping(7, out)),
        "{\"id\":7,\"method\":\"mining.ping\",\"params\":[]}\n"
    );
    assert_eq!(
        written(|out| write_get_version(8, out)),
        "{\"id\":8,\"method\":\"client.get_version\",\"params\":[]}\n"
    );
}

#[test]
fn a_rendered_notify_reads_back_as_the_job_with_its_longer_coinb1() {
    for (end, clean) in [(NOTIFY_CLEAN, true), (NOTIFY_KEEP, false)] {
        let mut line = render_notify("t-17", &job(), &[0xe1, 0x1a]).to_vec();
        line.extend_from_slice(end);
        let expected =
            Job { job_id: "t-17".to_owned(), coinb1: vec![1, 2, 3, 0xe1, 0x1a], clean, ..job() };
        assert_eq!(read(&String::from_utf8(line).unwrap()), PoolLine::Notify(Ok(expected)));
    }
    let text = String::from_utf8(render_notify("t", &job(), &[]).to_vec()).unwrap();
    assert!(text.contains("\"0302010007060504"), "{text}");
}

proptest! {
    #[test]
    fn every_plausible_difficulty_reads_back_as_the_same_value(bits in any::<u64>()) {
        let value = f64::from_bits(bits & !(1 << 63));
        if let Some(difficulty) = Difficulty::plausible(value) {
            prop_assert_eq!(read(&written(|out| write_set_difficulty(difficulty, out))), PoolLine::SetDifficulty(Some(difficulty)));
        }
    }

    #[test]
    fn fractions_of_common_size_read_back_too(value in 1e-8f64..1e6) {
        let difficulty = Difficulty::new(value).unwrap();
        prop_assert_eq!(read(&written(|out| write_set_difficulty(difficulty, out))), PoolLine::SetDifficulty(Some(difficulty)));
    }

    #[test]
    fn any_job_reads_back(
        prev_hash in any::<[u8; 32]>(), coinb1 in proptest::collection::vec(any::<u8>(), 1..200),
        tail in proptest::collection::vec(any::<u8>(), 0..20), coinb2 in proptest::collection::vec(any::<u8>(), 1..200),
        branches in proptest::collection::vec(any::<[u8; 32]>(), 0..33), version in any::<u32>(), ntime in any::<u32>(),
        job_id in "[ -~&&[^\"\\\\]]{1,64}",
    ) {
        let job = Job { job_id: job_id.clone(), prev_hash, coinb1, coinb2, branches, version, nbits: 0x207f_ffff, ntime, clean: true };
        let mut line = render_notify(&job_id, &job, &tail).to_vec();
        line.extend_from_slice(NOTIFY_CLEAN);
        let coinb1 = [&job.coinb1[..], &tail].concat();
        prop_assert_eq!(read(&String::from_utf8(line).unwrap()), PoolLine::Notify(Ok(Job { coinb1, ..job })));
    }

    #[test]
    fn any_words_make_one_line(text in any::<String>(), code in 20i32..26, id in any::<u64>()) {
        let _ = read(&written(|out| write_show_message(&text, out)));
        let error = written(|out| write_error(&Id::number(id), RejectCode::from_code(code), &text, out));
        let PoolLine::Reply { request, outcome: Err(error) } = read(&error) else { panic!() };
        prop_assert_eq!((request, error.code), (Some(id), code));
        let PoolLine::Reply { outcome: Ok(PoolResult::Json(_)), .. } = read(&written(|out| write_text(&Id::NULL, &text, out))) else { panic!() };
    }
}
