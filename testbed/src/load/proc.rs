//! Reads from the system: the CPU time and memory of the measured processes, and how many files
//! this process may open.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The CPU time and memory of several processes together.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    pub(super) cpu_seconds: f64,
    pub(super) rss_kib: u64,
}

impl Usage {
    /// Reads /proc. Returns `None` if one of the processes does not exist or cannot be read by us.
    pub(super) fn read(pids: &[u32]) -> Option<Self> {
        pids.iter().try_fold(Self::default(), |sum, pid| {
            Some(Self {
                cpu_seconds: sum.cpu_seconds + cpu_seconds(*pid)?,
                rss_kib: sum.rss_kib + rss_kib(*pid)?,
            })
        })
    }
}

/// Raises the limit of open files as far as allowed, and returns it.
pub(super) fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        Ok(()) => most,
        Err(_) => limit.current.unwrap_or(most),
    }
}

fn cpu_seconds(pid: u32) -> Option<f64> {
    let ticks = cpu_ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
    let per_second = rustix::param::clock_ticks_per_second();
    #[expect(clippy::cast_precision_loss, reason = "ticks of one process stay far below 2^52")]
    Some(ticks as f64 / per_second as f64)
}

/// The user and system time, in clock ticks. The program's name comes before them and may contain
/// any character, also spaces and brackets.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// Resident memory from `smaps_rollup`, which is exact. The cheaper `status` is late by some pages
/// for each thread.
fn rss_kib(pid: u32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
        .ok()
        .and_then(|text| field(&text, "Rss:"));
    rollup.or_else(|| field(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmRSS:"))
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.split_ascii_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_process_is_measured() {
        let usage = Usage::read(&[std::process::id()]).unwrap();
        assert!(usage.rss_kib > 100, "{usage:?}");
        assert!(usage.cpu_seconds >= 0.0);
        let twice = Usage::read(&[std::process::id(); 2]).unwrap();
        assert!(twice.rss_kib > usage.rss_kib);
        assert!(Usage::read(&[u32::MAX]).is_none());
    }

    #[test]
    fn a_program_may_be_called_anything() {
        let stat = "7 (a) b ( c) S 1 7 7 0 -1 4194560 99 0 0 0 250 50 0 0 20 0 4 0 1 2 3";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert_eq!(cpu_ticks("7 (short) S 1"), None);
        assert_eq!(field("Rss:                 123 kB\nPss: 1 kB", "Rss:"), Some(123));
    }
}
