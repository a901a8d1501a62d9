//! Hostile cameras: the real daemon, one scripted camera for each fault, beside cameras that behave.
//!
//! For each fault: one clear state and reason; no process dies; bounded CPU time and memory; the
//! camera is tried again, at a polite pace; sessions are torn down; it recovers by itself; no frame
//! that is not marked as damaged is torn; the cameras beside notice nothing. What each fault looks
//! like to the user is in `docs/reference/faults.md`, whose table a test here holds complete.
#![deny(unsafe_code)]

#[path = "../support/mod.rs"]
mod support;

mod camera;
mod clip;
mod player;
mod world;

mod codec;
mod handshake;
mod interleaved;
mod lifecycle;
mod load;
mod nal;
mod responses;
mod rtcp;
mod rtp;
mod sdp;
mod timestamps;
mod udp;

/// All families, for the table.
fn all() -> Vec<world::Fault> {
    [
        handshake::faults(),
        responses::faults(),
        sdp::faults(),
        interleaved::faults(),
        rtp::faults(),
        timestamps::faults(),
        rtcp::faults(),
        nal::faults(),
        load::faults(),
        lifecycle::faults(),
        codec::faults(),
        udp::faults(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Rows of the table are `| fault | state | …`, the fault in backquotes.
#[test]
fn the_table_of_faults_is_that_of_this_suite() {
    let text = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/docs/reference/faults.md"
    ))
    .expect("docs/reference/faults.md");
    let rows: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .map(|(name, rest)| (name, rest.split(" |").next().unwrap_or_default()))
        .collect();
    let faults = all();
    for fault in &faults {
        let row = rows.iter().find(|(name, _)| *name == fault.name);
        let (_, state) = row.unwrap_or_else(|| panic!("no row for {}", fault.name));
        let shown = format!("`{}`", fault.state);
        assert!(
            state.starts_with(&shown),
            "{}: {state}, not {shown}",
            fault.name
        );
    }
    assert_eq!(
        rows.len(),
        faults.len(),
        "rows that no fault stands for: {rows:#?}"
    );
}
