//! The sending side of one session: pictures as RTP over the RTSP connection, with knobs for what a
//! script does to them.

use std::io::{self, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use camring::media::Codec;

use crate::camera::{Camera, reset};
use crate::clip::Clip;

/// Between pictures: half the speed of the clip, to leave time for the others.
pub const PERIOD: Duration = Duration::from_millis(80);
/// The same in RTP ticks.
pub const STEP: u32 = 7200;
/// Payload bytes of a packet.
const MTU: usize = 1200;

pub struct Player {
    pub camera: Arc<Camera>,
    /// What it plays.
    pub clip: Arc<Clip>,
    stream: TcpStream,
    /// RTP goes there, RTCP to the port after it.
    pub udp: Option<(UdpSocket, SocketAddr)>,
    playing: Arc<AtomicBool>,
    session: Option<u64>,
    next_at: Instant,
    /// Which picture of the clip is next.
    pub at: usize,
    pub sequence: u16,
    pub time: u32,
    pub step: u32,
    pub ssrc: u32,
    pub payload_type: u8,
    pub period: Duration,
    pub no_marker: bool,
    /// Pictures of this session sent so far.
    pub sent: u32,
    random: u64,
}

impl Player {
    pub fn new(
        camera: Arc<Camera>,
        stream: TcpStream,
        udp: Option<(UdpSocket, SocketAddr)>,
        playing: Arc<AtomicBool>,
        session: Option<u64>,
    ) -> Self {
        Player {
            clip: Arc::clone(&camera.clip),
            camera,
            udp,
            stream,
            playing,
            session,
            next_at: Instant::now(),
            at: 0,
            sequence: 65_400,
            time: 1_000_000,
            step: STEP,
            ssrc: 0x1234_5678,
            payload_type: 96,
            period: PERIOD,
            no_marker: false,
            sent: 0,
            random: 0x9e37_79b9_7f4a_7c15,
        }
    }

    /// Below this bound, reproducible.
    pub fn random(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % bound
    }

    pub fn faulty(&self) -> bool {
        !self.camera.behaves()
    }

    fn live(&self) -> io::Result<()> {
        if self.playing.load(Ordering::SeqCst) && !self.camera.has_ended() {
            Ok(())
        } else {
            Err(io::ErrorKind::ConnectionAborted.into())
        }
    }

    /// Waits, as long as the session lives.
    pub fn wait(&mut self, time: Duration) -> io::Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.live()?;
            std::thread::sleep(Duration::from_millis(20).min(time));
        }
        self.next_at = Instant::now();
        self.live()
    }

    /// Until the session ends.
    pub fn silence(&mut self) -> io::Result<()> {
        loop {
            self.wait(Duration::from_millis(50))?;
        }
    }

    /// The client cannot end this session in order any more.
    pub fn broken(&self) {
        let mut log = self.camera.log();
        for session in &mut log.sessions {
            session.broken |= Some(session.id) == self.session;
        }
    }

    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.live()?;
        self.stream.write_all(bytes)
    }

    pub fn close(&mut self) -> io::Result<()> {
        self.broken();
        self.stream.shutdown(Shutdown::Both)
    }

    pub fn reset(&mut self) -> io::Result<()> {
        self.broken();
        reset(&self.stream);
        self.stream.shutdown(Shutdown::Both)?;
        Err(io::ErrorKind::ConnectionReset.into())
    }

    /// One packet, interleaved or by itself.
    pub fn packet(&mut self, channel: u8, packet: &[u8]) -> io::Result<()> {
        if let Some((socket, to)) = &self.udp {
            self.live()?;
            let to = SocketAddr::new(to.ip(), to.port() + u16::from(channel));
            // Nobody listens any more: the connection tells.
            let _ = socket.send_to(packet, to);
            return Ok(());
        }
        let length = u16::try_from(packet.len()).expect("small packets");
        let mut message = vec![b'$', channel];
        message.extend_from_slice(&length.to_be_bytes());
        message.extend_from_slice(packet);
        self.raw(&message)
    }

    /// One RTP packet, numbered.
    pub fn rtp_packet(&mut self, payload: &[u8], last: bool) -> Vec<u8> {
        let marker = u8::from(last && !self.no_marker) << 7;
        let mut packet = vec![0x80, self.payload_type | marker];
        packet.extend_from_slice(&self.sequence.to_be_bytes());
        packet.extend_from_slice(&self.time.to_be_bytes());
        packet.extend_from_slice(&self.ssrc.to_be_bytes());
        packet.extend_from_slice(payload);
        self.sequence = self.sequence.wrapping_add(1);
        packet
    }

    /// The packets of a NAL unit, RFC 6184: as it is, or in fragments.
    pub fn nal_packets(&mut self, nal: &[u8], last: bool) -> Vec<Vec<u8>> {
        if nal.len() <= MTU {
            return vec![self.rtp_packet(nal, last)];
        }
        // RFC 7798 for H.265: a header of two bytes.
        let header = if self.clip.codec == Codec::H265 { 2 } else { 1 };
        let count = nal[header..].len().div_ceil(MTU);
        let mut packets = Vec::with_capacity(count);
        for (i, chunk) in nal[header..].chunks(MTU).enumerate() {
            let (first, end) = (i == 0, i + 1 == count);
            let bits = u8::from(first) << 7 | u8::from(end) << 6;
            let mut payload = match header {
                2 => vec![nal[0] & 0x81 | 49 << 1, nal[1], bits | nal[0] >> 1 & 0x3f],
                _ => vec![nal[0] & 0x60 | 28, bits | nal[0] & 0x1f],
            };
            payload.extend_from_slice(chunk);
            packets.push(self.rtp_packet(&payload, last && end));
        }
        packets
    }

    /// The packets of a JPEG picture with the usual Huffman tables, 4:2:0 (RFC 2435).
    fn jpeg_packets(&mut self, picture: &[u8]) -> Vec<Vec<u8>> {
        let (mut at, mut tables, mut size) = (2, Vec::new(), [0; 2]);
        let scan = loop {
            let length = usize::from(u16::from_be_bytes([picture[at + 2], picture[at + 3]]));
            let body = &picture[at + 4..at + 2 + length];
            match picture[at + 1] {
                // Each table after its number.
                0xdb => tables.extend(body.chunks(65).flat_map(|table| table[1..].to_vec())),
                0xc0 => {
                    size = [3, 1].map(|i| {
                        body[i..i + 2]
                            .iter()
                            .fold(0u16, |n, b| n << 8 | u16::from(*b))
                    })
                }
                0xda => break &picture[at + 2 + length..picture.len() - 2],
                _ => {}
            }
            at += 2 + length;
        };
        if tables.len() == 64 {
            tables.extend_from_within(..);
        }
        let count = scan.len().div_ceil(MTU);
        let mut packets = Vec::with_capacity(count);
        for (i, chunk) in scan.chunks(MTU).enumerate() {
            let offset = u32::try_from(i * MTU)
                .expect("small pictures")
                .to_be_bytes();
            let mut payload = vec![0, offset[1], offset[2], offset[3], 1, 255];
            payload.extend(size.map(|n| u8::try_from(n / 8).expect("small pictures")));
            if i == 0 {
                payload.extend_from_slice(&[0, 0, 0, 128]);
                payload.extend_from_slice(&tables);
            }
            payload.extend_from_slice(chunk);
            packets.push(self.rtp_packet(&payload, i + 1 == count));
        }
        packets
    }

    /// The packets of the next picture, when its time has come.
    pub fn picture_packets(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let now = Instant::now();
        let until = self.next_at + self.period;
        // Late, for a busy machine: no burst to catch up.
        self.next_at = until.max(now);
        if until > now {
            std::thread::sleep(until - now);
        }
        self.live()?;
        let clip: Arc<Clip> = Arc::clone(&self.clip);
        let unit = &clip.units[self.at % clip.units.len()];
        let mut packets = Vec::new();
        for (i, nal) in unit.iter().enumerate() {
            packets.extend(match clip.codec {
                Codec::Mjpeg => self.jpeg_packets(nal),
                _ => self.nal_packets(nal, i + 1 == unit.len()),
            });
        }
        self.at += 1;
        self.sent += 1;
        self.time = self.time.wrapping_add(self.step);
        Ok(packets)
    }

    pub fn send(&mut self, packets: &[Vec<u8>]) -> io::Result<()> {
        for packet in packets {
            self.packet(0, packet)?;
        }
        Ok(())
    }

    pub fn picture(&mut self) -> io::Result<()> {
        let packets = self.picture_packets()?;
        self.send(&packets)
    }

    pub fn pictures(&mut self, count: u32) -> io::Result<()> {
        for _ in 0..count {
            self.picture()?;
        }
        Ok(())
    }

    pub fn for_ever(&mut self) -> io::Result<()> {
        loop {
            self.picture()?;
        }
    }

    /// A sender report with this NTP time, 32.32 fixed point.
    pub fn sender_report(&mut self, ntp: u64) -> io::Result<()> {
        let mut report = vec![0x80, 200, 0, 6];
        report.extend_from_slice(&self.ssrc.to_be_bytes());
        report.extend_from_slice(&ntp.to_be_bytes());
        report.extend_from_slice(&self.time.to_be_bytes());
        report.extend_from_slice(&[0; 8]);
        self.packet(1, &report)
    }
}
