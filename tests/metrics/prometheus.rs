//! A Prometheus that scrapes one daemon on the loopback interface.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{PATIENCE, wait_for};

/// It is killed when dropped, and with the thread that started it.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    agent: ureq::Agent,
    address: String,
    _folder: Option<TempDir>,
}

impl Prometheus {
    /// Starts it, and waits until it has scraped once.
    #[track_caller]
    pub fn start(tools: &Path, target: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = format!(
            "global: {{scrape_interval: 2s, scrape_timeout: 2s}}\n\
             scrape_configs:\n- job_name: camring\n  static_configs: [{{targets: ['{target}']}}]\n"
        );
        let path = folder.path().join("prometheus.yml");
        fs::write(&path, config).expect("a configuration");
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(60)));
        let agent: ureq::Agent = config.build().into();
        // It cannot say which port it took of 0: another program may take this one first.
        for _ in 0..5 {
            let free = TcpListener::bind("127.0.0.1:0").expect("a port");
            let address = free.local_addr().expect("an address").to_string();
            drop(free);
            let log = File::create(folder.path().join("log")).expect("a log");
            let child = Command::new("setpriv")
                .args(["--pdeathsig", "KILL"])
                .arg(tools.join("prometheus"))
                .arg(format!("--config.file={}", path.display()))
                .arg(format!(
                    "--storage.tsdb.path={}",
                    folder.path().join("data").display()
                ))
                .arg(format!("--web.listen-address={address}"))
                .env("GOMAXPROCS", "1")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .expect("prometheus starts");
            let mut started = Self {
                child,
                agent: agent.clone(),
                address,
                _folder: None,
            };
            if started.scrapes(folder.path()) {
                started._folder = Some(folder);
                return started;
            }
        }
        let log = fs::read_to_string(folder.path().join("log"));
        panic!("prometheus does not start: {log:?}");
    }

    /// `false`: it ended.
    fn scrapes(&mut self, folder: &Path) -> bool {
        wait_for("prometheus to scrape", PATIENCE, || {
            if let Ok(Some(_)) = self.child.try_wait() {
                return Ok(false);
            }
            let up = self.query("up");
            match up["data"]["result"][0]["value"][1] == "1" {
                true => Ok(true),
                false => Err((up, fs::read_to_string(folder.join("log")))),
            }
        })
    }

    /// Its answer to a query, as JSON; null while it does not answer.
    pub fn query(&self, query: &str) -> Value {
        let url = format!("http://{}/api/v1/query", self.address);
        let asked = self.agent.get(&url).query("query", query).call();
        let Ok(mut answer) = asked else {
            return Value::Null;
        };
        let text = answer.body_mut().read_to_string().unwrap_or_default();
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
