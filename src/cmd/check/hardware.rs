//! `camring check --hardware`: which hardware decodes on this machine, and why the rest does not.
//!
//! Opens each device as a reader would, and lets go of it. Reads no configuration.
#![deny(unsafe_code)]

use std::fmt::Write as _;

use serde::Serialize;

use super::super::print;
use crate::media::{Codec, HardwareDevice, HardwareKind};

/// One kind. Field names are those of `camring check --hardware --json`, and stay.
#[derive(Debug, Serialize)]
struct Found {
    /// As in `decode.backend`.
    backend: &'static str,
    usable: bool,
    /// What FFmpeg would hand to it; whether the device takes a camera's profile and size shows when it comes.
    codecs: Vec<&'static str>,
    /// Why it cannot be used, and what it takes; `None` where it can.
    reason: Option<String>,
}

impl Found {
    fn of(kind: HardwareKind) -> Self {
        let codecs = [Codec::H264, Codec::H265, Codec::Mjpeg];
        let opened = HardwareDevice::open(kind, None);
        Self {
            backend: kind.name(),
            usable: opened.is_ok(),
            codecs: codecs
                .into_iter()
                .filter(|codec| kind.takes(*codec))
                .map(Codec::name)
                .collect(),
            reason: opened.err().map(|error| error.to_string()),
        }
    }
}

pub fn run(json: bool) -> anyhow::Result<()> {
    let found = HardwareKind::ALL.map(Found::of);
    if json {
        print(&format!("{}\n", serde_json::to_string_pretty(&found)?))?;
    } else {
        print(&text(&found))?;
    }
    Ok(())
}

fn text(found: &[Found]) -> String {
    let mut out = String::new();
    for one in found {
        let codecs = one.codecs.join(", ");
        let _ = match &one.reason {
            None => writeln!(out, "{:<8}  usable: {codecs}", one.backend),
            Some(reason) => writeln!(out, "{:<8}  {reason}", one.backend),
        };
    }
    let _ = match found.iter().find(|one| one.usable) {
        Some(first) => writeln!(
            out,
            "\ndecode.backend = \"auto\" would use {}; the processor takes over where it fails.",
            first.backend
        ),
        None => writeln!(
            out,
            "\nNothing decodes here but the processor: decode.backend = \"software\", the default."
        ),
    };
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_used_is_told_from_what_cannot() {
        let found = [
            Found {
                backend: "cuda",
                usable: false,
                codecs: vec!["h264"],
                reason: Some("no cuda device: it takes a driver".to_owned()),
            },
            Found {
                backend: "vaapi",
                usable: true,
                codecs: vec!["h264", "h265"],
                reason: None,
            },
        ];
        let both = text(&found);
        assert!(both.contains("vaapi     usable: h264, h265"), "{both}");
        assert!(both.contains("cuda      no cuda device"), "{both}");
        assert!(both.contains("\"auto\" would use vaapi"), "{both}");
        let none = text(&found[..1]);
        assert!(
            none.contains("Nothing decodes here but the processor"),
            "{none}"
        );
    }
}
