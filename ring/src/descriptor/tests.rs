use super::*;
use proptest::prelude::*;

#[test]
fn sizes_of_planes() {
    let planes = |format: PixelFormat, w, h| -> Vec<_> {
        (0..4).filter_map(|p| format.plane_size(p, w, h)).collect()
    };
    assert_eq!(planes(PixelFormat::I420, 5, 3), [(5, 3), (3, 2), (3, 2)]);
    assert_eq!(planes(PixelFormat::I422, 5, 3), [(5, 3), (3, 3), (3, 3)]);
    assert_eq!(planes(PixelFormat::I444, 5, 3), [(5, 3); 3]);
    assert_eq!(planes(PixelFormat::Nv12, 5, 3), [(5, 3), (6, 2)]);
    assert_eq!(planes(PixelFormat::Gray8, 5, 3), [(5, 3)]);
    assert_eq!(
        planes(PixelFormat::I420p10, 5, 3),
        [(10, 3), (6, 2), (6, 2)]
    );
    assert_eq!(
        planes(PixelFormat::I422p10, 5, 3),
        [(10, 3), (6, 3), (6, 3)]
    );
    assert_eq!(planes(PixelFormat::I444p10, 5, 3), [(10, 3); 3]);
    assert_eq!(planes(PixelFormat::Rgb24, 5, 3), [(15, 3)]);
    assert_eq!(planes(PixelFormat::Bgr24, 5, 3), [(15, 3)]);
    assert_eq!(PixelFormat::Rgb24.plane_size(0, u32::MAX, 1), None);
    assert_eq!(PixelFormat::Nv12.plane_size(1, u32::MAX, 1), None);
    for format in PixelFormat::ALL {
        assert_eq!(PixelFormat::from_u32(format as u32), Some(format));
        assert_eq!(planes(format, 64, 64).len(), format.planes());
    }
    assert_eq!(PixelFormat::from_u32(0), None);
}

#[test]
fn packed_pictures_fit_exactly() {
    let d = FrameDescriptor::packed(PixelFormat::I420, 1280, 720, 64).unwrap();
    assert_eq!(d.payload_len(), Ok(1280 * 720 * 3 / 2));
    assert_eq!(d.check(1280 * 720 * 3 / 2), Ok(()));
    assert_eq!(
        d.check(1280 * 720 * 3 / 2 - 1),
        Err(BadDescriptor::TooLarge {
            needed: 1_382_400,
            slot_bytes: 1_382_399
        })
    );
    let odd = FrameDescriptor::packed(PixelFormat::I420, 5, 3, 16).unwrap();
    assert_eq!(
        odd.planes[1],
        Plane {
            offset: 48,
            stride: 16
        }
    );
    // The last row needs no padding.
    assert_eq!(odd.payload_len(), Ok(48 + 32 + 16 + 3));
}

#[test]
fn what_cannot_be_is_said() {
    let good = FrameDescriptor::packed(PixelFormat::I420, 64, 64, 1).unwrap();
    let check = |change: fn(&mut FrameDescriptor)| {
        let mut d = good;
        change(&mut d);
        d.check(1 << 20).unwrap_err().to_string()
    };
    assert_eq!(check(|d| d.width = 0), "picture of 0×64 pixels");
    assert_eq!(
        check(|d| d.planes[1].stride = 31),
        "plane 1 has a stride of 31 bytes for rows of 32"
    );
    assert_eq!(
        check(|d| d.planes[2].offset = u64::MAX),
        format!("plane 2 begins at byte {}", u64::MAX)
    );
    assert_eq!(
        check(|d| d.planes[2].offset = 1 << 40),
        "the picture takes 1099511628800 bytes, its slot has 1048576"
    );
    assert_eq!(check(|d| d.time_base_den = 0), "time base 1/0");
    assert_eq!(check(|d| d.rotation = 45), "rotation by 45 degrees");
    assert_eq!(
        check(|d| d.height = u32::MAX),
        "the picture takes 274877906880 bytes, its slot has 1048576"
    );
}

#[test]
fn flags_combine() {
    let mut flags = FrameFlags::KEY_FRAME | FrameFlags::COPIED;
    assert!(flags.contains(FrameFlags::COPIED) && !flags.contains(FrameFlags::CORRUPT));
    flags |= FrameFlags::CORRUPT;
    assert_eq!(flags.0, 21);
}

proptest! {
    #[test]
    fn any_words_are_read_without_panic(
        words in proptest::array::uniform15(any::<u64>()),
        slot_bytes in any::<u64>(),
    ) {
        if let Ok(d) = FrameDescriptor::from_words(1, &words) {
            prop_assert_eq!(d.to_words(), words);
            if d.check(slot_bytes).is_ok() {
                for plane in 0..d.pixel_format.planes() {
                    prop_assert!(d.plane_range(plane).unwrap().end <= slot_bytes);
                }
            }
        }
    }

    #[test]
    fn plausible_words_are_read_without_panic(
        format in 0u64..20, range in 0u64..4, rotation in 0u64..400,
        width in 0u32..10_000, height in 0u32..10_000,
        offset in 0u64..100_000_000, stride in 0u32..20_000, slot_bytes in 0u64..200_000_000,
    ) {
        let size = u64::from(width) | u64::from(height) << 32;
        let strides = u64::from(stride) | u64::from(stride) << 32;
        let words = [0, 0, 1 | 1 << 32, 0, 0, 0, 0, size, format | rotation << 32 | range << 48,
            offset, offset, offset, 0, strides, strides];
        if let Ok(d) = FrameDescriptor::from_words(1, &words)
            && d.check(slot_bytes).is_ok()
        {
            for plane in 0..d.pixel_format.planes() {
                prop_assert!(d.plane_range(plane).unwrap().end <= slot_bytes);
            }
        }
    }
}
