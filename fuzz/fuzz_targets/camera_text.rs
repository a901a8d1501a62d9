#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| camring::fuzzing::camera_text(data));
