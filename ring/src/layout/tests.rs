use super::*;
use std::collections::BTreeMap;

/// Tables of the reference: title → field → (offset, size).
fn documented() -> BTreeMap<String, BTreeMap<String, (usize, usize)>> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../docs/reference/ring-format.md"
    );
    let text = std::fs::read_to_string(path).unwrap();
    let mut tables: BTreeMap<String, BTreeMap<String, (usize, usize)>> = BTreeMap::new();
    let mut title = String::new();
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            title = heading.to_owned();
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, offset, size, _, field, _, _] = cells[..] else {
            continue;
        };
        let (Ok(offset), Ok(size)) = (offset.parse(), size.parse()) else {
            continue;
        };
        let field = field.trim_matches('`').to_owned();
        let fields = tables.entry(title.clone()).or_default();
        assert!(
            fields.insert(field.clone(), (offset, size)).is_none(),
            "{title}: {field} twice"
        );
    }
    tables
}

macro_rules! fields {
    ($structure:ty { $($field:ident: $kind:ty),* $(,)? }) => {
        [$((stringify!($field), offset_of!($structure, $field), size_of::<$kind>())),*]
            .into_iter()
            .map(|(field, offset, size)| (field.to_owned(), (offset, size)))
            .collect::<BTreeMap<_, _>>()
    };
}

#[test]
fn the_reference_says_what_the_code_does() {
    let documented = documented();
    let code = [
        (
            "Frame ring header",
            fields!(FrameRingHeader {
                magic: u64,
                version: u32,
                header_bytes: u32,
                features: u64,
                ring_id: u64,
                file_bytes: u64,
                first_sequence: u64,
                slot_bytes: u64,
                slots_offset: u64,
                payload_offset: u64,
                payload_stride: u64,
                depth: u32,
                slots: u32,
                order_len: u32,
                slot_header_bytes: u32,
                state: u32,
                generation: u32,
                head: u64,
            }),
        ),
        (
            "Slot header",
            fields!(SlotHeader {
                sequence: u64,
                generation: u32,
                flags: u32,
                pts: i64,
                time_base_num: u32,
                time_base_den: u32,
                capture_time_ns: i64,
                arrival_ns: u64,
                publish_ns: u64,
                access_unit: u64,
                width: u32,
                height: u32,
                pixel_format: u32,
                rotation: u16,
                color_range: u8,
                matrix: u8,
                plane_offset: [u64; 4],
                plane_stride: [u32; 4],
            }),
        ),
        (
            "Packet ring header",
            fields!(PacketRingHeader {
                magic: u64,
                version: u32,
                header_bytes: u32,
                features: u64,
                ring_id: u64,
                file_bytes: u64,
                capacity: u64,
                data_offset: u64,
                units: u32,
                entry_bytes: u32,
                state: u32,
                generation: u32,
                oldest: u64,
                next: u64,
                newest_key: u64,
            }),
        ),
        (
            "Index entry",
            fields!(UnitEntry {
                sequence: u64,
                offset: u64,
                len: u32,
                codec_and_delay: u32,
                pts: i64,
                capture_time_ns: i64,
                arrival_ns: u64,
                width: u16,
                height: u16,
                generation: u32,
                time_base_den: u32,
                flags: u32,
            }),
        ),
        (
            "Pin page",
            fields!(PinPageHeader {
                magic: u64,
                version: u32,
                pins: u32
            }),
        ),
        (
            "Bell page",
            fields!(BellPageLayout {
                magic: u64,
                version: u32,
                bell: u32,
                waiting: u32
            }),
        ),
    ];
    for (title, fields) in code {
        assert_eq!(documented.get(title), Some(&fields), "table {title:?}");
    }
}

#[test]
fn the_reference_says_what_is_sent() {
    use crate::attach::wire::{ClientMessage, DaemonMessage, RefusalCode, RingKind};
    let documented = documented();
    let name = "n".to_owned();
    let text = "t".to_owned();
    let messages = [
        ("HELLO", ClientMessage::Hello { version: 0x41 }.encode()),
        (
            "ATTACH",
            ClientMessage::Attach {
                request: 0x51,
                kind: RingKind::Packets,
                pins: 0x61,
                pollable: true,
                name,
            }
            .encode(),
        ),
        (
            "DETACH",
            ClientMessage::Detach { attachment: 0x71 }.encode(),
        ),
        ("STATUS", ClientMessage::Status { request: 0x51 }.encode()),
        (
            "RECEIVED",
            ClientMessage::Received { request: 0x51 }.encode(),
        ),
        (
            "WELCOME",
            DaemonMessage::Welcome {
                version: 0x41,
                uid: 0x81,
            }
            .encode(),
        ),
        (
            "ATTACHED",
            DaemonMessage::Attached {
                request: 0x51,
                attachment: 0x71,
                ring_id: 0x91,
                pins: 0x61,
            }
            .encode(),
        ),
        (
            "REFUSED",
            DaemonMessage::Refused {
                request: 0x51,
                code: RefusalCode::Disabled,
                text,
            }
            .encode(),
        ),
        (
            "STATUS (answer)",
            DaemonMessage::Status {
                request: 0x51,
                len: 0xa1,
            }
            .encode(),
        ),
    ];
    let values = |message: &str| -> BTreeMap<&str, u64> {
        let kind = match message {
            "HELLO" => 1,
            "ATTACH" => 2,
            "DETACH" => 3,
            "STATUS" => 4,
            "RECEIVED" => 5,
            "WELCOME" => 129,
            "ATTACHED" => 130,
            "REFUSED" => 131,
            _ => 132,
        };
        let request = match message {
            "HELLO" | "DETACH" | "WELCOME" => 0,
            _ => 0x51,
        };
        BTreeMap::from([
            ("kind", kind),
            ("request", request),
            ("magic", crate::attach::wire::ATTACH_MAGIC),
            ("version", 0x41),
            ("ring", 2),
            ("pins", 0x61),
            ("pollable", 1),
            ("name_len", 1),
            ("name", u64::from(b'n')),
            ("attachment", 0x71),
            ("uid", 0x81),
            ("ring_id", 0x91),
            ("code", 7),
            ("text_len", 1),
            ("text", u64::from(b't')),
            ("len", 0xa1),
            ("reserved", 0),
        ])
    };
    for (title, packet) in messages {
        let fields = documented
            .get(title)
            .unwrap_or_else(|| panic!("no table {title:?}"));
        let values = values(title);
        let mut end = 0;
        for (field, (offset, size)) in fields {
            let size = (*size).max(1); // 0: as long as the text
            let mut bytes = [0; 8];
            bytes[..size].copy_from_slice(&packet[*offset..offset + size]);
            assert_eq!(
                u64::from_le_bytes(bytes),
                values[field.as_str()],
                "{title}: {field}"
            );
            end = end.max(offset + size);
        }
        assert_eq!(end, packet.len(), "{title}");
    }
}
