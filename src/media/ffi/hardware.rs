//! Hardware that decodes: devices, which codecs they take, and the way of their pictures into memory.
//!
//! Two kinds. Surfaces (VAAPI, CUDA): libavcodec's own decoder hands the work to the device
//! (`AVCodecContext.hw_device_ctx`), and its pictures are downloaded (`av_hwframe_transfer_data`,
//! libavutil/hwcontext.h) into a slot of the ring or private memory. Decoders of their own (QSV, V4L2): they put
//! their pictures into ordinary memory themselves.
//!
//! Promises: opening fails with a reason and leaves nothing behind; nothing here decides what happens then.

use std::ffi::{CStr, CString, c_int};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use ffmpeg_next::ffi as av;

use super::buffers::Lender;
use super::frame::Frame;
use super::{codec_id, log};
use crate::media::{AvError, Codec, MediaError};

/// An interface to hardware that FFmpeg knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HardwareKind {
    /// NVIDIA's NVDEC.
    Cuda,
    /// Intel and AMD, through the kernel's DRM and a driver of libva.
    Vaapi,
    /// Intel Quick Sync.
    Qsv,
    /// Decoders of single-board computers, as V4L2 memory-to-memory devices.
    V4l2m2m,
}

impl HardwareKind {
    /// In the order in which they are tried: those first whose failure says most.
    pub const ALL: [Self; 4] = [Self::Cuda, Self::Vaapi, Self::Qsv, Self::V4l2m2m];

    /// As in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cuda => "cuda",
            Self::Vaapi => "vaapi",
            Self::Qsv => "qsv",
            Self::V4l2m2m => "v4l2m2m",
        }
    }

    /// What to do where its device cannot be opened.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Cuda => {
                "it takes NVIDIA's driver with libcuda.so.1 and libnvcuvid.so.1, and access to /dev/nvidia*"
            }
            Self::Vaapi => {
                "it takes a /dev/dri/renderD* that this user may open (group render or video), and a driver \
                 of libva: intel-media-va-driver or mesa-va-drivers"
            }
            Self::Qsv => {
                "it takes an Intel GPU with a /dev/dri/renderD* that this user may open, and libmfx1 or \
                 libmfx-gen1.2"
            }
            Self::V4l2m2m => {
                "it takes a /dev/video* that decodes and that this user may open (group video)"
            }
        }
    }

    fn device(self) -> Option<av::AVHWDeviceType> {
        match self {
            Self::Cuda => Some(av::AVHWDeviceType::AV_HWDEVICE_TYPE_CUDA),
            Self::Vaapi => Some(av::AVHWDeviceType::AV_HWDEVICE_TYPE_VAAPI),
            Self::Qsv => Some(av::AVHWDeviceType::AV_HWDEVICE_TYPE_QSV),
            Self::V4l2m2m => None,
        }
    }

    /// The pixel format of its surfaces, if it has any.
    fn surface(self) -> Option<av::AVPixelFormat> {
        match self {
            Self::Cuda => Some(av::AVPixelFormat::AV_PIX_FMT_CUDA),
            Self::Vaapi => Some(av::AVPixelFormat::AV_PIX_FMT_VAAPI),
            Self::Qsv | Self::V4l2m2m => None,
        }
    }

    /// The name of its own decoder, where it has one.
    fn own_decoder(self, codec: Codec) -> Option<&'static CStr> {
        match (self, codec) {
            (Self::Qsv, Codec::H264) => Some(c"h264_qsv"),
            (Self::Qsv, Codec::H265) => Some(c"hevc_qsv"),
            (Self::V4l2m2m, Codec::H264) => Some(c"h264_v4l2m2m"),
            (Self::V4l2m2m, Codec::H265) => Some(c"hevc_v4l2m2m"),
            _ => None,
        }
    }

    /// The decoder for a codec; `None` where the FFmpeg that is linked has none.
    fn decoder(self, codec: Codec) -> Option<NonNull<av::AVCodec>> {
        let found = if self.surface().is_some() {
            // SAFETY: a lookup in constant tables.
            unsafe { av::avcodec_find_decoder(codec_id(codec)) }
        } else {
            let name = self.own_decoder(codec)?;
            // SAFETY: as above; `name` is terminated.
            unsafe { av::avcodec_find_decoder_by_name(name.as_ptr()) }
        };
        let found = NonNull::new(found.cast_mut())?;
        (self.surface().is_none() || self.is_configured(found)).then_some(found)
    }

    /// Whether this decoder can hand its work to the device.
    fn is_configured(self, decoder: NonNull<av::AVCodec>) -> bool {
        let Some(device) = self.device() else {
            return false;
        };
        let method = av::AV_CODEC_HW_CONFIG_METHOD_HW_DEVICE_CTX as c_int;
        (0..32)
            .map_while(|index| {
                // SAFETY: a codec of this library; entries are constant, null ends them.
                let config = unsafe { av::avcodec_get_hw_config(decoder.as_ptr(), index) };
                NonNull::new(config.cast_mut())
            })
            .any(|config| {
                // SAFETY: a constant entry; the enum is read as the integer that it is in C.
                let (methods, kind) = unsafe {
                    let config = config.as_ptr();
                    let kind = (&raw const (*config).device_type).cast::<u32>().read();
                    ((*config).methods, kind)
                };
                methods & method != 0 && kind == device as u32
            })
    }

    /// Whether the FFmpeg that is linked can decode this codec with it, if there is a device.
    pub fn takes(self, codec: Codec) -> bool {
        self.decoder(codec).is_some()
    }
}

impl std::fmt::Display for HardwareKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Why there is no device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HardwareError {
    /// The FFmpeg that is linked was built without it.
    #[error("this FFmpeg was built without {0}")]
    NotBuilt(HardwareKind),
    /// There is nothing to open, or it may not be opened.
    #[error("no {kind} device: {error}; {}", kind.hint())]
    NoDevice { kind: HardwareKind, error: AvError },
    /// No device file of its kind.
    #[error("no {kind} device: {}", kind.hint())]
    NoFile { kind: HardwareKind },
}

/// An open device. May be used by many decoders and threads at once (libavutil/hwcontext.h).
#[derive(Debug)]
pub struct HardwareDevice {
    kind: HardwareKind,
    /// None for those that open their device with each decoder.
    context: Option<NonNull<av::AVBufferRef>>,
    #[cfg(test)]
    pretended: Option<Pretended>,
}

/// A device of the tests: software behind the interface of a device, which can be broken.
#[cfg(test)]
#[derive(Clone, Debug, Default)]
pub struct Pretended {
    /// It takes no stream.
    pub refuses: bool,
    /// Every unit is an error from now on, as after the loss of a GPU.
    pub broken: std::sync::Arc<AtomicBool>,
}

// SAFETY: an AVBufferRef is counted atomically, and a device context is not changed once it is initialised
// (libavutil/hwcontext.h); the reference itself is only read here.
unsafe impl Send for HardwareDevice {}
// SAFETY: as above.
unsafe impl Sync for HardwareDevice {}

impl HardwareDevice {
    /// Opens the first device of its kind, or `path`: `/dev/dri/renderD129`, or the number of a GPU.
    ///
    /// May take a second: drivers are loaded. Opens files, and may start threads of the driver.
    ///
    /// # Errors
    /// There is none, or it may not be used; the text says what it takes.
    pub fn open(kind: HardwareKind, path: Option<&str>) -> Result<Self, HardwareError> {
        log::install();
        let Some(device) = kind.device() else {
            let mut files = std::fs::read_dir("/dev").into_iter().flatten().flatten();
            let any = files.any(|file| file.file_name().to_string_lossy().starts_with("video"));
            return match any {
                true => Ok(Self::without_context(kind)),
                false => Err(HardwareError::NoFile { kind }),
            };
        };
        if ![Codec::H264, Codec::H265]
            .into_iter()
            .any(|codec| kind.takes(codec))
        {
            return Err(HardwareError::NotBuilt(kind));
        }
        let path = path.and_then(|path| CString::new(path).ok());
        let mut context = ptr::null_mut();
        // SAFETY: `context` is where the reference goes; `path` is null or terminated, and read only during the
        // call; no options.
        let code = unsafe {
            av::av_hwdevice_ctx_create(
                &raw mut context,
                device,
                path.as_ref().map_or(ptr::null(), |path| path.as_ptr()),
                ptr::null_mut(),
                0,
            )
        };
        match NonNull::new(context).filter(|_| code >= 0) {
            Some(context) => Ok(Self {
                context: Some(context),
                #[cfg(test)]
                pretended: None,
                kind,
            }),
            None => Err(HardwareError::NoDevice {
                kind,
                error: AvError(code),
            }),
        }
    }

    fn without_context(kind: HardwareKind) -> Self {
        Self {
            kind,
            context: None,
            #[cfg(test)]
            pretended: None,
        }
    }

    /// See [`Pretended`].
    #[cfg(test)]
    pub fn pretend(pretended: Pretended) -> Self {
        let mut device = Self::without_context(HardwareKind::V4l2m2m);
        device.pretended = Some(pretended);
        device
    }

    /// Whether the tests have broken it.
    #[cfg(test)]
    pub(super) fn broken(&self) -> Option<std::sync::Arc<AtomicBool>> {
        Some(self.pretended.as_ref()?.broken.clone())
    }

    /// What it is.
    pub fn kind(&self) -> HardwareKind {
        self.kind
    }

    /// The decoder to open for a codec.
    pub(super) fn decoder(&self, codec: Codec) -> Option<*const av::AVCodec> {
        #[cfg(test)]
        if let Some(pretended) = &self.pretended {
            // SAFETY: a lookup in constant tables.
            let software = unsafe { av::avcodec_find_decoder(codec_id(codec)) };
            return (!pretended.refuses).then_some(software);
        }
        Some(self.kind.decoder(codec)?.as_ptr())
    }

    /// Prepares a context that is not open yet, and says whether its pictures will be surfaces.
    ///
    /// # Safety
    /// `context` is allocated, not open, and its `opaque` points to a [`Lender`] that outlives it.
    pub(super) unsafe fn prepare(
        &self,
        context: *mut av::AVCodecContext,
    ) -> Result<bool, MediaError> {
        let Some(device) = self.context else {
            return Ok(false);
        };
        // SAFETY: a reference that lives as long as self.
        let reference = unsafe { av::av_buffer_ref(device.as_ptr()) };
        if reference.is_null() {
            return Err(MediaError::OutOfMemory);
        }
        // SAFETY: the contract; the context owns the new reference.
        unsafe { (*context).hw_device_ctx = reference };
        if self.kind.surface().is_none() {
            return Ok(false);
        }
        // SAFETY: the contract. Surfaces are from libavcodec's own pool: the default get_buffer2, and one more
        // of them for the picture that is being downloaded.
        unsafe {
            (*context).get_format = Some(get_format);
            (*context).get_buffer2 = Some(av::avcodec_default_get_buffer2);
            (*context).extra_hw_frames = 2;
        }
        Ok(true)
    }

    /// The pixel format of its surfaces, as a number; -1: it has none.
    pub(super) fn raw_surface(&self) -> c_int {
        self.kind.surface().map_or(-1, |format| format as c_int)
    }
}

impl Drop for HardwareDevice {
    fn drop(&mut self) {
        if let Some(context) = self.context {
            let mut raw = context.as_ptr();
            // SAFETY: our own reference, not used afterwards; decoders have references of their own.
            unsafe { av::av_buffer_unref(&raw mut raw) };
        }
    }
}

/// What a decoder with surfaces notes for whoever opened it.
#[derive(Debug, Default)]
pub(super) struct Surfaces {
    /// The pixel format wanted; 0: none (there, it is YUV 4:2:0).
    pub(super) format: std::sync::atomic::AtomicI32,
    /// The device does not take this stream: another profile, another size.
    pub(super) refused: AtomicBool,
}

/// `AVCodecContext.get_format`: surfaces or nothing. libavcodec asks again without them where the device does
/// not take the stream; software is then opened by us, with its own settings.
///
/// # Safety
/// Called by libavcodec only, with a context whose `opaque` points to a [`Lender`].
unsafe extern "C" fn get_format(
    context: *mut av::AVCodecContext,
    offered: *const av::AVPixelFormat,
) -> av::AVPixelFormat {
    // SAFETY: set by Decoder::open to a Lender that is freed after the context.
    let lender = unsafe { &*(*context).opaque.cast::<Lender>() };
    let wanted = lender.surfaces.format.load(Relaxed);
    let known = [
        av::AVPixelFormat::AV_PIX_FMT_CUDA,
        av::AVPixelFormat::AV_PIX_FMT_VAAPI,
    ];
    let mut at = offered.cast::<c_int>();
    loop {
        // SAFETY: a list that -1 ends (libavcodec/avcodec.h), read as the integers that it has in C.
        let format = unsafe { at.read() };
        if format < 0 {
            break;
        }
        if format == wanted
            && let Some(format) = known.into_iter().find(|known| *known as c_int == wanted)
        {
            return format;
        }
        // SAFETY: not the end yet.
        at = unsafe { at.add(1) };
    }
    lender.surfaces.refused.store(true, Relaxed);
    av::AVPixelFormat::AV_PIX_FMT_NONE
}

/// The format of the samples that a surface has on the device, as a number; `None`: it is no surface.
pub(super) fn samples_of(surface: &Frame) -> Option<c_int> {
    // SAFETY: a valid frame.
    let frames = NonNull::new(unsafe { (*surface.as_ptr()).hw_frames_ctx })?;
    // SAFETY: `hw_frames_ctx` refers to an AVHWFramesContext (libavutil/frame.h), initialised, constant; the
    // enum is read as the integer that it is in C.
    Some(unsafe {
        let context = (*frames.as_ptr()).data.cast::<av::AVHWFramesContext>();
        (&raw const (*context).sw_format).cast::<c_int>().read()
    })
}

/// Downloads a surface into a frame that has buffers of its size and of the format of its samples.
pub(super) fn download(from: &Frame, into: &mut Frame) -> Result<(), AvError> {
    // SAFETY: two valid frames; `into` has buffers of its own that nobody reads meanwhile.
    let code = unsafe { av::av_hwframe_transfer_data(into.as_mut_ptr(), from.as_ptr(), 0) };
    if code < 0 {
        return Err(AvError(code));
    }
    // SAFETY: two valid frames.
    match unsafe { av::av_frame_copy_props(into.as_mut_ptr(), from.as_ptr()) } {
        code if code < 0 => Err(AvError(code)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_not_there_says_what_it_takes() {
        // The number of a GPU, or the path of a device, that no machine has.
        for (kind, path) in [
            (HardwareKind::Cuda, "4711"),
            (HardwareKind::Vaapi, "/dev/null"),
        ] {
            let error = HardwareDevice::open(kind, Some(path)).expect_err("there is none");
            let text = error.to_string();
            assert!(text.contains(kind.name()), "{text}");
            assert!(
                matches!(error, HardwareError::NotBuilt(_)) || text.contains("it takes"),
                "{text}"
            );
        }
    }

    #[test]
    fn jpeg_is_for_no_hardware_of_its_own_and_h264_is_for_surfaces_of_debian() {
        assert!(!HardwareKind::V4l2m2m.takes(Codec::Mjpeg));
        for kind in [HardwareKind::Cuda, HardwareKind::Vaapi] {
            assert_eq!(
                kind.takes(Codec::H264),
                kind.takes(Codec::H265),
                "FFmpeg is built with both or none"
            );
        }
    }
}
