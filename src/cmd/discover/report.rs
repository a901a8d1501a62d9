//! What was found, as a table for people and as JSON. Its field names stay.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::blocks::{self, Camera, Found, Password};
use crate::onvif::{Profile, clean};

/// A row for each camera, and what else there is to say below.
pub fn table(found: &[Found]) -> String {
    let head = ["ADDRESS", "DEVICE", "NAME", "MAIN", "SUB", "STATE"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let mut notes = String::new();
    for Found { device, cameras } in found {
        let title = clean(&device.title(), 32);
        let address = device.address.to_string();
        if cameras.is_empty() {
            let state = match (&device.failure, device.login_failed) {
                (Some(_), true) => "login",
                (Some(_), false) => "failed",
                (None, _) => "no stream",
            };
            let name = clean(device.name.as_deref().unwrap_or_default(), 32);
            let empty = String::new();
            rows.push(vec![
                address.clone(),
                title.clone(),
                name,
                empty.clone(),
                empty,
                state.into(),
            ]);
        }
        for camera in cameras {
            let about = |index: usize| {
                let profile = &device.profiles[index];
                let size = profile.size.map(|(w, h)| format!(" {w}x{h}"));
                format!(
                    "{}{}",
                    profile.codec.as_deref().unwrap_or_default(),
                    size.unwrap_or_default()
                )
            };
            rows.push(vec![
                address.clone(),
                title.clone(),
                clean(&camera.name, 63),
                about(camera.main),
                camera.sub.map(about).unwrap_or_default(),
                state(camera).to_owned(),
            ]);
            if let Some(why) = camera.held_back.filter(|_| camera.known.is_none()) {
                let _ = writeln!(notes, "warning: {address}: {}: {why}", camera.name);
            }
        }
        for warning in &device.warnings {
            let _ = writeln!(notes, "warning: {address}: {}", clean(warning, 400));
        }
        if let Some(failure) = &device.failure {
            let _ = writeln!(notes, "{address}: {}", clean(failure, 400));
        }
        for profile in &device.profiles {
            if let (Err(fault), Some(_)) = (&profile.uri, &profile.codec) {
                let name = &profile.name;
                let _ = writeln!(notes, "{address}: profile {name:?}: {}", clean(fault, 400));
            }
        }
    }
    let mut out = crate::cmd::check::table(&rows);
    if !notes.is_empty() {
        let _ = write!(out, "\n{notes}");
    }
    out
}

fn state(camera: &Camera) -> &'static str {
    match (&camera.known, camera.held_back) {
        (Some(_), _) => "configured",
        (None, Some(_)) => "look at it",
        (None, None) => "new",
    }
}

/// Everything.
pub fn json(found: &[Found], user: Option<&str>, password: &Password) -> Value {
    let devices: Vec<Value> = found
        .iter()
        .map(|Found { device, cameras }| {
            json!({
                "address": device.address.to_string(),
                "service": device.service.as_ref().map(|url| clean(url.as_str(), 300)),
                "reference": device.reference,
                "name": device.name,
                "hardware": device.hardware,
                "manufacturer": device.manufacturer,
                "model": device.model,
                "firmware": device.firmware,
                "serial": device.serial,
                "clock_offset_seconds": device.clock_offset,
                "services": device.services,
                "media": device.media,
                "profiles": device.profiles.iter().map(profile).collect::<Vec<_>>(),
                "cameras": cameras.iter().map(|camera| json!({
                    "name": camera.name,
                    "main": device.profiles[camera.main].token,
                    "sub": camera.sub.map(|index| &device.profiles[index].token),
                    "configured_as": camera.known,
                    "warning": camera.held_back,
                    "config": camera.known.is_none()
                        .then(|| blocks::block(device, camera, user, password)),
                })).collect::<Vec<_>>(),
                "warnings": device.warnings.iter().map(|w| clean(w, 400)).collect::<Vec<_>>(),
                "failure": device.failure.as_deref().map(|text| clean(text, 400)),
                "login_failed": device.login_failed,
            })
        })
        .collect();
    json!({ "devices": devices })
}

fn profile(profile: &Profile) -> Value {
    let uri = profile.uri.as_ref();
    json!({
        "token": profile.token,
        "name": profile.name,
        "source": profile.source,
        "codec": profile.codec,
        "width": profile.size.map(|(width, _)| width),
        "height": profile.size.map(|(_, height)| height),
        "fps": profile.fps,
        "kbps": profile.kbps,
        "url": uri.ok().map(|uri| uri.public()),
        "elsewhere": uri.ok().map(|uri| uri.elsewhere),
        "fault": uri.err().map(|text| clean(text, 400)),
    })
}
