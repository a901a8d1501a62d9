//! Moments as they are written in requests and answers: RFC 3339, or Unix seconds with decimals.
//!
//! Promises: exact to the nanosecond where the text is; nothing outside 1970 to 2262 gets in.
#![deny(unsafe_code)]

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;

/// As Unix seconds: 2255. RFC 3339 reaches to 2262.
pub const MAX_SECONDS: i64 = 9_000_000_000;

/// UTC in ns since the Unix epoch, read from RFC 3339 or from Unix seconds with decimals.
///
/// # Errors
/// What is wrong with the text, for people.
pub fn parse(text: &str) -> Result<i64, String> {
    let number = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    if number && !text.is_empty() {
        return seconds(text).ok_or_else(|| wrong(text));
    }
    // 1.7952489e9: as other programs may write a number.
    if let Ok(number) = text.parse::<f64>() {
        return from_seconds(number);
    }
    let time: Timestamp = text.parse().map_err(|_| match text.split_once(' ') {
        // A query's `+` is a blank.
        Some(_) => format!("{}; write + as %2B in a query", wrong(text)),
        None => wrong(text),
    })?;
    in_range(time.as_nanosecond()).ok_or_else(|| out_of_range(text))
}

/// UTC in ns since the Unix epoch, of Unix seconds: as exact as the number is, which is 0.2 µs.
///
/// # Errors
/// It is none, or out of range.
pub fn from_seconds(seconds: f64) -> Result<i64, String> {
    let ns = seconds * 1e9;
    match (0.0..=MAX_SECONDS as f64).contains(&seconds) {
        true => Ok(ns.round() as i64),
        false => Err(out_of_range(&seconds.to_string())),
    }
}

/// `2026-11-21T08:15:00.123456789Z`
pub fn rfc3339(unix_ns: i64) -> String {
    const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(9));
    let time = Timestamp::from_nanosecond(unix_ns.into()).unwrap_or(Timestamp::UNIX_EPOCH);
    PRINTER.timestamp_to_string(&time)
}

/// `2026-11-21T08:15:00.123Z`
pub fn rfc3339_ms(unix_ms: i64) -> String {
    const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(3));
    let time = Timestamp::from_millisecond(unix_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    PRINTER.timestamp_to_string(&time)
}

fn in_range(ns: i128) -> Option<i64> {
    i64::try_from(ns).ok().filter(|ns| *ns >= 0)
}

fn seconds(text: &str) -> Option<i64> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    if whole.is_empty() || decimals.is_empty() || decimals.contains('.') || whole.len() > 10 {
        return None;
    }
    let nine: String = decimals
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    let whole = (whole.parse::<i64>().ok()).filter(|whole| *whole <= MAX_SECONDS)?;
    let ns = whole * 1_000_000_000;
    let all = ns + nine.parse::<i64>().ok()?;
    (all <= MAX_SECONDS * 1_000_000_000).then_some(all)
}

fn wrong(text: &str) -> String {
    let shown: String = text.chars().take(64).collect();
    format!(
        "{shown:?} is no time: write RFC 3339 (2026-11-21T08:15:00.123Z) or Unix seconds (1795248900.123)"
    )
}

fn out_of_range(text: &str) -> String {
    let shown: String = text.chars().take(64).collect();
    format!("{shown} is out of range: times are from 1970 to 2262")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_exactly_and_written_back() {
        const NS: i64 = 1_795_248_900_123_456_789;
        for text in [
            "2026-11-21T08:15:00.123456789Z",
            "2026-11-21T09:15:00.123456789+01:00",
            "1795248900.123456789",
            "1795248900.1234567899999",
        ] {
            assert_eq!(parse(text), Ok(NS), "{text}");
        }
        assert_eq!(rfc3339(NS), "2026-11-21T08:15:00.123456789Z");
        assert_eq!(rfc3339_ms(NS / 1_000_000), "2026-11-21T08:15:00.123Z");
        assert_eq!(parse("0"), Ok(0));
        assert_eq!(parse("1.5e9"), Ok(1_500_000_000_000_000_000));
        assert_eq!(parse(&rfc3339(i64::MAX)), Ok(i64::MAX));
        let near = from_seconds(1_795_248_900.123_456_8).unwrap();
        assert!((near - NS).abs() < 500, "{near}");
    }

    #[test]
    fn what_is_no_time_says_what_is() {
        for text in [
            "",
            ".",
            "1.",
            ".5",
            "1.2.3",
            "-5",
            "1e99",
            "now",
            "NaN",
            "2026-13-01T00:00:00Z",
            "2026-11-21",
            "2026-11-21T08:15:00",
            "0001-01-01T00:00:00Z",
            "9999-01-01T00:00:00Z",
            "99999999999999999999",
            "9999999999.5",
            "9000000000.1",
            "1969-12-31T23:59:59Z",
        ] {
            assert!(parse(text).is_err(), "{text}: {:?}", parse(text));
        }
        for seconds in [f64::NAN, f64::INFINITY, -1.0, 1e300] {
            assert!(from_seconds(seconds).is_err(), "{seconds}");
        }
        let hint = parse("2026-11-21T09:15:00 01:00").unwrap_err();
        assert!(hint.contains("%2B"), "{hint}");
        assert!(parse(&"9".repeat(100_000)).unwrap_err().len() < 300);
    }
}
