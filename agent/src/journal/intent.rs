//! One intent, and its line in the journal: eight hexadecimal digits of a checksum, a space, and a
//! JSON object.

use directive::{Generation, MachineId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A command that is about to go to a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// Rises with the intents of one agent, across its lives. The first of a life is the time in
    /// milliseconds, unless numbers are higher already.
    pub number: u64,
    /// When the command went, by the agent's wall clock.
    pub at: Timestamp,
    pub machine: MachineId,
    pub order: Order,
    pub cause: Cause,
}

/// What a device is commanded to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    Sleep,
    Wake,
}

/// Why the command went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The timeline with this number says so.
    Timeline(Generation),
    /// The guard holds the machine.
    Guard,
    /// No timeline was ever heard.
    Unheard,
}

/// Why a line is no intent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    #[error("not text")]
    NotText,
    #[error("no checksum")]
    NoChecksum,
    #[error("the checksum is wrong")]
    WrongChecksum,
    #[error("{0}")]
    Json(String),
}

impl Intent {
    /// The line, with its end.
    #[must_use]
    pub fn to_line(&self) -> String {
        let json = serde_json::to_string(self).expect("numbers, names and times are JSON");
        format!("{:08x} {json}\n", checksum(json.as_bytes()))
    }

    /// Reads a line without its end.
    ///
    /// # Errors
    /// When the line is damaged, or a later version wrote it in another form.
    pub fn from_line(line: &[u8]) -> Result<Self, BadLine> {
        let text = std::str::from_utf8(line).map_err(|_| BadLine::NotText)?;
        let (sum, json) = text.split_once(' ').ok_or(BadLine::NoChecksum)?;
        let sum = (sum.len() == 8).then(|| u32::from_str_radix(sum, 16).ok()).flatten();
        if sum.ok_or(BadLine::NoChecksum)? != checksum(json.as_bytes()) {
            return Err(BadLine::WrongChecksum);
        }
        serde_json::from_str(json).map_err(|error| BadLine::Json(error.to_string()))
    }
}

/// FNV-1a with 32 bits. It finds damage by a disk or an editor, and no forgery.
fn checksum(bytes: &[u8]) -> u32 {
    let step = |sum: u32, byte: &u8| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    bytes.iter().fold(0x811c_9dc5, step)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn intent(number: u64, machine: &str, order: Order) -> Intent {
        let second = i64::try_from(number).unwrap();
        Intent {
            number,
            at: Timestamp::from_second(1_800_000_000 + second).unwrap(),
            machine: machine.into(),
            order,
            cause: Cause::Timeline(Generation { epoch: 3, generation: 14 }),
        }
    }

    #[test]
    fn a_line_is_read_back_and_its_form_is_pinned() {
        let intent = intent(7, "acme.rig \"1\"\n", Order::Sleep);
        let line = intent.to_line();
        assert_eq!(
            line,
            "7e8072a5 {\"number\":7,\"at\":\"2027-01-15T08:00:07Z\",\
             \"machine\":\"acme.rig \\\"1\\\"\\n\",\"order\":\"sleep\",\
             \"cause\":{\"timeline\":{\"epoch\":3,\"generation\":14}}}\n"
        );
        assert_eq!(Intent::from_line(line.trim_end().as_bytes()), Ok(intent));
    }

    #[test]
    fn every_changed_byte_and_every_part_of_a_line_is_refused() {
        let line = intent(7, "acme.rig-1", Order::Wake).to_line();
        let line = line.trim_end().as_bytes();
        for place in 0..line.len() {
            let mut changed = line.to_vec();
            changed[place] ^= 1;
            // A hexadecimal digit may be written in two cases, and nothing else in two forms.
            let is_same = changed.eq_ignore_ascii_case(line);
            assert!(is_same || Intent::from_line(&changed).is_err(), "byte {place}");
            assert!(Intent::from_line(&line[..place]).is_err(), "the first {place} bytes");
        }
    }
}
