//! What libavformat says while it runs an RTSP session, and says nowhere else: which request it is
//! about to send, the status it was refused with, how many RTP packets never came.
//!
//! Its messages are the only place for these (RTP losses, in particular, are no part of any
//! structure). They are taken from the thread that runs the demuxer and from no other.
//!
//! Two messages also close doors. Before the first RTSP request is written, and as soon as an HTTP
//! answer is a redirection, the list of protocols that may be opened is cut down, so that no
//! connection to wherever the camera points is ever made: libavformat would follow, and send the
//! password there.
//!
//! Never: a request or a URL in a note (they carry credentials), a borrow held across a call.

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int, c_void};

use ffmpeg_next::ffi as av;

/// Which request of an RTSP session is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Step {
    /// TCP, TLS, HTTP tunnel.
    #[default]
    Connect,
    /// OPTIONS and DESCRIBE.
    Describe,
    Setup,
    Play,
    /// Everything after PLAY.
    Stream,
    Teardown,
}

/// What was said since the notes were last taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// The request under way.
    pub step: Step,
    /// RTP packets that never came, or came too late.
    pub missed: u32,
    /// The last status that was an error.
    pub status: Option<u16>,
    /// The status of a redirection; none is followed.
    pub redirect: Option<u16>,
    /// The last error in words, as far as it holds nothing secret.
    pub complaint: Option<String>,
    /// How many errors there were.
    pub complaints: u32,
}

thread_local! {
    static TAP: RefCell<Option<Notes>> = const { RefCell::new(None) };
}

/// From here on, what libavformat says on this thread is noted.
pub(super) fn start() {
    TAP.with(|tap| *tap.borrow_mut() = Some(Notes::default()));
}

pub(super) fn stop() {
    TAP.with(|tap| *tap.borrow_mut() = None);
}

/// The step that the session on this thread has reached.
pub(super) fn step() -> Step {
    TAP.with(|tap| tap.borrow().as_ref().map_or(Step::Connect, |n| n.step))
}

pub(super) fn set_step(step: Step) {
    TAP.with(|tap| {
        if let Some(notes) = tap.borrow_mut().as_mut() {
            notes.step = step;
        }
    });
}

/// All notes; those that count begin anew.
pub(super) fn take() -> Notes {
    TAP.with(|tap| {
        let mut tap = tap.borrow_mut();
        let Some(notes) = tap.as_mut() else {
            return Notes::default();
        };
        let fresh = Notes {
            step: notes.step,
            ..Notes::default()
        };
        std::mem::replace(notes, fresh)
    })
}

/// What a message is, by the beginning of its format.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Sending,
    Missed,
    Dropped,
    Refused,
    Redirecting,
    HttpCode,
    /// Says nothing that is not known: the reorder queue does its work.
    Queue,
    Other,
}

const KINDS: &[(&[u8], Kind)] = &[
    (b"Sending:\n", Kind::Sending),
    (b"RTP: missed %d packets", Kind::Missed),
    (b"RTP: PT=%02x: bad cseq", Kind::Dropped),
    (b"method %s failed: %d", Kind::Refused),
    (b"Status %d: Redirecting to", Kind::Redirecting),
    (b"http_code=%d", Kind::HttpCode),
    (b"max delay reached", Kind::Queue),
    (b"jitter buffer full", Kind::Queue),
    (b"RTP: dropping old packet", Kind::Queue),
];

fn kind(format: &[u8]) -> Kind {
    let known = KINDS.iter().find(|(begin, _)| format.starts_with(begin));
    known.map_or(Kind::Other, |(_, kind)| *kind)
}

/// Looks at a message of libavformat. True if this thread's messages are noted: then it goes
/// nowhere else.
///
/// # Safety
/// The arguments are those of a log callback (libavutil/log.h), in the course of that callback;
/// `arguments` has not been read.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe fn message(
    context: *mut c_void,
    level: c_int,
    format: *const c_char,
    arguments: *mut av::__va_list_tag,
) -> bool {
    let tapped = TAP.try_with(|tap| tap.try_borrow().is_ok_and(|tap| tap.is_some()));
    if !tapped.unwrap_or(false) {
        return false;
    }
    // SAFETY: a format is a terminated string.
    let kind = kind(unsafe { CStr::from_ptr(format) }.to_bytes());
    let severe = level <= av::AV_LOG_WARNING;
    if kind == Kind::Queue || (kind == Kind::Other && !severe) {
        return true;
    }
    let mut line = [0; 512];
    let mut prefix: c_int = 0;
    // SAFETY: everything is passed on as it came, the list is read once; the length is the
    // buffer's, and what is written is terminated. A null context makes no prefix, and the context
    // is not looked at.
    unsafe {
        av::av_log_format_line2(
            std::ptr::null_mut(),
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
    let close_doors = TAP.try_with(|tap| {
        let mut tap = tap.borrow_mut();
        tap.as_mut().is_some_and(|notes| notes.note(kind, &text))
    });
    if close_doors.unwrap_or(true) && !context.is_null() {
        let allowed: &CStr = match kind {
            // The RTSP connection is up, further ones are those of RTP.
            Kind::Sending => c"rtp,udp",
            // Not even the protocol of the next try.
            _ => c"none",
        };
        // SAFETY: a context that logs begins with a pointer to its AVClass, which is what av_opt_set
        // asks for (libavutil/log.h, opt.h). Both kinds of context that send these messages
        // (AVFormatContext, URLContext) have this option, and read it whenever they open something;
        // this thread is the one that uses them, and is within a call of theirs that logs.
        unsafe {
            av::av_opt_set(context, c"protocol_whitelist".as_ptr(), allowed.as_ptr(), 0);
        }
    }
    true
}

impl Notes {
    /// Takes a message down. True: nothing more may be opened by whoever sent it.
    fn note(&mut self, kind: Kind, text: &str) -> bool {
        match kind {
            Kind::Sending => {
                let request = text.split_once('\n').map_or("", |(_, rest)| rest);
                match request.split(' ').next().unwrap_or("") {
                    "OPTIONS" | "DESCRIBE" if self.step == Step::Connect => {
                        self.step = Step::Describe;
                        return true;
                    }
                    "SETUP" => self.step = Step::Setup,
                    "PLAY" => self.step = Step::Play,
                    _ => {}
                }
            }
            Kind::Missed => {
                let missed = number_after(text, "missed ").unwrap_or(1).max(1);
                self.missed = self.missed.saturating_add(missed);
            }
            Kind::Dropped => self.missed = self.missed.saturating_add(1),
            Kind::Refused => self.status = number_after(text, "failed: ").and_then(status),
            Kind::Redirecting => self.redirect = number_after(text, "Status ").and_then(status),
            Kind::HttpCode => {
                let code = number_after(text, "http_code=").and_then(status);
                match code {
                    Some(300..=399) => {
                        self.redirect = code;
                        return true;
                    }
                    Some(400..) => self.status = code,
                    _ => {}
                }
            }
            Kind::Queue => {}
            Kind::Other => {
                self.complaints = self.complaints.saturating_add(1);
                // Some messages name what they were about to open, login and all.
                let clean = text
                    .split_whitespace()
                    .map(|word| match word.contains("://") {
                        true => "(address)",
                        false => word,
                    });
                self.complaint = Some(clean.collect::<Vec<_>>().join(" "));
            }
        }
        false
    }
}

fn number_after(text: &str, before: &str) -> Option<u32> {
    let (_, tail) = text.split_once(before)?;
    let digits = tail.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

fn status(number: u32) -> Option<u16> {
    u16::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(format: &[u8], text: &str) -> (Notes, bool) {
        let mut notes = Notes::default();
        let closed = notes.note(kind(format), text);
        (notes, closed)
    }

    #[test]
    fn messages_are_understood() {
        let (notes, closed) = noted(
            b"Sending:\n%s--\n",
            "Sending:\nDESCRIBE rtsp://u:p@h/x RTSP/1.0\r\nAuthorization: Basic eA==\r\n",
        );
        assert_eq!((notes.step, closed), (Step::Describe, true));
        assert_eq!(notes.complaint, None);
        let (notes, _) = noted(b"RTP: missed %d packets\n", "RTP: missed 17 packets\n");
        assert_eq!(notes.missed, 17);
        let (notes, _) = noted(b"RTP: missed %d packets\n", "RTP: missed -3 packets\n");
        assert_eq!(notes.missed, 1, "a loss all the same");
        let (notes, _) = noted(
            b"method %s failed: %d%s\n",
            "method DESCRIBE failed: 404 Not Found\n",
        );
        assert_eq!(notes.status, Some(404));
        let (notes, closed) = noted(b"http_code=%d\n", "http_code=302\n");
        assert_eq!((notes.redirect, closed), (Some(302), true));
        let (notes, closed) = noted(b"http_code=%d\n", "http_code=401\n");
        assert_eq!((notes.status, closed), (Some(401), false));
    }

    #[test]
    fn complaints_name_no_address() {
        let (notes, _) = noted(b"cannot open %s", "cannot open rtsp://u:hunter2@h/x now");
        assert_eq!(
            notes.complaint.as_deref(),
            Some("cannot open (address) now")
        );
    }
}
