//! Every metric there is: its name, kind, unit, labels and what it means. `docs/reference/metrics.md` is
//! this table, held equal by a test.
//!
//! Promises: names and labels follow <https://prometheus.io/docs/practices/naming/>; they are stable:
//! metrics are added, never renamed or given another meaning. The values of every label are names of the
//! configuration, or out of a list in this program.
#![deny(unsafe_code)]

use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

/// One metric.
#[derive(Debug)]
pub struct Metric {
    /// Without unit and `_total`.
    pub(super) stem: &'static str,
    /// `counter`, `gauge`, `histogram`.
    pub kind: &'static str,
    /// `seconds`, `bytes`; empty: a number of things.
    pub unit: &'static str,
    /// Names of labels. Of a process or a response, those that it has.
    pub labels: &'static [&'static str],
    /// What it means, for people.
    pub help: &'static str,
}

impl Metric {
    /// As it is called in a query: `camring_stream_received_bytes_total`.
    pub fn name(&self) -> String {
        let unit = match self.unit {
            "" => String::new(),
            unit => format!("_{unit}"),
        };
        let end = match self.kind {
            "counter" => "_total",
            _ => "",
        };
        format!("{}{unit}{end}", self.stem)
    }

    pub(super) fn unit(&self) -> Option<Unit> {
        match self.unit {
            "" => None,
            "bytes" => Some(Unit::Bytes),
            "seconds" => Some(Unit::Seconds),
            other => Some(Unit::Other(other.to_owned())),
        }
    }

    pub(super) fn metric_type(&self) -> MetricType {
        match self.kind {
            "counter" => MetricType::Counter,
            "histogram" => MetricType::Histogram,
            _ => MetricType::Gauge,
        }
    }
}

const NONE: &[&str] = &[];
const PROCESS: &[&str] = &["process", "camera", "stream"];
const STREAM: &[&str] = &["camera", "stream"];
const VIEW: &[&str] = &["camera", "stream", "view"];

macro_rules! metrics {
    ($($name:ident: $kind:literal $stem:literal, $unit:literal, $labels:expr, $help:literal;)*) => {
        $(pub(super) static $name: Metric = Metric {
            stem: $stem, kind: $kind, unit: $unit, labels: $labels, help: $help,
        };)*
        /// All of them, in the order of the reference.
        pub static ALL: &[&Metric] = &[$(&$name,)*];
    };
}

metrics! {
    BUILD_INFO: "gauge" "camring_build_info", "", &["version"],
        "1, labelled with the version of the server";
    DAEMON_UP: "gauge" "camring_daemon_up", "", NONE,
        "Whether the daemon answered; without it, everything of cameras and processes is missing";
    DAEMON_UPTIME: "gauge" "camring_daemon_uptime", "seconds", NONE,
        "Time since the daemon started";
    CLIENTS: "gauge" "camring_clients", "", NONE,
        "Programs connected to the attach socket";
    RINGS: "gauge" "camring_rings", "bytes", NONE,
        "Size of all rings, as the limits count it";
    RINGS_REPLACED: "gauge" "camring_rings_replaced", "bytes", NONE,
        "Of the rings, those that were replaced and still have subscribers";
    RINGS_UNTOUCHED: "gauge" "camring_rings_untouched", "bytes", NONE,
        "Of the rings, what is not backed by memory yet";
    RINGS_LIMIT: "gauge" "camring_rings_limit", "bytes", NONE,
        "The memory_total of the configuration; missing where there is none";
    MEMORY_AVAILABLE: "gauge" "camring_memory_available", "bytes", NONE,
        "What the machine, or the cgroup nearest to its limit, has left";
    CONFIG_ATTEMPTS: "counter" "camring_config_changes", "", &["result"],
        "Tries to change the running daemon; result: applied, refused";
    CONFIG_REFUSED: "gauge" "camring_config_refused", "", NONE,
        "Whether the last try was refused, and the configuration before it holds";

    PROCESS_UP: "gauge" "camring_process_up", "", PROCESS,
        "Whether a process that is wanted is there; process: supervisor, spawner, serve, reader, recorder";
    PROCESS_CPU: "counter" "camring_process_cpu", "seconds", PROCESS,
        "CPU time of a process and of those before it in its place";
    PROCESS_MEMORY: "gauge" "camring_process_memory", "bytes", PROCESS,
        "Proportional memory (PSS), at most 10 s old; of the supervisor, resident memory";
    PROCESS_RESTARTS: "counter" "camring_process_restarts", "", PROCESS,
        "Starts after the first";
    PROCESS_FAILURES: "counter" "camring_process_failures", "",
        &["process", "camera", "stream", "reason"],
        "Ends that nobody had asked for; reason: exit, crash, killed, unresponsive, not_started";

    STREAM_INFO: "gauge" "camring_stream_info", "",
        &["camera", "stream", "codec", "client", "backend"],
        "1, labelled with codec, RTSP client (retina, ffmpeg) and what decodes; empty until known";
    STREAM_STATE: "gauge" "camring_stream_state", "", &["camera", "stream", "state"],
        "1 for the state that the stream is in, 0 for all others";
    STREAM_SINCE: "gauge" "camring_stream_state_since_timestamp", "seconds", STREAM,
        "When that state began, Unix time";
    STREAM_WIDTH: "gauge" "camring_stream_width", "pixels", STREAM,
        "Of the pictures; missing until known";
    STREAM_HEIGHT: "gauge" "camring_stream_height", "pixels", STREAM,
        "Of the pictures; missing until known";
    STREAM_RECEIVED: "counter" "camring_stream_received", "bytes", STREAM,
        "Access units received";
    STREAM_UNITS: "counter" "camring_stream_access_units", "", STREAM,
        "Access units received: pictures as the camera sends them";
    STREAM_DECODED: "counter" "camring_stream_frames_decoded", "", STREAM,
        "Pictures that came out of the decoder";
    STREAM_PUBLISHED: "counter" "camring_stream_frames_published", "", STREAM,
        "Frames that went into the ring";
    STREAM_DROPPED: "counter" "camring_stream_frames_dropped", "", &["camera", "stream", "reason"],
        "Pictures that did not become frames, or are hidden by default; reasons: status.md";
    STREAM_LOST: "counter" "camring_stream_rtp_packets_lost", "", STREAM,
        "RTP packets that never came";
    STREAM_GLITCHES: "counter" "camring_stream_glitches", "", STREAM,
        "Packets from the camera that were of no use";
    STREAM_RECONNECTS: "counter" "camring_stream_reconnects", "", STREAM,
        "RTSP sessions tried after a reader's first";
    STREAM_AGE: "gauge" "camring_stream_last_frame_age", "seconds", STREAM,
        "Since the last frame was published; missing until there was one";
    STREAM_LATENCY: "histogram" "camring_stream_latency", "seconds", STREAM,
        "From the arrival of a frame's last packet to its publication";
    STREAM_SUBSCRIBERS: "gauge" "camring_stream_subscribers", "", STREAM,
        "Subscriptions to its rings, those of views included";
    STREAM_RINGS: "gauge" "camring_stream_rings", "bytes", STREAM,
        "Size of its rings, as the limits count it";
    STREAM_DECODING: "gauge" "camring_stream_decoding", "", STREAM,
        "Whether pictures are decoded now; 0 while nobody looks, with mode on-demand";
    STREAM_MOVING: "gauge" "camring_stream_moving", "", STREAM,
        "Whether something moves; only with mode activity, and once that is known";
    STREAM_CLOCK: "gauge" "camring_stream_clock_from_camera", "", STREAM,
        "Whether capture times come from the camera (sender reports), not from arrival";
    STREAM_AUDIO: "counter" "camring_stream_audio_frames", "", STREAM,
        "Frames of sound kept for recording";
    STREAM_FALLBACKS: "counter" "camring_stream_hardware_fallbacks", "", STREAM,
        "Times that software took over decoding from hardware; the log says why";

    VIEW_PUBLISHED: "counter" "camring_view_frames_published", "", VIEW,
        "Frames that went into the view's ring";
    VIEW_DROPPED: "counter" "camring_view_frames_dropped", "", &["camera", "stream", "view", "reason"],
        "Pictures missing in the view's ring; reason: no_slot, no_memory, failed";
    VIEW_CONVERSIONS: "counter" "camring_view_conversions", "", VIEW,
        "Pictures converted";
    VIEW_CONVERTING: "counter" "camring_view_conversion", "seconds", VIEW,
        "What converting them took";
    VIEW_SUBSCRIBERS: "gauge" "camring_view_subscribers", "", VIEW,
        "Subscriptions to the view";
    VIEW_RING: "gauge" "camring_view_ring", "bytes", VIEW,
        "Size of the view's ring";

    RECORDING_STATE: "gauge" "camring_recording_state", "", &["camera", "stream", "state"],
        "1 for the state that the recording is in, 0 for all others; missing where nothing is recorded";
    RECORDING_SEGMENTS: "counter" "camring_recording_segments", "", STREAM,
        "Segments finished, all renditions together";
    RECORDING_WRITTEN: "counter" "camring_recording_written", "bytes", STREAM,
        "Bytes written";
    RECORDING_UNITS: "counter" "camring_recording_units_written", "", STREAM,
        "Access units (copy) or frames (encode) written";
    RECORDING_MISSED: "counter" "camring_recording_units_missed", "", STREAM,
        "Those that were gone before they could be written";
    RECORDING_GAPS: "counter" "camring_recording_gaps", "", STREAM,
        "Discontinuities written";
    RECORDING_ERRORS: "counter" "camring_recording_write_errors", "", STREAM,
        "Writes that the disk refused";
    RECORDING_AGE: "gauge" "camring_recording_last_segment_age", "seconds", STREAM,
        "Since the last segment was finished; missing until there was one";

    DISK_SIZE: "gauge" "camring_disk_size", "bytes", NONE,
        "Of the disk that the recordings are on";
    DISK_FREE: "gauge" "camring_disk_free", "bytes", NONE,
        "Of that, what the daemon may still use";
    RECORDINGS: "gauge" "camring_recordings", "bytes", NONE,
        "All recordings";
    RECORDINGS_PROTECTED: "gauge" "camring_recordings_protected", "bytes", NONE,
        "Of the recordings, what is protected from being deleted; counted once a minute";
    RECORDINGS_OLDEST: "gauge" "camring_recordings_oldest_timestamp", "seconds", &["camera"],
        "When the oldest recording of a camera began, Unix time";
    RETENTION_KEEP: "gauge" "camring_retention_keep", "seconds", NONE,
        "How long recordings are kept, as configured";
    RETENTION_MAX: "gauge" "camring_retention_max", "bytes", NONE,
        "How large recordings may get, as configured; missing where there is no limit";
    RETENTION_MIN_FREE: "gauge" "camring_retention_min_free", "bytes", NONE,
        "How much of the disk stays free, as configured";
    RETENTION_FILES: "counter" "camring_retention_deleted_files", "", &["reason"],
        "Minute files deleted; reason: age, size, free_space, request";
    RETENTION_BYTES: "counter" "camring_retention_deleted", "bytes", &["reason"],
        "The same in bytes";
    RETENTION_ERRORS: "counter" "camring_retention_errors", "", NONE,
        "What could not be deleted or looked at";
    RETENTION_PASSES: "counter" "camring_retention_passes", "", NONE,
        "Looks at the recordings";
    RETENTION_PASSED: "gauge" "camring_retention_last_pass_timestamp", "seconds", NONE,
        "When the last look was, Unix time";
    RETENTION_TROUBLE: "gauge" "camring_retention_trouble", "", NONE,
        "Whether a limit is not kept: nothing that may go is left, or it cannot be deleted";
    RETENTION_PAUSED: "gauge" "camring_retention_age_paused", "", NONE,
        "Whether nothing is deleted by age, because the clock is in doubt";
    INDEX_READY: "gauge" "camring_index_ready", "", NONE,
        "Whether all recordings have been read since the server started";
    INDEX_RENDITIONS: "gauge" "camring_index_renditions", "", NONE,
        "Recorded renditions of streams";

    HTTP_REQUESTS: "counter" "camring_http_requests", "", &["method", "route", "code"],
        "Answers given; route: as in http.md and api.md, with names in braces, or none";
    HTTP_DURATION: "histogram" "camring_http_request_duration", "seconds", &["route"],
        "From a request's head to its answer's head; waiting for a part of live video included";
    HTTP_RUNNING: "gauge" "camring_http_requests_in_progress", "", NONE,
        "Requests whose answer has not begun";
    HTTP_LISTENERS: "gauge" "camring_http_event_listeners", "", NONE,
        "Clients of GET /api/v1/events";
    HTTP_EXPIRES: "gauge" "camring_http_certificate_expiry_timestamp", "seconds", NONE,
        "When the certificate that is served expires, Unix time; missing without HTTPS";
    SCRAPE: "gauge" "camring_scrape_duration", "seconds", NONE,
        "What this answer took so far: asking the daemon, mostly";
    SELF_CPU: "counter" "process_cpu", "seconds", NONE,
        "CPU time of the server";
    SELF_RESIDENT: "gauge" "process_resident_memory", "bytes", NONE,
        "Resident memory of the server";
    SELF_STARTED: "gauge" "process_start_time", "seconds", NONE,
        "When the server started, Unix time";
    SELF_FDS: "gauge" "process_open_fds", "", NONE,
        "Descriptors that the server has open";
    SELF_MAX_FDS: "gauge" "process_max_fds", "", NONE,
        "How many it may have";
    SELF_THREADS: "gauge" "process_threads", "", NONE,
        "Threads of the server";
}
