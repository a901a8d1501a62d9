//! A `camring serve` of its own folder, and small ways to talk to it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use camring::recording::{
    Chunk, ChunkFlags, Header, MinuteFile, Rendition, Tree, hour_name, write_init,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

pub const PATIENCE: Duration = Duration::from_secs(120);

/// Ends with the test.
pub struct Server {
    pub folder: TempDir,
    child: Child,
    pub address: SocketAddr,
    starts: u32,
}

pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {} {text}", self.status))
    }

    /// Checks that it is a problem as RFC 9457 has it, and returns it.
    #[track_caller]
    pub fn problem(&self, status: u16) -> Value {
        let problem = self.json();
        assert_eq!(self.status, status, "{problem}");
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json")
        );
        assert_eq!(problem["status"], status);
        let text = |key: &str| problem[key].as_str().is_some_and(|text| !text.is_empty());
        assert!(text("type") && text("title") && text("detail"), "{problem}");
        problem
    }
}

fn configuration(folder: &TempDir, more: &str) {
    let dir = folder.path().display();
    let text = format!(
        "[site]\nname = \"test\"\ndata_dir = \"{dir}/data\"\nruntime_dir = \"{dir}/run\"\n{more}\n[sandbox]\non_violation = \"kill\"\n\
         [[camera]]\nname = \"door\"\nurl = \"rtsp://127.0.0.1:9/door\"\n"
    );
    fs::write(folder.path().join("config.toml"), text).unwrap();
}

impl Server {
    /// `more`: of the configuration.
    pub fn start(more: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), more)
    }

    pub fn start_in(folder: TempDir, more: &str) -> Self {
        for name in ["data", "run"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        configuration(&folder, more);
        let (child, address) = launch(&folder, 0);
        Self {
            folder,
            child,
            address,
            starts: 1,
        }
    }

    pub fn signal(&mut self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again, after it ended.
    pub fn again(&mut self) {
        (self.child, self.address) = launch(&self.folder, self.starts);
        self.starts += 1;
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut stream = self.connect();
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "Host") {
            head += &format!("Host: {}\r\n", self.address);
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(b"\r\n").unwrap();
        // A body that is refused unread ends the connection before it is sent.
        let _ = stream.write_all(body);
        read_answer(&mut BufReader::new(stream))
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"")
    }

    pub fn json(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.text(method, path, &body.to_string())
    }

    pub fn text(&self, method: &str, path: &str, body: &str) -> Answer {
        let json = [("Content-Type", "application/json")];
        self.send(method, path, &json, body.as_bytes())
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// The live feed.
    pub fn events(&self, query: &str, last: Option<&str>) -> Events {
        let mut stream = self.connect();
        let last = last.map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
        let head = format!(
            "GET /api/v1/events{query} HTTP/1.1\r\nHost: {}\r\n{last}\r\n",
            self.address
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let (status, headers) = read_head(&mut reader);
        assert_eq!(status, 200, "{headers:?}");
        Events {
            reader,
            rest: String::new(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A test that fails has not ended it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn launch(folder: &TempDir, start: u32) -> (Child, SocketAddr) {
    let log = folder.path().join(format!("log-{start}"));
    let out = File::create(&log).unwrap();
    // It dies with this test, however that ends.
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_camring")])
        .args(["serve", "--listen", "127.0.0.1:0", "--config"])
        .arg(folder.path().join("config.toml"))
        .env("NO_COLOR", "1")
        .env_remove("CAMRING_LOG")
        .stdin(Stdio::null())
        .stdout(out.try_clone().unwrap())
        .stderr(out);
    let mut child = command.spawn().unwrap();
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        let text = fs::read_to_string(&log).unwrap_or_default();
        if let Some((_, rest)) = text.split_once("listening on http://") {
            let address = rest.split('/').next().unwrap_or_default();
            if rest.contains('/') {
                return (child, address.parse().unwrap());
            }
        }
        assert!(child.try_wait().unwrap().is_none(), "it ended: {text}");
        assert!(
            std::time::Instant::now() < end,
            "it does not listen: {text}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn read_head(reader: &mut impl BufRead) -> (u16, Vec<(String, String)>) {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let status = lines
        .first()
        .and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let headers = lines.iter().skip(1).filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        Some((name.to_ascii_lowercase(), value.to_owned()))
    });
    (
        status.unwrap_or_else(|| panic!("no answer: {lines:?}")),
        headers.collect(),
    )
}

pub fn read_answer(reader: &mut impl BufRead) -> Answer {
    let (status, headers) = read_head(reader);
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = Vec::new();
    match length {
        Some((_, length)) => {
            body.resize(length.parse().unwrap(), 0);
            reader.read_exact(&mut body).unwrap();
        }
        None => {
            reader.read_to_end(&mut body).unwrap();
        }
    }
    Answer {
        status,
        headers,
        body,
    }
}

/// Server-sent events, one after the other.
pub struct Events {
    reader: BufReader<TcpStream>,
    rest: String,
}

pub struct Event {
    pub name: String,
    pub id: Option<i64>,
    pub data: Value,
}

impl Events {
    /// The next one; comments are passed over. Chunked coding is taken off by line: events have no lines that
    /// look like its sizes.
    pub fn next(&mut self) -> Event {
        let (mut name, mut id, mut data) = (None, None, None);
        loop {
            let mut line = String::new();
            assert!(
                self.reader.read_line(&mut line).unwrap() > 0,
                "the events ended"
            );
            let line = line.trim_end();
            self.rest.clear();
            if let Some(value) = line.strip_prefix("event: ") {
                name = Some(value.to_owned());
            } else if let Some(value) = line.strip_prefix("id: ") {
                id = value.parse().ok();
            } else if let Some(value) = line.strip_prefix("data: ") {
                data = serde_json::from_str(value).ok();
            } else if line.is_empty()
                && let (Some(name), Some(data)) = (name.take(), data.take())
            {
                return Event { name, id, data };
            }
        }
    }
}

/// Minutes of a recording that no picture is in, one after the other: `bytes` of media each.
pub fn record(
    server_data: &std::path::Path,
    stream: &str,
    start_ms: i64,
    count: u64,
    bytes: usize,
) -> Rendition {
    let rendition = Tree::new(server_data).rendition(stream, Rendition::SOURCE);
    fs::create_dir_all(&rendition.folder).unwrap();
    let init = write_init(&rendition, b"init").unwrap();
    for number in 0..count {
        let start = start_ms + number as i64 * 60_000;
        let header = Header {
            timescale: 90_000,
            sender_report: false,
            media_sequence: number,
            discontinuity_sequence: 0,
            init,
            anchor_time: 0,
            anchor_utc_ns: start * 1_000_000,
            part_target_us: 200_000,
            segment_target_us: 60_000_000,
        };
        let mut file = MinuteFile::create(&rendition, start, header).unwrap();
        let chunk = Chunk {
            media_sequence: number,
            part: 0,
            flags: ChunkFlags::INDEPENDENT | ChunkFlags::SEGMENT_START | ChunkFlags::SEGMENT_END,
            offset: 0,
            len: 0,
            decode_time: 0,
            duration: 60 * 90_000,
            frames: Vec::new(),
        };
        file.append(&vec![7; bytes], chunk).unwrap();
        file.finish().unwrap();
    }
    rendition
}

/// All files of a rendition's hours, by name of the hour.
pub fn files(rendition: &Rendition) -> Vec<String> {
    let mut found = Vec::new();
    for hour in rendition.hours().unwrap() {
        assert_eq!(hour.name, hour_name(jiff_ms(&hour.name)));
        for entry in fs::read_dir(&hour.folder).unwrap() {
            found.push(entry.unwrap().file_name().into_string().unwrap());
        }
    }
    found.sort();
    found
}

fn jiff_ms(hour: &str) -> i64 {
    let text = format!(
        "{}-{}-{}T{}:00:00Z",
        &hour[..4],
        &hour[4..6],
        &hour[6..8],
        &hour[9..]
    );
    camring::serve::time::parse(&text).unwrap() / 1_000_000
}
