//! One camera and several detectors in Python: how frames get to them with camring, and with what
//! people use today.
//!
//! `cargo bench --bench clients -- --help`. The driver (`clients.py`) starts cameras, peers and
//! detectors one after the other, with the modules of `benches/peers`; it calls this binary again for
//! the decode floor (`floor CLIP`). It asserts nothing about time. How to read it:
//! docs/reference/benches.md.
#![deny(unsafe_code)]

#[path = "../peers/drive.rs"]
mod drive;
#[allow(dead_code, reason = "density uses the rest")]
#[path = "../density/floor.rs"]
mod floor;

use std::path::Path;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["floor", clip] => {
            let units = floor::Units::load(Path::new(clip));
            println!("{}", floor::Floor::alone(&units));
        }
        _ => drive::become_driver("clients/clients.py", &arguments),
    }
}
