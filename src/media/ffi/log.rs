//! FFmpeg's messages, as `tracing` events.
//!
//! Whoever sends the stream decides how often libavcodec complains, so at most [`BURST`] messages in
//! [`WINDOW_SECONDS`] are passed on and the rest is counted. What is less than a warning goes out
//! at `trace` level and under the same limit.
//!
//! One message says what libavcodec's calls do not return: that a slice could not be decoded at all,
//! for want of a picture to refer to, say. [`take_refused`] tells.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ffmpeg_next::ffi as av;

/// Messages per window and process.
const BURST: u64 = 5;
const WINDOW_SECONDS: u64 = 10;

/// Window number, and in the low 16 bits the messages passed on in it.
static WINDOW: AtomicU64 = AtomicU64::new(0);
static SUPPRESSED: AtomicU64 = AtomicU64::new(0);
static INSTALL: Once = Once::new();

/// Takes FFmpeg's log over, once per process: called wherever FFmpeg is entered. Forked processes inherit it.
pub(super) fn install() {
    INSTALL.call_once(|| {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `on_message` has the type asked for, may be called on any thread, does not unwind
        // and lives as long as the program.
        unsafe {
            av::av_log_set_callback(Some(on_message));
        }
        // Elsewhere the bindings do not agree with C on how a va_list is passed: no messages.
        #[cfg(not(target_arch = "x86_64"))]
        // SAFETY: sets a global integer.
        unsafe {
            av::av_log_set_level(av::AV_LOG_QUIET);
        }
    });
}

thread_local! {
    static REFUSED: Cell<bool> = const { Cell::new(false) };
}

/// How H.264's complaint about a slice that it leaves out begins.
const SLICE_REFUSED: &[u8] = b"decode_slice_header error";

/// Whether libavcodec left a slice out on this thread since the last call. x86-64 only: no messages,
/// no answer elsewhere.
pub(super) fn take_refused() -> bool {
    REFUSED.take()
}

/// Whether one more message may go out at `now` (in seconds).
fn admit(window: &AtomicU64, now: u64) -> bool {
    let current = now / WINDOW_SECONDS;
    window
        .fetch_update(Relaxed, Relaxed, |value| match value >> 16 == current {
            true if value & 0xffff >= BURST => None,
            true => Some(value + 1),
            false => Some(current << 16 | 1),
        })
        .is_ok()
}

fn uptime_seconds() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.unsigned_abs()
}

#[cfg(target_arch = "x86_64")]
unsafe extern "C" fn on_message(
    context: *mut c_void,
    level: c_int,
    format: *const c_char,
    arguments: *mut av::__va_list_tag,
) {
    // SAFETY: called once with what this callback was called with; the list is read below only if it
    // was not read there.
    if unsafe { super::tap::message(context, level, format, arguments) } {
        return;
    }
    // SAFETY: a format is a terminated string.
    if unsafe { CStr::from_ptr(format) }
        .to_bytes()
        .starts_with(SLICE_REFUSED)
    {
        // At the end of a thread there is nobody left to ask.
        let _ = REFUSED.try_with(|refused| refused.set(true));
    }
    let severe = level <= av::AV_LOG_WARNING;
    // A subscriber that panics must not unwind into C.
    let wanted = severe
        || std::panic::catch_unwind(|| tracing::enabled!(target: "ffmpeg", tracing::Level::TRACE))
            .unwrap_or(false);
    if !wanted {
        return;
    }
    if !admit(&WINDOW, uptime_seconds()) {
        if severe {
            SUPPRESSED.fetch_add(1, Relaxed);
        }
        return;
    }
    let mut line = [0; 512];
    let mut prefix: c_int = 1;
    // SAFETY: context, format and arguments are passed on as they came, once, so that the list is
    // read once; the length is the buffer's, and what is written is terminated (libavutil/log.h).
    unsafe {
        av::av_log_format_line2(
            context,
            level,
            format,
            arguments,
            line.as_mut_ptr(),
            line.len() as c_int,
            &raw mut prefix,
        );
    }
    // SAFETY: terminated within the buffer, see above (and zeroed before).
    let text = unsafe { CStr::from_ptr(line.as_ptr()) }.to_string_lossy();
    let text = text.trim_end();
    // As above.
    let _ = std::panic::catch_unwind(|| {
        if severe {
            let suppressed = SUPPRESSED.swap(0, Relaxed);
            tracing::warn!(target: "ffmpeg", suppressed, "{text}");
        } else {
            tracing::trace!(target: "ffmpeg", "{text}");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_nothing_until_the_next_window() {
        let window = AtomicU64::new(0);
        let start = 7 * WINDOW_SECONDS;
        let passed = (0..1000).filter(|_| admit(&window, start)).count();
        assert_eq!(passed as u64, BURST);
        assert!(!admit(&window, start + WINDOW_SECONDS - 1));
        assert!(admit(&window, start + WINDOW_SECONDS));
    }
}
