//! What strangers on the network answer when they are asked whether they are cameras. Called by the fuzzer and
//! by the tests with kept inputs: [`crate::fuzzing`].
#![allow(clippy::missing_panics_doc)]

use std::net::{IpAddr, Ipv4Addr};

use jiff::Timestamp;

use super::xml::{self, Element, MAX_DEPTH, MAX_ELEMENTS};
use super::{device, discovery, host_ip, soap};

/// A datagram that answers a probe, or the body of an answer to SOAP.
pub fn onvif(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(root) = xml::parse(text) else {
        return;
    };
    // Nothing is made larger than it came.
    let mut elements = 0;
    assert!(measure(&root, &mut elements) <= MAX_DEPTH + 1 && elements <= MAX_ELEMENTS);
    assert!(elements * 3 < text.len().max(4) + 3, "{elements} elements");
    let from = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
    for answer in discovery::answers(&root, from) {
        assert_eq!(answer.address, from);
        // Somebody else's address is never asked.
        if let Some(service) = &answer.service {
            assert!(service.scheme() == "http" && host_ip(service) == Some(from));
        }
        shown(&answer.reference, 100);
        (answer.name.iter().chain(&answer.hardware)).for_each(|text| shown(text, 60));
        answer.elsewhere.iter().for_each(|text| shown(text, 90));
    }
    for (newer, name) in [(true, "Profiles"), (false, "Profiles"), (false, "Fault")] {
        let Some(found) = root.find(name) else {
            continue;
        };
        let profile = device::profile(found, newer);
        assert!(profile.token.len() <= 256);
        shown(&profile.name, 60);
        shown(&profile.source, 60);
        profile.codec.iter().for_each(|codec| shown(codec, 20));
        assert!(profile.fps.is_none_or(|fps| fps > 0.0));
        let side = 1..=65_535;
        assert!(
            profile
                .size
                .is_none_or(|(width, height)| side.contains(&width) && side.contains(&height))
        );
        shown(&soap::reason(found), 120);
        let _ = soap::unauthorized(found);
    }
    let _ = device::clock(&root, Timestamp::UNIX_EPOCH);
    if let Some(answer) = root.find("GetSystemDateAndTimeResponse") {
        let _ = device::clock(answer, Timestamp::UNIX_EPOCH);
    }
}

/// The depth; counts the elements.
fn measure(element: &Element, count: &mut usize) -> usize {
    *count += 1;
    let below = element.children.iter().map(|child| measure(child, count));
    1 + below.max().unwrap_or(0)
}

/// On one line, and no longer than it may be.
fn shown(text: &str, most: usize) {
    assert!(text.chars().count() <= most + 1 && !text.chars().any(char::is_control));
}
