//! WS-Discovery: who on the local network says that it is an ONVIF device.
//!
//! Probes go to the multicast group of each chosen IPv4 interface, with a time to live of one, so
//! they cross no router. Answers are allegations by anybody: bounded in size, number and time, and
//! an answer counts only for the address it came from. An address in it that is another is named in a
//! warning and never contacted.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use nix::net::if_::InterfaceFlags;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use url::Url;

use super::xml::{self, Element};
use super::{clean, host_ip};

/// Where devices listen (WS-Discovery 1.0, section 2.4).
pub const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 255, 250);
/// The port of [`GROUP`].
pub const PORT: u16 = 3702;
/// Devices that are looked at; the rest is said to be left out.
pub const MAX_DEVICES: usize = 256;
/// Answers that are read at most: somebody may send them without end.
const MAX_DATAGRAMS: usize = 20_000;
/// The largest UDP datagram.
const DATAGRAM: usize = 65_535;
/// Addresses that a device may give itself.
const MAX_ADDRESSES: usize = 16;
/// Probes are lost like any datagram: each is sent this often, evenly within the first half of the time.
const REPEATS: u32 = 3;

/// An IPv4 address of an interface of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub address: Ipv4Addr,
}

/// The interfaces to ask on: those named (by name or address), or all that are up, know multicast and
/// are not the loopback.
///
/// # Errors
/// One that is named has no IPv4 address or does not exist: the text lists those that do.
pub fn interfaces(wanted: &[String]) -> io::Result<Vec<Interface>> {
    let mut all = Vec::new();
    let mut usual = Vec::new();
    for each in nix::ifaddrs::getifaddrs()? {
        let address = each.address.as_ref().and_then(|a| a.as_sockaddr_in());
        let (Some(address), true) = (address, each.flags.contains(InterfaceFlags::IFF_UP)) else {
            continue;
        };
        let interface = Interface {
            name: each.interface_name,
            address: address.ip(),
        };
        if each.flags.contains(InterfaceFlags::IFF_MULTICAST)
            && !each.flags.contains(InterfaceFlags::IFF_LOOPBACK)
        {
            usual.push(interface.clone());
        }
        all.push(interface);
    }
    if wanted.is_empty() {
        return Ok(usual);
    }
    let mut chosen = Vec::new();
    for name in wanted {
        let found = all
            .iter()
            .filter(|i| i.name == *name || i.address.to_string() == *name);
        let before = chosen.len();
        chosen.extend(found.cloned());
        if chosen.len() == before {
            let there: Vec<_> = all
                .iter()
                .map(|i| format!("{} ({})", i.name, i.address))
                .collect();
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!(
                    "no interface {name:?} is up with an IPv4 address; there are: {}",
                    there.join(", ")
                ),
            ));
        }
    }
    Ok(chosen)
}

/// A device that has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Where the answer came from.
    pub address: IpAddr,
    /// Its device service, at that very address; `None`: it names none there.
    pub service: Option<Url>,
    /// What it calls itself for good: a UUID, mostly.
    pub reference: String,
    /// From its scopes.
    pub name: Option<String>,
    pub hardware: Option<String>,
    /// Hosts of other addresses that it names. Not contacted.
    pub elsewhere: Vec<String>,
}

/// Who has answered.
#[derive(Debug, Default)]
pub struct Heard {
    pub answers: Vec<Answer>,
    /// Datagrams that were no answer.
    pub rejected: usize,
    /// Devices beyond [`MAX_DEVICES`].
    pub left_out: usize,
}

/// Asks on all of `interfaces`, and listens for `time`.
///
/// # Errors
/// No socket could be had, or nothing could be sent on any interface.
pub fn probe(interfaces: &[Interface], port: u16, time: Duration) -> io::Result<Heard> {
    let mut sockets = Vec::new();
    for interface in interfaces {
        let socket = UdpSocket::bind(SocketAddrV4::new(interface.address, 0))?;
        socket.set_nonblocking(true)?;
        rustix::net::sockopt::set_ip_multicast_if(&socket, &interface.address)?;
        rustix::net::sockopt::set_ip_multicast_ttl(&socket, 1)?;
        // A device on this very machine is one, too.
        rustix::net::sockopt::set_ip_multicast_loop(&socket, true)?;
        sockets.push(socket);
    }
    let messages = ["dn:NetworkVideoTransmitter", "tds:Device"].map(message);
    let start = Instant::now();
    let mut sent = 0;
    let mut heard = Heard::default();
    let mut seen = HashSet::new();
    let mut datagrams = 0;
    let mut buffer = vec![0; DATAGRAM];
    loop {
        if sent < REPEATS && start.elapsed() >= time / (2 * REPEATS) * sent {
            let mut fault = None;
            let mut good = 0;
            for socket in &sockets {
                for message in &messages {
                    match socket.send_to(message.as_bytes(), (GROUP, port)) {
                        Ok(_) => good += 1,
                        Err(error) => fault = Some(error),
                    }
                }
            }
            if let (Some(error), 0) = (fault, good + sent) {
                return Err(error);
            }
            sent += 1;
            continue;
        }
        let next = match sent < REPEATS {
            true => time / (2 * REPEATS) * sent,
            false => time,
        };
        let left = next.saturating_sub(start.elapsed());
        if start.elapsed() >= time || datagrams >= MAX_DATAGRAMS {
            break;
        }
        let mut waits: Vec<_> = sockets
            .iter()
            .map(|socket| PollFd::new(socket, PollFlags::IN))
            .collect();
        let left = Timespec::try_from(left.max(Duration::from_millis(1))).ok();
        match poll(&mut waits, left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for socket in &sockets {
            // A few of each, so that one that floods leaves the others their turn.
            for _ in 0..64 {
                // An error such as ECONNREFUSED belongs to a datagram sent earlier.
                let Ok((length, from)) = socket.recv_from(&mut buffer) else {
                    break;
                };
                datagrams += 1;
                take(&buffer[..length], from, &mut seen, &mut heard);
            }
        }
    }
    heard.answers.sort_by_key(|answer| answer.address);
    Ok(heard)
}

fn take(
    datagram: &[u8],
    from: SocketAddr,
    seen: &mut HashSet<(IpAddr, Option<Url>)>,
    heard: &mut Heard,
) {
    let answers = match std::str::from_utf8(datagram).map(xml::parse) {
        Ok(Ok(root)) => answers(&root, from.ip()),
        _ => Vec::new(),
    };
    if answers.is_empty() {
        heard.rejected += 1;
    }
    for answer in answers {
        if seen.contains(&(answer.address, answer.service.clone())) {
            continue;
        }
        if heard.answers.len() >= MAX_DEVICES {
            heard.left_out += 1;
            continue;
        }
        seen.insert((answer.address, answer.service.clone()));
        heard.answers.push(answer);
    }
}

/// The devices in one datagram.
pub fn answers(root: &Element, from: IpAddr) -> Vec<Answer> {
    let Some(matches) = root.at(&["Body", "ProbeMatches"]) else {
        return Vec::new();
    };
    let each = matches.all("ProbeMatch").take(MAX_ADDRESSES);
    each.map(|found| answer(found, from)).collect()
}

fn answer(found: &Element, from: IpAddr) -> Answer {
    let addresses = found.text_at(&["XAddrs"]).unwrap_or_default();
    let mut service = None;
    let mut elsewhere = Vec::new();
    for address in addresses.split_whitespace().take(MAX_ADDRESSES) {
        match Url::parse(address) {
            Ok(url) if url.scheme() == "http" && host_ip(&url) == Some(from) => {
                service.get_or_insert(url);
            }
            Ok(url) if host_ip(&url) == Some(from) => {
                elsewhere.push(format!("{}, which is not http://", clean(address, 60)));
            }
            Ok(url) => elsewhere.push(clean(url.host_str().unwrap_or("no host"), 60)),
            Err(_) => elsewhere.push("what is no URL".to_owned()),
        }
    }
    let scopes = found.text_at(&["Scopes"]).unwrap_or_default();
    let scope = |kind: &str| {
        let mut scopes = scopes.split_whitespace().take(256);
        let value = scopes.find_map(|scope| {
            let rest = scope.strip_prefix("onvif://www.onvif.org/")?;
            rest.strip_prefix(kind)?.strip_prefix('/')
        })?;
        let decoded = percent_decode(value);
        let text = clean(&decoded, 60);
        (!text.is_empty()).then_some(text)
    };
    let reference = found.text_at(&["EndpointReference", "Address"]);
    Answer {
        address: from,
        service,
        reference: clean(reference.unwrap_or_default(), 100),
        name: scope("name"),
        hardware: scope("hardware"),
        elsewhere,
    }
}

/// `A%20B`; what is no UTF-8 afterwards becomes question marks of Unicode.
fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        let hex = more.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex.filter(|hex| *first == b'%' && hex.bytes().all(|b| b.is_ascii_hexdigit()));
        match byte.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &more[2..];
            }
            None => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn message(types: &str) -> String {
    let id = super::soap::uuid();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
         <s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\" \
         xmlns:a=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\" \
         xmlns:d=\"http://schemas.xmlsoap.org/ws/2005/04/discovery\" \
         xmlns:dn=\"http://www.onvif.org/ver10/network/wsdl\" \
         xmlns:tds=\"http://www.onvif.org/ver10/device/wsdl\">\
         <s:Header><a:Action>http://schemas.xmlsoap.org/ws/2005/04/discovery/Probe</a:Action>\
         <a:MessageID>urn:uuid:{id}</a:MessageID>\
         <a:ReplyTo><a:Address>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous\
         </a:Address></a:ReplyTo>\
         <a:To>urn:schemas-xmlsoap-org:ws:2005:04:discovery</a:To></s:Header>\
         <s:Body><d:Probe><d:Types>{types}</d:Types></d:Probe></s:Body></s:Envelope>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(xaddrs: &str, scopes: &str) -> Answer {
        let text = format!(
            "<e><Body><ProbeMatches><ProbeMatch><EndpointReference><Address>urn:uuid:1</Address>\
             </EndpointReference><Scopes>{scopes}</Scopes><XAddrs>{xaddrs}</XAddrs></ProbeMatch>\
             </ProbeMatches></Body></e>"
        );
        let root = xml::parse(&text).unwrap();
        answers(&root, "192.0.2.7".parse().unwrap()).remove(0)
    }

    #[test]
    fn only_the_address_that_answered_is_believed() {
        let answer = heard(
            "http://169.254.1.1/onvif/device_service http://192.0.2.7:8080/onvif/device_service",
            "",
        );
        let service = answer.service.unwrap();
        assert_eq!(
            service.as_str(),
            "http://192.0.2.7:8080/onvif/device_service"
        );
        assert_eq!(answer.elsewhere, ["169.254.1.1"]);
        for bad in [
            "http://192.0.2.8/x",
            "http://192.0.2.7@evil.example/x",
            "http://evil.example/192.0.2.7",
            "https://192.0.2.7/x",
            "ftp://192.0.2.7/",
            "x",
            "http://[::1]/",
        ] {
            let answer = heard(bad, "");
            assert_eq!(answer.service, None, "{bad}");
            assert_eq!(answer.elsewhere.len(), 1, "{bad}");
        }
        assert_eq!(heard("", "").service, None);
    }

    #[test]
    fn names_come_from_scopes_and_are_clean() {
        let scopes = "onvif://www.onvif.org/type/video onvif://www.onvif.org/name/Front%20Door%1B%5B31m \
                      onvif://www.onvif.org/hardware/X%zz%ff";
        let answer = heard("", scopes);
        assert_eq!(answer.name.as_deref(), Some("Front Door [31m"));
        assert_eq!(answer.hardware.as_deref(), Some("X%zz\u{fffd}"));
    }

    #[test]
    fn floods_are_bounded() {
        let mut heard = Heard::default();
        let mut seen = HashSet::new();
        let text = "<e><Body><ProbeMatches><ProbeMatch/></ProbeMatches></Body></e>";
        for n in 0..2_000u32 {
            let from = SocketAddr::new(Ipv4Addr::from(n).into(), 1);
            take(text.as_bytes(), from, &mut seen, &mut heard);
            take(b"\xff", from, &mut seen, &mut heard);
        }
        assert_eq!(heard.answers.len(), MAX_DEVICES);
        assert_eq!(seen.len(), MAX_DEVICES);
        assert_eq!(heard.left_out, 2_000 - MAX_DEVICES);
        assert_eq!(heard.rejected, 2_000);
    }

    #[test]
    fn the_loopback_is_asked_only_where_it_is_named() {
        let local = |i: &Interface| i.address.is_loopback();
        assert!(!interfaces(&[]).unwrap().iter().any(local));
        assert!(interfaces(&["lo".into()]).unwrap().iter().any(local));
        assert!(interfaces(&["127.0.0.1".into()]).unwrap().iter().any(local));
        let error = interfaces(&["none0".into()]).unwrap_err().to_string();
        assert!(
            error.contains("none0") && error.contains("lo (127.0.0.1)"),
            "{error}"
        );
    }
}
