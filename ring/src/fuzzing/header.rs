//! Rings whose memory was written over by somebody: taken over by a writer, and read.

use arbitrary::Unstructured;

use crate::bell::BellPage;
use crate::descriptor::FrameDescriptor;
use crate::frames::geometry::FrameGeometry;
use crate::frames::protocol::{self, Entry, FrameWords};
use crate::frames::words::MappedFrames;
use crate::frames::{FrameRingSpec, FrameWriter, SubscriberPages};
use crate::layout::{DESCRIPTOR_WORDS, MAX_UNIT_BYTES, ORDER_OFFSET};
use crate::memory::{Mapping, SealedMemory};
use crate::packets::geometry::PacketGeometry;
use crate::packets::{
    Codec, PacketReader, PacketRingSpec, PacketWriter, UnitDescriptor, UnitFlags,
};
use crate::pins::PinPage;
use crate::pixel::PixelFormat;
use crate::sync::{AtomicU64, Ordering};

/// Bytes from the start of a ring that inputs can write: header, order or index, slot headers.
const WRITABLE: usize = 4096;

/// Memory that is used for one input after the other.
struct Kept {
    memory: SealedMemory,
    map: Mapping,
    /// The first [`WRITABLE`] bytes of a fresh ring.
    fresh: Vec<u64>,
}

impl Kept {
    fn new(memory: SealedMemory) -> Self {
        let map = Mapping::read_write(memory.try_clone().expect("a descriptor")).expect("a map");
        map.populate(0, map.len()).expect("some pages");
        let words = map.words_at(0, WRITABLE / 8);
        let fresh = words
            .iter()
            .map(|word| word.load(Ordering::Relaxed))
            .collect();
        Self { memory, map, fresh }
    }

    fn words(&self) -> &[AtomicU64] {
        self.map.words_at(0, WRITABLE / 8)
    }

    fn refresh(&self) {
        for (word, fresh) in self.words().iter().zip(&self.fresh) {
            word.store(*fresh, Ordering::Relaxed);
        }
    }

    /// Writes a value that could be meant, or any, over a word, a half or a byte of one.
    fn scribble(&self, u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let at = usize::from(u.arbitrary::<u16>()?) % self.words().len();
        let word = &self.words()[at];
        let old = word.load(Ordering::Relaxed);
        let new = match u.arbitrary::<u8>()? % 8 {
            0 => u.arbitrary()?,
            1 => u.arbitrary::<u8>()?.into(),
            2 => old.wrapping_add(u.arbitrary::<i8>()? as u64),
            3 => u64::from(u.arbitrary::<u16>()?) << 8 | u64::from(u.arbitrary::<u8>()? % 8),
            4 => old & !0xffff_ffff | u64::from(u.arbitrary::<u32>()?),
            5 => old & 0xffff_ffff | u64::from(u.arbitrary::<u32>()?) << 32,
            6 => u64::MAX - u64::from(u.arbitrary::<u8>()?),
            _ => old ^ 1 << (u.arbitrary::<u8>()? % 64),
        };
        word.store(new, Ordering::Relaxed);
        Ok(())
    }
}

struct Rings {
    frames: Kept,
    packets: Kept,
    pins: SealedMemory,
    bell: SealedMemory,
}

thread_local! {
    static RINGS: Rings = {
        let frames = FrameRingSpec { depth: 2, slots: 5, slot_bytes: 4000, ring_id: 9, first_sequence: 1 };
        let packets = PacketRingSpec { capacity: 8192, units: 16, ring_id: 9 };
        Rings {
            frames: Kept::new(frames.create().expect("a ring")),
            packets: Kept::new(packets.create().expect("a ring")),
            pins: PinPage::create(2).expect("a page"),
            bell: BellPage::create().expect("a page"),
        }
    };
}

/// A ring is made, written over, taken over, written over again, and read meanwhile.
pub fn ring_header(data: &[u8]) {
    let mut u = Unstructured::new(&data[..data.len().min(256)]);
    RINGS.with(|rings| {
        let how = u.arbitrary::<u8>().unwrap_or_default();
        let _ = match how % 2 {
            0 => frames(rings, how & 2 != 0, &mut u),
            _ => packets(&rings.packets, &mut u),
        };
    });
}

fn scribbles(kept: &Kept, u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    for _ in 0..u.arbitrary::<u8>()? % 8 {
        kept.scribble(u)?;
    }
    Ok(())
}

fn frames(rings: &Rings, subscribed: bool, u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let kept = &rings.frames;
    kept.refresh();
    scribbles(kept, u)?;
    if FrameGeometry::read(&kept.map).is_err() {
        let memory = kept.memory.try_clone().expect("a descriptor");
        assert!(
            FrameWriter::resume(memory, Vec::new()).is_err(),
            "readers and writers disagree"
        );
        return Ok(());
    }
    let map = Mapping::read_only(&kept.memory).expect("a map");
    let ring = MappedFrames::new(map).expect("one header, one answer");
    plausible(ring.geometry(), kept);
    let subscribers = match subscribed {
        true => vec![SubscriberPages {
            id: 1,
            pins: Some(rings.pins.try_clone().expect("a descriptor")),
            bell: rings.bell.try_clone().expect("a descriptor"),
            notify: None,
        }],
        false => Vec::new(),
    };
    let memory = kept.memory.try_clone().expect("a descriptor");
    let Ok(mut writer) = FrameWriter::resume(memory, subscribers) else {
        return Ok(());
    };
    let pin = AtomicU64::new(0);
    while !u.is_empty() {
        match u.arbitrary::<u8>()? % 4 {
            0 => scribbles(kept, u)?,
            1 => {
                let before = writer.next_sequence();
                if let Some(slot) = writer.reserve() {
                    let bytes = writer.payload_mut(slot).expect("reserved");
                    bytes[0] = 1;
                    let len = bytes.len() as u64;
                    let descriptor = FrameDescriptor::packed(PixelFormat::Gray8, 60, 60, 1);
                    let descriptor = descriptor.expect("it can be described");
                    let fits = descriptor.check(len).is_ok();
                    let published = writer.publish(slot, &descriptor);
                    assert_eq!(published.ok(), fits.then_some(before));
                    writer.release(slot);
                    assert!(!fits || writer.publish(slot, &descriptor).is_err());
                }
            }
            2 => {
                if let Some(entry) = protocol::newest(&ring) {
                    look(&ring, &pin, entry);
                }
            }
            _ => {
                let sequence = u.arbitrary::<u16>()?.into();
                if let Some(entry) = protocol::numbered(&ring, sequence) {
                    assert_eq!(entry.sequence, sequence);
                    look(&ring, &pin, entry);
                }
            }
        }
        let _ = ring.state();
    }
    Ok(())
}

/// What a believed header says lies in the memory, and nothing of it on top of another.
fn plausible(geometry: &FrameGeometry, kept: &Kept) {
    let g = geometry;
    let (slots, order) = (u64::from(g.slots), u64::from(g.order_len));
    assert!(g.depth >= 1 && g.depth < g.slots && g.depth <= g.order_len);
    assert!(g.order_len.is_power_of_two() && g.first_sequence > 0);
    assert!(g.slots_offset >= ORDER_OFFSET as u64 + order * 8);
    assert!(g.payload_offset >= g.slots_offset + slots * 128);
    assert!(g.slot_bytes > 0 && g.slot_bytes <= g.payload_stride);
    assert_eq!(
        g.payload_offset + slots * g.payload_stride,
        kept.memory.len()
    );
}

/// As a subscriber does, the pixels included.
fn look(ring: &MappedFrames, pin: &AtomicU64, entry: Entry) {
    let mut words = [0; DESCRIPTOR_WORDS];
    if !protocol::pin(ring, pin, entry, &mut words) {
        assert_eq!(pin.load(Ordering::Relaxed), 0);
        return;
    }
    let slot_bytes = ring.geometry().slot_bytes;
    let descriptor = FrameDescriptor::from_words(entry.sequence, &words);
    if let Ok(descriptor) = descriptor
        && descriptor.check(slot_bytes).is_ok()
    {
        let (_, bytes) = ring.payload(entry.slot).expect("pinned");
        assert!(descriptor.payload_len().expect("checked") <= bytes as u64);
        assert!(usize::from(entry.slot) < FrameWords::slots(ring));
    }
    protocol::unpin::<crate::sync::Sound>(pin);
}

fn packets(kept: &Kept, u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    kept.refresh();
    scribbles(kept, u)?;
    let memory = kept.memory.try_clone().expect("a descriptor");
    let Ok(mut reader) = PacketReader::new(&kept.memory) else {
        assert!(
            PacketWriter::resume(memory, Vec::new()).is_err(),
            "readers and writers disagree"
        );
        return Ok(());
    };
    let geometry: &PacketGeometry = reader.ring().geometry();
    assert_eq!(geometry.data_offset + geometry.capacity, kept.memory.len());
    let capacity = geometry.capacity as usize;
    let Ok(mut writer) = PacketWriter::resume(memory, Vec::new()) else {
        return Ok(());
    };
    let mut bytes = Vec::new();
    while !u.is_empty() {
        match u.arbitrary::<u8>()? % 6 {
            0 => scribbles(kept, u)?,
            1 => {
                let len = usize::from(u.arbitrary::<u16>()?) % (capacity + 9);
                let key = u.arbitrary::<bool>()?;
                let _ = writer
                    .append(&unit(key), &vec![7; len])
                    .expect("the descriptor is good");
            }
            2 => {
                if let Ok(Some(unit)) = reader.next(&mut bytes) {
                    assert_eq!(unit.len as usize, bytes.len());
                    assert_eq!(unit.sequence + 1, reader.position());
                }
            }
            3 => {
                let sequence = u.arbitrary::<u16>()?.into();
                if let Ok(Some(unit)) = reader.read(sequence, &mut bytes) {
                    assert_eq!((unit.sequence, unit.len as usize), (sequence, bytes.len()));
                }
            }
            4 => drop(reader.seek_newest_key()),
            _ => reader.seek(reader.available().start),
        }
        assert!(bytes.len() <= capacity.min(MAX_UNIT_BYTES as usize));
        let available = reader.available();
        assert!(available.start <= available.end);
    }
    Ok(())
}

fn unit(key: bool) -> UnitDescriptor {
    UnitDescriptor {
        sequence: 0,
        len: 0,
        codec: Codec::H264,
        flags: if key { UnitFlags::KEY } else { UnitFlags::NONE },
        pts: 5,
        dts: 5,
        time_base_den: 90_000,
        capture_time_ns: 1,
        arrival_ns: 1,
        width: 64,
        height: 64,
        generation: 0,
    }
}
