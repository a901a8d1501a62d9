//! The page itself, as the reader sees it. The only unsafe code of `health`: the step from the
//! mapping that the `shared_memory` crate made to a reference.

use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Mutex, PoisonError};

use shared_memory::{Shmem, ShmemConf};

use super::histogram::{BUCKETS, Histogram, bucket};
use super::{ClockSource, HealthError, State};
use crate::config::View;
use crate::sys::clock;

/// Bytes of a state's reason: longer ones are cut.
pub(super) const REASON_BYTES: usize = 256;
const REASON_WORDS: usize = REASON_BYTES / 8;

macro_rules! counters {
    (
        sums { $($(#[$sum_doc:meta])* $sum:ident,)* }
        present { $($(#[$doc:meta])* $name:ident,)* }
    ) => {
        /// The counters of one incarnation of a reader, each a word that one thread of it writes
        /// with relaxed atomics and that the supervisor reads.
        #[repr(C)]
        #[derive(Debug)]
        pub struct Counters {
            $($(#[$sum_doc])* pub $sum: AtomicU64,)*
            $($(#[$doc])* pub $name: AtomicU64,)*
        }

        /// What [`Counters`] held at one moment; each word for itself.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Figures {
            $($(#[$sum_doc])* pub $sum: u64,)*
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Figures {
            /// `words` is a copy of the page.
            pub(super) fn from_words(words: &[u64; PAGE_WORDS]) -> Self {
                Self {
                    $($sum: words[std::mem::offset_of!(Counters, $sum) / 8],)*
                    $($name: words[std::mem::offset_of!(Counters, $name) / 8],)*
                }
            }

            /// These figures with an earlier reader's counts added; what is no count stays.
            pub fn after(&self, earlier: &Figures) -> Figures {
                // From a hostile page, sums need not fit.
                Figures {
                    $($sum: self.$sum.saturating_add(earlier.$sum),)*
                    $($name: self.$name,)*
                }
            }
        }

        impl Counters {
            fn new() -> Self {
                Self {
                    $($sum: AtomicU64::new(0),)*
                    $($name: AtomicU64::new(0),)*
                }
            }
        }
    };
}

counters! {
    sums {
        /// Access units received.
        access_units,
        /// Pictures that came out of the decoder.
        frames_decoded,
        /// Pictures published in the frame ring.
        frames_published,
        /// Not published: all slots were held.
        dropped_no_slot,
        /// Not published: the memory budget had no room for a ring of this size.
        dropped_no_memory,
        /// Access units not decoded, because decoding did not keep up.
        dropped_overload,
        /// Not published: `max_fps`.
        dropped_max_fps,
        /// Published, but marked corrupt: subscribers do not get them by default.
        dropped_corrupt,
        /// Access units that came before the first key frame of a session.
        dropped_before_key,
        /// Access units left out by `mode = "keyframes"`.
        dropped_not_key,
        /// Access units not decoded, because nobody looked.
        dropped_not_wanted,
        /// Access units from before somebody looked that were not caught up with.
        dropped_catch_up,
        /// Access units not decoded, because nothing moved.
        dropped_quiet,
        /// Access units thrown away because of their size.
        dropped_oversize,
        /// Packets from the camera that were of no use.
        glitches,
        /// Access units that the decoder refused.
        decode_errors,
        /// Pictures that were copied into their slot once, instead of being decoded in it.
        copied_frames,
        /// RTP packets that never came.
        rtp_lost,
        /// RTSP sessions after the first.
        reconnects,
        /// Bytes of access units received.
        bytes_in,
        /// Frames of sound kept for recording.
        audio_frames,
        /// What [`Health::record_latency_ns`] counted altogether, in nanoseconds.
        latency_ns,
        /// Times that software took over from hardware.
        hardware_fallbacks,
    }
    present {
        /// CLOCK_MONOTONIC of the network thread's last tick, in nanoseconds. 0: not yet.
        heartbeat_ns,
        /// The same of the decode thread, which ticks while it waits for work, too.
        decode_heartbeat_ns,
        /// `camring_ring::Codec` as a number; 0: not known yet.
        codec,
        /// Pixels per row of the pictures.
        width,
        /// Rows of the pictures.
        height,
        /// Bytes waiting between the network and the decode thread.
        queue_bytes,
        /// CLOCK_MONOTONIC of the last access unit's arrival, in nanoseconds. 0: none yet.
        last_unit_ns,
        /// CLOCK_MONOTONIC of the last published frame, in nanoseconds. 0: none yet.
        last_frame_ns,
        /// CLOCK_MONOTONIC of the last picture that came out of the decoder, in nanoseconds. 0: none.
        last_decoded_ns,
        /// A [`ClockSource`] as a number; 0: none yet.
        clock,
        /// Subscribers that the writers know.
        subscribers,
        /// A [`super::Decoding`] as a number; 0: not known yet.
        decoding,
        /// An [`super::Activity`] as a number; 0: not looked for.
        activity,
        /// Since when it is so, in milliseconds of Unix time.
        activity_since_unix_ms,
        /// A `reader::client::Choice` as a number; 0: none yet.
        client,
        /// A [`super::Sound`] as a number; 0: not asked for, or not known yet.
        sound,
        /// A [`super::DecodesWith`] as a number; 0: nothing decoded yet.
        decodes_with,
    }
}

macro_rules! view_counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What a reader counts of one view. All of them are sums.
        #[repr(C)]
        #[derive(Debug)]
        pub struct ViewCounters {
            $($(#[$doc])* pub $name: AtomicU64,)*
        }

        /// What [`ViewCounters`] held at one moment; each word for itself.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct ViewFigures {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl ViewFigures {
            /// `words` is a copy of the page, `from` where the view's words begin in it.
            fn from_words(words: &[u64; PAGE_WORDS], from: usize) -> Self {
                Self {
                    $($name: words[from + std::mem::offset_of!(ViewCounters, $name) / 8],)*
                }
            }

            /// These figures with an earlier reader's added.
            pub fn after(&self, earlier: &Self) -> Self {
                Self {
                    $($name: self.$name.saturating_add(earlier.$name),)*
                }
            }
        }

        impl ViewCounters {
            const fn new() -> Self {
                Self {
                    $($name: AtomicU64::new(0),)*
                }
            }
        }
    };
}

view_counters! {
    /// Pictures converted.
    converted,
    /// What that took altogether, in nanoseconds.
    convert_ns,
    /// Of those, published.
    published,
    /// Not converted: all slots were held.
    dropped_no_slot,
    /// Not converted: the kernel had no memory for a slot not used before.
    dropped_no_memory,
    /// The scaler refused the picture.
    failed,
}

/// The page: all words, so that a copy of it can be taken apart without unsafe code.
#[repr(C)]
pub(super) struct Page {
    counters: Counters,
    /// Odd while the state is being written.
    text_seq: AtomicU64,
    state: AtomicU64,
    since_unix_ms: AtomicU64,
    reason_len: AtomicU64,
    reason: [AtomicU64; REASON_WORDS],
    latency: [AtomicU64; BUCKETS],
    views: [ViewCounters; View::MAX_VIEWS],
}

pub(super) const PAGE_BYTES: usize = size_of::<Page>();
pub(super) const PAGE_WORDS: usize = PAGE_BYTES / 8;
const _: () = assert!(PAGE_BYTES.is_multiple_of(8) && PAGE_BYTES <= 4096);

impl Page {
    fn new() -> Self {
        Self {
            counters: Counters::new(),
            text_seq: AtomicU64::new(0),
            state: AtomicU64::new(0),
            since_unix_ms: AtomicU64::new(0),
            reason_len: AtomicU64::new(0),
            reason: [const { AtomicU64::new(0) }; REASON_WORDS],
            latency: [const { AtomicU64::new(0) }; BUCKETS],
            views: [const { ViewCounters::new() }; View::MAX_VIEWS],
        }
    }
}

enum Memory {
    Shared(Shmem),
    Private(Box<Page>),
}

/// A reader's own health page. Counters are public words ([`Counters`], by deref).
pub struct Health {
    memory: Memory,
    /// One writer of the state at a time; in this process all of them are.
    writer: Mutex<()>,
}

// SAFETY: the raw pointer inside `Shmem` is what keeps it from being Send and Sync. It is only
// read (after construction), the mapping stays where it is until drop, and what it points to is
// accessed through atomics alone.
unsafe impl Send for Health {}
// SAFETY: as above.
unsafe impl Sync for Health {}

impl Health {
    /// Maps the page that the supervisor created.
    pub fn open(name: &str) -> Result<Self, HealthError> {
        let memory = ShmemConf::new().os_id(name).open();
        let memory = memory.map_err(|source| HealthError::Map {
            name: name.to_owned(),
            source,
        })?;
        if memory.len() < PAGE_BYTES {
            return Err(HealthError::Size {
                name: name.to_owned(),
                len: memory.len(),
                expected: PAGE_BYTES,
            });
        }
        Ok(Self {
            memory: Memory::Shared(memory),
            writer: Mutex::new(()),
        })
    }

    /// A page that nobody watches.
    pub fn private() -> Self {
        Self {
            memory: Memory::Private(Box::new(Page::new())),
            writer: Mutex::new(()),
        }
    }

    fn page(&self) -> &Page {
        match &self.memory {
            // SAFETY: the mapping is readable and writable, at least `PAGE_BYTES` long (checked in
            // `open`), page-aligned, and lives as long as `self`. `Page` is made of atomics only,
            // for which every bit pattern is valid and which other processes may write at any
            // time. The file cannot shrink under it: only this process and the supervisor, which
            // never does that, have it open.
            Memory::Shared(memory) => unsafe { &*memory.as_ptr().cast::<Page>() },
            Memory::Private(page) => page,
        }
    }

    /// The network thread lives. At least once a second.
    pub fn beat(&self) {
        self.heartbeat_ns
            .store(clock::monotonic_ns(), Ordering::Relaxed);
    }

    /// The decode thread lives. At least once a second while it waits for work.
    pub fn beat_decode(&self) {
        self.decode_heartbeat_ns
            .store(clock::monotonic_ns(), Ordering::Relaxed);
    }

    /// Counts one frame's way from the arrival of its last packet to its publication.
    pub fn record_latency_ns(&self, ns: u64) {
        self.page().latency[bucket(ns)].fetch_add(1, Ordering::Relaxed);
        self.latency_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// The counters of the view at this place in the configuration. `None`: there can be none.
    pub fn view(&self, index: usize) -> Option<&ViewCounters> {
        self.page().views.get(index)
    }

    /// What was counted so far.
    pub fn latency(&self) -> Histogram {
        let page = self.page();
        Histogram(std::array::from_fn(|i| {
            page.latency[i].load(Ordering::Relaxed)
        }))
    }

    /// Says what the reader is doing and why, with no secrets in it: it is shown to anybody. The
    /// time since when starts anew only when the state is another one.
    pub fn set_state(&self, state: State, reason: &str) {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let page = self.page();
        let mut end = reason.len().min(REASON_BYTES);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let reason = &reason.as_bytes()[..end];

        let seq = page.text_seq.load(Ordering::Relaxed);
        page.text_seq.store(seq | 1, Ordering::Relaxed);
        // SYNC: release; pairs with the acquire fence in `Health::state`: who saw a word of the
        // new text sees an odd or newer sequence afterwards. (`Watch::snapshot` reads by system
        // calls, which order more than that.)
        fence(Ordering::Release);
        let before = page.state.swap(state as u64, Ordering::Relaxed);
        if before != state as u64 || page.since_unix_ms.load(Ordering::Relaxed) == 0 {
            page.since_unix_ms
                .store(clock::unix_ms(), Ordering::Relaxed);
        }
        page.reason_len.store(end as u64, Ordering::Relaxed);
        for (word, chunk) in page.reason.iter().zip(reason.chunks(8)) {
            let mut bytes = [0u8; 8];
            bytes[..chunk.len()].copy_from_slice(chunk);
            word.store(u64::from_ne_bytes(bytes), Ordering::Relaxed);
        }
        // SYNC: release; pairs with the acquire load of `text_seq` in `Health::state`.
        page.text_seq
            .store((seq | 1).wrapping_add(1), Ordering::Release);
    }

    /// The state, its reason, and since when in milliseconds of Unix time (0: never set).
    pub fn state(&self) -> (State, String, u64) {
        let page = self.page();
        loop {
            // SYNC: acquire; pairs with the release store of `text_seq` in `set_state`. The one
            // writer is in this process and never stops half-way, so this ends.
            let seq = page.text_seq.load(Ordering::Acquire);
            let words = self.words();
            // SYNC: pairs with the release fence in `set_state`.
            fence(Ordering::Acquire);
            if seq & 1 == 0 && page.text_seq.load(Ordering::Relaxed) == seq {
                return parse_state(&words);
            }
            std::hint::spin_loop();
        }
    }

    fn words(&self) -> [u64; PAGE_WORDS] {
        let page = self.page();
        // SAFETY: `Page` is repr(C) and nothing but `PAGE_WORDS` `AtomicU64`s, so it is an array
        // of them; the reference lives as long as `page`.
        let atomics = unsafe { &*std::ptr::from_ref(page).cast::<[AtomicU64; PAGE_WORDS]>() };
        std::array::from_fn(|i| atomics[i].load(Ordering::Relaxed))
    }
}

/// Where [`text_seq`] lies in the page.
pub(super) const TEXT_SEQ_OFFSET: usize = std::mem::offset_of!(Page, text_seq);

/// The sequence word of a copy of the page: equal and even in two copies means that the state in
/// the second was not being written.
pub(super) fn text_seq(words: &[u64; PAGE_WORDS]) -> u64 {
    words[TEXT_SEQ_OFFSET / 8]
}

/// The state in a copy of the page. The copy is an allegation: an unknown state is `Failed`, and
/// what is no printable text is replaced.
pub(super) fn parse_state(words: &[u64; PAGE_WORDS]) -> (State, String, u64) {
    let word = |offset: usize| words[offset / 8];
    let state = word(std::mem::offset_of!(Page, state));
    let since = word(std::mem::offset_of!(Page, since_unix_ms));
    let len = (word(std::mem::offset_of!(Page, reason_len)) as usize).min(REASON_BYTES);
    let from = std::mem::offset_of!(Page, reason) / 8;
    let bytes: Vec<u8> = words[from..from + REASON_WORDS]
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .take(len)
        .collect();
    let reason = String::from_utf8_lossy(&bytes).replace(|c: char| c.is_control(), " ");
    (
        State::from_word(state).unwrap_or(State::Failed),
        reason,
        since,
    )
}

/// The latencies in a copy of the page.
pub(super) fn parse_latency(words: &[u64; PAGE_WORDS]) -> Histogram {
    let from = std::mem::offset_of!(Page, latency) / 8;
    Histogram(std::array::from_fn(|i| words[from + i]))
}

/// The views in a copy of the page.
pub(super) fn parse_views(words: &[u64; PAGE_WORDS]) -> [ViewFigures; View::MAX_VIEWS] {
    let from = std::mem::offset_of!(Page, views) / 8;
    let each = size_of::<ViewCounters>() / 8;
    std::array::from_fn(|index| ViewFigures::from_words(words, from + index * each))
}

/// The clock in a copy of the counters.
pub(super) fn parse_clock(figures: &Figures) -> Option<ClockSource> {
    ClockSource::from_word(figures.clock)
}

impl Deref for Health {
    type Target = Counters;

    fn deref(&self) -> &Counters {
        &self.page().counters
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health")
            .field("state", &self.state())
            .field("counters", &**self)
            .finish()
    }
}
