//! The configuration exactly as written: which keys are there, of which type, and where.
//!
//! Reads TOML's syntax tree by itself instead of through `serde`, which stops at the first thing
//! it does not like: whoever edits a file wants to hear everything that is wrong with it. Says
//! nothing about meaning; that is `resolve.rs`.
//!
//! Every table is declared once, in `table!`: that declaration is the struct, the reader, the
//! list of allowed keys in messages, and what the tests hold `config.toml` and the reference
//! against.

mod types;

use std::ops::Range;

use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Problem, nearest};
pub use types::{
    DurationText, RawCount, RawCpu, RawRendition, RawRenditions, SizeText, TextList, Value,
};

/// A key's value.
#[derive(Clone, Debug)]
pub enum Field<T> {
    /// Not written.
    Absent,
    /// Written, but already complained about: not to be called missing on top of that.
    Invalid,
    /// Written, and of the right type.
    Set(Spanned<T>),
}

impl<T> Field<T> {
    pub fn set(&self) -> Option<&Spanned<T>> {
        match self {
            Field::Set(value) => Some(value),
            _ => None,
        }
    }

    pub fn is_absent(&self) -> bool {
        matches!(self, Field::Absent)
    }
}

/// One table while it is read.
pub struct Section<'t> {
    /// `ring`, `camera.stream`; empty at the top.
    path: String,
    /// Written with double brackets.
    list: bool,
    /// Where its header is.
    pub span: Range<usize>,
    /// The camera or stream it belongs to.
    pub camera: Option<String>,
    table: &'t DeTable<'t>,
}

impl<'t> Section<'t> {
    /// As people write it: `[ring]`, `[[camera]]`.
    fn name(&self) -> String {
        match (self.path.as_str(), self.list) {
            ("", _) => String::new(),
            (path, false) => format!("[{path}]"),
            (path, true) => format!("[[{path}]]"),
        }
    }

    fn below(&self, key: &str) -> String {
        match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }

    fn problem(&self, message: String, span: Range<usize>) -> Problem {
        Problem::new(message, span).camera(self.camera.as_deref())
    }

    fn get(&self, key: &str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.table.get(key)
    }

    fn field<T: Value>(&self, key: &'static str, problems: &mut Vec<Problem>) -> Field<T> {
        let Some(value) = self.get(key) else {
            return Field::Absent;
        };
        match T::read(value.get_ref()) {
            Some(read) => Field::Set(Spanned::new(value.span(), read)),
            None => {
                problems.push(
                    self.problem(format!("wrong type for `{key}`"), value.span())
                        .label(format!("must be {}", T::EXPECTED)),
                );
                Field::Invalid
            }
        }
    }

    fn sub<'s>(&'s self, key: &'static str, problems: &mut Vec<Problem>) -> Option<Section<'s>> {
        let value = self.get(key)?;
        match value.get_ref().as_table() {
            Some(table) => Some(Section {
                path: self.below(key),
                list: false,
                span: value.span(),
                camera: self.camera.clone(),
                table,
            }),
            None => {
                problems.push(
                    self.problem(format!("`{key}` must be a table"), value.span())
                        .label(format!(
                            "write [{}] on a line of its own, and its keys below",
                            self.below(key)
                        )),
                );
                None
            }
        }
    }

    /// The elements of `[[key]]`, and whether there are others that have been complained about.
    /// `None`: not written.
    fn subs<'s>(
        &'s self,
        key: &'static str,
        problems: &mut Vec<Problem>,
    ) -> Option<(Vec<Section<'s>>, bool)> {
        let value = self.get(key)?;
        let brackets = format!("write [[{}]], with double brackets", self.below(key));
        let Some(array) = value.get_ref().as_array() else {
            problems.push(
                self.problem(format!("`{key}` must be a list of tables"), value.span())
                    .label(brackets),
            );
            return Some((Vec::new(), true));
        };
        let mut sections = Vec::new();
        let mut faulty = false;
        for element in array.iter() {
            let Some(table) = element.get_ref().as_table() else {
                problems.push(
                    self.problem(format!("`{key}` must be a list of tables"), element.span())
                        .label(brackets.clone()),
                );
                faulty = true;
                continue;
            };
            sections.push(Section {
                path: self.below(key),
                list: true,
                span: element.span(),
                camera: self.camera.clone(),
                table,
            });
        }
        Some((sections, faulty))
    }

    /// Complains about every key that is not in `keys`; returns what they probably meant.
    fn unknown(&self, keys: &[&'static str], problems: &mut Vec<Problem>) -> Vec<&'static str> {
        let mut meant = Vec::new();
        let name = self.name();
        for (key, value) in self.table {
            let (text, span) = (key.get_ref().as_ref(), key.span());
            if keys.contains(&text) {
                continue;
            }
            let kind = if value.get_ref().is_table() {
                "table"
            } else {
                "key"
            };
            let place = if name.is_empty() {
                String::new()
            } else {
                format!(" in {name}")
            };
            let problem = self.problem(format!("unknown {kind} `{text}`{place}"), span);
            let label = if let Some(near) = nearest(text, keys) {
                meant.push(near);
                format!("did you mean `{near}`?")
            } else if let Some(home) = self.home(text) {
                format!("belongs in {home}")
            } else {
                format!("camring does not know this {kind}")
            };
            problems.push(problem.label(label).help(match name.as_str() {
                "" => format!("the tables are: {}", keys.join(", ")),
                name => format!("the keys of {name} are: {}", keys.join(", ")),
            }));
        }
        meant
    }

    /// The table, other than this one, that has such a key: one of the same camera if possible.
    fn home(&self, key: &str) -> Option<String> {
        let tables = ALL
            .iter()
            .filter(|(path, keys)| *path != self.path && keys.contains(&key));
        let names = tables
            .map(|(path, _)| *path)
            .filter(|path| !path.is_empty());
        let camera = self.path.starts_with("camera");
        let home = names.max_by_key(|path| path.starts_with("camera") == camera)?;
        Some(match home {
            "camera.view" if self.path.starts_with("camera.stream") => {
                "[[camera.stream.view]]".to_owned()
            }
            "camera" | "camera.stream" | "camera.view" | "http.user" | "http.token" => {
                format!("[[{home}]]")
            }
            "record" if camera && !RawStreamRecord::KEYS.contains(&key) => "[record]".to_owned(),
            "ring" | "decode" | "retry" | "record" | "network" if camera => {
                let end = if self.path.starts_with("camera.stream") {
                    13
                } else {
                    6
                };
                format!("[{}.{home}]", &self.path[..end])
            }
            _ => format!("[{home}]"),
        })
    }
}

/// Declares a table: its struct, its keys, its reader.
macro_rules! table {
    ($(#[$doc:meta])* $name:ident {
        $($key:ident: $type:ty,)*
        $(; $($sub:ident: $sub_type:ident,)*)?
        $(; [] $($list:ident: $list_type:ident,)*)?
    }) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name {
            /// Where its header is; empty when the table is not written.
            #[allow(clippy::allow_attributes, dead_code, reason = "not needed of every table")]
            pub span: Range<usize>,
            $(pub $key: Field<$type>,)*
            $($(pub $sub: $sub_type,)*)?
            $($(pub $list: Vec<$list_type>,)*)?
        }

        impl $name {
            pub const KEYS: &[&'static str] = &[
                $(stringify!($key),)*
                $($(stringify!($sub),)*)?
                $($(stringify!($list),)*)?
            ];

            #[allow(clippy::allow_attributes, unused_mut, reason = "not all tables have both")]
            pub(in crate::config) fn read(section: &Section<'_>, keys: &[&'static str], problems: &mut Vec<Problem>)
                -> Self
            {
                let mut raw = Self {
                    span: section.span.clone(),
                    $($key: section.field(stringify!($key), problems),)*
                    $($($sub: match section.sub(stringify!($sub), problems) {
                        Some(sub) => $sub_type::read(&sub, $sub_type::KEYS, problems),
                        None => $sub_type::default(),
                    },)*)?
                    $($($list: section.subs(stringify!($list), problems)
                        .map(|(sections, _)| sections)
                        .unwrap_or_default()
                        .iter()
                        .map(|each| $list_type::read(each, $list_type::KEYS, problems))
                        .collect(),)*)?
                };
                for meant in section.unknown(keys, problems) {
                    $(if meant == stringify!($key) && raw.$key.is_absent() {
                        raw.$key = Field::Invalid;
                    })*
                }
                raw
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    span: 0..0,
                    $($key: Field::Absent,)*
                    $($($sub: $sub_type::default(),)*)?
                    $($($list: Vec::new(),)*)?
                }
            }
        }
    };
}

// Below the macro, which it uses.
mod http;
pub use http::{RawHttp, RawTls, RawToken, RawUser};

table! {
    /// `[site]`
    RawSite {
        name: String,
        data_dir: String,
        runtime_dir: String,
    }
}

table! {
    /// `[ring]`, `[camera.ring]`, `[camera.stream.ring]`
    RawRing {
        depth: i64,
        pins: i64,
        packets: SizeText,
    }
}

table! {
    /// `[decode]`, `[camera.decode]`, `[camera.stream.decode]`
    RawDecode {
        mode: String,
        backend: String,
        threads: i64,
        max_fps: f64,
        smallest_motion: f64,
    }
}

table! {
    /// `[limits]`
    RawLimits {
        max_processes: i64,
        memory_per_camera: SizeText,
        memory_total: SizeText,
    }
}

table! {
    /// `[retry]`, `[camera.retry]`, `[camera.stream.retry]`
    RawRetry {
        initial: DurationText,
        max: DurationText,
        stable_after: DurationText,
        unauthorized: DurationText,
        connect_timeout: DurationText,
        first_frame_timeout: DurationText,
        stall_timeout: DurationText,
        decode_timeout: DurationText,
    }
}

table! {
    /// `[network]`, `[camera.network]`, `[camera.stream.network]`
    RawNetwork {
        dscp: i64,
        receive_buffer: SizeText,
    }
}

table! {
    /// `[log]`
    RawLog {
        format: String,
    }
}

table! {
    /// `[sandbox]`
    RawSandbox {
        enabled: String,
        on_violation: String,
    }
}

table! {
    /// `[record]`
    RawRecord {
        mode: String,
        segment: DurationText,
        part: DurationText,
        audio: bool,
        renditions: RawRenditions,
        keep: DurationText,
        max_size: SizeText,
        min_free: SizeText,
        max_encoders: RawCount,
    }
}

table! {
    /// `[camera.record]`, `[camera.stream.record]`: the keys of `[record]` that a stream can have
    RawStreamRecord {
        mode: String,
        segment: DurationText,
        part: DurationText,
        audio: bool,
        renditions: RawRenditions,
    }
}

table! {
    /// `[[camera.view]]`, `[[camera.stream.view]]`
    RawView {
        name: String,
        width: i64,
        height: i64,
        format: String,
        fps: f64,
        fit: String,
    }
}

table! {
    /// `[[camera.stream]]`, and all of `[[camera]]` but its streams
    RawStream {
        name: String,
        url: String,
        username: String,
        password: String,
        transport: String,
        client: String,
        tls_verify: bool,
        cpu: RawCpu,
        enabled: bool,
        memory: SizeText,
        ;
        ring: RawRing,
        decode: RawDecode,
        retry: RawRetry,
        record: RawStreamRecord,
        network: RawNetwork,
        ; []
        view: RawView,
    }
}

/// `[[camera]]`
#[derive(Clone, Debug)]
pub struct RawCamera {
    pub own: RawStream,
    /// `None`: `stream` is not written. Empty only if `faulty` or written as `[]`.
    pub streams: Option<Vec<RawStream>>,
    /// Something that is not a stream has been complained about.
    pub faulty: bool,
}

/// The whole file.
#[derive(Clone, Debug, Default)]
pub struct RawConfig {
    pub site: RawSite,
    pub ring: RawRing,
    pub decode: RawDecode,
    pub limits: RawLimits,
    pub retry: RawRetry,
    pub network: RawNetwork,
    pub http: RawHttp,
    pub log: RawLog,
    pub sandbox: RawSandbox,
    pub record: RawRecord,
    pub cameras: Vec<RawCamera>,
}

const TOP: &[&str] = &[
    "site", "ring", "decode", "limits", "retry", "network", "http", "log", "sandbox", "record",
    "camera",
];
const CAMERA: &[&str] = &[
    "name",
    "url",
    "username",
    "password",
    "transport",
    "client",
    "tls_verify",
    "cpu",
    "enabled",
    "memory",
    "ring",
    "decode",
    "retry",
    "record",
    "network",
    "view",
    "stream",
];

/// The path of every table, and its keys.
pub const ALL: &[(&str, &[&str])] = &[
    ("", TOP),
    ("site", RawSite::KEYS),
    ("http", RawHttp::KEYS),
    ("log", RawLog::KEYS),
    ("http.tls", RawTls::KEYS),
    ("http.user", RawUser::KEYS),
    ("http.token", RawToken::KEYS),
    ("sandbox", RawSandbox::KEYS),
    ("record", RawRecord::KEYS),
    ("ring", RawRing::KEYS),
    ("decode", RawDecode::KEYS),
    ("limits", RawLimits::KEYS),
    ("retry", RawRetry::KEYS),
    ("network", RawNetwork::KEYS),
    ("camera", CAMERA),
    ("camera.stream", RawStream::KEYS),
    ("camera.view", RawView::KEYS),
];

impl RawConfig {
    /// Reads the syntax tree; what is wrong with it goes to `problems`.
    pub fn read(table: &DeTable<'_>, problems: &mut Vec<Problem>) -> Self {
        let top = Section {
            path: String::new(),
            list: false,
            span: 0..0,
            camera: None,
            table,
        };
        top.unknown(TOP, problems);
        macro_rules! read {
            ($type:ident, $key:literal) => {
                match top.sub($key, problems) {
                    Some(section) => $type::read(&section, $type::KEYS, problems),
                    None => $type::default(),
                }
            };
        }
        Self {
            site: read!(RawSite, "site"),
            ring: read!(RawRing, "ring"),
            decode: read!(RawDecode, "decode"),
            limits: read!(RawLimits, "limits"),
            retry: read!(RawRetry, "retry"),
            network: read!(RawNetwork, "network"),
            http: read!(RawHttp, "http"),
            log: read!(RawLog, "log"),
            sandbox: read!(RawSandbox, "sandbox"),
            record: read!(RawRecord, "record"),
            cameras: top
                .subs("camera", problems)
                .map(|(sections, _)| sections)
                .unwrap_or_default()
                .into_iter()
                .map(|section| RawCamera::read(section, problems))
                .collect(),
        }
    }
}

impl RawCamera {
    fn read(mut section: Section<'_>, problems: &mut Vec<Problem>) -> Self {
        section.camera = section
            .get("name")
            .and_then(|name| String::read(name.get_ref()));
        let own = RawStream::read(&section, CAMERA, problems);
        let streams = section.subs("stream", problems);
        let faulty = streams.as_ref().is_some_and(|(_, faulty)| *faulty);
        let streams = streams.map(|(streams, _)| {
            streams
                .into_iter()
                .map(|mut stream| {
                    let name = stream
                        .get("name")
                        .and_then(|name| String::read(name.get_ref()));
                    stream.camera = match (stream.camera, name) {
                        (Some(camera), Some(name)) => Some(format!("{camera}/{name}")),
                        (camera, _) => camera,
                    };
                    RawStream::read(&stream, RawStream::KEYS, problems)
                })
                .collect()
        });
        Self {
            own,
            streams,
            faulty,
        }
    }
}
