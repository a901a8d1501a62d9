//! A certificate that expires soon: everybody who looks is told, until there is a new one.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{Daemon, PATIENCE, wait_for};

const NAME: &str = "camring_http_certificate_expiry_timestamp_seconds";

/// A certificate for so many days, and its key, where the configuration expects them.
fn make(folder: &Path, days: &str) {
    let files = ["new.crt", "new.key"].map(|name| folder.join(name));
    let made = Command::new("openssl")
        .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes".split(' '))
        .args(["-days", days, "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost"])
        .arg("-out")
        .arg(&files[0])
        .arg("-keyout")
        .arg(&files[1])
        .output()
        .expect("openssl");
    assert!(made.status.success(), "{made:?}");
    for (from, to) in files.iter().zip(["crt", "key"]) {
        fs::rename(from, folder.join(to)).expect("renamed");
    }
}

/// When it expires, as openssl says it.
fn end_of(certificate: &Path) -> i64 {
    let said = Command::new("openssl")
        .args(["x509", "-noout", "-enddate", "-dateopt", "iso_8601", "-in"])
        .arg(certificate)
        .output()
        .expect("openssl");
    let text = String::from_utf8(said.stdout).expect("UTF-8");
    let date = text.trim().strip_prefix("notAfter=").expect("an end");
    let end: jiff::Timestamp = date.replace(' ', "T").parse().expect("a date");
    end.as_second()
}

#[test]
fn a_certificate_that_expires_soon_is_told_until_there_is_a_new_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let (certificate, key) = (folder.path().join("crt"), folder.path().join("key"));
    make(folder.path(), "5");
    let daemon = Daemon::start(&format!(
        "[http]\nlisten = \"127.0.0.1:0\"\n[http.tls]\ncertificate = {certificate:?}\nkey = {key:?}\n\
         [[camera]]\nname = \"off\"\nenabled = false\nurl = \"rtsp://127.0.0.1:1/x\"\n",
    ));
    let http = wait_for("the server to say when", PATIENCE, || {
        let http = daemon.status()["http"].clone();
        let known = http["certificate"].is_object() && http["address"].is_string();
        if known { Ok(http) } else { Err(http) }
    });
    assert_eq!(http["scheme"], "https");
    let trouble = http["certificate"]["trouble"].as_str().expect("trouble");
    // Five in its first second, which may be this one.
    let soon = |text: &str| {
        let mut told = ["4 days (20", "5 days (20"].iter();
        told.any(|days| text.contains(&format!("expires in {days}")))
    };
    assert!(soon(trouble), "{trouble}");
    let output = |words: &[&str]| {
        let ran = daemon.camring(words.iter().copied()).output();
        let ran = ran.expect("camring starts");
        assert!(ran.status.success(), "{ran:?}");
        String::from_utf8([ran.stdout, ran.stderr].concat()).expect("UTF-8")
    };
    let status = output(&["status"]);
    assert!(soon(&status), "{status}");
    assert!(status.contains(", https://127.0.0.1:"), "{status}");
    let check = output(&["check"]);
    assert!(soon(&check), "{check}");
    assert!(check.contains("should be renewed") && check.contains("https://127.0.0.1:"));
    let log = daemon.log();
    assert!(soon(&log), "{log}");

    let scraped = || {
        let address = http["address"].as_str().expect("an address");
        let port = address.rsplit(':').next().expect("a port");
        let asked = Command::new("curl")
            .args(["-sS", "--max-time", "60", "--cacert"])
            .arg(&certificate)
            .arg(format!("https://localhost:{port}/metrics"))
            .output()
            .expect("curl");
        let text = String::from_utf8(asked.stdout).expect("UTF-8");
        let line = text.lines().find_map(|line| line.strip_prefix(NAME));
        let value = line.unwrap_or_else(|| panic!("{text}")).trim().to_owned();
        value.parse::<f64>().expect("a number")
    };
    assert_eq!(scraped(), end_of(&certificate) as f64);

    make(folder.path(), "90");
    output(&["reload"]);
    wait_for("the new certificate", PATIENCE, || {
        let http = daemon.status()["http"].clone();
        let fine = http["certificate"]["trouble"].is_null();
        if fine { Ok(()) } else { Err(http) }
    });
    assert_eq!(scraped(), end_of(&certificate) as f64);
    daemon.stop();
}
