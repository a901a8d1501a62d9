//! What a slot header or an index entry says of a frame or unit.

use arbitrary::Unstructured;

use crate::descriptor::FrameDescriptor;
use crate::layout::{DESCRIPTOR_WORDS, MAX_SLOT_BYTES, UNIT_WORDS};
use crate::packets::UnitDescriptor;
use crate::pixel::PixelFormat;

/// Words as they could lie in shared memory, and a picture of any size.
pub fn ring_descriptor(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let _ = frame(&mut u)
        .and_then(|()| unit(&mut u))
        .and_then(|()| packed(&mut u));
}

fn frame(u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let slot_bytes = 1 + u.arbitrary::<u64>()? % MAX_SLOT_BYTES;
    let mut words = [0; DESCRIPTOR_WORDS];
    for word in &mut words {
        *word = u.arbitrary()?;
    }
    let read = FrameDescriptor::from_words(7, &words);
    let checked = read.and_then(|descriptor| descriptor.check(slot_bytes).map(|()| descriptor));
    match checked {
        Ok(descriptor) => believed(&descriptor, slot_bytes),
        Err(reason) => assert!(!reason.to_string().is_empty()),
    }
    Ok(())
}

/// Of a descriptor that passed its check, every plane lies in the slot, row by row.
fn believed(descriptor: &FrameDescriptor, slot_bytes: u64) {
    assert!(descriptor.payload_len().expect("checked") <= slot_bytes);
    for plane in 0..descriptor.pixel_format.planes() {
        let range = descriptor.plane_range(plane).expect("checked");
        assert!(range.start < range.end && range.end <= slot_bytes);
        let size = descriptor
            .pixel_format
            .plane_size(plane, descriptor.width, descriptor.height);
        let (row, rows) = size.expect("checked");
        let stride = u64::from(descriptor.planes[plane].stride);
        assert!(stride >= u64::from(row));
        assert_eq!(
            range.end - range.start,
            stride * u64::from(rows - 1) + u64::from(row)
        );
    }
    let again = FrameDescriptor::from_words(descriptor.sequence, &descriptor.to_words());
    assert_eq!(again.as_ref(), Ok(descriptor));
}

fn unit(u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let mut words = [0; UNIT_WORDS];
    for word in &mut words {
        *word = u.arbitrary()?;
    }
    match UnitDescriptor::from_words(&words) {
        Ok(read) => {
            assert!(read.dts <= read.pts && read.time_base_den != 0);
            let mut again = read.to_words().expect("what was read can be written");
            (again[0], again[1]) = (words[0], words[1]);
            let again = UnitDescriptor::from_words(&again);
            // Where the delay reaches back before all numbers, it is cut.
            assert!(again.as_ref() == Ok(&read) || read.dts == i64::MIN);
        }
        Err(reason) => assert!(!reason.to_string().is_empty()),
    }
    Ok(())
}

fn packed(u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let Some(format) = PixelFormat::from_u32(u.arbitrary::<u8>()?.into()) else {
        return Ok(());
    };
    let (width, height) = (u.arbitrary()?, u.arbitrary()?);
    let align = 1u32 << (u.arbitrary::<u8>()? % 13);
    let Some(descriptor) = FrameDescriptor::packed(format, width, height, align) else {
        return Ok(());
    };
    if descriptor.check(MAX_SLOT_BYTES).is_ok() {
        believed(&descriptor, MAX_SLOT_BYTES);
        let mut end = 0;
        for plane in 0..format.planes() {
            let range = descriptor.plane_range(plane).expect("checked");
            assert!(range.start >= end, "planes overlap");
            end = range.end;
        }
    }
    Ok(())
}
