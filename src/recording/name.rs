//! Names of folders and files, made and read back. A name that was not made here is nobody's.
#![deny(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Of a minute file's media.
pub const DATA_ENDING: &str = "m4s";
/// Of its index.
pub const INDEX_ENDING: &str = "idx";

const START: &str = "%Y%m%dT%H%M%S.%3fZ";
const HOUR: &str = "%Y%m%dT%H";

/// The largest number of a segment or a break: 2^53, as many as JavaScript counts exactly, and more than ten
/// million years of segments. A file that claims a larger one was not written here; so numbers can be counted
/// on from any of ours without wrapping.
pub const MOST_NUMBER: u64 = 1 << 53;

/// Names an init segment by its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InitId(pub u64);

impl InitId {
    /// FNV-1a, 64 bits (<http://www.isthe.com/chongo/tech/comp/fnv/>): the same in every version of
    /// every program that will read the tree.
    pub fn of(init: &[u8]) -> Self {
        let hash = init.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(hash)
    }

    /// `init-0123456789abcdef.mp4`
    pub fn file_name(self) -> String {
        format!("init-{self}.mp4")
    }
}

impl fmt::Display for InitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for InitId {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != 16 || !text.bytes().all(lower) {
            return Err(());
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| ())
    }
}

/// What a minute file is called, without its ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileName {
    /// UTC of its first picture, in ms since the Unix epoch.
    pub start_ms: i64,
    /// Of its first segment: `EXT-X-MEDIA-SEQUENCE`. Rises by one with each segment of a rendition,
    /// for ever; names order files by it, since clocks are set.
    pub media_sequence: u64,
    /// `EXT-X-DISCONTINUITY-SEQUENCE`: how many breaks in media time came before.
    pub discontinuity_sequence: u64,
    /// What its chunks need before them.
    pub init: InitId,
}

impl FileName {
    /// The hour folder it lies in.
    pub fn hour(&self) -> String {
        hour_name(self.start_ms)
    }

    /// Its media file.
    pub fn data(&self) -> String {
        format!("{self}.{DATA_ENDING}")
    }

    /// Its index file.
    pub fn index(&self) -> String {
        format!("{self}.{INDEX_ENDING}")
    }

    /// From the name of either file.
    pub fn of_file(name: &str) -> Option<Self> {
        let stem = name
            .strip_suffix(INDEX_ENDING)
            .or_else(|| name.strip_suffix(DATA_ENDING))?;
        stem.strip_suffix('.')?.parse().ok()
    }
}

/// `20261121T08`: the hour that a moment lies in, UTC. A time out of range is the epoch's.
pub fn hour_name(unix_ms: i64) -> String {
    format_utc(HOUR, unix_ms)
}

fn format_utc(format: &str, unix_ms: i64) -> String {
    let time = Timestamp::from_millisecond(unix_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    time.to_zoned(TimeZone::UTC).strftime(format).to_string()
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = format_utc(START, self.start_ms);
        let Self {
            media_sequence,
            discontinuity_sequence,
            init,
            ..
        } = self;
        write!(
            f,
            "{start}-{media_sequence}-{discontinuity_sequence}-{init}"
        )
    }
}

impl FromStr for FileName {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut fields = text.split('-');
        let mut next = || fields.next().ok_or(());
        let (start, media, discontinuity, init) = (next()?, next()?, next()?, next()?);
        let start = jiff::fmt::strtime::parse("%Y%m%dT%H%M%S%.fZ", start)
            .and_then(|broken_down| broken_down.to_datetime())
            .and_then(|time| time.to_zoned(TimeZone::UTC))
            .map_err(|_| ())?;
        let name = Self {
            start_ms: start.timestamp().as_millisecond(),
            media_sequence: media.parse().map_err(|_| ())?,
            discontinuity_sequence: discontinuity.parse().map_err(|_| ())?,
            init: init.parse()?,
        };
        if name.media_sequence.max(name.discontinuity_sequence) > MOST_NUMBER {
            return Err(());
        }
        // One spelling only.
        match fields.next().is_none() && name.to_string() == text {
            true => Ok(name),
            false => Err(()),
        }
    }
}

/// The folder of a stream: `@` is in no name, so no two streams share one.
pub fn stream_folder(id: &str) -> String {
    // A camera may be called `..`: no folder of the tree begins with a dot.
    let folder = id.replace('/', "@");
    match folder.starts_with('.') {
        true => format!("@{folder}"),
        false => folder,
    }
}

/// The id of the stream whose folder this is.
pub fn stream_of(folder: &str) -> Option<String> {
    let name = match folder.strip_prefix("@.") {
        Some(rest) => format!(".{rest}"),
        None if folder.starts_with('.') => return None,
        None => folder.to_owned(),
    };
    let id = name.replacen('@', "/", 1);
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
    let whole = id.split('/').all(|part| !part.is_empty());
    let good = whole && id.len() <= 127 && id.bytes().all(known);
    (good && stream_folder(&id) == folder).then_some(id)
}
