//! What one device is and streams: the questions of ONVIF in the order in which they can be answered.
//!
//! Clock, services, identity, profiles, and for each profile the address of its stream. Media2
//! (ver20) is asked first, since it alone knows H.265; Media (ver10) where that is missing or fails.
//! Promises: numbers of profiles and of questions are bounded; addresses of services keep the host
//! that was asked; an address of a stream that is elsewhere is marked as such.

use std::net::IpAddr;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::soap::{Caller, SoapError};
use super::xml::Element;
use super::{Login, Target, clean, host_ip};
use crate::config::{self, Environment};

const DEVICE: &str = "http://www.onvif.org/ver10/device/wsdl";
const MEDIA1: &str = "http://www.onvif.org/ver10/media/wsdl";
const MEDIA2: &str = "http://www.onvif.org/ver20/media/wsdl";
/// A recorder of 64 channels has two or three of each.
const MAX_PROFILES: usize = 192;
/// Addresses of more streams are not asked for.
const MAX_STREAMS: usize = 128;
/// The longest address of a stream.
const MAX_URI: usize = 1024;
/// Clocks further off than this are no clocks: a century, in seconds.
const MAX_OFFSET: i64 = 100 * 366 * 86_400;
/// The answers that end the questions for addresses.
const PATIENCE: u32 = 3;

/// A device, as far as it answers.
#[derive(Clone, Debug)]
pub struct Device {
    pub address: IpAddr,
    /// As the user has named it, where it was no address.
    pub named: Option<String>,
    /// Its device service.
    pub service: Option<Url>,
    pub reference: String,
    pub name: Option<String>,
    pub hardware: Option<String>,
    pub manufacturer: Option<String>,
    pub model: Option<String>,
    pub firmware: Option<String>,
    pub serial: Option<String>,
    /// Its clock minus this machine's, in seconds.
    pub clock_offset: Option<i64>,
    /// The last words of its services' namespaces: `media`, `ptz`, `events`.
    pub services: Vec<String>,
    /// Which media service has described the profiles: `ver20` or `ver10`.
    pub media: Option<&'static str>,
    pub profiles: Vec<Profile>,
    pub warnings: Vec<String>,
    /// Why it could not be asked to the end.
    pub failure: Option<String>,
    /// The failure is about the login.
    pub login_failed: bool,
}

/// One stream that a device offers.
#[derive(Clone, Debug)]
pub struct Profile {
    pub token: String,
    pub name: String,
    /// Which of the device's cameras: a recorder has several.
    pub source: String,
    pub codec: Option<String>,
    pub size: Option<(u32, u32)>,
    pub fps: Option<f64>,
    pub kbps: Option<u32>,
    pub uri: Result<Uri, String>,
}

/// Where a stream is. Without any login.
#[derive(Clone, Debug)]
pub struct Uri {
    pub url: Url,
    /// It is another host than the device: nobody has looked at that.
    pub elsewhere: bool,
    /// There is what looks like a password in its path or query.
    pub secret: bool,
}

impl Uri {
    /// As it may be shown.
    pub fn public(&self) -> String {
        let masked = config::mask::url(self.url.as_str());
        if self.secret && masked == self.url.as_str() {
            // The password that was typed, somewhere in it.
            let authority = self.url.authority();
            return format!("{}://{authority}/{}", self.url.scheme(), config::mask::MASK);
        }
        masked
    }
}

impl Device {
    fn new(target: &Target) -> Self {
        Self {
            address: target.address,
            named: target.named.clone(),
            service: target.service.clone(),
            reference: target.reference.clone(),
            name: target.name.clone(),
            hardware: target.hardware.clone(),
            manufacturer: None,
            model: None,
            firmware: None,
            serial: None,
            clock_offset: None,
            services: Vec::new(),
            media: None,
            profiles: Vec::new(),
            warnings: target.warnings.clone(),
            failure: None,
            login_failed: false,
        }
    }

    /// Asks a device all there is to ask.
    pub fn ask(target: &Target, login: Option<&Login>) -> Self {
        let mut device = Self::new(target);
        let Some(service) = target.service.clone() else {
            device.failure = Some("names no address of its own to ask".to_owned());
            return device;
        };
        let mut caller = Caller::new(login);
        if let Err(error) = device.questions(&service, &mut caller, login) {
            device.login_failed = matches!(error, SoapError::Refused | SoapError::NoLogin);
            device.failure = Some(error.to_string());
        }
        device
    }

    /// What people call it.
    pub fn title(&self) -> String {
        let words = match (&self.manufacturer, &self.model) {
            (Some(maker), Some(model)) if model.starts_with(maker.as_str()) => model.clone(),
            (Some(maker), Some(model)) => format!("{maker} {model}"),
            (one, other) => one.clone().or(other.clone()).unwrap_or_default(),
        };
        match words.is_empty() {
            true => self.hardware.clone().unwrap_or_default(),
            false => words,
        }
    }

    fn questions(
        &mut self,
        service: &Url,
        caller: &mut Caller<'_>,
        login: Option<&Login>,
    ) -> Result<(), SoapError> {
        // Without a login: a wrong clock would make any digest look stale.
        match caller.ask(service, DEVICE, "GetSystemDateAndTime", "", false) {
            Ok(answer) => {
                self.clock_offset = clock(&answer, Timestamp::now());
                caller.offset = self.clock_offset.unwrap_or(0);
            }
            Err(error @ (SoapError::Unreachable(_) | SoapError::Timeout)) => return Err(error),
            Err(_) => {}
        }
        let identity = caller.ask(service, DEVICE, "GetDeviceInformation", "", true);
        match identity {
            Ok(identity) => {
                let text = |name: &str| Some(clean(identity.text_at(&[name])?, 60));
                self.manufacturer = text("Manufacturer").filter(|t| !t.is_empty());
                self.model = text("Model").filter(|t| !t.is_empty());
                self.firmware = text("FirmwareVersion").filter(|t| !t.is_empty());
                self.serial = text("SerialNumber").filter(|t| !t.is_empty());
            }
            Err(error) if error.is_final() => return Err(error),
            Err(error) => {
                self.warnings.push(format!("asked who it is, it {error}"));
            }
        }
        let (media2, media1) = self.services(service, caller)?;
        let mut failed = None;
        for (namespace, url) in [(MEDIA2, media2), (MEDIA1, media1)] {
            let Some(url) = url else { continue };
            match self.profiles(&url, namespace, caller, login) {
                Ok(()) if self.profiles.iter().any(|p| p.uri.is_ok()) => return Ok(()),
                Ok(()) => failed = Some(SoapError::Fault("it offers no stream".into())),
                Err(error) if error.is_final() => return Err(error),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            // Its profiles say what is the matter with each.
            Some(_) if !self.profiles.is_empty() => Ok(()),
            Some(error) => Err(error),
            None => Err(SoapError::Fault("it has no media service".into())),
        }
    }

    /// Where Media2 and Media are.
    fn services(
        &mut self,
        device: &Url,
        caller: &mut Caller<'_>,
    ) -> Result<(Option<Url>, Option<Url>), SoapError> {
        let inner = "<IncludeCapability>false</IncludeCapability>";
        let (mut media2, mut media1) = (None, None);
        match caller.ask(device, DEVICE, "GetServices", inner, true) {
            Ok(answer) => {
                for service in answer.all("Service").take(64) {
                    let namespace = service.text_at(&["Namespace"]).unwrap_or_default();
                    let address = service.text_at(&["XAddr"]).unwrap_or_default();
                    let name = short(namespace);
                    if !name.is_empty() && !self.services.contains(&name) {
                        self.services.push(name);
                    }
                    match namespace {
                        MEDIA2 => media2 = self.here(device, address),
                        MEDIA1 => media1 = self.here(device, address),
                        _ => {}
                    }
                }
            }
            Err(error) if error.is_final() => return Err(error),
            Err(_) => {}
        }
        if media2.is_none() && media1.is_none() {
            // Before ONVIF 2.0 there was only this.
            let inner = "<Category>All</Category>";
            match caller.ask(device, DEVICE, "GetCapabilities", inner, true) {
                Ok(answer) => {
                    let all = answer.child("Capabilities");
                    for each in all.iter().flat_map(|all| &all.children).take(64) {
                        let name = clean(&each.name.to_lowercase(), 30);
                        if each.child("XAddr").is_some() && !self.services.contains(&name) {
                            self.services.push(name);
                        }
                    }
                    let address = answer.text_at(&["Capabilities", "Media", "XAddr"]);
                    media1 = address.and_then(|address| self.here(device, address));
                }
                Err(error) if error.is_final() => return Err(error),
                Err(error) => return Err(error),
            }
        }
        Ok((media2, media1))
    }

    /// The address of a service at the host that was asked, whatever host it names: behind a
    /// translation of addresses that would be another, and a login must not wander.
    fn here(&mut self, device: &Url, address: &str) -> Option<Url> {
        let named = Url::parse(address).ok()?;
        if named.scheme() == "http" && host_ip(&named) == Some(self.address) {
            return Some(named);
        }
        let mut here = device.clone();
        here.set_path(named.path());
        here.set_query(named.query());
        let other = match named.scheme() {
            "http" => clean(named.host_str().unwrap_or("nowhere"), 60),
            scheme => format!("{}://", clean(scheme, 10)),
        };
        let warning = format!(
            "says that its services are at {other}: asked at {} instead",
            here.authority()
        );
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
        Some(here)
    }

    fn profiles(
        &mut self,
        url: &Url,
        namespace: &'static str,
        caller: &mut Caller<'_>,
        login: Option<&Login>,
    ) -> Result<(), SoapError> {
        let newer = namespace == MEDIA2;
        let inner = match newer {
            true => "<Type>VideoSource</Type><Type>VideoEncoder</Type>",
            false => "",
        };
        let answer = caller.ask(url, namespace, "GetProfiles", inner, true)?;
        self.media = Some(if newer { "ver20" } else { "ver10" });
        let all: Vec<_> = answer.all("Profiles").collect();
        if all.len() > MAX_PROFILES {
            self.warnings.push(format!(
                "has {} profiles: the first {MAX_PROFILES} are looked at",
                all.len()
            ));
        }
        let profiles = all.into_iter().take(MAX_PROFILES);
        self.profiles = profiles.map(|p| profile(p, newer)).collect();
        let mut failures = 0;
        let mut asked = 0;
        for index in 0..self.profiles.len() {
            let token = self.profiles[index].token.clone();
            // Sound and metadata alone are profiles, too.
            if token.is_empty() || self.profiles[index].codec.is_none() {
                continue;
            }
            if asked >= MAX_STREAMS || failures >= PATIENCE {
                break;
            }
            asked += 1;
            let token = quick_xml::escape::escape(token.as_str());
            let inner = match newer {
                true => format!("<Protocol>RTSP</Protocol><ProfileToken>{token}</ProfileToken>"),
                false => format!(
                    "<StreamSetup><Stream xmlns=\"http://www.onvif.org/ver10/schema\">RTP-Unicast\
                     </Stream><Transport xmlns=\"http://www.onvif.org/ver10/schema\"><Protocol>RTSP\
                     </Protocol></Transport></StreamSetup><ProfileToken>{token}</ProfileToken>"
                ),
            };
            let uri = match caller.ask(url, namespace, "GetStreamUri", &inner, true) {
                Ok(answer) => {
                    let text = answer
                        .text_at(&["Uri"])
                        .or(answer.text_at(&["MediaUri", "Uri"]));
                    self.stream(text.unwrap_or_default(), login)
                }
                Err(error) if error.is_final() => return Err(error),
                Err(error) => {
                    failures += 1;
                    Err(error.to_string())
                }
            };
            self.profiles[index].uri = uri;
        }
        Ok(())
    }

    /// What a device gives as the address of a stream.
    fn stream(&self, text: &str, login: Option<&Login>) -> Result<Uri, String> {
        if text.len() > MAX_URI {
            return Err("the address of its stream is too long".to_owned());
        }
        // A reference in it would have secrets of this machine sent to the device.
        let literal = text.replace("${", "$${");
        let (url, _, _) = config::camera_url(&literal, &Environment::empty())
            .map_err(|fault| format!("the address of its stream {fault}"))?;
        if url.scheme() != "rtsp" {
            return Err("its stream is encrypted (rtsps://): see tls_verify".to_owned());
        }
        let host = url.host_str().unwrap_or_default();
        let same = host_ip(&url) == Some(self.address)
            || self
                .named
                .as_deref()
                .is_some_and(|n| n.eq_ignore_ascii_case(host));
        let masked = config::mask::url(url.as_str()) != url.as_str();
        let typed = login.is_some_and(|login| contains(&url, &login.password));
        Ok(Uri {
            elsewhere: !same,
            secret: masked || typed,
            url,
        })
    }
}

/// Whether the password is in the URL, as it is or encoded.
fn contains(url: &Url, password: &SecretString) -> bool {
    let password = password.expose_secret();
    let mut encoded = Url::clone(url);
    encoded.set_query(Some(password));
    let encoded = encoded.query().unwrap_or_default();
    let found = |needle: &str| !needle.is_empty() && url.as_str().contains(needle);
    password.len() >= 4 && (found(password) || found(encoded))
}

/// `http://www.onvif.org/ver20/media/wsdl` → `media2`.
fn short(namespace: &str) -> String {
    let Some(rest) = namespace.strip_prefix("http://www.onvif.org/ver") else {
        return String::new();
    };
    let (version, name) = rest.split_once('/').unwrap_or_default();
    let name = clean(name.strip_suffix("/wsdl").unwrap_or(name), 30);
    match version {
        "20" if name == "media" => "media2".to_owned(),
        _ => name,
    }
}

pub(super) fn profile(from: &Element, newer: bool) -> Profile {
    let (source, encoder) = match newer {
        true => (
            from.at(&["Configurations", "VideoSource"]),
            from.at(&["Configurations", "VideoEncoder"]),
        ),
        false => (
            from.child("VideoSourceConfiguration"),
            from.child("VideoEncoderConfiguration"),
        ),
    };
    let number = |path: &[&str]| encoder?.text_at(path)?.parse::<f64>().ok();
    let side = |name: &str| {
        let side = number(&["Resolution", name])?;
        (1.0..=65_535.0).contains(&side).then_some(side as u32)
    };
    let token = from.attribute("token").unwrap_or_default();
    Profile {
        // Goes back to the device as it came: cut, it would be another.
        token: if token.len() <= 256 {
            token.to_owned()
        } else {
            String::new()
        },
        name: clean(from.text_at(&["Name"]).unwrap_or_default(), 60),
        source: clean(
            source
                .and_then(|source| source.text_at(&["SourceToken"]))
                .unwrap_or_default(),
            60,
        ),
        codec: encoder
            .and_then(|encoder| encoder.text_at(&["Encoding"]))
            .map(|codec| clean(codec, 20)),
        size: side("Width").zip(side("Height")),
        fps: number(&["RateControl", "FrameRateLimit"]).filter(|f| (0.01..=1000.0).contains(f)),
        kbps: number(&["RateControl", "BitrateLimit"])
            .filter(|rate| (1.0..=10e6).contains(rate))
            .map(|rate| rate as u32),
        uri: Err("was not asked for its address".to_owned()),
    }
}

/// How far the device's clock is ahead of this machine's, in seconds.
pub(super) fn clock(answer: &Element, now: Timestamp) -> Option<i64> {
    let utc = answer.at(&["SystemDateAndTime", "UTCDateTime"])?;
    let number = |path: &[&str]| utc.text_at(path)?.parse::<i16>().ok();
    let small = |path: &[&str]| i8::try_from(number(path)?).ok();
    let time = DateTime::new(
        number(&["Date", "Year"])?,
        small(&["Date", "Month"])?,
        small(&["Date", "Day"])?,
        small(&["Time", "Hour"])?,
        small(&["Time", "Minute"])?,
        // A leap second is none to the clocks of cameras.
        small(&["Time", "Second"])?.min(59),
        0,
    )
    .ok()?;
    let device = time.to_zoned(TimeZone::UTC).ok()?.timestamp();
    let offset = device.as_second() - now.as_second();
    (offset.abs() <= MAX_OFFSET).then_some(offset)
}

#[cfg(test)]
mod tests {
    use super::super::xml;
    use super::*;

    fn device() -> Device {
        Device::new(&Target::named("192.0.2.7:81").unwrap())
    }

    fn login(password: &str) -> Login {
        Login {
            user: "u".into(),
            password: password.to_owned().into(),
        }
    }

    #[test]
    fn services_stay_where_the_login_may_go() {
        let mut device = device();
        let base = device.service.clone().unwrap();
        let here = |device: &mut Device, text: &str| device.here(&base, text).map(String::from);
        assert_eq!(
            here(&mut device, "http://192.0.2.7:8899/media").unwrap(),
            "http://192.0.2.7:8899/media"
        );
        assert!(device.warnings.is_empty());
        for other in [
            "http://evil.example/media?x=1",
            "https://192.0.2.7/media?x=1",
        ] {
            assert_eq!(
                here(&mut device, other).unwrap(),
                "http://192.0.2.7:81/media?x=1"
            );
        }
        assert_eq!(device.warnings.len(), 2, "{:?}", device.warnings);
        assert!(device.warnings[0].contains("evil.example"));
        assert_eq!(here(&mut device, "no url"), None);
    }

    #[test]
    fn streams_are_judged() {
        let device = device();
        let stream = |text: &str| device.stream(text, Some(&login("hun ter2")));
        let good = stream("rtsp://user:pw@192.0.2.7:554/1").unwrap();
        assert_eq!(good.url.as_str(), "rtsp://192.0.2.7:554/1");
        assert!(!good.elsewhere && !good.secret);
        assert!(stream("rtsp://192.0.2.8/1").unwrap().elsewhere);
        for secret in [
            "rtsp://192.0.2.7/?user=a&password=tlJwpbo6",
            "rtsp://192.0.2.7/live/hun%20ter2",
        ] {
            let stream = stream(secret).unwrap();
            assert!(
                stream.secret && stream.public().ends_with("***"),
                "{secret}"
            );
        }
        let masked = stream("rtsp://192.0.2.7/?password=tlJwpbo6")
            .unwrap()
            .public();
        assert!(!masked.contains("tlJ"), "{masked}");
        // References of the configuration mean nothing in a device's mouth.
        let trap = stream("rtsp://192.0.2.7/?x=${HOME}").unwrap();
        assert!(trap.url.as_str().contains("HOME"));
        for bad in [
            "",
            "http://192.0.2.7/",
            "rtsp://",
            "rtsps://192.0.2.7/",
            "rtsp://192.0.2.7/\n",
        ] {
            assert!(stream(bad).is_err(), "{bad:?}");
        }
        assert!(stream(&format!("rtsp://192.0.2.7/{}", "x".repeat(2_000))).is_err());
    }

    #[test]
    fn clocks_that_are_none_are_not_believed() {
        let at = |year: &str, hour: &str| {
            let text = format!(
                "<r><SystemDateAndTime><UTCDateTime><Time><Hour>{hour}</Hour><Minute>0</Minute>\
                 <Second>60</Second></Time><Date><Year>{year}</Year><Month>1</Month><Day>1</Day>\
                 </Date></UTCDateTime></SystemDateAndTime></r>"
            );
            clock(
                &xml::parse(&text).unwrap(),
                "1970-01-01T00:00:00Z".parse().unwrap(),
            )
        };
        assert_eq!(at("1970", "1"), Some(3659));
        for (year, hour) in [
            ("9999", "1"),
            ("-5", "1"),
            ("99999", "1"),
            ("1970", "24"),
            ("x", "1"),
        ] {
            assert_eq!(at(year, hour), None, "{year} {hour}");
        }
    }

    #[test]
    fn namespaces_are_shortened() {
        assert_eq!(short(MEDIA2), "media2");
        assert_eq!(short(MEDIA1), "media");
        assert_eq!(short(DEVICE), "device");
        assert_eq!(short("http://vendor.example/x"), "");
    }
}
