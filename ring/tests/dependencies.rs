//! What a detector links when it links this crate.
#![cfg(not(loom))]

use std::collections::BTreeSet;
use std::process::Command;

/// Everything that the crate may bring along, directly or not.
const ALLOWED: [&str; 7] = [
    "bitflags",
    "camring-ring",
    "errno",
    "libc",
    "linux-raw-sys",
    "memmap2",
    "rustix",
];
/// At build time only.
const BUILD: [&str; 6] = [
    "proc-macro2",
    "quote",
    "syn",
    "thiserror",
    "thiserror-impl",
    "unicode-ident",
];

#[test]
fn no_runtime_and_no_codec_comes_along() {
    let tree = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "tree",
            "--offline",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .output()
        .unwrap();
    assert!(
        tree.status.success(),
        "{}",
        String::from_utf8_lossy(&tree.stderr)
    );
    let tree = String::from_utf8(tree.stdout).unwrap();
    let crates: BTreeSet<&str> = tree.lines().filter_map(|l| l.split(' ').next()).collect();
    assert!(crates.contains("camring-ring"));
    let unexpected: Vec<&&str> = crates
        .iter()
        .filter(|name| !name.is_empty() && !ALLOWED.contains(name) && !BUILD.contains(name))
        .collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");
}
