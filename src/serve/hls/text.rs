//! Numbers and texts as playlists write them. A day has 43,200 segments: no formatting machinery here.
#![deny(unsafe_code)]

/// Appends a whole number.
pub fn number(out: &mut String, mut value: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend(digits[at..].iter().map(|digit| char::from(*digit)));
}

/// Appends seconds with five decimals, rounded.
pub fn seconds(out: &mut String, ticks: u64, timescale: u32) {
    let timescale = u128::from(timescale.max(1));
    let units = (u128::from(ticks) * 100_000 + timescale / 2) / timescale;
    let units = u64::try_from(units).unwrap_or(u64::MAX);
    number(out, units / 100_000);
    out.push('.');
    let decimals = units % 100_000;
    let mut place = 10_000;
    while place > 0 {
        out.push(char::from(b'0' + (decimals / place % 10) as u8));
        place /= 10;
    }
}

/// Appends the content of a quoted string: what cannot stand in one is left out (RFC 8216, 4.2).
pub fn quoted(out: &mut String, text: &str) {
    out.push('"');
    let fits = |char: &char| *char != '"' && !char.is_control();
    out.extend(text.chars().filter(fits));
    out.push('"');
}

/// Splits Unix ns into what dates are written from, and writes `2026-11-21T08:15:00.123456Z`; six
/// decimals are below any picture's length. Times before 1970 are 1970.
pub fn date(out: &mut String, unix_ns: i64) {
    let micros = u64::try_from(unix_ns.saturating_add(500) / 1000).unwrap_or(0);
    let (secs, micros) = (micros / 1_000_000, micros % 1_000_000);
    let (days, in_day) = (secs / 86_400, secs % 86_400);
    // Howard Hinnant, "chrono-compatible low-level date algorithms": civil_from_days.
    let z = days + 719_468;
    let era = z / 146_097;
    let doe = z % 146_097;
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + u64::from(month <= 2);
    let two = |out: &mut String, value: u64, behind: char| {
        out.push(char::from(b'0' + (value / 10 % 10) as u8));
        out.push(char::from(b'0' + (value % 10) as u8));
        out.push(behind);
    };
    number(out, year);
    out.push('-');
    two(out, month, '-');
    two(out, day, 'T');
    two(out, in_day / 3600, ':');
    two(out, in_day / 60 % 60, ':');
    two(out, in_day % 60, '.');
    two(out, micros / 10_000, ' ');
    out.pop();
    two(out, micros / 100, ' ');
    out.pop();
    two(out, micros, 'Z');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(with: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        with(&mut out);
        out
    }

    #[test]
    fn numbers_and_seconds() {
        for value in [0, 7, 10, 43_200, u64::MAX] {
            assert_eq!(write(|out| number(out, value)), value.to_string());
        }
        for (ticks, text) in [
            (180_000, "2.00000"),
            (90_045, "1.00050"),
            (1, "0.00001"),
            (0, "0.00000"),
        ] {
            assert_eq!(write(|out| seconds(out, ticks, 90_000)), text);
        }
        assert_eq!(write(|out| seconds(out, 1, 3)), "0.33333");
        assert_eq!(write(|out| seconds(out, 2, 3)), "0.66667");
        assert_eq!(write(|out| quoted(out, "a \"b\"\r\n,c")), "\"a b,c\"");
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for text in [
            "1970-01-01T00:00:00.000000Z",
            "2000-02-29T23:59:59.999999Z",
            "2024-12-31T12:34:56.123456Z",
            "2026-11-21T08:15:00.000001Z",
            "2100-03-01T00:00:00.500000Z",
            "2261-12-31T23:59:59.000000Z",
        ] {
            let time: jiff::Timestamp = text.parse().unwrap();
            let ns = i64::try_from(time.as_nanosecond()).unwrap();
            assert_eq!(write(|out| date(out, ns)), text);
        }
        assert_eq!(write(|out| date(out, -5)), "1970-01-01T00:00:00.000000Z");
        write(|out| date(out, i64::MAX));
    }
}
