//! ONVIF, as far as finding cameras needs it: who is on the network, what each is, what it streams.
//!
//! ```text
//! discovery   who answers a probe            UDP, no login
//! soap        one question to one device     HTTP, login by digest, bounded
//! device      the questions, in their order  what comes out: Device
//! xml         text of strangers as a tree    no entities, bounded
//! ```
//!
//! Everything a device says is an allegation. Promises: the login goes to the address that answered
//! the probe (or that was named) and to no other, whatever addresses the device gives; a device costs
//! at most [`soap::DEVICE`] and a few MiB; names and texts have no control characters when they
//! leave this module. Must never: contact an address that only a device has named.

pub mod device;
pub mod discovery;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub mod soap;
pub mod xml;

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

use url::{Host, Url};

pub use device::{Device, Profile, Uri};
pub use soap::Login;

/// Devices asked at a time. They answer slowly, and so does their network.
const AT_A_TIME: usize = 8;
/// The path that ONVIF prescribes for the device service.
const DEVICE_SERVICE: &str = "/onvif/device_service";
/// How long a name server may take.
const RESOLVE: Duration = Duration::from_secs(5);

/// A device to be asked.
#[derive(Clone, Debug)]
pub struct Target {
    /// The one address that is asked.
    pub address: IpAddr,
    /// As the user has named it, where it was no address.
    pub named: Option<String>,
    /// Its device service; the host is `address`.
    pub service: Option<Url>,
    pub reference: String,
    pub name: Option<String>,
    pub hardware: Option<String>,
    pub warnings: Vec<String>,
}

impl From<discovery::Answer> for Target {
    fn from(answer: discovery::Answer) -> Self {
        let mut warnings = Vec::new();
        if !answer.elsewhere.is_empty() && answer.service.is_none() {
            warnings.push(format!(
                "names another address than the one it answers from ({}), which is not asked: \
                 `camring discover --address` asks it",
                answer.elsewhere.join(", ")
            ));
        }
        Self {
            address: answer.address,
            named: None,
            service: answer.service,
            reference: answer.reference,
            name: answer.name,
            hardware: answer.hardware,
            warnings,
        }
    }
}

impl Target {
    /// `HOST`, `HOST:PORT` or `http://HOST:PORT/path`. A name is looked up once: its first address
    /// is the one asked.
    ///
    /// # Errors
    /// Says what is wrong with it, or that it has no address.
    pub fn named(text: &str) -> Result<Self, String> {
        let bare_v6 = text.parse::<std::net::Ipv6Addr>().is_ok();
        let address = match text {
            _ if text.contains("://") => text.to_owned(),
            _ if bare_v6 => format!("http://[{text}]{DEVICE_SERVICE}"),
            _ => format!("http://{text}{DEVICE_SERVICE}"),
        };
        let no_address = || "must be HOST, HOST:PORT or http://HOST:PORT/path".to_owned();
        let mut service = Url::parse(&address).map_err(|_| no_address())?;
        if service.scheme() != "http" {
            return Err("must be http://: ONVIF over https:// is not supported".to_owned());
        }
        if !service.username().is_empty() || service.password().is_some() {
            return Err("must have no login in it: use --user".to_owned());
        }
        let host = service.host_str().ok_or_else(no_address)?.to_owned();
        let port = service.port_or_known_default().unwrap_or(80);
        let address = match host_ip(&service) {
            Some(address) => address,
            None => lookup(&host, port)?,
        };
        service.set_ip_host(address).map_err(|()| no_address())?;
        Ok(Self {
            address,
            named: host.parse::<IpAddr>().is_err().then_some(host),
            service: Some(service),
            reference: String::new(),
            name: None,
            hardware: None,
            warnings: Vec::new(),
        })
    }
}

fn lookup(host: &str, port: u16) -> Result<IpAddr, String> {
    let (tell, told) = mpsc::channel();
    let name = host.to_owned();
    // A name server that hangs holds a thread, which is not waited for.
    std::thread::spawn(move || {
        let found = (name.as_str(), port).to_socket_addrs();
        let _ = tell.send(found.map(|mut all| all.next()));
    });
    let host = clean(host, 80);
    match told.recv_timeout(RESOLVE) {
        Ok(Ok(Some(SocketAddr::V4(address)))) => Ok((*address.ip()).into()),
        Ok(Ok(Some(SocketAddr::V6(address)))) => Ok((*address.ip()).into()),
        Ok(Ok(None)) => Err(format!("{host} has no address")),
        Ok(Err(error)) => Err(format!("{host} cannot be looked up: {error}")),
        Err(_) => Err(format!(
            "{host} cannot be looked up: the name server is silent"
        )),
    }
}

/// Asks all of them, some at a time. `done` hears of each as it is finished. In the order of
/// `targets`.
pub fn ask_all(
    targets: &[Target],
    login: Option<&Login>,
    done: impl Fn(&Device) + Sync,
) -> Vec<Device> {
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME.min(targets.len()) {
            scope.spawn(|| {
                while let Some((index, target)) = {
                    let index = next.fetch_add(1, Relaxed);
                    targets.get(index).map(|target| (index, target))
                } {
                    let device = Device::ask(target, login);
                    done(&device);
                    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                    found.push((index, device));
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_by_key(|(index, _)| *index);
    found.into_iter().map(|(_, device)| device).collect()
}

/// The URL's host, where it is an address. (`url` tells addresses from names in `http` only.)
pub fn host_ip(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(ip) => Some(ip.into()),
        Host::Ipv6(ip) => Some(ip.into()),
        Host::Domain(name) => name.parse().ok(),
    }
}

/// A stranger's text on one line: no control characters, none that turn the direction of writing or
/// are not seen, no runs of white space, `most` characters at most.
pub fn clean(text: &str, most: usize) -> String {
    let mut out = String::new();
    let mut count = 0;
    let mut gap = false;
    for c in text.chars() {
        let unseen = matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
        if c.is_whitespace() || c.is_control() || unseen {
            gap = count > 0;
            continue;
        }
        if count + usize::from(gap) >= most {
            out.push('…');
            break;
        }
        if gap {
            out.push(' ');
            count += 1;
            gap = false;
        }
        out.push(c);
        count += 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_one_clean_line() {
        assert_eq!(clean(" a\r\n\tb\u{1b}[2J\u{202e}c\0 ", 60), "a b [2J c");
        assert_eq!(clean(&"x".repeat(100), 5), "xxxxx…");
        assert_eq!(clean("Tür 1", 60), "Tür 1");
        assert_eq!(clean("a b", 2), "a…");
        assert_eq!(clean("\u{7}", 5), "");
    }

    #[test]
    fn targets_are_hosts_or_addresses_of_the_service() {
        let service = |text: &str| Target::named(text).map(|t| t.service.unwrap().to_string());
        let port = "http://127.0.0.1:8080/onvif/device_service";
        assert_eq!(service("127.0.0.1:8080").unwrap(), port);
        assert_eq!(service("::1").unwrap(), "http://[::1]/onvif/device_service");
        assert_eq!(
            service("[::1]:81").unwrap(),
            "http://[::1]:81/onvif/device_service"
        );
        assert_eq!(service("http://127.0.0.1/x").unwrap(), "http://127.0.0.1/x");
        let named = Target::named("localhost:81").unwrap();
        assert_eq!(named.named.as_deref(), Some("localhost"));
        assert!(named.address.is_loopback());
        for bad in [
            "",
            "https://127.0.0.1/",
            "http://a:b@127.0.0.1/",
            "a b",
            "127.0.0.1:99999",
        ] {
            assert!(Target::named(bad).is_err(), "{bad}");
        }
    }
}
