//! What RTCP says of a camera's clock. Camera text and numbers: nothing here panics.

use ::retina::rtcp::ReceivedCompoundPacket;

use crate::reader::source::{SenderReport, monotonic_ns, utc_ns};

/// What a compound packet of RTCP says of the camera's clock.
pub(super) fn sender_report(compound: &ReceivedCompoundPacket) -> Option<SenderReport> {
    let report = compound
        .pkts()
        .next()
        .and_then(|p| p.as_sender_report().ok().flatten())?;
    Some(SenderReport {
        ntp_utc_ns: ntp_to_utc_ns(report.ntp_timestamp().0),
        rtp_time: compound.rtp_timestamp()?.timestamp(),
        arrival_ns: monotonic_ns(),
        arrival_utc_ns: utc_ns(),
    })
}

/// NTP (32.32 fixed point, s since 1900, RFC 5905 § 6) to ns since the Unix epoch. Eras are
/// chosen so that the result lies between 1970 and 2106.
fn ntp_to_utc_ns(ntp: u64) -> i64 {
    let since_epoch = ntp.wrapping_sub(::retina::UNIX_EPOCH.0);
    let seconds = since_epoch >> 32;
    let fraction_ns = ((since_epoch & 0xffff_ffff) * 1_000_000_000) >> 32;
    // At most 2^32 s: fits by far.
    i64::try_from(seconds * 1_000_000_000 + fraction_ns).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ntp_times() {
        assert_eq!(ntp_to_utc_ns(2_208_988_800 << 32), 0);
        assert_eq!(
            ntp_to_utc_ns(((2_208_988_800 + 1_700_000_000) << 32) | (1 << 31)),
            1_700_000_000_500_000_000
        );
        // Era 1 begins on 2036-02-07; a camera without a clock sends 0.
        assert_eq!(ntp_to_utc_ns(0), 2_085_978_496_000_000_000);
        assert!(ntp_to_utc_ns(u64::MAX) > 0);
    }
}
