//! Mines shares for a session from the values that the miner received, with the arithmetic of the
//! testbed.

use serde_json::Value;
use testbed::arithmetic::scan::Scan;
use testbed::arithmetic::{
    Header, Target, coinbase, merkle_root, parse_array, parse_bytes, parse_u32, swap_words,
};

/// What the miner has received.
#[derive(Debug, Default)]
pub(super) struct Miner {
    extranonce1: Vec<u8>,
    extranonce2_size: usize,
    difficulty: f64,
    job: Option<Value>,
    /// The number of shares so far; each one gets an extranonce2 of its own.
    shares: u64,
    words: Vec<(&'static str, String)>,
}

/// The bits that may be rolled.
const BIP320: u32 = 0x1fff_e000;

impl Miner {
    /// Handles a line that the miner receives.
    pub(super) fn hear(&mut self, line: &str) {
        let Ok(message) = serde_json::from_str::<Value>(line) else { return };
        match message["method"].as_str() {
            Some("mining.notify") => self.job = Some(message["params"].clone()),
            Some("mining.set_difficulty") => {
                self.difficulty = message["params"][0].as_f64().unwrap_or(1.0);
            }
            Some(_) => {}
            None => {
                if let (Some(extranonce1), Some(size)) =
                    (message["result"][1].as_str(), message["result"][2].as_u64())
                {
                    self.extranonce1 = parse_bytes(extranonce1).unwrap_or_default();
                    self.extranonce2_size = usize::try_from(size).unwrap_or(0);
                }
            }
        }
    }

    /// Mines a share, for [`Self::fill`].
    ///
    /// `replace=BITS` and `or=BITS` are the two ways in which the chip combines bits with the job's
    /// version; `at=D` mines at a difficulty that differs from the one set; with `below=D` the hash
    /// must miss a higher one; with `odd` the nonce has an odd number of digits.
    pub(super) fn mine(&mut self, options: &[(String, String)]) -> Result<(), String> {
        let job = self.job.as_ref().ok_or("the miner has no job")?;
        let option = |key: &str| {
            options.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
        };
        let text = |at: usize| job[at].as_str().unwrap_or_default();
        let word = |at: usize| parse_u32(text(at)).ok_or_else(|| format!("job field {at}"));
        let number = |key: &str| {
            option(key)
                .map(|value| value.parse::<f64>().map_err(|why| format!("{key}: {why}")))
                .transpose()
        };
        let bits = |key: &str| option(key).and_then(parse_u32);
        self.shares += 1;
        let mut extranonce2 = self.shares.to_be_bytes().to_vec();
        extranonce2.drain(..extranonce2.len().saturating_sub(self.extranonce2_size));
        let branches = job[4].as_array().into_iter().flatten();
        let branches: Option<Vec<_>> =
            branches.map(|branch| parse_array(branch.as_str()?)).collect();
        let coinb = |at: usize| parse_bytes(text(at)).ok_or_else(|| format!("job field {at}"));
        let made = coinbase(&coinb(2)?, &self.extranonce1, &extranonce2, &coinb(3)?);
        let base = word(5)?;
        let (version, sent) = match (bits("replace"), bits("or")) {
            (Some(bits), _) => ((base & !BIP320) | bits, bits),
            (None, Some(bits)) => (base | bits, bits & !base),
            (None, None) => (base, 0),
        };
        let mut header = Header {
            version,
            prevhash: swap_words(parse_array(text(1)).ok_or("prevhash")?),
            merkle_root: merkle_root(&made, &branches.ok_or("merkle branches")?),
            ntime: word(7)?,
            nbits: word(6)?,
            nonce: 0,
        };
        let target =
            Target::of_difficulty(number("at")?.unwrap_or(self.difficulty)).ok_or("difficulty")?;
        let missed = number("below")?.and_then(Target::of_difficulty);
        let nonce = loop {
            let (found, _) = Scan::new(&header).run(&target, u32::MAX);
            let (nonce, hash) = found.ok_or("no share in four billion")?;
            let digits = format!("{nonce:x}").len();
            if missed.is_none_or(|missed| !missed.met_by(&hash))
                && (option("odd").is_none() || digits % 2 == 1)
            {
                break nonce;
            }
            header.nonce = nonce + 1;
        };
        self.words = vec![
            ("$extranonce2", extranonce2.iter().map(|byte| format!("{byte:02x}")).collect()),
            ("$job", text(0).to_owned()),
            ("$ntime_number", header.ntime.to_string()),
            ("$ntime", format!("{:08x}", header.ntime)),
            ("$nonce_number", nonce.to_string()),
            ("$nonce_short", format!("{nonce:x}")),
            ("$nonce_upper", format!("{nonce:08X}")),
            ("$nonce", format!("{nonce:08x}")),
            ("$bits", format!("{sent:08x}")),
        ];
        Ok(())
    }

    /// Fills the values of the latest share into a line.
    pub(super) fn fill(&self, line: &str) -> String {
        self.words.iter().fold(line.to_owned(), |line, (name, value)| line.replace(name, value))
    }
}
