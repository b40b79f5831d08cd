use super::*;
use proptest::prelude::*;

fn big_endian(digits: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    crate::hex::fill(digits, &mut bytes).unwrap();
    bytes.reverse();
    bytes
}

fn difficulty(value: f64) -> Difficulty {
    Difficulty::new(value).unwrap()
}

/// The next hash above a target.
fn one_above(target: Target) -> [u8; 32] {
    let mut bytes = target.to_le_bytes();
    for byte in &mut bytes {
        let (sum, carried) = byte.overflowing_add(1);
        *byte = sum;
        if !carried {
            break;
        }
    }
    bytes
}

#[test]
fn s52_a_hash_exactly_on_target_is_met_and_one_above_is_not() {
    for (value, digits) in [
        (1.0, "00000000ffff0000000000000000000000000000000000000000000000000000"),
        (2.0, "000000007fff8000000000000000000000000000000000000000000000000000"),
        (0.5, "00000001fffe0000000000000000000000000000000000000000000000000000"),
        (512.0, "00000000007fff80000000000000000000000000000000000000000000000000"),
        (65_536.0, "000000000000ffff000000000000000000000000000000000000000000000000"),
        (1.0 / 65_536.0, "0000ffff00000000000000000000000000000000000000000000000000000000"),
        (1.0 / 268_435_456.0, "0ffff00000000000000000000000000000000000000000000000000000000000"),
        // 2^-32 is the lowest difficulty whose target fits in 256 bits; below it every hash is a
        // share.
        (1.0 / 4_294_967_296.0, "ffff000000000000000000000000000000000000000000000000000000000000"),
        // Not powers of two: floor((0xffff << 208) / difficulty), computed with a different
        // program.
        (3.0, "0000000055550000000000000000000000000000000000000000000000000000"),
        (16_383.75, "0000000000040000000000000000000000000000000000000000000000000000"),
        (0.0005, "000007cff82ffffffff4480bb80000001193ee6bffffffe5a21a5e000000278c"),
        (0.1, "00000009fff5ffffffffd80028000000009fff5ffffffffd80028000000009ff"),
        (1000.5, "000000000041809361defe14b9c35bbaea1f78e648ec6d0062413f540dd12ce7"),
    ] {
        let target = difficulty(value).target();
        assert_eq!(target, Target::from_le_bytes(big_endian(digits)), "{value}");
        assert!(target.is_met_by(&target.to_le_bytes()), "{value}");
        assert!(!target.is_met_by(&one_above(target)), "{value}");
    }
}

#[test]
fn targets_at_the_ends_saturate() {
    assert_eq!(difficulty(f64::MIN_POSITIVE).target().to_le_bytes(), [0xff; 32]);
    assert_eq!(difficulty(5e-324).target().to_le_bytes(), [0xff; 32]);
    assert_eq!(difficulty(f64::MAX).target(), Target::NEVER);
    assert_eq!(difficulty(2f64.powi(-33)).target().to_le_bytes(), [0xff; 32]);
}

/// The network's difficulty and that of pools have the same numerator, 0xffff · 2^208, so both have
/// the same difficulty 1.
#[test]
fn nbits_of_difficulty_one_is_the_target_of_difficulty_one() {
    assert_eq!(Target::from_nbits(0x1d00_ffff), Some(Difficulty::ONE.target()));
    let regtest = Target::from_nbits(0x207f_ffff).unwrap();
    assert_eq!(
        regtest.to_le_bytes(),
        big_endian("7fffff0000000000000000000000000000000000000000000000000000000000")
    );
    // Block 125552 (nbits 1a44b9f2) was mined at 244112.48777434.
    let mined = difficulty_of(&Target::from_nbits(0x1a44_b9f2).unwrap().to_le_bytes());
    assert!((mined - 244_112.487_774_34).abs() < 1e-8, "{mined}");
}

#[test]
fn u25_impossible_nbits_have_no_target() {
    for bad in [
        0,
        0x0100_0000,
        0x1d80_ffff,
        0x1d80_0000,
        0xff12_3456,
        0x2200_ffff,
        0x2300_0001,
        0x2080_0000,
        0x217f_ffff,
        0x0000_ffff,
    ] {
        assert_eq!(Target::from_nbits(bad), None, "{bad:08x}");
    }
    assert!(Target::from_nbits(0x0300_0001).is_some());
    assert!(Target::from_nbits(0x1703_255b).is_some());
}

#[test]
fn only_finite_values_above_zero_are_difficulties() {
    for bad in [0.0, -0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(Difficulty::new(bad), None, "{bad}");
        assert_eq!(Difficulty::plausible(bad), None, "{bad}");
    }
    assert_eq!(Difficulty::plausible(1e308), None);
    assert_eq!(Difficulty::plausible(1e-9), None);
    assert_eq!(Difficulty::plausible(2f64.powi(-28)), Some(Difficulty::FLOOR));
    assert_eq!(Difficulty::plausible(2f64.powi(64)), Some(Difficulty::CEILING));
}

#[test]
fn advertised_difficulties_are_powers_of_two_down_to_the_floor() {
    for (value, advertised) in [
        (16_383.75, 8192.0),
        (16_384.0, 16_384.0),
        (1.0, 1.0),
        (1.9, 1.0),
        (0.75, 0.5),
        (0.0005, 0.000_488_281_25),
        (2f64.powi(-28), 2f64.powi(-28)),
        (2f64.powi(-29), 2f64.powi(-28)),
        (5e-324, 2f64.powi(-28)),
    ] {
        assert_eq!(difficulty(value).power_of_two_at_or_below(), difficulty(advertised), "{value}");
    }
}

#[test]
fn difficulties_of_hashes_are_finite() {
    assert_eq!(difficulty_of(&[0; 32]), f64::MAX);
    assert!(difficulty_of(&[0xff; 32]) > 0.0);
    assert_eq!(difficulty_of(&Difficulty::ONE.target().to_le_bytes()), 1.0);
    assert_eq!(Target::NEVER.difficulty(), None);
    assert_eq!(difficulty(4096.0).target().difficulty(), Some(difficulty(4096.0)));
}

/// Computes `0xffff << 208 >> exponent` bit by bit.
fn shifted(exponent: i32) -> Target {
    let mut bytes = [0u8; 32];
    for bit in 208..224 {
        if let Ok(place @ 0..=255) = usize::try_from(bit - exponent) {
            bytes[place / 8] |= 1 << (place % 8);
        }
    }
    Target(bytes)
}

#[test]
fn powers_of_two_are_exact_shifts() {
    for exponent in -32..=224 {
        assert_eq!(difficulty(2f64.powi(exponent)).target(), shifted(exponent), "2^{exponent}");
    }
}

proptest! {
    #[test]
    fn a_higher_difficulty_never_has_a_higher_target(a in 1e-12f64..1e18, b in 1e-12f64..1e18) {
        let (low, high) = (difficulty(a.min(b)), difficulty(a.max(b)));
        prop_assert!(high.target() <= low.target());
        prop_assert!(low.power_of_two_at_or_below().get() <= low.get().max(Difficulty::FLOOR.get()));
    }

    #[test]
    fn a_hash_on_the_target_has_the_targets_difficulty(value in 1e-8f64..1e15) {
        let reached = difficulty(value).target().difficulty().unwrap().get();
        prop_assert!((reached / value - 1.0).abs() < 1e-12, "{value} {reached}");
    }

    #[test]
    fn any_difficulty_reads_back_as_the_same_value(bits in any::<u64>()) {
        let value = f64::from_bits(bits);
        if let Some(difficulty) = Difficulty::new(value) {
            prop_assert_eq!(difficulty.to_string().parse::<f64>().unwrap().to_bits(), bits);
            let _ = difficulty.target();
        }
    }

    #[test]
    fn any_nbits_reads_or_is_refused_as_the_network_does(nbits in any::<u32>()) {
        if let Some(target) = Target::from_nbits(nbits) {
            prop_assert!(target > Target::NEVER && target <= Target::from_nbits(0x207f_ffff).unwrap());
        }
    }
}
