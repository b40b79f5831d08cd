//! Guesses the hashrate of a machine from its user agent: good enough for the first minute, and
//! never more than a hint.
//!
//! The table has families, not models, because firmware seldom names its machine. `typical` is the
//! hashrate that is assumed when a session begins. `least` is the slowest such machine in use
//! (tuned down, or with one board left): a machine that seems slower is probably asleep.

/// The hashrate of a family of machines, in hashes per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Speed {
    pub(super) typical: f64,
    pub(super) least: f64,
}

const KH: f64 = 1e3;
const MH: f64 = 1e6;
const GH: f64 = 1e9;
const TH: f64 = 1e12;

/// Families by a lower-case word of their user agent. The first match counts, so narrower words
/// come first.
const FAMILIES: [(&str, f64, f64); 24] = [
    // ESP32 boards: 15 kH/s in plain C, 350 kH/s with the hardware SHA of newer releases.
    ("nerdminer", 60.0 * KH, 10.0 * KH),
    ("leafminer", 60.0 * KH, 10.0 * KH),
    ("esp32", 60.0 * KH, 10.0 * KH),
    // NerdQAxe+ and ++: 2.5 to 4.8 TH/s. OCTAXE has twice as much; NerdAxe has one chip.
    ("nerdoctaxe", 9.0 * TH, 2.0 * TH),
    ("nerdqaxe", 4.0 * TH, TH),
    ("nerdaxe", 0.5 * TH, 0.2 * TH),
    // Bitaxe Ultra, Supra, Gamma: 0.4 to 1.2 TH/s; `bitaxe/BM1370/v2.12.2`.
    ("bitaxe", 0.8 * TH, 0.3 * TH),
    ("esp-miner", 0.8 * TH, 0.3 * TH),
    // CPUs: 1 MH/s for an old core, some hundred MH/s with SHA extensions.
    ("cpuminer", 20.0 * MH, MH),
    ("minerd", 5.0 * MH, 0.3 * MH),
    // Mostly USB sticks and FPGAs.
    ("bfgminer", 10.0 * GH, 5.0 * MH),
    // Rented hashrate: whole farms behind one connection. The checks of these services require a
    // difficulty of 500,000 or more.
    ("nicehash", 500.0 * TH, 10.0 * TH),
    ("excavator", 500.0 * TH, 10.0 * TH),
    ("miningrigrentals", 200.0 * TH, 10.0 * TH),
    // ASICs of farms. The S9 (13 TH/s), S11 and T9+ use the name bmminer; sometimes only one of
    // three boards is left.
    ("bmminer", 14.0 * TH, 3.0 * TH),
    ("antminer", 110.0 * TH, 20.0 * TH),
    ("whatsminer", 110.0 * TH, 20.0 * TH),
    ("btminer", 110.0 * TH, 20.0 * TH),
    ("avalon", 90.0 * TH, 3.0 * TH),
    // Replacement firmware runs on everything from the S9 on, tuned down to a third.
    ("bosminer", 90.0 * TH, 3.0 * TH),
    ("braiins", 90.0 * TH, 3.0 * TH),
    ("luxminer", 90.0 * TH, 3.0 * TH),
    ("vnish", 90.0 * TH, 3.0 * TH),
    // A wide family: the S9k and the 17 series send `cgminer/2.0.0`, Avalons and sticks of 300 GH/s
    // `cgminer/4`.
    ("cgminer", 30.0 * TH, 0.1 * TH),
];

/// Returns the hashrate of most machines with this user agent.
pub(super) fn speed_of(user_agent: &str) -> Option<Speed> {
    let name = user_agent.to_ascii_lowercase();
    FAMILIES
        .iter()
        .find(|(word, ..)| name.contains(word))
        .map(|&(_, typical, least)| Speed { typical, least })
}

/// Whether firmware supports `mining.set_version_mask` (docs/protocol.md 2.3): stock Antminers
/// since 2022, whose user agents end with the time of their build, ESP-Miner and its derivatives,
/// Braiins OS and LuxOS. Older stock firmware and cgminer 4.11 do not.
pub(super) fn hears_version_mask(user_agent: &str) -> bool {
    let built = user_agent.rsplit(' ').next().and_then(|year| year.parse::<u32>().ok());
    (user_agent.starts_with("Antminer") && built.is_some_and(|year| (2022..2100).contains(&year)))
        || ["bitaxe", "ESP-Miner", "NerdQAxe", "NerdAxe", "bosminer", "BOS", "LUX"]
            .iter()
            .any(|name| user_agent.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The user agents of docs/protocol.md 2.1 and 2.3, as they are sent.
    #[test]
    fn known_firmware_is_recognised_by_what_it_sends() {
        for (user_agent, typical) in [
            ("cgminer/4.11.1", 30.0 * TH),
            ("cgminer/2.0.0", 30.0 * TH),
            ("Antminer S19 Pro/Tue Dec  6 16:12:30 CST 2022", 110.0 * TH),
            ("bmminer/2.0.0", 14.0 * TH),
            ("whatsminer/v1.0", 110.0 * TH),
            ("bosminer-plus-am1-s9/0.2.0", 90.0 * TH),
            ("bitaxe/BM1370/v2.12.2", 0.8 * TH),
            ("NerdMinerV2", 60.0 * KH),
            ("NerdQAxe++/BM1370", 4.0 * TH),
            ("cpuminer-opt-26.1-x64L", 20.0 * MH),
            ("cpuminer/2.5.1", 20.0 * MH),
            ("NiceHash/1.0.0", 500.0 * TH),
        ] {
            assert_eq!(
                speed_of(user_agent).map(|speed| speed.typical),
                Some(typical),
                "{user_agent}"
            );
        }
        for unknown in ["", "sgminer/5", "stratum-proxy"] {
            assert_eq!(speed_of(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn every_word_is_lower_case_and_the_slowest_is_slower_than_most() {
        for (index, (word, typical, least)) in FAMILIES.iter().enumerate() {
            assert!(*word == word.to_ascii_lowercase() && least < typical, "{word}");
            let hidden = FAMILIES[..index].iter().any(|(former, ..)| word.contains(former));
            assert!(!hidden, "{word} stands behind a word it contains");
        }
    }
}
