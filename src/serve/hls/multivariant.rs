//! The multivariant playlist: a camera's streams and renditions as variants of one another.
#![deny(unsafe_code)]

use std::sync::Arc;

use super::text::{number, quoted};
use crate::serve::index::{Minute, Place, UNNAMED};
use crate::serve::tracks::Tracks;

/// A variant.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// Of its media playlist, relative to this one.
    pub uri: String,
    /// Bit/s of its greediest segment.
    pub peak: u64,
    /// Bit/s on average.
    pub average: u64,
    /// Pictures and ticks they took, of recent segments.
    pub rate: (u64, u64),
    /// What its newest init segment says.
    pub tracks: Arc<Tracks>,
}

/// Pictures of the newest segments, and how long they are in µs.
pub fn picture_rate<'m>(minutes: impl Iterator<Item = &'m Arc<Minute>>) -> (u64, u64) {
    let segments = minutes.flat_map(|minute| {
        let whole = minute.whole().iter();
        whole.map(move |segment| (u64::from(segment.frames), minute.micros(segment.duration)))
    });
    segments.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

/// Where a rendition's playlists are, seen from the camera's.
pub fn folder(place: &Place) -> String {
    let stream = match place.stream_name() {
        "" => UNNAMED,
        name => name,
    };
    format!("{stream}/{}", place.rendition.name)
}

/// The text. The first variant is what players begin with: the best one, since cameras are near.
pub fn render(mut variants: Vec<Variant>) -> String {
    variants.sort_by(|a, b| (b.peak, &a.uri).cmp(&(a.peak, &b.uri)));
    let mut out = String::from("#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-INDEPENDENT-SEGMENTS\n");
    for variant in &variants {
        out.push_str("#EXT-X-STREAM-INF:BANDWIDTH=");
        number(&mut out, variant.peak.max(variant.average).max(1));
        out.push_str(",AVERAGE-BANDWIDTH=");
        number(&mut out, variant.average.max(1));
        let codecs = variant.tracks.codecs();
        if !codecs.is_empty() {
            out.push_str(",CODECS=");
            quoted(&mut out, &codecs);
        }
        if variant.tracks.width > 0 && variant.tracks.height > 0 {
            out.push_str(",RESOLUTION=");
            number(&mut out, variant.tracks.width.into());
            out.push('x');
            number(&mut out, variant.tracks.height.into());
        }
        let (frames, micros) = variant.rate;
        if frames > 0 && micros > 0 {
            let thousandths = frames.saturating_mul(1_000_000_000) / micros;
            out.push_str(",FRAME-RATE=");
            number(&mut out, thousandths / 1000);
            out.push_str(&format!(".{:03}", thousandths % 1000));
        }
        out.push('\n');
        out.push_str(&variant.uri);
        out.push('\n');
    }
    out
}
