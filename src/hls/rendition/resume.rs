//! Going on where a killed writer stopped: in the same segment of the same file, if the ring still has
//! what came next. A viewer sees nothing of it but a late part.
#![deny(unsafe_code)]

use std::time::Instant;

use super::{OpenFile, RenditionWriter, Sample, Segment, Track};
use crate::hls::pace::{Pace, PartLength};
use crate::hls::parameters::Sets;
use crate::media::FragmentMuxer;
use crate::recording::{FrameTime, InitId};

impl RenditionWriter {
    /// The last picture that a former writer committed, if its file can be gone on with.
    pub fn left_off(&self) -> Option<FrameTime> {
        self.tail.as_ref()?.last.frames.last().copied()
    }

    /// Goes on in the former writer's file: `last` is the picture that [`RenditionWriter::left_off`]
    /// told, and the next unit pushed the one after it. `sets`: of the group of pictures that it
    /// belongs to. False: these do not belong together, and a break it is.
    pub fn go_on(&mut self, last: &Sample, sets: Sets) -> bool {
        let Some(tail) = self.tail.take() else {
            return false;
        };
        let header = *tail.file.header();
        let same = |muxer: &FragmentMuxer| InitId::of(muxer.init()) == header.init;
        // With the sound that there is, or without, as that writer had it.
        let now = self.sound.wanted(Instant::now());
        let muxer = [now, None].into_iter().find_map(|sound| {
            let muxer = sets.muxer(sound).ok().filter(same)?;
            Some((muxer, sound))
        });
        let Some((muxer, sound)) = muxer else {
            self.tail = Some(tail);
            self.end_tail();
            return false;
        };
        let pictures = i64::try_from(tail.last.frames.len()).unwrap_or(1).max(1);
        let interval = i64::from(tail.last.duration) / pictures;
        self.pace = Pace::of(interval);
        let anchor = Sample {
            pts: header.anchor_time,
            capture_ns: header.anchor_utc_ns,
            ..*last
        };
        self.media_sequence = tail.last.media_sequence + 1;
        self.discontinuity_sequence = tail.name.discontinuity_sequence;
        self.number_used = true;
        self.newest_file = tail.name.media_sequence;
        self.segment = tail.open.then_some(Segment {
            media_sequence: tail.last.media_sequence,
            first_dts: tail.segment_start,
            part: tail.last.part + 1,
            // Those before are not counted: a recorder that died so often ends it by its length.
            bytes: 0,
            anchor,
        });
        self.file = Some(OpenFile {
            length: PartLength::new(super::ticks(self.cut.part), interval),
            slot: self.slot(&anchor),
            first_dts: tail.file_start,
            minute: tail.file,
        });
        self.track = Some(Track {
            sets,
            muxer,
            init: header.init,
            sound,
        });
        let end = tail.last.decode_time + i64::from(tail.last.duration);
        self.sound.go_on(end);
        self.newest = Some((last.dts, Instant::now()));
        // Between two segments only a key frame goes on.
        self.awaits_key = !tail.open;
        self.new_file = false;
        true
    }

    /// Ends what a former writer left open.
    pub fn end_tail(&mut self) {
        let Some(mut tail) = self.tail.take() else {
            return;
        };
        let ended = tail.file.end_segment().and_then(|()| tail.file.finish());
        if let Err(error) = ended {
            self.refused("end a former writer's file", &error);
        }
    }
}
