use super::*;

fn boxed(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(body.len() + 8).unwrap().to_be_bytes();
    [&size[..], kind, body].concat()
}

fn init(entry: &[u8]) -> Vec<u8> {
    let described = boxed(b"stsd", &[&[0; 8], entry].concat());
    let mut track = boxed(b"stbl", &described);
    for kind in [b"minf", b"mdia", b"trak", b"moov"] {
        track = boxed(kind, &track);
    }
    [boxed(b"ftyp", b"cmfc"), track].concat()
}

fn visual(kind: &[u8; 4], config: &[u8]) -> Vec<u8> {
    let mut entry = vec![0; 78];
    entry[24..28].copy_from_slice(&[0x05, 0x00, 0x02, 0xD0]);
    entry.extend_from_slice(config);
    init(&boxed(kind, &entry))
}

#[test]
fn codecs_are_named_as_rfc_6381_says() {
    let avc = parse(&visual(
        b"avc1",
        &boxed(b"avcC", &[1, 0x4D, 0x40, 0x1F, 0xFF]),
    ));
    assert_eq!(avc.codecs(), "avc1.4d401f");
    assert_eq!((avc.width, avc.height), (1280, 720));
    // Main profile, level 3.1, as encoders write it; and with everything set.
    let main = [1, 0x01, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 93];
    let hevc = parse(&visual(b"hvc1", &boxed(b"hvcC", &main)));
    assert_eq!(hevc.codecs(), "hvc1.1.6.L93.90");
    let odd = [1, 0xA2, 0x20, 0, 0, 0, 0xB0, 0, 0x01, 0, 0, 0, 153];
    let hevc = parse(&visual(b"hev1", &boxed(b"hvcC", &odd)));
    assert_eq!(hevc.codecs(), "hev1.B2.4.H153.B0.0.1");
    // AAC-LC, with descriptors of long lengths as FFmpeg writes them.
    let specific = [5, 0x80, 0x80, 0x80, 2, 0x11, 0x90];
    let decoder = [&[4, 20, 0x40][..], &[0; 12], &specific].concat();
    let stream = [&[3, 0x80, 0x80, 0x80, 0x25, 0, 1, 0][..], &decoder].concat();
    let mut entry = vec![0; 28];
    entry[24..26].copy_from_slice(&48_000_u16.to_be_bytes());
    entry.extend(boxed(b"esds", &[&[0; 4][..], &stream].concat()));
    let sound = parse(&init(&boxed(b"mp4a", &entry)));
    assert_eq!(
        (sound.codecs().as_str(), sound.sample_rate),
        ("mp4a.40.2", 48_000)
    );
}

#[test]
fn no_file_makes_it_panic() {
    let whole = visual(b"hvc1", &boxed(b"hvcC", &[1; 13]));
    for cut in 0..whole.len() {
        parse(&whole[..cut]);
    }
    for at in 0..whole.len() {
        for value in [0, 1, 7, 8, 255] {
            let mut broken = whole.clone();
            broken[at] = value;
            parse(&broken);
        }
    }
    assert_eq!(parse(&[0xFF; 4096]), Tracks::default());
}
