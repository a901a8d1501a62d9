//! A disk that refuses and a clock that is set, without touching the machine's: a library put before the
//! C library (`shim.c`), for one daemon and all its processes, in a mount namespace of their own.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What the library does now.
#[derive(Debug)]
pub struct Shim {
    wish: File,
}

/// The library, and a folder for the namespace.
pub struct Folder(tempfile::TempDir);

/// Mounts what a daemon's processes are to see, and becomes it. `$1` is the folder of the library, `$2`
/// the data folder, `$3` a name server.
const UNDER: &str = "mount -t tmpfs none \"$1/layers\" && mkdir \"$1/layers/upper\" \"$1/layers/work\" && \
    mount -t overlay -o \"lowerdir=/etc,upperdir=$1/layers/upper,workdir=$1/layers/work\" overlay /etc && \
    rm -f /etc/resolv.conf && echo \"nameserver $3\" >/etc/resolv.conf && \
    touch /etc/camring-wish && mount --bind \"$1/wish\" /etc/camring-wish && \
    echo \"$1/shim.so\" >/etc/ld.so.preload && mount -t tmpfs -o size=16m none \"$2\" && shift 3 && exec \"$@\"";

impl Folder {
    /// Compiles the library.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("camring-shim-").tempdir();
        let folder = folder.expect("a folder");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/shim.c");
        let mut cc = Command::new("cc");
        cc.args([
            "-Wall", "-Werror", "-O1", "-shared", "-fPIC", source, "-ldl", "-o",
        ]);
        let compiled = cc.arg(folder.path().join("shim.so")).status();
        assert!(compiled.expect("a C compiler (apt install gcc)").success());
        fs::write(folder.path().join("wish"), [0; 16]).expect("a file");
        fs::create_dir(folder.path().join("layers")).expect("a folder");
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// The words below which the daemon runs.
    pub fn under<'a>(&'a self, data: &'a str, name_server: &'a str) -> Vec<&'a str> {
        let here = self.path().to_str().expect("UTF-8");
        vec![
            "unshare",
            "--mount",
            "sh",
            "-c",
            UNDER,
            "sh",
            here,
            data,
            name_server,
        ]
    }

    /// Why this machine cannot do it; none: it can.
    pub fn trouble(&self) -> Option<String> {
        let data = self.path().join("data");
        fs::create_dir(&data).expect("a folder");
        let data = data.display().to_string();
        let words = self.under(&data, "127.0.0.1");
        let tried = Command::new(words[0])
            .args(&words[1..])
            .arg("true")
            .output();
        match tried {
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Some(error.to_string()),
        }
    }

    /// What it does, from now on.
    pub fn shim(&self) -> Shim {
        let wish = File::options().write(true).open(self.path().join("wish"));
        Shim {
            wish: wish.expect("a file"),
        }
    }
}

impl Shim {
    fn put(&self, bytes: &[u8], at: u64) {
        self.wish.write_all_at(bytes, at).expect("written");
    }

    /// The date is this much later than it is.
    pub fn clock(&self, seconds: i64) {
        self.put(&(seconds * 1_000_000_000).to_ne_bytes(), 0);
    }

    /// What changes the data folder is answered by this error; 0: by none.
    pub fn error(&self, errno: i32) {
        self.put(&errno.to_ne_bytes(), 8);
    }

    /// And takes so much longer.
    pub fn delay(&self, time: Duration) {
        let ms = i32::try_from(time.as_millis()).expect("short");
        self.put(&ms.to_ne_bytes(), 12);
    }
}

/// The data folder as the daemon sees it.
pub fn inside(pid: u32, data: &Path) -> PathBuf {
    let data = data.strip_prefix("/").expect("absolute");
    PathBuf::from(format!("/proc/{pid}/root")).join(data)
}
