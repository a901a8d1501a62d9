use std::sync::Arc;

use super::playlist::{DateRange, Kind, Playlist, first_in_reach};
use crate::recording::{FileName, Header, InitId};
use crate::serve::index::{Minute, Segment};

const UTC_NS: i64 = 1_795_248_900_000_000_000;

/// A file of 2 s segments whose first picture is so many seconds after the beginning.
fn minute(first: u64, segments: u64, discontinuity: u64) -> Arc<Minute> {
    let begin = i64::try_from(first).unwrap() * 180_000;
    let header = Header {
        timescale: 90_000,
        sender_report: true,
        media_sequence: first,
        discontinuity_sequence: discontinuity,
        init: InitId(1),
        anchor_time: 0,
        anchor_utc_ns: UTC_NS,
        part_target_us: 200_000,
        segment_target_us: 2_000_000,
    };
    let segment = |n: u64| Segment {
        len: 1000,
        time: begin + i64::try_from(n).unwrap() * 180_000,
        duration: 180_000,
        frames: 50,
        parts: 10,
        flags: Segment::INDEPENDENT,
        ..Segment::default()
    };
    Arc::new(Minute {
        name: FileName {
            start_ms: header.utc_ns(begin) / 1_000_000,
            media_sequence: first,
            discontinuity_sequence: discontinuity,
            init: header.init,
        },
        header,
        segments: (0..segments).map(segment).collect(),
        open: false,
        gone: false,
        index_len: 0,
    })
}

fn list<'a>(kind: Kind, minutes: &'a [Arc<Minute>], ranges: &'a [DateRange]) -> Playlist<'a> {
    Playlist {
        kind,
        target: 4,
        minutes,
        edge: None,
        first: minutes[0].first(),
        skipped: 0,
        discontinuities: None,
        start_ns: None,
        until_ns: None,
        ranges,
        reports: &[],
    }
}

#[test]
fn a_range_is_written_to_the_letter() {
    let minutes = [minute(3, 2, 0), minute(5, 1, 2)];
    let ranges = [DateRange {
        id: "m1".into(),
        start_ns: UTC_NS + 6_040_000_000,
        end_ns: Some(UTC_NS + 7_540_000_000),
        label: "a \"red\"\ncar".into(),
        score: Some(0.875),
        area: Some([0.0, 0.25, 0.5, 1.0]),
    }];
    let expected = "\
#EXTM3U
#EXT-X-VERSION:9
#EXT-X-TARGETDURATION:4
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-PLAYLIST-TYPE:VOD
#EXT-X-DATERANGE:ID=\"m1\",CLASS=\"camring.marker\",START-DATE=\"2026-11-21T08:15:06.040000Z\",\
DURATION=1.50000,X-LABEL=\"a redcar\",X-SCORE=0.8750,X-BOX=\"0.00000,0.25000,0.50000,1.00000\"
#EXT-X-MAP:URI=\"init-0000000000000001.mp4\"
#EXT-X-PROGRAM-DATE-TIME:2026-11-21T08:15:06.000000Z
#EXTINF:2.00000,
s/3.m4s
#EXTINF:2.00000,
s/4.m4s
#EXT-X-DISCONTINUITY
#EXT-X-DISCONTINUITY
#EXT-X-PROGRAM-DATE-TIME:2026-11-21T08:15:10.000000Z
#EXTINF:2.00000,
s/5.m4s
#EXT-X-ENDLIST
";
    assert_eq!(
        list(Kind::Vod, &minutes, &ranges).render().unwrap(),
        expected
    );
}

#[test]
fn numbers_that_nobody_knows_of_are_gaps_live_and_a_break_in_a_range() {
    let minutes = [minute(0, 2, 0), minute(5, 1, 0)];
    let live = list(Kind::Live, &minutes, &[]).render().unwrap();
    assert_eq!(
        live.matches("#EXT-X-GAP\n#EXTINF:4.00000,\ns/").count(),
        3,
        "{live}"
    );
    assert_eq!(live.matches("#EXT-X-DISCONTINUITY\n").count(), 0, "{live}");
    let range = list(Kind::Vod, &minutes, &[]).render().unwrap();
    assert_eq!(
        range.matches("#EXT-X-DISCONTINUITY\n").count(),
        1,
        "{range}"
    );
    assert!(!range.contains("GAP"), "{range}");
    // Too many to be written down: the list begins behind them.
    let far = [minute(0, 2, 0), minute(1 << 40, 2, 0)];
    assert_eq!(first_in_reach(&far, 0), 1 << 40);
    assert_eq!(first_in_reach(&minutes, 0), 0);
}

#[test]
fn an_update_begins_where_the_client_stands() {
    let minutes = [minute(0, 4, 7), minute(4, 4, 8)];
    for (skipped, breaks) in [(3, 1), (4, 1), (5, 0)] {
        let update = Playlist {
            skipped,
            discontinuities: Some(7),
            ..list(Kind::Live, &minutes, &[])
        };
        let text = update.render().unwrap();
        assert!(
            text.contains(&format!("#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}\n")),
            "{text}"
        );
        assert!(text.contains("#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-DISCONTINUITY-SEQUENCE:7\n"));
        assert_eq!(
            text.matches("#EXT-X-DISCONTINUITY\n").count(),
            breaks,
            "{text}"
        );
        assert_eq!(text.matches("#EXTINF").count(), 8 - skipped as usize);
    }
}

#[test]
fn a_file_that_is_gone_is_a_gap_of_the_same_length() {
    let gone = Minute {
        gone: true,
        ..Minute::clone(&minute(2, 2, 0))
    };
    let minutes = [minute(0, 2, 0), Arc::new(gone), minute(4, 2, 0)];
    let live = list(Kind::Live, &minutes, &[]).render().unwrap();
    assert_eq!(
        live.matches("#EXT-X-GAP\n#EXTINF:2.00000,").count(),
        2,
        "{live}"
    );
    assert_eq!(live.matches("#EXTINF").count(), 6, "{live}");
}
