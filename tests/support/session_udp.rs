//! A scripted camera that sends RTP over UDP, through a network that swaps and loses packets.
//!
//! One client at a time. Each picture is cut into four packets (FU-A), a key frame every ten. Its
//! bytes are its number, so that a picture put together wrongly shows.
#![allow(dead_code)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

/// Bytes of a picture behind its NAL header.
pub const PICTURE: usize = 2000;
const PIECES: usize = 4;
/// Where it sends to when it is asked for multicast: for a network of its own.
const GROUP: (&str, u16) = ("239.77.0.1", 5000);
/// Pictures between key frames.
pub const GOP: u32 = 10;
const PERIOD: Duration = Duration::from_millis(10);
const SPROP: &str = "Z0LACtoQmwEQAAADABAAAAMDIPEiag==,aM4PyA==";

/// What the network does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Network {
    /// Of this many packets, one is overtaken by the next. 0: none.
    pub swap_every: u32,
    /// Of this many packets, one is lost. 0: none.
    pub lose_every: u32,
}

/// A camera; gone when dropped.
pub struct Camera {
    pub address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Camera {
    pub fn start(network: Network) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if stopped.load(Relaxed) {
                    return;
                }
                // Errors are the client's hang-up.
                let _ = serve(stream, network, &stopped);
            }
        });
        Camera {
            address,
            stop,
            thread: Some(thread),
        }
    }

    pub fn url(&self) -> String {
        format!("rtsp://{}/stream", self.address)
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(mut stream: TcpStream, network: Network, stopped: &AtomicBool) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PERIOD))?;
    let base = format!("rtsp://{}/stream/", stream.local_addr()?);
    // An even port and the next, as clients expect.
    let (rtp, _rtcp) = loop {
        let rtp = UdpSocket::bind("127.0.0.1:0")?;
        let port = rtp.local_addr()?.port();
        if port % 2 == 0
            && let Ok(rtcp) = UdpSocket::bind(("127.0.0.1", port + 1))
        {
            break (rtp, rtcp);
        }
    };
    let port = rtp.local_addr()?.port();
    let mut sending: Option<Sending> = None;
    let mut target = None;
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    while !stopped.load(Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => received.extend_from_slice(&buffer[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
        while let Some(end) = received.windows(4).position(|w| w == b"\r\n\r\n") {
            let head: Vec<u8> = received.drain(..end + 4).collect();
            let head = String::from_utf8_lossy(&head).into_owned();
            let header = |name: &str| {
                head.lines()
                    .find_map(|line| line.strip_prefix(name))
                    .unwrap_or("")
                    .trim()
                    .to_owned()
            };
            let sdp = format!(
                "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n\
                 a=rtpmap:96 H264/90000\r\n\
                 a=fmtp:96 packetization-mode=1;sprop-parameter-sets={SPROP}\r\na=control:t\r\n"
            );
            let (extra, body) = match head.split(' ').next().unwrap_or("") {
                "DESCRIBE" => (
                    format!("Content-Base: {base}\r\nContent-Type: application/sdp\r\n"),
                    sdp,
                ),
                "SETUP" => {
                    let transport = header("Transport:");
                    let ports = transport.split("client_port=").nth(1).unwrap_or("");
                    let first = ports.split(['-', ';']).next().unwrap_or("");
                    target = first.parse().ok().map(|port| ("127.0.0.1", port));
                    let mut transport = format!(
                        "RTP/AVP/UDP;unicast;client_port={ports};server_port={port}-{}",
                        port + 1
                    );
                    if ports.is_empty() {
                        target = Some(GROUP);
                        let (group, port) = GROUP;
                        transport = format!(
                            "RTP/AVP;multicast;destination={group};port={port}-{};ttl=1",
                            port + 1
                        );
                    }
                    (
                        format!("Session: 1;timeout=60\r\nTransport: {transport}\r\n"),
                        String::new(),
                    )
                }
                "PLAY" => {
                    sending = target.map(|to| Sending::new(network, to));
                    ("Session: 1\r\n".to_owned(), String::new())
                }
                "OPTIONS" => (
                    "Public: DESCRIBE, SETUP, PLAY, TEARDOWN\r\n".to_owned(),
                    String::new(),
                ),
                _ => (String::new(), String::new()),
            };
            let cseq = header("CSeq:");
            let length = body.len();
            let answer = format!(
                "RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\n{extra}Content-Length: {length}\r\n\r\n{body}"
            );
            stream.write_all(answer.as_bytes())?;
        }
        if let Some(sending) = &mut sending {
            sending.picture(&rtp);
        }
    }
    Ok(())
}

struct Sending {
    network: Network,
    to: (&'static str, u16),
    picture: u32,
    sequence: u16,
    packets: u32,
    held: Option<Vec<u8>>,
}

impl Sending {
    fn new(network: Network, to: (&'static str, u16)) -> Self {
        Sending {
            network,
            to,
            picture: 0,
            // Wraps in the course of it.
            sequence: 65_000,
            packets: 0,
            held: None,
        }
    }

    fn picture(&mut self, socket: &UdpSocket) {
        let n = self.picture;
        self.picture += 1;
        let kind = if n.is_multiple_of(GOP) { 5 } else { 1 };
        let body = vec![(n % 200) as u8 + 10; PICTURE];
        for (i, piece) in body.chunks(PICTURE / PIECES).enumerate() {
            let (first, last) = (i == 0, i == PIECES - 1);
            let mut packet = vec![0x80, 96 | (u8::from(last) << 7)];
            packet.extend_from_slice(&self.sequence.to_be_bytes());
            packet.extend_from_slice(&(n * 900).to_be_bytes());
            packet.extend_from_slice(&7u32.to_be_bytes());
            packet.push(0x60 | 28);
            packet.push(u8::from(first) << 7 | u8::from(last) << 6 | kind);
            packet.extend_from_slice(piece);
            self.sequence = self.sequence.wrapping_add(1);
            self.send(socket, packet);
        }
    }

    fn send(&mut self, socket: &UdpSocket, packet: Vec<u8>) {
        self.packets += 1;
        let every = |n: u32| n > 0 && self.packets.is_multiple_of(n);
        if every(self.network.lose_every) {
            return;
        }
        if every(self.network.swap_every) && self.held.is_none() {
            self.held = Some(packet);
            return;
        }
        let held = self.held.take();
        for packet in [Some(packet), held].into_iter().flatten() {
            let _ = socket.send_to(&packet, self.to);
        }
    }
}
