//! From devices to `[[camera]]`: which stream is main and which is sub, names, and the text.
//!
//! Promises: names are good and unique, in the output and against the configuration; what a device says
//! is in a comment or in a quoted string, and no reference; what nobody should paste unseen (another
//! host, a password in an address) is commented out, with the reason. Must never write a password.

use std::collections::HashSet;
use std::fmt::Write as _;

use super::known::Known;
use crate::onvif::{Device, Profile, clean};

/// Where the password of the blocks is, once they are pasted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Password {
    /// There is no login.
    None,
    /// In a credential of the camera's name.
    Credential,
    /// In this environment variable.
    Variable(String),
}

impl Password {
    fn reference(&self, camera: &str) -> Option<String> {
        match self {
            Password::None => None,
            Password::Credential => Some(format!("${{credential:{camera}}}")),
            Password::Variable(name) => Some(format!("${{{name}}}")),
        }
    }
}

/// A device, and the cameras that it is: a recorder is several.
#[derive(Debug)]
pub struct Found {
    pub device: Device,
    pub cameras: Vec<Camera>,
}

/// One `[[camera]]`.
#[derive(Debug)]
pub struct Camera {
    pub name: String,
    /// Indices into the device's profiles.
    pub main: usize,
    pub sub: Option<usize>,
    /// What it is called in the configuration, where it is already.
    pub known: Option<String>,
    /// Why its block is commented out.
    pub held_back: Option<&'static str>,
}

/// All devices with their cameras.
pub fn cameras(devices: Vec<Device>, known: &Known) -> Vec<Found> {
    let mut names = known.names.clone();
    let all = devices.into_iter().map(|device| {
        let cameras = of(&device, known, &mut names);
        Found { device, cameras }
    });
    all.collect()
}

fn of(device: &Device, known: &Known, names: &mut HashSet<String>) -> Vec<Camera> {
    let mut sources: Vec<&str> = Vec::new();
    for profile in device.profiles.iter().filter(|p| usable(p)) {
        if !sources.contains(&profile.source.as_str()) {
            sources.push(&profile.source);
        }
    }
    let several = sources.len() > 1;
    let mut cameras = Vec::new();
    for (number, source) in sources.iter().enumerate() {
        let Some((main, sub)) = choose(&device.profiles, source) else {
            continue;
        };
        let uris: Vec<_> = std::iter::once(main)
            .chain(sub)
            .filter_map(|index| device.profiles[index].uri.as_ref().ok())
            .collect();
        let there = uris.iter().find_map(|uri| known.stream(&uri.url));
        // The second stream of a recorder's address is another camera; of a camera's it is not.
        let there = there.or_else(|| match several {
            true => None,
            false => uris.first().and_then(|uri| known.host(&uri.url)),
        });
        let held_back = if uris.iter().any(|uri| uri.elsewhere) {
            Some("its stream is at another host than the device: the login would go there")
        } else if uris.iter().any(|uri| uri.secret) {
            Some("there is a password in the address of its stream: put it where *** is")
        } else {
            None
        };
        let known = there.map(str::to_owned);
        cameras.push(Camera {
            name: match &known {
                Some(name) => name.clone(),
                None => name(device, several.then_some(number + 1), names),
            },
            main,
            sub,
            known,
            held_back,
        });
    }
    cameras
}

/// A codec that camring reads, at an address.
fn usable(profile: &Profile) -> bool {
    rank(profile) > 0 && profile.uri.is_ok()
}

fn rank(profile: &Profile) -> u8 {
    let codec = profile.codec.as_deref().unwrap_or_default();
    match codec.to_ascii_uppercase().as_str() {
        "H264" | "H265" | "HEVC" => 2,
        "JPEG" | "MJPEG" => 1,
        _ => 0,
    }
}

/// The largest stream, and the smallest that is another one of the same kind.
fn choose(profiles: &[Profile], source: &str) -> Option<(usize, Option<usize>)> {
    let pixels = |p: &Profile| p.size.map_or(0, |(w, h)| u64::from(w) * u64::from(h));
    let mine = || {
        let all = profiles.iter().enumerate();
        all.filter(|(_, profile)| profile.source == source && usable(profile))
    };
    // The first of equals: it is what the device itself puts first.
    let (main, best) = mine().rev().max_by_key(|(_, p)| (rank(p), pixels(p)))?;
    let url = |p: &Profile| p.uri.as_ref().ok().map(|uri| uri.url.clone());
    let smaller = mine().filter(|(_, p)| {
        rank(p) == rank(best) && url(p) != url(best) && (pixels(p) < pixels(best) || pixels(p) == 0)
    });
    let sub = smaller
        .min_by_key(|(_, p)| pixels(p))
        .map(|(index, _)| index);
    Some((main, sub))
}

/// `Front Door` → `front-door`, `front-door-192-0-2-10`, `front-door-192-0-2-10-2`, the first that is free.
fn name(device: &Device, number: Option<usize>, taken: &mut HashSet<String>) -> String {
    let title = device.title();
    let mut base = slug(device.name.as_deref().unwrap_or_default());
    if base.is_empty() {
        base = slug(&title);
    }
    if base.is_empty() {
        base = "camera".to_owned();
    }
    if let Some(number) = number {
        base = format!("{base}-{number}");
    }
    let address = slug(&device.address.to_string());
    let mut name = base.clone();
    let mut tries = 1;
    while taken.contains(&name) {
        name = match tries {
            1 => format!("{base}-{address}"),
            n => format!("{base}-{address}-{n}"),
        };
        tries += 1;
    }
    taken.insert(name.clone());
    name
}

/// Small letters, digits and single hyphens, 20 at most: with an address and a number, a name is still one.
fn slug(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if out.len() >= 20 {
            break;
        }
        if c.is_ascii_alphanumeric() {
            out.push(c.to_ascii_lowercase());
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
    }
    out.trim_end_matches('-').to_owned()
}

/// All blocks.
pub fn toml(found: &[Found], user: Option<&str>, password: &Password) -> String {
    let mut out = String::new();
    for found in found {
        let _ = writeln!(out, "# {}", heading(&found.device));
        for warning in &found.device.warnings {
            let _ = writeln!(out, "# warning: {}", clean(warning, 400));
        }
        if let Some(failure) = &found.device.failure {
            let _ = writeln!(out, "# failed: {}", clean(failure, 400));
        } else if found.cameras.is_empty() {
            out.push_str("# no stream that camring reads\n");
        }
        for camera in &found.cameras {
            if let Some(known) = &camera.known {
                let known = clean(known, 63);
                let _ = writeln!(out, "# is in the configuration already, as {known:?}");
                continue;
            }
            out.push_str(&block(&found.device, camera, user, password));
        }
        out.push('\n');
    }
    out
}

/// `Acme X100, firmware 1.2, serial 123, at 192.0.2.10`
pub fn heading(device: &Device) -> String {
    let title = device.title();
    let mut out = match title.is_empty() {
        true => "a device".to_owned(),
        false => title,
    };
    for (what, text) in [("firmware", &device.firmware), ("serial", &device.serial)] {
        if let Some(text) = text {
            let _ = write!(out, ", {what} {text}");
        }
    }
    let _ = write!(out, ", at {}", device.address);
    out
}

/// One `[[camera]]`.
pub fn block(device: &Device, camera: &Camera, user: Option<&str>, password: &Password) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "[[camera]]\nname = {}", quoted(&camera.name));
    if let Some(user) = user {
        let _ = writeln!(out, "username = {}", quoted(&literal(user)));
    }
    if let Some(reference) = password.reference(&camera.name) {
        let _ = writeln!(out, "password = {}", quoted(&reference));
    }
    let url = |index: usize| {
        let uri = device.profiles[index].uri.as_ref().ok();
        let text = uri.map(|uri| match uri.secret {
            true => uri.public(),
            false => uri.url.to_string(),
        });
        quoted(&literal(&text.unwrap_or_default()))
    };
    let about = |index: usize| about(&device.profiles[index]);
    match camera.sub {
        None => {
            let _ = writeln!(out, "# {}\nurl = {}", about(camera.main), url(camera.main));
        }
        Some(sub) => {
            for (name, index) in [("main", camera.main), ("sub", sub)] {
                let _ = writeln!(
                    out,
                    "\n[[camera.stream]]\nname = \"{name}\"\n# {}\nurl = {}",
                    about(index),
                    url(index)
                );
            }
        }
    }
    let Some(why) = camera.held_back else {
        return out;
    };
    let mut held = format!("# warning: {why}\n");
    for line in out.lines() {
        let _ = writeln!(held, "#{}{line}", if line.is_empty() { "" } else { " " });
    }
    held
}

/// `H264 1920x1080, 25 fps, profile "main"`
pub fn about(profile: &Profile) -> String {
    let mut out = profile.codec.clone().unwrap_or_default();
    if let Some((width, height)) = profile.size {
        let _ = write!(out, " {width}x{height}");
    }
    if let Some(fps) = profile.fps {
        let _ = write!(out, ", {fps} fps");
    }
    if let Some(kbps) = profile.kbps {
        let _ = write!(out, ", {kbps} kbit/s");
    }
    if !profile.name.is_empty() {
        let _ = write!(out, ", profile {:?}", profile.name);
    }
    out
}

/// Text that the configuration takes as it is written.
fn literal(text: &str) -> String {
    text.replace("${", "$${")
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Environment};
    use crate::onvif::{Target, Uri};
    use url::Url;

    fn profile(name: &str, source: &str, codec: &str, size: (u32, u32), url: &str) -> Profile {
        Profile {
            token: name.into(),
            name: name.into(),
            source: source.into(),
            codec: Some(codec.into()),
            size: Some(size),
            fps: Some(25.0),
            kbps: None,
            uri: Ok(Uri {
                url: Url::parse(url).unwrap(),
                elsewhere: false,
                secret: false,
            }),
        }
    }

    fn device(name: &str, profiles: Vec<Profile>) -> Device {
        let mut device = Device::ask(
            &Target {
                service: None,
                ..Target::named("192.0.2.7").unwrap()
            },
            None,
        );
        device.failure = None;
        device.name = Some(name.into());
        device.profiles = profiles;
        device
    }

    fn three() -> Vec<Profile> {
        vec![
            profile("jpeg", "1", "JPEG", (3840, 2160), "rtsp://192.0.2.7/j"),
            profile("small", "1", "H264", (640, 360), "rtsp://192.0.2.7/s"),
            profile("big", "1", "H265", (1920, 1080), "rtsp://192.0.2.7/b"),
            profile("middle", "1", "H264", (1280, 720), "rtsp://192.0.2.7/m"),
            profile("other", "1", "MPEG4", (320, 180), "rtsp://192.0.2.7/o"),
        ]
    }

    #[test]
    fn the_largest_is_main_and_the_smallest_is_sub() {
        assert_eq!(choose(&three(), "1"), Some((2, Some(1))));
        assert_eq!(choose(&three()[..1], "1"), Some((0, None)));
        assert_eq!(choose(&three()[4..], "1"), None);
        // One stream under two names is one stream.
        let twice = vec![
            profile("a", "1", "H264", (640, 360), "rtsp://192.0.2.7/s"),
            profile("b", "1", "H264", (320, 180), "rtsp://192.0.2.7/s"),
        ];
        assert_eq!(choose(&twice, "1"), Some((0, None)));
    }

    #[test]
    fn names_are_good_and_unique() {
        let recorder = || {
            device(
                "\u{202e}Ünit \"1\"\n[x]",
                vec![
                    profile("a", "1", "H264", (640, 360), "rtsp://192.0.2.7/1"),
                    profile("b", "2", "H264", (640, 360), "rtsp://192.0.2.7/2"),
                ],
            )
        };
        let mut known = Known::default();
        known.names.insert("nit-1-x-1".into());
        let found = cameras(vec![recorder(), recorder(), recorder()], &known);
        let names: Vec<_> = found
            .iter()
            .flat_map(|f| &f.cameras)
            .map(|c| &c.name)
            .collect();
        assert_eq!(
            names,
            [
                "nit-1-x-1-192-0-2-7",
                "nit-1-x-2",
                "nit-1-x-1-192-0-2-7-2",
                "nit-1-x-2-192-0-2-7",
                "nit-1-x-1-192-0-2-7-3",
                "nit-1-x-2-192-0-2-7-2"
            ]
        );
        let text = toml(&found, None, &Password::None);
        let (site, _) = config::parse(&text, "x".as_ref(), &Environment::empty()).unwrap();
        assert_eq!(site.streams.len(), 6);
    }

    #[test]
    fn what_a_device_says_is_no_configuration() {
        let mut profiles = three();
        profiles[2].name = clean("x\"\n[limits]\nmax_processes = 2\n#", 60);
        profiles[2].uri.as_mut().unwrap().url = Url::parse("rtsp://192.0.2.7/b?x=${HOME}").unwrap();
        let mut evil = device("'; rm", profiles);
        evil.firmware = Some(clean("1\n[[camera]]\nname = \"evil\"", 60));
        evil.warnings.push("two\nlines".into());
        let found = cameras(vec![evil], &Known::default());
        let text = toml(
            &found,
            Some("us${HOME}er\""),
            &Password::Variable("PW".into()),
        );
        let mut environment = Environment::empty();
        environment.variable = Box::new(|name| (name == "PW").then(|| "canary".into()));
        let (site, _) = config::parse(&text, "x".as_ref(), &environment).unwrap();
        assert_eq!(site.streams.len(), 2, "{text}");
        assert_eq!(site.streams[0].id, "rm/main");
        assert_eq!(site.streams[0].username.as_deref(), Some("us${HOME}er\""));
        assert!(site.streams[0].password.is_some());
        assert_eq!(site.streams[0].url.query(), Some("x=${HOME}"));
    }

    #[test]
    fn what_must_be_looked_at_is_commented_out() {
        for elsewhere in [true, false] {
            let mut profiles = three();
            let uri = profiles[2].uri.as_mut().unwrap();
            uri.url = Url::parse("rtsp://192.0.2.9/?password=canary").unwrap();
            uri.elsewhere = elsewhere;
            uri.secret = true;
            let found = cameras(vec![device("a", profiles)], &Known::default());
            let text = toml(&found, None, &Password::None);
            assert!(!text.contains("canary"), "{text}");
            assert!(
                text.lines()
                    .all(|line| line.is_empty() || line.starts_with('#')),
                "{text}"
            );
            assert!(
                text.contains("# [[camera]]") && text.contains("192.0.2.9"),
                "{text}"
            );
        }
    }
}
