//! What is kept of fuzzing breaks no promise today.

use std::path::Path;

use super::TARGETS;

#[path = "../../fuzz/kept_inputs.rs"]
mod kept_inputs;

#[test]
fn kept_inputs_break_no_promise() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    kept_inputs::break_no_promise(&fuzz, "camring", TARGETS);
}
