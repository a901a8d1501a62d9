//! A scripted RTSP camera for faults that a real server does not produce on demand.
//!
//! Serves one H.264 stream (real parameter sets, invented slices) at 25 pictures a second with a
//! key frame every ten, interleaved over TCP. What it does wrong is a [`Behaviour`], which can be
//! changed while it runs: each connection takes the one in force when it is accepted.
#![allow(dead_code)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// SPS and PPS of a 64x64 baseline stream by x264.
const SPROP: &str = "Z0LACtoQmwEQAAADABAAAAMDIPEiag==,aM4PyA==";
/// Pictures between key frames.
pub const GOP: u32 = 10;
const PERIOD: Duration = Duration::from_millis(40);

pub const GOOD_SDP: &str = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
    a=fmtp:96 packetization-mode=1;sprop-parameter-sets=SPROP\r\na=control:track0\r\n";

/// What happens after PLAY, where not `Stream` from picture `.0` on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AfterPlay {
    Stream,
    /// Answers requests, sends no picture.
    Silent,
    /// Sends pictures, none of them a key frame.
    NoKey,
    /// Pictures stop.
    Stop(u32),
    /// Pictures pause once.
    Pause(u32, Duration),
    /// Bytes that are neither RTSP nor interleaved data.
    Garbage(u32),
    /// Another SSRC.
    NewSsrc(u32),
    /// The sequence number falls back by 1000.
    SequenceBack(u32),
    /// Closes the connection inside an interleaved packet.
    EofMidFrame(u32),
    /// Closes the connection between packets.
    Eof(u32),
    /// RTCP BYE, then nothing.
    Bye(u32),
    /// Sends an OPTIONS request in front of each of five pictures.
    Asks(u32),
    /// Skips 7 sequence numbers once.
    Loss(u32),
    /// Every fifth picture has this many bytes.
    Large(usize),
    /// An unusable RTCP packet with each picture.
    BadRtcp,
    /// Recovery points instead of IDR pictures.
    IntraRefresh,
}

/// The sound beside the video: track1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sound {
    None,
    /// AAC-LC of 16 kHz, a frame with each picture.
    Aac,
    /// The same, not described as its packets are.
    Alaw,
    /// SETUP of track1 is answered with this status.
    Refused(u16),
    /// … and never.
    Hangs,
    /// Each packet ends in the middle of what it announces.
    Truncated,
    /// Another SSRC with each packet.
    Ssrc,
    /// RTCP BYE of the sound with each picture, and no packet.
    Bye,
    /// Unusable RTCP of the sound with each picture.
    BadRtcp,
    /// A form of the payload that retina gives the session up for: no marker bit.
    Unmarked,
}

const AAC_SDP: &str = "m=audio 0 RTP/AVP 98\r\na=rtpmap:98 MPEG4-GENERIC/16000/1\r\n\
    a=fmtp:98 streamtype=5;profile-level-id=1;mode=AAC-hbr;sizelength=13;indexlength=3;\
    indexdeltalength=3;config=1408\r\na=control:track1\r\n";
const ALAW_SDP: &str = "m=audio 0 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\na=control:track1\r\n";

#[derive(Clone, Debug)]
pub struct Behaviour {
    /// Reads this request and never answers it.
    pub hang: Option<&'static str>,
    /// Answers this request with a bare status.
    pub refuse: Option<(&'static str, u16)>,
    pub sdp: String,
    pub content_type: &'static str,
    /// Session timeout in s; clients send a keepalive about twice in it.
    pub session_timeout: u32,
    pub after_play: AfterPlay,
    pub sound: Sound,
}

impl Default for Behaviour {
    fn default() -> Self {
        Behaviour {
            hang: None,
            refuse: None,
            sdp: GOOD_SDP.to_owned(),
            content_type: "application/sdp",
            session_timeout: 60,
            after_play: AfterPlay::Stream,
            sound: Sound::None,
        }
    }
}

impl Behaviour {
    pub fn after_play(after_play: AfterPlay) -> Self {
        Behaviour {
            after_play,
            ..Default::default()
        }
    }

    pub fn sound(sound: Sound) -> Self {
        let track = match sound {
            Sound::None => "",
            Sound::Alaw => ALAW_SDP,
            _ => AAC_SDP,
        };
        Behaviour {
            sdp: format!("{GOOD_SDP}{track}"),
            sound,
            ..Default::default()
        }
    }

    pub fn hang(method: &'static str) -> Self {
        Behaviour {
            hang: Some(method),
            ..Default::default()
        }
    }

    pub fn refuse(method: &'static str, status: u16) -> Self {
        Behaviour {
            refuse: Some((method, status)),
            ..Default::default()
        }
    }

    pub fn sdp(sdp: &str) -> Self {
        Behaviour {
            sdp: sdp.to_owned(),
            ..Default::default()
        }
    }
}

/// What happened on one connection.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// Methods of the requests, in order.
    pub requests: Vec<String>,
    /// Whole request heads.
    pub heads: Vec<String>,
    /// SETUP was answered with a session.
    pub session: bool,
    /// The script closed the connection, or broke it beyond use.
    pub broken: bool,
}

#[derive(Debug)]
struct Shared {
    behaviour: Behaviour,
    connections: Vec<Connection>,
}

/// A listening camera; gone when dropped.
pub struct Camera {
    pub address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    task: JoinHandle<()>,
}

impl Camera {
    pub async fn start(behaviour: Behaviour) -> Self {
        Self::start_at("127.0.0.1:0", behaviour)
            .await
            .expect("a free port")
    }

    pub async fn start_at(address: &str, behaviour: Behaviour) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Mutex::new(Shared {
            behaviour,
            connections: Vec::new(),
        }));
        let task = tokio::spawn(accept(listener, shared.clone()));
        Ok(Camera {
            address,
            shared,
            task,
        })
    }

    pub fn url(&self) -> String {
        format!("rtsp://{}/stream", self.address)
    }

    /// For connections to come.
    pub fn behave(&self, behaviour: Behaviour) {
        self.shared.lock().unwrap().behaviour = behaviour;
    }

    pub fn connections(&self) -> Vec<Connection> {
        self.shared.lock().unwrap().connections.clone()
    }

    /// Every session that could be torn down was.
    pub fn assert_torn_down(&self) {
        for (i, c) in self.connections().iter().enumerate() {
            assert!(
                !c.session || c.broken || c.requests.iter().any(|r| r == "TEARDOWN"),
                "no TEARDOWN on connection {i}: {c:?}"
            );
        }
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Mutex<Shared>>) {
    // Connections end with this task.
    let mut serving = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (index, behaviour) = {
            let mut s = shared.lock().unwrap();
            s.connections.push(Connection::default());
            (s.connections.len() - 1, s.behaviour.clone())
        };
        let server = Serving {
            stream,
            shared: shared.clone(),
            index,
            behaviour,
            playing: false,
            picture: 0,
            sequence: 65_500,
            heard: false,
        };
        // Errors are the client's hang-up.
        serving.spawn(async move {
            let _ = server.run().await;
        });
    }
}

struct Serving {
    stream: TcpStream,
    shared: Arc<Mutex<Shared>>,
    index: usize,
    behaviour: Behaviour,
    playing: bool,
    picture: u32,
    sequence: u16,
    /// track1 was set up.
    heard: bool,
}

impl Serving {
    fn note(&self, f: impl FnOnce(&mut Connection)) {
        f(&mut self.shared.lock().unwrap().connections[self.index]);
    }

    async fn run(mut self) -> std::io::Result<()> {
        let mut received = Vec::new();
        let mut ticks = tokio::time::interval(PERIOD);
        let mut buffer = [0u8; 4096];
        loop {
            tokio::select! {
                n = self.stream.read(&mut buffer) => {
                    let n = n?;
                    if n == 0 {
                        return Ok(());
                    }
                    received.extend_from_slice(&buffer[..n]);
                    while let Some(head) = take_request(&mut received) {
                        self.request(&head).await?;
                    }
                }
                _ = ticks.tick(), if self.playing => self.play().await?,
            }
        }
    }

    async fn request(&mut self, head: &str) -> std::io::Result<()> {
        let method = head.split(' ').next().unwrap_or_default().to_owned();
        self.note(|c| {
            c.requests.push(method.clone());
            c.heads.push(head.to_owned());
        });
        // The client's answer to our OPTIONS would be one.
        if method.starts_with("RTSP/") || self.behaviour.hang == Some(&method) {
            return Ok(());
        }
        let cseq = head
            .lines()
            .find_map(|l| l.strip_prefix("CSeq: "))
            .unwrap_or("0");
        if let Some((refused, status)) = self.behaviour.refuse
            && refused == method
        {
            let answer = format!("RTSP/1.0 {status} No\r\nCSeq: {cseq}\r\n\r\n");
            return self.stream.write_all(answer.as_bytes()).await;
        }
        let second = method == "SETUP" && head.lines().next().is_some_and(|l| l.contains("track1"));
        match self.behaviour.sound {
            Sound::Hangs if second => return Ok(()),
            Sound::Refused(status) if second => {
                let answer = format!("RTSP/1.0 {status} No\r\nCSeq: {cseq}\r\n\r\n");
                return self.stream.write_all(answer.as_bytes()).await;
            }
            _ => {}
        }
        self.heard |= second;
        let channels = if second { "2-3" } else { "0-1" };
        let timeout = self.behaviour.session_timeout;
        let extra = match method.as_str() {
            "OPTIONS" => "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n".to_owned(),
            "DESCRIBE" => format!("Content-Type: {}\r\n", self.behaviour.content_type),
            "SETUP" => {
                self.note(|c| c.session = true);
                format!(
                    "Session: 4242;timeout={timeout}\r\n\
                     Transport: RTP/AVP/TCP;unicast;interleaved={channels}\r\n"
                )
            }
            "PLAY" => "Session: 4242\r\n".to_owned(),
            _ => String::new(),
        };
        let body = if method == "DESCRIBE" {
            let sdp = self.behaviour.sdp.replace("SPROP", SPROP);
            if sdp.starts_with("m=") || sdp.is_empty() {
                format!("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\n{sdp}")
            } else {
                sdp
            }
        } else {
            String::new()
        };
        let answer = format!(
            "RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\n{extra}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.playing |= method == "PLAY";
        self.playing &= method != "TEARDOWN";
        self.stream.write_all(answer.as_bytes()).await
    }

    /// One picture, or what the script has instead.
    async fn play(&mut self) -> std::io::Result<()> {
        let n = self.picture;
        self.picture += 1;
        let mut ssrc = 0x1234_5678;
        let mut key = n.is_multiple_of(GOP);
        let mut size = 100;
        match self.behaviour.after_play {
            AfterPlay::Stream => {}
            AfterPlay::Silent => return Ok(()),
            AfterPlay::NoKey => key = false,
            AfterPlay::Stop(from) if n >= from => return Ok(()),
            AfterPlay::Pause(at, length) if n == at => tokio::time::sleep(length).await,
            AfterPlay::Garbage(from) if n >= from => {
                self.note(|c| c.broken = true);
                return self.stream.write_all(&[0x13; 300]).await;
            }
            AfterPlay::NewSsrc(from) if n >= from => ssrc = 0x8765_4321,
            AfterPlay::SequenceBack(from) if n == from => {
                self.sequence = self.sequence.wrapping_sub(1000);
            }
            AfterPlay::EofMidFrame(from) if n >= from => {
                self.note(|c| c.broken = true);
                self.stream.write_all(&[b'$', 0, 4, 0, 0x80, 96]).await?;
                self.playing = false;
                return self.stream.shutdown().await;
            }
            AfterPlay::Eof(from) if n >= from => {
                self.note(|c| c.broken = true);
                self.playing = false;
                return self.stream.shutdown().await;
            }
            AfterPlay::Bye(from) if n >= from => {
                self.playing = false;
                // An empty receiver report, then BYE, as compound packets begin with a report.
                let mut rtcp = vec![0x80, 201, 0, 1, 0x12, 0x34, 0x56, 0x78];
                rtcp.extend_from_slice(&[0x81, 203, 0, 1, 0x12, 0x34, 0x56, 0x78]);
                return self.interleaved(1, &rtcp).await;
            }
            AfterPlay::Asks(from) if (from..from + 5).contains(&n) => {
                let ask = format!("OPTIONS * RTSP/1.0\r\nCSeq: {n}\r\n\r\n");
                self.stream.write_all(ask.as_bytes()).await?;
            }
            AfterPlay::BadRtcp => self.interleaved(1, &[0x13, 200, 0, 1]).await?,
            AfterPlay::Loss(at) if n == at => self.sequence = self.sequence.wrapping_add(7),
            AfterPlay::Large(bytes) if n % 5 == 4 => size = bytes,
            _ => {}
        }
        let refresh = self.behaviour.after_play == AfterPlay::IntraRefresh;
        if key && refresh {
            // Recovery point SEI, then an ordinary slice.
            self.rtp(ssrc, n, &[0x06, 6, 1, 0xc0, 0x80], false).await?;
        }
        let mut slice = vec![0x55u8; size];
        slice[0] = if key && !refresh { 0x65 } else { 0x41 };
        self.rtp(ssrc, n, &slice, true).await?;
        if self.heard {
            self.play_sound(n).await?;
        }
        Ok(())
    }

    /// A frame of 1024 samples, though a picture lasts 640: RTP times go faster than they should, which
    /// none of these tests is about.
    async fn play_sound(&mut self, n: u32) -> std::io::Result<()> {
        let sound = self.behaviour.sound;
        match sound {
            Sound::Bye => {
                let mut rtcp = vec![0x80, 201, 0, 1, 0x43, 0x21, 0, 0];
                rtcp.extend_from_slice(&[0x81, 203, 0, 1, 0x43, 0x21, 0, 0]);
                return self.interleaved(3, &rtcp).await;
            }
            Sound::BadRtcp => return self.interleaved(3, &[0x13, 200, 0, 1]).await,
            _ => {}
        }
        let marker = if sound == Sound::Unmarked { 0 } else { 0x80 };
        let mut packet = vec![0x80, 98 | marker];
        packet.extend_from_slice(&(n as u16).to_be_bytes());
        packet.extend_from_slice(&n.wrapping_mul(1024).to_be_bytes());
        let ssrc = if sound == Sound::Ssrc { n } else { 0 };
        packet.extend_from_slice(&(0x4321_0000 + ssrc).to_be_bytes());
        // RFC 3640 § 3.2: the length of the headers in bits, one header of 13 + 3 bits, one frame.
        packet.extend_from_slice(&[0, 16]);
        packet.extend_from_slice(&(32u16 << 3).to_be_bytes());
        packet.extend_from_slice(&[0x21; 32]);
        if sound == Sound::Truncated {
            packet.truncate(15);
        }
        self.interleaved(2, &packet).await
    }

    async fn rtp(&mut self, ssrc: u32, n: u32, nal: &[u8], last: bool) -> std::io::Result<()> {
        let mut packet = vec![0x80, 96 | (u8::from(last) << 7)];
        packet.extend_from_slice(&self.sequence.to_be_bytes());
        // Wraps during the first second.
        let time = (u32::MAX - 20_000).wrapping_add(n * 3600);
        packet.extend_from_slice(&time.to_be_bytes());
        packet.extend_from_slice(&ssrc.to_be_bytes());
        packet.extend_from_slice(nal);
        self.sequence = self.sequence.wrapping_add(1);
        self.interleaved(0, &packet).await
    }

    async fn interleaved(&mut self, channel: u8, packet: &[u8]) -> std::io::Result<()> {
        let length = u16::try_from(packet.len()).expect("small packets");
        let mut message = vec![b'$', channel];
        message.extend_from_slice(&length.to_be_bytes());
        message.extend_from_slice(packet);
        self.stream.write_all(&message).await
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
