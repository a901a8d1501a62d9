//! From `cargo bench` to a driver in Python: it gets the release build of the daemon, this program as
//! its helper, and the build folder. Never returns.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Becomes `benches/SCRIPT`, which finds modules in `benches/peers` and `tests/farm`.
pub fn become_driver(script: &str, arguments: &[String]) -> ! {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // target/release/camring: the tools of the bench lie beside the profiles.
    let camring = PathBuf::from(env!("CARGO_BIN_EXE_camring"));
    let target = camring.ancestors().nth(2).expect("target/release/camring");
    let own = std::env::current_exe().expect("this program has a path");
    let modules = ["benches/peers", "tests/farm"].map(|folder| root.join(folder));
    let error = Command::new("/usr/bin/python3")
        .arg(root.join("benches").join(script))
        .arg("--camring")
        .arg(&camring)
        .arg("--helper")
        .arg(own)
        .arg("--target")
        .arg(target)
        .args(arguments.iter().filter(|word| *word != "--bench"))
        .env(
            "PYTHONPATH",
            std::env::join_paths(modules).expect("a path without colons"),
        )
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .exec();
    eprintln!(
        "/usr/bin/python3 does not start ({error}); ./test installs what the test cameras need"
    );
    std::process::exit(1);
}
