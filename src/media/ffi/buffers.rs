//! Where the decoder draws: ring slots handed out by `get_buffer2`.
//!
//! Each slot lent to libavcodec is an `AVBuffer` with a free callback. libavcodec counts the
//! references (the decoder's own, and those of every [`Picture`](super::Picture)); the callback
//! returns the slot when the last one goes, on whatever thread that happens, also after the decoder is
//! gone: it owns everything it needs.

use std::any::Any;
use std::ffi::{c_int, c_void};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ffmpeg_next::ffi as av;

use super::hardware::Surfaces;
use super::{ENOMEM, pixel};
use crate::media::packed_layout;

/// Each plane begins at a multiple of this many bytes from the slot's start, and so must the slot: the
/// widest alignment that any SIMD code of libavcodec asks for.
pub(super) const ALIGNMENT: usize = 64;

/// Bytes after each plane. libavcodec's own pool leaves 16 + 63 (libavcodec/get_buffer.c).
const PADDING: usize = 128;

/// Memory that pictures can be decoded into.
///
/// Called from whatever thread decodes or drops a picture, with locks held: an implementation must
/// not call back into a `Decoder` or a `Picture`.
pub trait PictureSlots: Send + Sync {
    /// A free slot of at least `bytes` bytes, aligned to 64, or `None`. Never waits.
    fn reserve(&self, bytes: usize) -> Option<SlotBuffer>;

    /// Takes back what `reserve` gave: neither the decoder nor a picture refers to it any more.
    fn release(&self, slot: SlotBuffer);

    /// Tells one set of slots from every other that is alive.
    fn id(&self) -> usize;
}

/// The exclusive right to write to one slot, as long as it lives.
pub struct SlotBuffer {
    id: u8,
    start: NonNull<u8>,
    len: usize,
    _keep: Arc<dyn Any + Send + Sync>,
}

// SAFETY: it stands for memory that belongs to its holder alone (contract of `new`).
unsafe impl Send for SlotBuffer {}

impl SlotBuffer {
    /// Says that memory may be written to, as long as this value lives. It keeps `keep` alive.
    ///
    /// # Safety
    ///
    /// Convince yourself that until this value is dropped: `len` bytes from `start` stay mapped,
    /// readable and writable; nobody else in this process writes them or has a Rust reference into
    /// them; and no second `SlotBuffer` covers any of them. (Other processes may read: what they see
    /// is theirs to check.)
    pub unsafe fn new(
        id: u8,
        start: NonNull<u8>,
        len: usize,
        keep: Arc<dyn Any + Send + Sync>,
    ) -> Self {
        Self {
            id,
            start,
            len,
            _keep: keep,
        }
    }

    /// Its first byte.
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Its number, as the one who handed it out counts.
    pub fn id(&self) -> u8 {
        self.id
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl fmt::Debug for SlotBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlotBuffer")
            .field("id", &self.id)
            .field("len", &self.len)
            .finish()
    }
}

/// A slot that libavcodec or a picture refers to at the moment.
struct Lent {
    start: usize,
    len: usize,
    id: u8,
    slots: Arc<dyn PictureSlots>,
    /// A picture in it has been output.
    output: bool,
}

/// What a decoder shares with its pictures and with the slots it was lent.
#[derive(Default)]
pub(super) struct Shared {
    lent: Mutex<Vec<Lent>>,
    /// Held while libavcodec may write to pictures, and while pictures are read: an interlaced
    /// picture that has been output can be drawn into again by a later call.
    drawing: Mutex<()>,
}

impl Shared {
    pub(super) fn draw(&self) -> MutexGuard<'_, ()> {
        self.drawing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lent(&self) -> MutexGuard<'_, Vec<Lent>> {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the buffer that starts at `start` is output: what is known about it, and whether
    /// that happened before. `None` when it is private memory.
    pub(super) fn output(&self, start: usize) -> Option<Place> {
        let mut lent = self.lent();
        let entry = lent.iter_mut().find(|entry| entry.start == start)?;
        let again = std::mem::replace(&mut entry.output, true);
        Some(Place {
            id: entry.id,
            start: entry.start,
            len: entry.len,
            slots: Arc::clone(&entry.slots),
            again,
        })
    }
}

/// The slot in which a picture lies.
pub(super) struct Place {
    pub(super) id: u8,
    pub(super) start: usize,
    pub(super) len: usize,
    pub(super) slots: Arc<dyn PictureSlots>,
    pub(super) again: bool,
}

/// What `AVCodecContext.opaque` points to. Lives in the `Decoder`, longer than its context.
pub(super) struct Lender {
    pub(super) shared: Arc<Shared>,
    /// Behind a lock only because the callback sees it through a shared reference.
    pub(super) slots: Mutex<Option<Arc<dyn PictureSlots>>>,
    pub(super) direct: AtomicBool,
    /// Bytes that the last picture without a slot needs; 0 when the last one had a slot.
    pub(super) wanted: AtomicUsize,
    /// Of a decoder whose pictures are surfaces of a device.
    pub(super) surfaces: Surfaces,
}

/// What the free callback owns.
struct Loan {
    shared: Arc<Shared>,
    slots: Arc<dyn PictureSlots>,
    buffer: Option<SlotBuffer>,
}

impl Drop for Loan {
    fn drop(&mut self) {
        let Some(buffer) = self.buffer.take() else {
            return;
        };
        let start = buffer.start.as_ptr() as usize;
        // Forgotten before it is returned: the same slot may be lent again at once.
        self.shared.lent().retain(|entry| entry.start != start);
        self.slots.release(buffer);
    }
}

/// Sizes of the planes of one picture in one buffer.
struct Layout {
    linesize: [c_int; 4],
    offset: [usize; 4],
    planes: usize,
    total: usize,
}

/// As libavcodec's own pool does it (update_frame_pool in libavcodec/get_buffer.c): dimensions
/// aligned for the codec, then made wider until every line size is aligned.
///
/// # Safety
///
/// `context` is an open decoder with AV_CODEC_CAP_DR1.
unsafe fn layout(
    context: *mut av::AVCodecContext,
    format: av::AVPixelFormat,
    width: c_int,
    height: c_int,
) -> Option<Layout> {
    if width <= 0 || height <= 0 {
        return None;
    }
    let (mut width, mut height) = (width, height);
    let mut align = [0; av::AV_NUM_DATA_POINTERS as usize];
    // SAFETY: the context is open; `align` has the AV_NUM_DATA_POINTERS elements the function writes.
    unsafe {
        av::avcodec_align_dimensions2(context, &raw mut width, &raw mut height, align.as_mut_ptr());
    }
    let mut linesize = [0; 4];
    // Each round adds the lowest bit set: it ends before the width has wrapped round.
    loop {
        // SAFETY: `linesize` has the four elements that are written; the size is checked inside.
        if unsafe { av::av_image_fill_linesizes(linesize.as_mut_ptr(), format, width) } < 0 {
            return None;
        }
        if linesize
            .iter()
            .zip(&align)
            .all(|(size, align)| size % (*align).max(1) == 0)
        {
            break;
        }
        width = width.checked_add(width & width.wrapping_neg())?;
    }
    let mut sizes = [0usize; 4];
    let strides = linesize.map(|size| size as isize);
    // SAFETY: both arrays have four elements.
    let code = unsafe {
        av::av_image_fill_plane_sizes(sizes.as_mut_ptr(), format, height, strides.as_ptr())
    };
    if code < 0 {
        return None;
    }
    let mut layout = Layout {
        linesize,
        offset: [0; 4],
        planes: 0,
        total: 0,
    };
    for (offset, size) in layout
        .offset
        .iter_mut()
        .zip(sizes)
        .take_while(|(_, size)| *size > 0)
    {
        *offset = layout.total;
        layout.total = layout
            .total
            .checked_add(size)?
            .checked_add(PADDING)?
            .checked_next_multiple_of(ALIGNMENT)?;
        layout.planes += 1;
    }
    Some(layout)
}

/// `AVCodecContext.get_buffer2`.
///
/// # Safety
///
/// Called by libavcodec only, with a context whose `opaque` points to a [`Lender`].
pub(super) unsafe extern "C" fn get_buffer2(
    context: *mut av::AVCodecContext,
    frame: *mut av::AVFrame,
    flags: c_int,
) -> c_int {
    // SAFETY: set by Decoder::open to a Lender that is freed after the context.
    let lender = unsafe { &*(*context).opaque.cast::<Lender>() };
    // SAFETY: libavcodec gives a valid context, and a frame that is its own until we return.
    match catch_unwind(AssertUnwindSafe(|| unsafe { lend(lender, context, frame) })) {
        Ok(Ok(true)) => 0,
        Ok(Err(code)) => code,
        // No slot, or an implementation of PictureSlots panicked before it gave one.
        Ok(Ok(false)) | Err(_) => {
            // SAFETY: the arguments as they came; nothing has been set in the frame.
            unsafe { av::avcodec_default_get_buffer2(context, frame, flags) }
        }
    }
}

/// Puts the frame into a slot; `false` (and an untouched frame) when that cannot be.
///
/// # Safety
///
/// `context` is an open video decoder, and `frame` has format and size but no buffers, and is nobody else's.
pub(super) unsafe fn lend(
    lender: &Lender,
    context: *mut av::AVCodecContext,
    frame: *mut av::AVFrame,
) -> Result<bool, c_int> {
    // SAFETY: a valid frame (contract).
    let (raw_format, width, height) = unsafe { ((*frame).format, (*frame).width, (*frame).height) };
    let Some(format) = pixel::from_raw(raw_format) else {
        return Ok(false);
    };
    let direct = lender.direct.load(Relaxed);
    // SAFETY: an open context (contract). Only DR1 decoders get here with `direct`; for the others
    // the size is an estimate.
    let Some(layout) = (unsafe { layout(context, format, width, height) }) else {
        return Ok(false);
    };
    lender.wanted.store(
        wanted_bytes(raw_format, width, height, layout.total),
        Relaxed,
    );
    if !direct || pixel::native(raw_format).is_none() {
        return Ok(false);
    }
    let slots = lender
        .slots
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let Some(slots) = slots else {
        // SAFETY: the same frame, and its layout.
        return unsafe { private(frame, &layout) };
    };
    let Some(buffer) = slots.reserve(layout.total) else {
        // SAFETY: as above.
        return unsafe { private(frame, &layout) };
    };
    let (id, start, len) = (buffer.id, buffer.start, buffer.len);
    let loan = Loan {
        shared: Arc::clone(&lender.shared),
        slots,
        buffer: Some(buffer),
    };
    if len < layout.total || !(start.as_ptr() as usize).is_multiple_of(ALIGNMENT) {
        return Ok(false); // and `loan` returns it
    }
    lender.shared.lent().push(Lent {
        start: start.as_ptr() as usize,
        len,
        id,
        slots: Arc::clone(&loan.slots),
        output: false,
    });
    let loan = Box::into_raw(Box::new(loan));
    // SAFETY: `len` bytes from `start` are ours to write until the loan is dropped, which the
    // callback does when the last reference is gone; `loan` is a Box for that callback.
    let reference =
        unsafe { av::av_buffer_create(start.as_ptr(), len, Some(give_back), loan.cast(), 0) };
    if reference.is_null() {
        // SAFETY: no buffer was made, so the callback will not run: the Box is still ours.
        drop(unsafe { Box::from_raw(loan) });
        return Err(ENOMEM);
    }
    lender.wanted.store(0, Relaxed);
    // SAFETY: libavcodec's frame, without buffers so far, and at least `total` bytes from `start`.
    unsafe { place(frame, &layout, start.as_ptr(), reference) };
    Ok(true)
}

/// Gives the frame private memory of its own, returned to the system with its last reference.
///
/// libavcodec's pool would keep the first pictures of a camera, which come before its ring does, for
/// as long as the decoder lives: 3 MB in every reader of 720p.
///
/// # Safety
///
/// `frame` is the one that libavcodec wants a buffer for, and `layout` was made for it.
unsafe fn private(frame: *mut av::AVFrame, layout: &Layout) -> Result<bool, c_int> {
    // Zeroed, as in the pool: what is missing from a damaged picture shows nothing else.
    // SAFETY: any size may be asked for.
    let reference = unsafe { av::av_buffer_allocz(layout.total) };
    if reference.is_null() {
        return Err(ENOMEM);
    }
    // SAFETY: libavcodec's frame (contract), and the `total` bytes just allocated.
    unsafe { place(frame, layout, (*reference).data, reference) };
    Ok(true)
}

/// Puts the planes of a frame into a buffer that begins at `start`.
///
/// # Safety
///
/// `frame` is libavcodec's, without buffers so far; `start` has the `layout.total` bytes that
/// `reference` stands for. Every plane lies within them: offsets and sizes add up to `total`.
unsafe fn place(
    frame: *mut av::AVFrame,
    layout: &Layout,
    start: *mut u8,
    reference: *mut av::AVBufferRef,
) {
    // SAFETY: the contract.
    unsafe {
        for plane in 0..layout.planes {
            (*frame).data[plane] = start.add(layout.offset[plane]);
            (*frame).linesize[plane] = layout.linesize[plane];
        }
        (*frame).extended_data = (&raw mut (*frame).data).cast();
        (*frame).buf[0] = reference;
    }
}

/// What a slot needs so that this picture can be decoded into it, or copied.
fn wanted_bytes(format: c_int, width: c_int, height: c_int, in_place: usize) -> usize {
    let copied = pixel::native(format)
        .map(|(format, _)| format)
        .or_else(|| pixel::converted(format))
        .and_then(|format| packed_layout(format, width.unsigned_abs(), height.unsigned_abs()))
        .map_or(0, |(_, bytes)| bytes);
    in_place.max(copied)
}

/// The free callback of a lent slot.
///
/// # Safety
///
/// Called by libavutil once, with the pointer given to av_buffer_create.
unsafe extern "C" fn give_back(opaque: *mut c_void, _data: *mut u8) {
    // SAFETY: the Box made in `lend`, which nobody else frees.
    let loan = unsafe { Box::from_raw(opaque.cast::<Loan>()) };
    // An implementation of PictureSlots that panics loses its slot, but must not unwind into C.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(loan)));
}
