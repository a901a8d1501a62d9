//! The keys of `camring top`.
#![deny(unsafe_code)]

use ratatui::text::Line as Text;

const KEYS: &str = "\
Up Down j k      select a stream; in the details: scroll
PgUp PgDn        a page; Home End: first, last
Enter d          everything of the selected stream, with what to do
s S              sort by the next, the previous column
r                the other way round
/                show only streams with this in name or state
p                show only those with a problem
f                the line at the right: frames per second, latency
Space            hold the picture still
Esc              back; in the table: show all again
? h              this
q Ctrl-C         quit

FPS      published per second; idle: nobody looks
AGE      of the last frame
LATENCY  from the network to the ring: half, 99 % took less
DROP     pictures that did not become frames
LOST     RTP packets that never came
RST      restarts of the reader and new sessions
REC      the recording";

/// The text of the overlay.
pub fn lines() -> Vec<Text<'static>> {
    KEYS.lines().map(Text::from).collect()
}
