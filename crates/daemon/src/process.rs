//! Metrics of the process: its CPU time, memory and files, and the build it runs, under the names
//! that common dashboards use. They are read from /proc at each scrape; a value that cannot be read
//! is left out.

use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// Clock ticks per second in /proc/self/stat: 100 on every architecture we build for.
const TICKS: f64 = 100.0;

/// Registers `tieline_build_info`, `tieline_log_lines_dropped_total` and the `process_…` metrics.
pub fn register(registry: &mut Registry, version: &str) {
    let labels = vec![("version", version.to_owned())];
    registry.register("tieline_build", "The build that runs", Info::new(labels));
    registry.register_collector(Box::new(Process));
}

#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let dropped = ConstCounter::new(crate::logging::dropped());
        let help = "Log lines dropped because their reader was too slow";
        dropped.encode(encoder.encode_descriptor(
            "tieline_log_lines_dropped",
            help,
            None,
            dropped.metric_type(),
        )?)?;
        let stat = fs::read_to_string("/proc/self/stat").ok().and_then(|text| Stat::parse(&text));
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        if let Some(stat) = &stat {
            let seconds = ConstCounter::new(stat.cpu_secs);
            let help = "User and system CPU time";
            seconds.encode(encoder.encode_descriptor(
                "process_cpu_seconds",
                help,
                None,
                seconds.metric_type(),
            )?)?;
        }
        let started = stat.zip(boot_time()).map(|(stat, boot)| boot + stat.started_secs);
        let gauges = [
            ("process_resident_memory_bytes", "Memory in RAM", kilobytes(&status, "VmRSS:")),
            ("process_virtual_memory_bytes", "Address space", kilobytes(&status, "VmSize:")),
            ("process_threads", "Threads", number_after(&status, "Threads:")),
            ("process_open_fds", "Open file descriptors", open_fds()),
            (
                "process_max_fds",
                "Most of them there may be",
                number_after(&limits, "Max open files"),
            ),
            (
                "process_start_time_seconds",
                "When the process started, in seconds since 1970",
                started,
            ),
        ];
        for (name, help, value) in gauges {
            if let Some(value) = value {
                let gauge = ConstGauge::new(value);
                gauge.encode(encoder.encode_descriptor(
                    name,
                    help,
                    None,
                    gauge.metric_type(),
                )?)?;
            }
        }
        Ok(())
    }
}

/// The fields of /proc/self/stat that are shown.
struct Stat {
    cpu_secs: f64,
    /// When the process started, in seconds after the machine was booted.
    started_secs: f64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The program's name is in parentheses and may contain any character.
        let fields: Vec<f64> = text
            .rsplit_once(')')?
            .1
            .split_whitespace()
            .skip(1)
            .map_while(|field| field.parse().ok())
            .collect();
        // The first field here is field 4 in proc(5). User and system time are fields 14 and 15,
        // the start time is 22.
        Some(Self {
            cpu_secs: (fields.get(10)? + fields.get(11)?) / TICKS,
            started_secs: fields.get(18)? / TICKS,
        })
    }
}

fn boot_time() -> Option<f64> {
    number_after(&fs::read_to_string("/proc/stat").ok()?, "btime")
}

fn open_fds() -> Option<f64> {
    use std::os::unix::fs::MetadataExt as _;
    // Since Linux 6.2 the size of the folder is the number of files. Before that it is 0, and the
    // entries are counted, which takes some milliseconds for ten thousand.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let count = match fs::metadata("/proc/self/fd").ok()?.size() {
        0 => fs::read_dir("/proc/self/fd").ok()?.count() as f64,
        size => size as f64,
    };
    Some(count)
}

fn kilobytes(text: &str, key: &str) -> Option<f64> {
    number_after(text, key).map(|kilobytes| kilobytes * 1024.0)
}

fn number_after(text: &str, key: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_have_any_name() {
        let stat =
            Stat::parse("7 (a) b) S) S 1 7 7 0 -1 4194560 1 0 0 0 250 150 0 0 20 0 3 0 12345 1 1")
                .expect("read");
        assert_eq!((stat.cpu_secs, stat.started_secs), (4.0, 123.45));
        assert!(Stat::parse("nothing").is_none());
    }
}
