#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| proxy::fuzzing::session_machine(data));
