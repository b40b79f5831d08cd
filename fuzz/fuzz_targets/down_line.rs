#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stratum::fuzzing::down_line(data));
