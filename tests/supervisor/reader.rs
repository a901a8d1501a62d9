//! A reader without a camera: publishes frames whose every word is their number, and misbehaves
//! as its URL's query says.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use camring::config::{OnViolation, Sandbox, SandboxMode};
use camring::control::{
    self, Begun, ControlError, ControlSocket, Received, RingKind, ToReader, ToSupervisor,
};
use camring::health::State;
use camring::sandbox::{self, Profile};
use camring::sys::clock;
use camring_ring::{
    CloseReason, Codec, FrameDescriptor, FrameWriter, PacketWriter, PixelFormat, SealedMemory,
    SubscriberPages, UnitDescriptor, UnitFlags,
};

const WIDTH: u32 = 64;

/// What the query says; all of it may be left out.
struct Plan(BTreeMap<String, String>);

impl Plan {
    fn number(&self, key: &str) -> Option<u64> {
        self.0.get(key)?.parse().ok()
    }

    fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }
}

pub fn main(control: ControlSocket) -> i32 {
    match run(&control) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("test reader: {error}");
            1
        }
    }
}

struct Reader<'a> {
    control: &'a ControlSocket,
    plan: Plan,
    begun: Begun,
    /// Bytes of a picture.
    size: u64,
    frames: Option<FrameWriter>,
    asked: bool,
    /// Frames still to be published in the ring that is being replaced.
    late: u64,
    packets: PacketWriter,
    published: u64,
    /// Subscribers refused.
    refused: u64,
    stop: bool,
}

fn run(control: &ControlSocket) -> Result<(), Box<dyn std::error::Error>> {
    let begun = control::begin(control)?;
    let query = begun.start.camera.url.query_pairs();
    let plan = Plan(query.into_owned().collect());
    if plan.has("garbage") {
        rustix::net::send(control, b"garbage", rustix::net::SendFlags::empty())?;
        std::thread::sleep(Duration::from_secs(600));
    }
    let (mut frames, mut packets, mut go_on_at) = (None, None, 0);
    let (mut of_frames, mut of_packets) = (Vec::new(), Vec::new());
    let mut present = Vec::new();
    loop {
        let Some(Received { message, fds }) = control.recv::<ToReader>()? else {
            return Ok(());
        };
        match message {
            ToReader::FrameRing { next_sequence, .. } => {
                frames = Some(memory(fds)?);
                go_on_at = next_sequence;
            }
            ToReader::PacketRing { .. } => packets = Some(memory(fds)?),
            ToReader::AddSubscriber {
                id, ring, notify, ..
            } => {
                present.push(id);
                let pages = pages(id, ring, notify, fds)?;
                match ring {
                    RingKind::Frames => of_frames.push(pages),
                    RingKind::Packets => of_packets.push(pages),
                    RingKind::View(_) | RingKind::Audio => {
                        return Err("no such ring".into());
                    }
                }
            }
            ToReader::Go => break,
            ToReader::Stop => return Ok(()),
            other => return Err(format!("unexpected {other:?}").into()),
        }
    }
    if plan.has("new_packets") && begun.start.restarts == 0 {
        control.send(&ToSupervisor::NeedPacketRing, &[])?;
        return Err("the packet ring is beyond repair".into());
    }
    let mut reader = Reader {
        control,
        size: plan.number("size").unwrap_or(4096),
        plan,
        begun,
        frames: frames
            .map(|memory| FrameWriter::resume(memory, of_frames))
            .transpose()?,
        asked: false,
        late: 0,
        packets: PacketWriter::resume(packets.ok_or("no packet ring")?, of_packets)?,
        published: 0,
        refused: 0,
        stop: false,
    };
    if let Some(writer) = &mut reader.frames {
        writer.go_on_at(go_on_at);
    }
    for id in present {
        control.send(&ToSupervisor::SubscriberAdded { id }, &[])?;
    }
    reader.publish_for_ever()
}

impl Reader<'_> {
    fn publish_for_ever(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        let period = Duration::from_secs(1) / self.plan.number("fps").unwrap_or(200) as u32;
        let health = self.begun.health.clone();
        health.codec.store(Codec::H264 as u64, Relaxed);
        health.set_state(State::Streaming, "test pictures");
        if let Some(host) = self.plan.0.get("resolve") {
            let host = host.clone();
            self.control.send(&ToSupervisor::Resolve { host }, &[])?;
        }
        if self.frames.is_none() {
            self.need_ring()?;
        }
        let mut next = Instant::now();
        while !self.stop {
            if !self.plan.has("mute") {
                health.beat();
            }
            if self.late == 0 {
                self.listen()?;
            }
            self.misbehave()?;
            self.publish()?;
            next += period;
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        Ok(())
    }

    fn need_ring(&mut self) -> Result<(), ControlError> {
        self.asked = true;
        let first_sequence = self.frames.as_ref().map_or(1, FrameWriter::next_sequence);
        let need = ToSupervisor::NeedFrameRing {
            slot_bytes: self.size,
            decoder_refs: 2,
            first_sequence,
        };
        self.control.send(&need, &[])
    }

    fn listen(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        loop {
            let Received { message, fds } = match self.control.try_recv::<ToReader>() {
                Ok(Some(received)) => received,
                Ok(None) => {
                    self.stop = true;
                    return Ok(());
                }
                Err(ControlError::Io(e)) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            };
            match message {
                ToReader::Stop if self.plan.has("deaf") => {}
                ToReader::Stop => self.stop = true,
                ToReader::FrameRing { next_sequence, .. } => {
                    if self.plan.has("die_between_rings") {
                        // The new ring is here, the old one does not say so.
                        std::process::abort();
                    }
                    let mut writer = FrameWriter::resume(memory(fds)?, Vec::new())?;
                    writer.go_on_at(next_sequence);
                    if let Some(mut old) = self.frames.take() {
                        writer.go_on_at(old.next_sequence());
                        old.close(CloseReason::Replaced);
                    }
                    self.frames = Some(writer);
                    self.asked = false;
                }
                ToReader::FrameRingRefused { reason, .. } => {
                    if !self.plan.has("boast") {
                        self.begun.health.set_state(State::Failed, &reason);
                    }
                }
                ToReader::AddSubscriber {
                    id,
                    ring,
                    ring_id,
                    notify,
                    ..
                } => {
                    if self.refused < self.plan.number("refuse").unwrap_or(0) {
                        self.refused += 1;
                        self.control
                            .send(&ToSupervisor::SubscriberRefused { id }, &[])?;
                        continue;
                    }
                    let pages = pages(id, ring, notify, fds)?;
                    match (ring, &mut self.frames) {
                        (RingKind::Packets, _) => self.packets.add_subscriber(pages)?,
                        (RingKind::Frames, Some(writer)) if writer.ring_id() == ring_id => {
                            writer.add_subscriber(pages)?;
                        }
                        (RingKind::Frames, _) => {}
                        (RingKind::View(_) | RingKind::Audio, _) => {
                            return Err("no such ring".into());
                        }
                    }
                    self.control
                        .send(&ToSupervisor::SubscriberAdded { id }, &[])?;
                }
                ToReader::RemoveSubscriber { id } => {
                    let frames = self
                        .frames
                        .as_mut()
                        .is_some_and(|w| w.remove_subscriber(id));
                    if !frames {
                        self.packets.remove_subscriber(id);
                    }
                    self.control
                        .send(&ToSupervisor::SubscriberRemoved { id }, &[])?;
                }
                ToReader::Resolved { result } => {
                    let text = format!("resolved: {result:?}");
                    self.begun.health.set_state(State::Streaming, &text);
                }
                other => return Err(format!("unexpected {other:?}").into()),
            }
        }
    }

    /// Each kind at most once in a life, after `after` frames; and, with `lives=n`, only in the
    /// first n.
    fn misbehave(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        if self.published != self.plan.number("after").unwrap_or(20) {
            return Ok(());
        }
        if let Some(size) = self.plan.number("grow_to")
            && size != self.size
        {
            self.size = size;
            if self
                .frames
                .as_ref()
                .is_some_and(|w| (w.slot_bytes() as u64) < size)
            {
                self.need_ring()?;
                self.late = self.plan.number("late").unwrap_or(0);
            }
        }
        let lives = self.plan.number("lives").unwrap_or(u64::MAX);
        if u64::from(self.begun.start.restarts) >= lives {
            return Ok(());
        }
        let name = &self.begun.start.health_name;
        if self.plan.has("violate") {
            let sandbox = Sandbox {
                enabled: SandboxMode::Auto,
                on_violation: OnViolation::Kill,
            };
            let profile = Profile::Reader {
                port: 554,
                devices: false,
            };
            let entered = sandbox::enter(sandbox, &profile)?;
            let flags = nix::sched::CloneFlags::CLONE_NEWUSER;
            let allowed = nix::sched::unshare(flags);
            return Err(format!("still here: {allowed:?}, {entered}").into());
        }
        if let Some(code) = self.plan.number("exit") {
            let text = "the lens fell off \u{1b}[31m".into();
            self.control.send(&ToSupervisor::Fault { text }, &[])?;
            std::process::exit(code as i32);
        } else if self.plan.has("abort") {
            std::process::abort();
        } else if self.plan.has("hang") {
            std::thread::sleep(Duration::from_secs(600));
        } else if self.plan.has("flood") {
            loop {
                self.control
                    .send(&ToSupervisor::SubscriberAdded { id: 7 }, &[])?;
            }
        } else if self.plan.has("rings") {
            for _ in 0..1000 {
                self.need_ring()?;
                self.listen()?;
            }
        } else if self.plan.has("truncate") {
            // Nobody but a hostile reader would: through any descriptor that is the page.
            let page = format!("/dev/shm/{name} (deleted)");
            for entry in std::fs::read_dir("/proc/self/fd")? {
                let path = entry?.path();
                if std::fs::read_link(&path).is_ok_and(|link| link.as_os_str() == page.as_str()) {
                    std::fs::OpenOptions::new()
                        .write(true)
                        .open(path)?
                        .set_len(0)?;
                }
            }
            // Its own next heartbeat is a SIGBUS.
            std::thread::sleep(Duration::from_secs(600));
        }
        Ok(())
    }

    fn publish(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        let health = self.begun.health.clone();
        let now = clock::monotonic_ns();
        let unit = UnitDescriptor {
            sequence: 0,
            len: 0,
            codec: Codec::H264,
            flags: UnitFlags::KEY,
            pts: 0,
            dts: 0,
            time_base_den: 90_000,
            capture_time_ns: clock::realtime_ns(),
            arrival_ns: now,
            width: WIDTH,
            height: (self.size / u64::from(WIDTH)) as u32,
            generation: 0,
        };
        let number = self.packets.next_sequence();
        self.packets
            .append(&unit, &number.to_le_bytes().repeat(16))?;
        health.access_units.fetch_add(1, Relaxed);
        let Some(writer) = &mut self.frames else {
            return Ok(());
        };
        let size = match self.late {
            0 if self.asked => return Ok(()),
            0 => self.size,
            _ => self.plan.number("size").unwrap_or(4096),
        };
        let Some(slot) = writer.reserve() else {
            health.dropped_no_slot.fetch_add(1, Relaxed);
            return Ok(());
        };
        let number = writer.next_sequence().to_le_bytes();
        let payload = writer.payload_mut(slot).ok_or("not reserved")?;
        let picture = payload.get_mut(..size as usize).ok_or("too small")?;
        for word in picture.as_chunks_mut::<8>().0 {
            *word = number;
        }
        let height = (size / u64::from(WIDTH)) as u32;
        let mut descriptor = FrameDescriptor::packed(PixelFormat::Gray8, WIDTH, height, 64)
            .ok_or("no such picture")?;
        descriptor.arrival_ns = now;
        writer.publish(slot, &descriptor)?;
        writer.release(slot);
        self.published += 1;
        self.late = self.late.saturating_sub(1);
        health.width.store(u64::from(WIDTH), Relaxed);
        health.height.store(u64::from(height), Relaxed);
        health.frames_decoded.fetch_add(1, Relaxed);
        health.frames_published.fetch_add(1, Relaxed);
        health.last_frame_ns.store(clock::monotonic_ns(), Relaxed);
        health.record_latency_ns(clock::monotonic_ns() - now);
        Ok(())
    }
}

fn memory(fds: Vec<OwnedFd>) -> Result<SealedMemory, Box<dyn std::error::Error>> {
    let fd = fds.into_iter().next().ok_or("no descriptor")?;
    Ok(SealedMemory::from_fd(fd)?)
}

fn pages(
    id: u64,
    ring: RingKind,
    notify: bool,
    fds: Vec<OwnedFd>,
) -> Result<SubscriberPages, Box<dyn std::error::Error>> {
    let mut fds = fds.into_iter();
    let mut sealed = || -> Result<_, Box<dyn std::error::Error>> {
        Ok(SealedMemory::from_fd(fds.next().ok_or("no descriptor")?)?)
    };
    let pins = match ring {
        RingKind::Frames | RingKind::View(_) => Some(sealed()?),
        RingKind::Packets | RingKind::Audio => None,
    };
    let bell = sealed()?;
    let notify = notify.then(|| fds.next()).flatten();
    Ok(SubscriberPages {
        id,
        pins,
        bell,
        notify,
    })
}
