use proptest::prelude::*;

use super::*;

/// x264, 1280×720 main profile, one reference frame, VUI with timing.
const H264_720P: &[u8] = &[
    0x67, 0x4d, 0x40, 0x1f, 0xec, 0xa0, 0x28, 0x02, 0xdd, 0x80, 0xb5, 0x01, 0x01, 0x01, 0x40, 0x00,
    0x00, 0x03, 0x00, 0x40, 0x00, 0x00, 0x0c, 0x03, 0xc6, 0x0c, 0x65, 0x80,
];

fn unit(nals: &[&[u8]]) -> Vec<u8> {
    nals.iter()
        .flat_map(|nal| [&[0, 0, 0, 1], *nal].concat())
        .collect()
}

#[test]
fn nal_units_are_found_between_three_and_four_byte_start_codes() {
    let stream = [
        9, 9, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x68, 2, 0, 0, 1, 0, 0, 1, 0x65, 0, 3, 0,
    ];
    let found: Vec<&[u8]> = nal_units(&stream).collect();
    assert_eq!(found, [&[0x67, 1][..], &[0x68, 2], &[0x65, 0, 3]]);
    assert_eq!(nal_units(&[]).count(), 0);
    assert_eq!(nal_units(&[0, 0, 1]).count(), 0);
    assert_eq!(nal_units(&[1, 2, 3, 4]).count(), 0);
}

#[test]
fn emulation_prevention_is_removed_and_noted() {
    let out = nal::rbsp(&[1, 0, 0, 3, 1, 0, 0, 3], 100);
    assert_eq!(out.data, [1, 0, 0, 1, 0, 0]);
    assert_eq!((out.first_removed, out.irregular), (Some(3), false));
    assert!(nal::rbsp(&[0, 0, 2], 100).irregular);
    assert_eq!(nal::rbsp(&[1, 2, 3], 2).data, [1, 2]);
}

#[test]
fn exp_golomb_codes() {
    // 1 010 011 00100 then se: 1 010 011 00100
    let mut bits = bits::Bits::new(&[0b1010_0110, 0b0100_1010, 0b0110_0100]);
    assert_eq!(
        [bits.ue(), bits.ue(), bits.ue(), bits.ue()],
        [Some(0), Some(1), Some(2), Some(3)]
    );
    assert_eq!(
        [bits.se(), bits.se(), bits.se(), bits.se()],
        [Some(0), Some(1), Some(-1), Some(2)]
    );
    assert_eq!(bits.ue(), None);
    let mut longest = bits::Bits::new(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(longest.ue(), Some(u32::MAX - 1));
    assert_eq!(bits::Bits::new(&[0; 9]).ue(), None);
}

#[test]
fn b_slices_are_told_by_their_header() {
    let b_slice = |nals: &[&[u8]]| has_b_slice(&unit(nals));
    // first_mb_in_slice 0, then slice_type 5 (P), 6 (B), 7 (I), 1 (B).
    assert!(!b_slice(&[&[0x41, 0b1001_1010, 0x80]]));
    assert!(b_slice(&[&[0x01, 0b1001_1110, 0x80]]));
    assert!(!b_slice(&[&[0x65, 0b1000_1000, 0x80]]));
    assert!(b_slice(&[&[0x41, 0b1010_1000, 0x80]]));
    // Behind other units; the first slice counts; nothing to read.
    assert!(b_slice(&[
        &[0x09, 0x10],
        &[0x01, 0b1001_1110],
        &[0x41, 0b1001_1010]
    ]));
    assert!(!b_slice(&[&[0x41]]));
    assert!(!b_slice(&[]));
}

#[test]
fn h264_parameter_set() {
    let info = scan(Codec::H264, &unit(&[H264_720P]));
    let parameters = info.parameters.expect("a valid SPS");
    assert_eq!((parameters.width, parameters.height), (1280, 720));
    assert_eq!((parameters.profile, parameters.level), (77, 31));
    assert!(parameters.frame_mbs_only && direct_rendering_allowed(&parameters));
    assert!(!info.picture && !info.key && !info.disposable);
}

#[test]
fn units_are_told_apart() {
    let h264 = |nals: &[&[u8]]| scan(Codec::H264, &unit(nals));
    assert!(h264(&[&[0x65, 0x88]]).key);
    assert!(!h264(&[&[0x41, 0x9a]]).key);
    assert!(h264(&[&[0x01, 0x9a]]).disposable && !h264(&[&[0x41, 0x9a]]).disposable);
    // Recovery point: type 6, one byte, recovery_frame_cnt = 2 (011).
    let recovery = h264(&[&[0x06, 0x06, 0x01, 0b0111_0000, 0x80], &[0x41, 0x9a]]);
    assert_eq!(recovery.recovery_point, Some(2));
    let behind_another = h264(&[
        &[0x06, 0x05, 0x02, 1, 2, 0x06, 0x01, 0x80, 0x80],
        &[0x41, 0x9a],
    ]);
    assert_eq!(behind_another.recovery_point, Some(0));

    let h265 = |kind: u8| scan(Codec::H265, &unit(&[&[kind << 1, 1, 0xaf]]));
    let keys: Vec<u8> = (0..40).filter(|kind| h265(*kind).key).collect();
    assert_eq!(keys, (16..=23).collect::<Vec<u8>>());
    assert!(h265(0).disposable && !h265(1).disposable && !h265(20).disposable);
    let enhancement = scan(Codec::H265, &unit(&[&[19 << 1 | 1, 1, 0xaf]]));
    assert!(!enhancement.picture, "only the base layer is decoded");
}

#[test]
fn jpeg_size_is_read_past_other_segments() {
    let mut image = vec![
        0xff, 0xd8, 0xff, 0xe0, 0, 4, 1, 2, 0xff, 0xff, 0xdb, 0, 3, 7,
    ];
    image.extend([
        0xff, 0xc0, 0, 17, 8, 2, 208, 5, 0, 3, 1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1,
    ]);
    let parameters = scan(Codec::Mjpeg, &image)
        .parameters
        .expect("a frame header");
    assert_eq!(
        (
            parameters.width,
            parameters.height,
            parameters.chroma_format
        ),
        (1280, 720, 1)
    );
    image[2] = 0xfe; // garbage between segments
    assert!(scan(Codec::Mjpeg, &image).parameters.is_some());
    assert!(!scan(Codec::Mjpeg, &[0xff, 0xd8, 0xff, 0xda, 0, 2]).picture);
}

#[test]
fn a_changed_byte_in_a_parameter_set_is_noticed_once() {
    let mut other = H264_720P.to_vec();
    *other.last_mut().expect("not empty") ^= 0x20;
    let mut sets = ParameterSets::new(Codec::H264);
    assert!(!sets.ready() && !sets.direct_rendering_allowed());
    assert_eq!(sets.observe(&unit(&[&[0x65, 0x88]])), Observed::Same);
    assert_eq!(sets.observe(&unit(&[H264_720P])), Observed::Added);
    assert!(sets.ready() && sets.direct_rendering_allowed());
    assert_eq!(
        sets.observe(&unit(&[H264_720P, &[0x65, 0x88]])),
        Observed::Same
    );
    assert_eq!(sets.observe(&unit(&[&other])), Observed::Changed);
    assert_eq!(sets.observe(&unit(&[&other])), Observed::Same);
    assert!(sets.direct_rendering_allowed());
}

#[test]
fn whatever_is_not_understood_is_not_rendered_directly() {
    let observe = |nals: &[&[u8]]| {
        let mut sets = ParameterSets::new(Codec::H264);
        sets.observe(&unit(nals));
        sets.direct_rendering_allowed()
    };
    assert!(observe(&[H264_720P]));
    assert!(!observe(&[&H264_720P[..6]]), "cut short");
    let mut second = H264_720P.to_vec();
    *second.last_mut().expect("not empty") ^= 0x20;
    assert!(
        !observe(&[H264_720P, &second]),
        "two contents for one identifier"
    );
    // A second identifier (ue 1 = 010 instead of 1) with frame_mbs_only_flag = 0, from the start of
    // a parameter set of its own.
    let interlaced = [
        0x67,
        77,
        0,
        40,
        0b0101_1101,
        0b1010_1001,
        0b0011_1011,
        0b0000_0000,
    ];
    assert!(!observe(&[H264_720P, &interlaced]));
    let long = [H264_720P, &[0xff; MAX_PARAMETER_SET_BYTES]].concat();
    assert!(!observe(&[&long]));
}

#[test]
fn prevention_bytes_ahead_of_the_decisive_flag_forbid_direct_rendering() {
    // pic_order_cnt_type 1 with offset_for_non_ref_pic = 2^24: 24 zero bits in a row.
    let mut nal = vec![0x67, 66, 0, 30];
    let zeros = "0".repeat(24);
    let bits = format!("1 1 010 0 {zeros}1{zeros} 1 1 010 0 0001010 0001010 1 1 0 0 1");
    let bits: Vec<u8> = bits
        .bytes()
        .filter(|b| *b != b' ')
        .map(|b| b - b'0')
        .collect();
    let payload: Vec<u8> = bits
        .chunks(8)
        .map(|chunk| {
            chunk
                .iter()
                .enumerate()
                .fold(0, |byte, (i, bit)| byte | bit << (7 - i))
        })
        .collect();
    let mut zeros = 0;
    for byte in payload {
        if zeros == 2 && byte <= 3 {
            nal.push(3);
            zeros = 0;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        nal.push(byte);
    }
    let sps = h264::sps(&nal).expect("a valid SPS");
    assert!(sps.parameters.frame_mbs_only && sps.ambiguous);
    let mut sets = ParameterSets::new(Codec::H264);
    sets.observe(&unit(&[&nal]));
    assert!(!sets.direct_rendering_allowed());
}

fn any_codec() -> impl Strategy<Value = Codec> {
    prop_oneof![
        Just(Codec::H264),
        Just(Codec::H265),
        Just(Codec::Mjpeg),
        Just(Codec::Av1),
        Just(Codec::Mpeg4)
    ]
}

/// Bytes in which start codes, markers and headers are not as rare as they would be by chance.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        Just(vec![0, 0, 1]),
        Just(vec![0, 0, 0, 1, 0x67]),
        Just(vec![0, 0, 1, 0x06, 0x06]),
        Just(vec![0, 0, 1, 0x42, 0x01]),
        Just(vec![0, 0, 1, 0x4e, 0x01, 0x06]),
        Just(vec![0xff, 0xd8, 0xff]),
        Just(vec![0xff, 0xc0, 0, 17]),
        Just(vec![0, 0, 3]),
        Just(vec![0; 12]),
        Just(vec![0xff; 12]),
        Just(H264_720P.to_vec()),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn nothing_panics(codec in any_codec(), units in proptest::collection::vec(bytes(), 1..4)) {
        let mut sets = ParameterSets::new(codec);
        for unit in &units {
            let info = scan(codec, unit);
            if let Some(parameters) = &info.parameters {
                prop_assert!(parameters.width > 0 && parameters.height > 0);
                prop_assert!(parameters.max_dec_frame_buffering >= 1 || codec == Codec::H264);
                prop_assert!(parameters.decoder_pictures() <= 40);
            }
            sets.observe(unit);
        }
    }

    #[test]
    fn a_damaged_parameter_set_is_read_or_refused(
        flips in proptest::collection::vec((0..H264_720P.len(), 0u8..8), 1..4),
        cut in 0..H264_720P.len(),
    ) {
        let mut nal = H264_720P.to_vec();
        for (at, bit) in flips {
            nal[at] ^= 1 << bit;
        }
        for damaged in [&nal[..], &nal[..cut]] {
            for codec in [Codec::H264, Codec::H265] {
                scan(codec, &unit(&[damaged]));
            }
        }
    }

    #[test]
    fn the_same_unit_twice_is_never_a_change(codec in any_codec(), bytes in bytes()) {
        let mut sets = ParameterSets::new(codec);
        sets.observe(&bytes);
        let direct = sets.direct_rendering_allowed();
        let again = sets.observe(&bytes);
        // Unless it contradicts itself: then it is never rendered directly.
        prop_assert!(again == Observed::Same || !direct);
    }
}
