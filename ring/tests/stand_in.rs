//! A stand-in for the daemon, for tests of clients in other languages: a broker and writers that
//! do on standard input's word what the test wants to see. Without the argument `serve` (as
//! `cargo test` runs it) it does nothing.
//!
//! Prints `SOCKET PATH`, then obeys lines, and answers each with `OK …` or `ERROR …`:
//!
//! ```text
//! ring NAME SLOT_BYTES          a camera with a frame ring; or a larger ring in place of the old
//! frame NAME FORMAT WIDTH HEIGHT ALIGN RANGE MATRIX FLAGS FILE
//!                               publishes a picture; FILE holds the slot's bytes, or is `-` (zero);
//!                               answers with its number
//! restart NAME                  the writer ends, another resumes
//! remove NAME                   the camera is taken out of the configuration
//! pending NAME                  a camera that has no ring yet
//! status TEXT                   what the status request answers
//! attachments, clients          how many there are
//! ```
#![cfg(not(loom))]

mod support;

use std::collections::HashMap;
use std::io::{BufRead, Write};

use camring_ring::attach::wire::RingKind;
use camring_ring::*;
use support::*;

struct Cameras {
    broker: Broker,
    writers: HashMap<String, LocalFrames>,
    rings: u64,
}

type Outcome = Result<String, Box<dyn std::error::Error>>;

fn main() {
    if std::env::args().nth(1).as_deref() != Some("serve") {
        return;
    }
    let mut cameras = Cameras {
        broker: Broker::start(),
        writers: HashMap::new(),
        rings: 0,
    };
    println!("SOCKET {}", cameras.broker.path().display());
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a line");
        match cameras.obey(&line) {
            Ok(answer) => println!("OK {answer}"),
            Err(error) => println!("ERROR {error}"),
        }
        std::io::stdout().flush().expect("somebody reads");
    }
}

impl Cameras {
    fn obey(&mut self, line: &str) -> Outcome {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["ring", name, bytes] => self.ring(name, bytes.parse()?),
            ["frame", name, picture @ ..] => self.frame(name, picture),
            ["restart", name] => {
                self.broker.restart(name, self.writer(name)?);
                Ok(String::new())
            }
            ["remove", name] => {
                self.broker.forget(name, RingKind::Frames);
                let writer = self.writers.remove(*name).ok_or("no such camera")?;
                let mut writer = writer.lock().unwrap().take().ok_or("no writer")?;
                writer.close(CloseReason::Removed);
                Ok(String::new())
            }
            ["pending", name] => {
                self.broker.state().pending.push((*name).to_owned());
                Ok(String::new())
            }
            ["status", ..] => {
                self.broker.state().status = line["status".len()..].trim().to_owned();
                Ok(String::new())
            }
            ["attachments"] => Ok(self.broker.attachments().to_string()),
            ["clients"] => Ok(self.broker.clients().to_string()),
            _ => Err("no such command".into()),
        }
    }

    fn writer(&self, name: &str) -> Result<&LocalFrames, &'static str> {
        self.writers.get(name).ok_or("no such camera")
    }

    fn ring(&mut self, name: &str, slot_bytes: u64) -> Outcome {
        self.broker.state().pending.retain(|n| n != name);
        let old = self.writers.remove(name);
        let mut first_sequence = 1;
        if let Some(old) = &old
            && let Some(writer) = &*old.lock().unwrap()
        {
            first_sequence = writer.next_sequence();
        }
        self.rings += 1;
        let spec = FrameRingSpec {
            slot_bytes,
            ring_id: self.rings,
            first_sequence,
            ..SPEC
        };
        self.writers
            .insert(name.to_owned(), self.broker.frames(name, spec));
        if let Some(old) = old
            && let Some(mut writer) = old.lock().unwrap().take()
        {
            writer.close(CloseReason::Replaced);
        }
        Ok(String::new())
    }

    fn frame(&mut self, name: &str, picture: &[&str]) -> Outcome {
        let [format, width, height, align, range, matrix, flags, file] = picture else {
            return Err("frame NAME FORMAT WIDTH HEIGHT ALIGN RANGE MATRIX FLAGS FILE".into());
        };
        let format = PixelFormat::ALL
            .into_iter()
            .find(|f| f.name() == *format)
            .ok_or("no such format")?;
        let described =
            FrameDescriptor::packed(format, width.parse()?, height.parse()?, align.parse()?);
        let mut d = described.ok_or("too large")?;
        d.color_range = ColorRange::from_u8(range.parse()?).ok_or("no such range")?;
        d.matrix = matrix.parse()?;
        d.flags = FrameFlags(flags.parse()?);
        let mut writer = self.writer(name)?.lock().unwrap();
        let writer = writer.as_mut().ok_or("no writer")?;
        let sequence = writer.next_sequence();
        d.pts = sequence as i64 * 3000;
        d.capture_time_ns = 1_700_000_000_123_456_789 + sequence as i64 * 33_000_000;
        d.access_unit = sequence + 1000;
        d.arrival_ns = 1;
        let slot = writer.reserve().ok_or("no slot")?;
        let payload = writer.payload_mut(slot).ok_or("no payload")?;
        if *file == "-" {
            payload.fill(0);
        } else {
            let bytes = std::fs::read(file)?;
            payload
                .get_mut(..bytes.len())
                .ok_or("larger than the slot")?
                .copy_from_slice(&bytes);
        }
        let published = writer.publish(slot, &d);
        writer.release(slot);
        Ok(published?.to_string())
    }
}
