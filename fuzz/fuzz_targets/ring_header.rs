#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| camring_ring::fuzzing::ring_header(data));
