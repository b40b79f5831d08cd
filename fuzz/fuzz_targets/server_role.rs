#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stratum::fuzzing::server_role(data));
