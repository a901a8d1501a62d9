//! A scripted RTSP camera: real H.264 pictures of a test clip, and whatever a [`Script`] does wrong.
//!
//! One thread accepts, two serve each connection: one answers requests, one plays. Every connection,
//! request and session is noted with its time: what the daemon did to this camera is judged from here.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::clip::Clip;
use crate::player::Player;

/// What a script does with a request.
pub enum Answer {
    /// What a camera should answer.
    Usual,
    /// Nothing, ever.
    Nothing,
    /// These bytes; `@CSEQ@` is replaced.
    Bytes(Vec<u8>),
    /// Bytes with a pause after each so many of them.
    Drip(Vec<u8>, usize, Duration),
}

impl Answer {
    pub fn status(code: u16, more: &str) -> Answer {
        Answer::Bytes(format!("RTSP/1.0 {code} No\r\nCSeq: @CSEQ@\r\n{more}\r\n").into_bytes())
    }
}

/// A request as the camera sees it.
pub struct Request {
    pub method: String,
    pub head: String,
    /// Which one of its connection, from 0.
    pub number: usize,
}

pub type OnRequest = dyn Fn(&Request, &Camera) -> Answer + Send + Sync;
pub type OnPlay = dyn Fn(&mut Player) -> io::Result<()> + Send + Sync;

/// What a camera does wrong. When `play` returns, it sends what it should.
#[derive(Clone)]
pub struct Script {
    pub request: Arc<OnRequest>,
    pub play: Arc<OnPlay>,
    pub sdp: Sdp,
    /// Another clip than the usual one.
    pub clip: Option<Arc<Clip>>,
    /// Session timeout in seconds; clients send a keepalive about twice in it.
    pub session_timeout: u32,
    /// A session lives until TEARDOWN, and there is only one.
    pub single_session: bool,
}

/// The session description.
#[derive(Clone)]
pub enum Sdp {
    Usual,
    /// Without parameter sets.
    NoSets,
    Text(String),
}

impl Default for Script {
    fn default() -> Self {
        Script {
            request: Arc::new(|_, _| Answer::Usual),
            play: Arc::new(|_| Ok(())),
            sdp: Sdp::Usual,
            clip: None,
            session_timeout: 60,
            single_session: false,
        }
    }
}

impl Script {
    pub fn request(answer: impl Fn(&Request, &Camera) -> Answer + Send + Sync + 'static) -> Self {
        Script {
            request: Arc::new(answer),
            ..Script::default()
        }
    }

    /// Answers one method so.
    pub fn on(method: &'static str, answer: impl Fn() -> Answer + Send + Sync + 'static) -> Self {
        Script::request(move |request, _| {
            if request.method == method {
                answer()
            } else {
                Answer::Usual
            }
        })
    }

    pub fn play(play: impl Fn(&mut Player) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Script {
            play: Arc::new(play),
            ..Script::default()
        }
    }

    pub fn sdp(media: &str) -> Self {
        let sdp = format!("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\n{media}");
        Script {
            sdp: Sdp::Text(sdp),
            ..Script::default()
        }
    }

    pub fn with_sdp(mut self, sdp: Sdp) -> Self {
        self.sdp = sdp;
        self
    }

    pub fn with_clip(mut self, clip: Arc<Clip>) -> Self {
        self.clip = Some(clip);
        self
    }

    pub fn single_session(mut self) -> Self {
        self.single_session = true;
        self
    }

    pub fn session_timeout(mut self, seconds: u32) -> Self {
        self.session_timeout = seconds;
        self
    }
}

/// One connection, as the camera saw it.
#[derive(Clone, Debug)]
pub struct Connection {
    pub at: Instant,
    pub requests: Vec<String>,
    pub heads: Vec<String>,
}

impl Connection {
    /// It began a session; others only say goodbye, or look whether somebody listens.
    pub fn is_a_try(&self) -> bool {
        self.requests
            .first()
            .is_some_and(|first| first == "DESCRIBE" || first == "OPTIONS")
    }
}

/// One session: from the answer to SETUP to TEARDOWN.
#[derive(Clone, Debug)]
pub struct SessionLog {
    pub id: u64,
    pub torn_down: bool,
    /// The script left the client no way to end it.
    pub broken: bool,
}

#[derive(Default)]
pub struct Log {
    pub connections: Vec<Connection>,
    pub sessions: Vec<SessionLog>,
    /// SETUPs refused because of a session that was left open.
    pub refused: u32,
    streams: Vec<TcpStream>,
}

pub struct Camera {
    pub address: SocketAddr,
    script: Script,
    pub clip: Arc<Clip>,
    well: AtomicBool,
    off: AtomicBool,
    ended: AtomicBool,
    deaf: AtomicBool,
    ids: AtomicU64,
    log: Mutex<Log>,
}

impl Camera {
    pub fn start(script: Script, clip: &Arc<Clip>) -> Arc<Camera> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let camera = Arc::new(Camera {
            address: listener.local_addr().expect("an address"),
            clip: script.clip.clone().unwrap_or_else(|| Arc::clone(clip)),
            script,
            well: AtomicBool::new(false),
            off: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            deaf: AtomicBool::new(false),
            ids: AtomicU64::new(1000),
            log: Mutex::default(),
        });
        let accepting = Arc::clone(&camera);
        std::thread::spawn(move || accepting.accept(&listener));
        camera
    }

    pub fn url(&self) -> String {
        format!("rtsp://{}/stream", self.address)
    }

    pub fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// From now on it behaves: new connections, and the script that plays if it asks.
    pub fn behave(&self) {
        self.well.store(true, Ordering::SeqCst);
    }

    pub fn behaves(&self) -> bool {
        self.well.load(Ordering::SeqCst)
    }

    /// Resets whoever connects, as a camera that boots.
    pub fn switch(&self, on: bool) {
        self.off.store(!on, Ordering::SeqCst);
        if !on {
            for stream in self.log().streams.drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }

    pub fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.switch(false);
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.address);
    }

    /// Reads no more from connections that there are now, so that their windows fill.
    pub fn go_deaf(&self) {
        self.deaf.store(true, Ordering::SeqCst);
    }

    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// Times of the connections that began a session.
    pub fn tries(&self) -> Vec<Instant> {
        let log = self.log();
        let tries = log.connections.iter().filter(|c| c.is_a_try());
        tries.map(|c| c.at).collect()
    }

    fn accept(self: Arc<Self>, listener: &TcpListener) {
        while let Ok((stream, _)) = listener.accept() {
            if self.has_ended() {
                return;
            }
            if self.off.load(Ordering::SeqCst) {
                reset(&stream);
                continue;
            }
            let index = {
                let mut log = self.log();
                log.connections.push(Connection {
                    at: Instant::now(),
                    requests: Vec::new(),
                    heads: Vec::new(),
                });
                if let Ok(stream) = stream.try_clone() {
                    log.streams.push(stream);
                }
                log.connections.len() - 1
            };
            let camera = Arc::clone(&self);
            std::thread::spawn(move || {
                // Errors are the client's hang-up.
                let _ = Serving::new(camera, stream, index).run();
            });
        }
    }
}

/// Closes with a RST instead of a FIN.
pub fn reset(stream: &TcpStream) {
    let linger = nix::libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    let option = nix::sys::socket::sockopt::Linger;
    let _ = nix::sys::socket::setsockopt(stream, option, &linger);
}

struct Serving {
    camera: Arc<Camera>,
    script: Script,
    stream: TcpStream,
    index: usize,
    session: Option<u64>,
    playing: Arc<AtomicBool>,
    /// Where RTP comes from, where RTCP would be received, and where RTP goes.
    udp: Option<(UdpSocket, UdpSocket, SocketAddr)>,
}

impl Serving {
    fn new(camera: Arc<Camera>, stream: TcpStream, index: usize) -> Self {
        let script = if camera.behaves() {
            Script {
                clip: camera.script.clip.clone(),
                ..Script::default()
            }
        } else {
            camera.script.clone()
        };
        Serving {
            camera,
            script,
            stream,
            index,
            session: None,
            playing: Arc::default(),
            udp: None,
        }
    }

    fn run(mut self) -> io::Result<()> {
        let result = self.serve();
        self.playing.store(false, Ordering::SeqCst);
        let _ = self.stream.shutdown(Shutdown::Both);
        result
    }

    fn serve(&mut self) -> io::Result<()> {
        let mut received = Vec::new();
        let mut buffer = [0u8; 4096];
        let mut number = 0;
        loop {
            while self.playing.load(Ordering::SeqCst)
                && self.camera.deaf.load(Ordering::SeqCst)
                && !self.camera.behaves()
                && !self.camera.has_ended()
            {
                std::thread::sleep(Duration::from_millis(20));
            }
            let n = self.stream.read(&mut buffer)?;
            if n == 0 {
                return Ok(());
            }
            received.extend_from_slice(&buffer[..n]);
            while let Some(head) = take_request(&mut received) {
                let method = head.split(' ').next().unwrap_or_default().to_owned();
                // Else the client's answer to a request of ours.
                if !method.starts_with("RTSP/") {
                    self.answer(Request {
                        method,
                        head,
                        number,
                    })?;
                    number += 1;
                }
            }
        }
    }

    fn answer(&mut self, request: Request) -> io::Result<()> {
        {
            let mut log = self.camera.log();
            let connection = &mut log.connections[self.index];
            connection.requests.push(request.method.clone());
            connection.heads.push(request.head.clone());
            if request.method == "TEARDOWN"
                && let Some(id) = header(&request.head, "Session")
            {
                let id = id.split(';').next().unwrap_or_default().trim().parse();
                for session in &mut log.sessions {
                    session.torn_down |= Ok(session.id) == id;
                }
            }
        }
        let cseq = header(&request.head, "CSeq").unwrap_or("0").to_owned();
        match (self.script.request)(&request, &self.camera) {
            Answer::Usual => self.usual(&request, &cseq),
            Answer::Nothing => Ok(()),
            Answer::Bytes(bytes) => self.write(&with_cseq(bytes, &cseq)),
            Answer::Drip(bytes, count, pause) => {
                for chunk in with_cseq(bytes, &cseq).chunks(count) {
                    self.write(chunk)?;
                    self.nap(pause)?;
                }
                Ok(())
            }
        }
    }

    fn nap(&self, pause: Duration) -> io::Result<()> {
        if self.camera.has_ended() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        std::thread::sleep(pause);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    fn usual(&mut self, request: &Request, cseq: &str) -> io::Result<()> {
        let mut body = String::new();
        let extra = match request.method.as_str() {
            "DESCRIBE" => {
                body = match &self.script.sdp {
                    Sdp::Usual => self.camera.clip.sdp(true),
                    Sdp::NoSets => self.camera.clip.sdp(false),
                    Sdp::Text(text) => text.clone(),
                };
                "Content-Type: application/sdp\r\n".to_owned()
            }
            "SETUP" => {
                let Some(id) = self.open_session() else {
                    let busy = format!("RTSP/1.0 453 Not Enough Bandwidth\r\nCSeq: {cseq}\r\n\r\n");
                    return self.write(busy.as_bytes());
                };
                let timeout = self.script.session_timeout;
                let transport = self.transport(&request.head)?;
                format!("Session: {id};timeout={timeout}\r\nTransport: {transport}\r\n")
            }
            "PLAY" => format!("Session: {}\r\n", self.session.unwrap_or(0)),
            "OPTIONS" => "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n".to_owned(),
            _ => String::new(),
        };
        let answer = format!(
            "RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\n{extra}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        if request.method == "TEARDOWN" {
            self.playing.store(false, Ordering::SeqCst);
        }
        self.write(answer.as_bytes())?;
        if request.method == "PLAY" && !self.playing.swap(true, Ordering::SeqCst) {
            let play = Arc::clone(&self.script.play);
            let mut player = Player::new(
                Arc::clone(&self.camera),
                self.stream.try_clone()?,
                match &self.udp {
                    Some((rtp, _, to)) => Some((rtp.try_clone()?, *to)),
                    None => None,
                },
                Arc::clone(&self.playing),
                self.session,
            );
            std::thread::spawn(move || {
                // Errors are the end of the connection.
                let _ = play(&mut player).and_then(|()| player.for_ever());
            });
        }
        Ok(())
    }

    /// As the client asks: RTP over its connection, or to a port of its own.
    fn transport(&mut self, head: &str) -> io::Result<String> {
        let asked = header(head, "Transport").unwrap_or_default();
        let Some((_, ports)) = asked.split_once("client_port=") else {
            return Ok("RTP/AVP/TCP;unicast;interleaved=0-1".to_owned());
        };
        let ports = ports.split(';').next().unwrap_or_default();
        let first = ports.split('-').next().and_then(|port| port.parse().ok());
        let to = SocketAddr::new(self.stream.peer_addr()?.ip(), first.unwrap_or(9));
        // An even port and the next, as clients expect.
        let (rtp, rtcp) = loop {
            let rtp = UdpSocket::bind("127.0.0.1:0")?;
            let port = rtp.local_addr()?.port();
            if port.is_multiple_of(2)
                && let Ok(rtcp) = UdpSocket::bind(("127.0.0.1", port + 1))
            {
                break (rtp, rtcp);
            }
        };
        let port = rtp.local_addr()?.port();
        self.udp = Some((rtp, rtcp, to));
        Ok(format!(
            "RTP/AVP;unicast;client_port={ports};server_port={port}-{}",
            port + 1
        ))
    }

    fn open_session(&mut self) -> Option<u64> {
        let id = self.camera.ids.fetch_add(1, Ordering::SeqCst);
        let mut log = self.camera.log();
        if self.script.single_session && log.sessions.iter().any(|s| !s.torn_down) {
            log.refused += 1;
            return None;
        }
        log.sessions.push(SessionLog {
            id,
            torn_down: false,
            broken: false,
        });
        self.session = Some(id);
        Some(id)
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn with_cseq(bytes: Vec<u8>, cseq: &str) -> Vec<u8> {
    const MARK: &[u8] = b"@CSEQ@";
    match bytes.windows(MARK.len()).position(|w| w == MARK) {
        Some(at) => [&bytes[..at], cseq.as_bytes(), &bytes[at + MARK.len()..]].concat(),
        None => bytes,
    }
}

/// Takes the next request head (requests here have no body), skipping interleaved data.
fn take_request(received: &mut Vec<u8>) -> Option<String> {
    while received.first() == Some(&b'$') {
        let length = usize::from(u16::from_be_bytes([*received.get(2)?, *received.get(3)?]));
        if received.len() < 4 + length {
            return None;
        }
        received.drain(..4 + length);
    }
    let end = received.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let head: Vec<u8> = received.drain(..end).collect();
    Some(String::from_utf8_lossy(&head).into_owned())
}
