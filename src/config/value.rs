//! Values that are written as text: durations, sizes, names, references to secrets.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use jiff::{SignedDuration, Span, SpanRelativeTo};

/// `"1m 30s"`, `"500ms"`, `"7d"`: a day has 24 hours. `None`: not a duration, or a negative one.
pub fn duration(text: &str) -> Option<Duration> {
    // A number alone says nothing about its unit, and so is none.
    let text = text.trim();
    let duration = text.parse::<SignedDuration>().or_else(|_| {
        let span: Span = text.parse()?;
        span.to_duration(SpanRelativeTo::days_are_24_hours())
    });
    Duration::try_from(duration.ok()?).ok()
}

/// `"2M"`, `"800k"`, `"1.5M"`, `"2000000"`: bits per second, with the decimal prefixes of encoders.
/// `None`: not one.
pub fn bitrate(text: &str) -> Option<u64> {
    let text = text.trim();
    let (number, unit) = match text.chars().last()? {
        'k' | 'K' => (&text[..text.len() - 1], 1e3),
        'm' | 'M' => (&text[..text.len() - 1], 1e6),
        _ => (text, 1.0),
    };
    let digits = |c: char| c.is_ascii_digit() || c == '.';
    if number.is_empty() || !number.chars().all(digits) {
        return None;
    }
    let bits = number.parse::<f64>().ok()? * unit;
    (bits.is_finite() && bits < 1e15).then_some(bits.round() as u64)
}

/// The way that bitrates are written in the configuration.
pub fn show_bitrate(bits: u64) -> String {
    for (unit, letter) in [(1_000_000, 'M'), (1000, 'k')] {
        if bits >= unit && bits.is_multiple_of(unit) {
            return format!("{}{letter}", bits / unit);
        }
    }
    bits.to_string()
}

/// The way that durations are written in the configuration.
pub fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0 => "0s".to_owned(),
        _ if millis.is_multiple_of(3_600_000) => format!("{}h", millis / 3_600_000),
        _ if millis.is_multiple_of(60_000) => format!("{}m", millis / 60_000),
        _ if millis.is_multiple_of(1000) => format!("{}s", millis / 1000),
        _ => format!("{millis}ms"),
    }
}

/// `"8MiB"`, `"2 GB"`, `"1048576"`, in bytes. `None`: not a size.
pub fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    // `ByteSize` cuts what does not fit into 64 bits, and takes `1.2.3`.
    let number = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let number: f64 = text[..number].parse().ok()?;
    let size = text.parse::<ByteSize>().ok()?.as_u64();
    (number.is_finite() && size < u64::MAX).then_some(size)
}

/// `512 MiB`; exact figures in bytes when they are small or odd.
pub fn show_size(bytes: u64) -> String {
    for (unit, name) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if bytes >= unit {
            let tenths = (u128::from(bytes) * 10 + u128::from(unit) / 2) / u128::from(unit);
            return match tenths % 10 {
                0 => format!("{} {name}", tenths / 10),
                tenth => format!("{}.{tenth} {name}", tenths / 10),
            };
        }
    }
    format!("{bytes} bytes")
}

/// The longest name of a camera or stream: both together and a `/` fit into the 128 bytes that
/// an attach request has for them.
pub const LONGEST_NAME: usize = 63;

/// What is wrong with the name of a camera or stream.
pub fn name_fault(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("is empty".to_owned());
    }
    if name.len() > LONGEST_NAME {
        return Some(format!(
            "has {} characters, the most is {LONGEST_NAME}",
            name.chars().count()
        ));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if let Some(bad) = name.chars().find(|c| !allowed(*c)) {
        return Some(format!(
            "has {bad:?} in it: letters A-Z a-z, digits, `.`, `_`, `-` are allowed"
        ));
    }
    // Names become names of folders, and arguments of commands.
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Some("must begin with a letter or digit".to_owned());
    }
    None
}

/// Looks up an environment variable.
pub type Variables = Box<dyn Fn(&str) -> Option<OsString>>;

/// Where values outside of the file come from: given, so that tests need not touch the process.
pub struct Environment {
    /// An environment variable.
    pub variable: Variables,
    /// `$CREDENTIALS_DIRECTORY`, which systemd sets for a service that has credentials.
    pub credentials: Option<PathBuf>,
    /// What stands in for credentials, for whoever has none or is to see none.
    pub stand_in: Option<&'static str>,
    /// The cores that this process may use, ascending. Empty: not known, all are accepted.
    pub cores: Vec<u32>,
}

impl Environment {
    /// One in which there is nothing, and all cores are accepted.
    pub fn empty() -> Self {
        Self {
            variable: Box::new(|_| None),
            credentials: None,
            stand_in: None,
            cores: Vec::new(),
        }
    }

    /// The environment of this process.
    pub fn of_process() -> Self {
        Self {
            variable: Box::new(|name| std::env::var_os(name)),
            credentials: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
            stand_in: None,
            cores: crate::sys::cpu::allowed().unwrap_or_default(),
        }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("cores", &self.cores)
            .finish_non_exhaustive()
    }
}

/// Why a reference could not be followed. Never holds what it refers to.
#[derive(Debug, PartialEq)]
pub struct ReferenceFault {
    /// As written: `${NAME}`.
    pub reference: String,
    /// What is the matter.
    pub fault: String,
    /// What to do.
    pub help: Option<String>,
}

/// Percent-encodes everything but the unreserved characters of RFC 3986 section 2.3.
fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// RFC 3986 section 2.1; a `%` without two hexadecimal digits stands for itself. `None`: the
/// result is not UTF-8.
pub fn percent_decode(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let hex = |at: usize| {
        bytes
            .get(at)
            .and_then(|byte| char::from(*byte).to_digit(16))
    };
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).ok()
}

/// Replaces `${NAME}` and `${credential:NAME}`; `$${` stands for `${`.
pub fn expand(text: &str, environment: &Environment) -> Result<String, ReferenceFault> {
    substitute(text, environment, |_, value| value)
}

/// As [`expand`], for a URL: what stands before the `@` or behind a `?` is percent-encoded, so that
/// a password with an `@` or `/` in it is still a password. Host and path are taken as they are.
pub fn expand_url(text: &str, environment: &Environment) -> Result<String, ReferenceFault> {
    let authority = text.find("://").map_or(0, |i| i + 3);
    let end = text[authority..]
        .find(['/', '?', '#'])
        .map_or(text.len(), |i| authority + i);
    let user_info = text[authority..end]
        .rfind('@')
        .map_or(0..0, |i| authority..authority + i);
    let query = text.find('?');
    substitute(text, environment, |at, value| {
        if user_info.contains(&at) || query.is_some_and(|query| at > query) {
            percent_encode(&value)
        } else {
            value
        }
    })
}

fn substitute(
    text: &str,
    environment: &Environment,
    encode: impl Fn(usize, String) -> String,
) -> Result<String, ReferenceFault> {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(open) = text[at..].find("${").map(|i| at + i) {
        if text[at..open].ends_with('$') {
            out.push_str(&text[at..open]);
            out.push('{');
            at = open + 2;
            continue;
        }
        out.push_str(&text[at..open]);
        let Some(close) = text[open..].find('}').map(|i| open + i) else {
            return Err(ReferenceFault {
                reference: "${".to_owned(),
                fault: "`${` without `}`".to_owned(),
                help: Some("a password with `${` in it is written with `$${`".to_owned()),
            });
        };
        out.push_str(&encode(
            open,
            value_of(&text[open + 2..close], environment)?,
        ));
        at = close + 1;
    }
    out.push_str(&text[at..]);
    Ok(out)
}

fn value_of(name: &str, environment: &Environment) -> Result<String, ReferenceFault> {
    let fault = |fault: String, help: Option<String>| ReferenceFault {
        reference: format!("${{{name}}}"),
        fault,
        help,
    };
    let name_is = |name: &str, more: &str| {
        !name.is_empty()
            && !name.starts_with('.')
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    if let Some(credential) = name.strip_prefix("credential:") {
        if !name_is(credential, "._-") {
            return Err(ReferenceFault {
                reference: "${credential:".to_owned(),
                fault: "not the name of a credential".to_owned(),
                help: Some("names have letters, digits, `.`, `_` and `-`".to_owned()),
            });
        }
        if let Some(stand_in) = environment.stand_in {
            return Ok(stand_in.to_owned());
        }
        let Some(folder) = &environment.credentials else {
            return Err(fault(
                "there are no credentials: CREDENTIALS_DIRECTORY is not set".to_owned(),
                Some(format!(
                    "systemd sets it for a unit with `LoadCredential={credential}:/path/to/file`"
                )),
            ));
        };
        let path = folder.join(credential);
        // A password, not a file of any size.
        let read = std::fs::File::open(&path).and_then(|file| {
            use std::io::Read as _;
            let mut text = String::new();
            file.take(4096).read_to_string(&mut text).map(|_| text)
        });
        let text = match read {
            Ok(text) => text,
            Err(error) => {
                let help = (error.kind() == std::io::ErrorKind::NotFound).then(|| {
                    format!("add `LoadCredential={credential}:/path/to/file` to the unit")
                });
                let why = super::error::plain(&error);
                let text = format!(
                    "no credential `{credential}` in {}: {why}",
                    folder.display()
                );
                return Err(fault(text, help));
            }
        };
        let text = text.trim_end_matches(['\r', '\n']);
        return match text.is_empty() {
            true => Err(fault(
                format!("the credential `{credential}` is empty"),
                None,
            )),
            false => Ok(text.to_owned()),
        };
    }
    if !name_is(name, "_") || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(ReferenceFault {
            reference: "${".to_owned(),
            fault: "not the name of an environment variable".to_owned(),
            help: Some(
                "write ${NAME}, ${credential:NAME}, or `$${` for a password with `${` in it"
                    .to_owned(),
            ),
        });
    }
    match (environment.variable)(name).map(OsString::into_string) {
        None => Err(fault(
            format!("the environment variable `{name}` is not set"),
            Some(format!(
                "set it with `export {name}=…`, or in the unit with `EnvironmentFile=`"
            )),
        )),
        Some(Err(_)) => Err(fault(
            format!("the environment variable `{name}` is not UTF-8"),
            None,
        )),
        Some(Ok(value)) if value.is_empty() => Err(fault(
            format!("the environment variable `{name}` is empty"),
            None,
        )),
        Some(Ok(value)) => Ok(value),
    }
}
