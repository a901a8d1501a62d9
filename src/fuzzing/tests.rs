//! Every input that is kept is run again: those that found a bug, and those that reach far.

use std::path::{Path, PathBuf};

use super::TARGETS;

#[test]
fn kept_inputs_break_no_promise() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    for (name, target) in TARGETS {
        let caller = std::fs::read_to_string(fuzz.join(format!("fuzz_targets/{name}.rs")))
            .unwrap_or_else(|e| panic!("fuzz_targets/{name}.rs: {e}"));
        let call = format!("camring::fuzzing::{name}(");
        assert!(caller.contains(&call), "{name}.rs does not call {call}");
        let corpus = inputs(&fuzz.join("corpus").join(name));
        assert!(!corpus.is_empty(), "no corpus for {name}");
        for path in corpus
            .into_iter()
            .chain(inputs(&fuzz.join("regressions").join(name)))
        {
            println!("{}", path.display());
            target(&std::fs::read(&path).expect("an input can be read"));
        }
        target(&[]);
        target(&[0xff; 4096]);
    }
}

fn inputs(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut all: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    all.sort();
    all
}
