//! Runs every input that is kept, those that found a bug and those that reach far, without libFuzzer. Part of the
//! unit tests of each crate that has targets.

use std::path::{Path, PathBuf};

/// A target by its name.
type Target = (&'static str, fn(&[u8]));

/// Gives `targets` of a crate, which lies in `krate`, the inputs that are kept in `fuzz`; each must have its caller.
pub(crate) fn break_no_promise(fuzz: &Path, krate: &str, targets: &[Target]) {
    for (name, target) in targets {
        let caller = std::fs::read_to_string(fuzz.join(format!("fuzz_targets/{name}.rs")))
            .unwrap_or_else(|e| panic!("fuzz_targets/{name}.rs: {e}"));
        let call = format!("| {krate}::fuzzing::{name}(data));");
        assert!(caller.contains(&call), "{name}.rs does not call {call}");
        let corpus = inputs(&fuzz.join("corpus").join(name));
        assert!(!corpus.is_empty(), "no corpus for {name}");
        let regressions = inputs(&fuzz.join("regressions").join(name));
        for path in corpus.into_iter().chain(regressions) {
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
