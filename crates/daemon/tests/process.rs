//! Tests the process metrics in a process of their own: files and memory of other tests would
//! change the values.

use std::fs;

use prometheus_client::registry::Registry;

fn scrape() -> String {
    let mut registry = Registry::default();
    daemon::process::register(&mut registry, "1.2.3");
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("written to memory");
    text
}

fn value(text: &str, name: &str) -> f64 {
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("{name} is missing in:\n{text}")).parse().expect("a number")
}

#[test]
fn what_the_process_costs_is_shown_as_it_is() {
    let before = scrape();
    assert!(before.contains("tieline_build_info{version=\"1.2.3\"} 1"), "{before}");
    let held: Vec<fs::File> = (0..20).map(|_| fs::File::open("/proc/self/stat").unwrap()).collect();
    let memory = std::hint::black_box(vec![7u8; 64 << 20]);
    let after = scrape();
    let grown = |name: &str| value(&after, name) - value(&before, name);
    assert!(
        (grown("process_open_fds") - held.len() as f64).abs() < 1.0,
        "{}",
        grown("process_open_fds")
    );
    assert!(grown("process_resident_memory_bytes") > 32e6, "{}", memory.len());
    assert!(value(&after, "process_max_fds") >= value(&after, "process_open_fds"));
    assert!(grown("process_cpu_seconds_total") >= 0.0 && value(&after, "process_threads") >= 1.0);
    let now = daemon::clock::wall().as_second() as f64;
    let age = now - value(&after, "process_start_time_seconds");
    assert!((-60.0..3600.0).contains(&age), "started {age} s ago");
}
