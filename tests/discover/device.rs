//! Scripted ONVIF devices on loopback addresses, and a responder for WS-Discovery on the loopback
//! interface.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use camring::onvif::xml::{self, Element};
use sha1::{Digest as _, Sha1};

const ENVELOPE: &str = "http://www.w3.org/2003/05/soap-envelope";
const NONCE: &str = "dcd98b7102dd2f0e8b11d0f600bfb0c093";

/// How a device asks who is there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Auth {
    None,
    /// WS-UsernameToken; refuses with a SOAP fault.
    Token,
    /// HTTP digest; refuses with 401.
    Digest,
    /// The same, with a nonce that is good for one request.
    DigestOnce,
    /// Wants the password in plain text.
    Basic,
}

/// What a device does instead of answering well.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Quirk {
    None,
    Silent,
    Drips,
    Bomb,
    Endless,
    Redirects,
    Garbage,
    Empty,
}

/// A stream: token, source, codec, width, height, and its address.
pub type Stream = (&'static str, &'static str, &'static str, u32, u32, String);

#[derive(Clone, Debug)]
pub struct Script {
    pub ip: [u8; 4],
    pub name: &'static str,
    pub auth: Auth,
    pub quirk: Quirk,
    /// `ver20`, `ver10` or both.
    pub media: &'static [&'static str],
    /// It is from before GetServices.
    pub old: bool,
    pub streams: Vec<Stream>,
    /// What it says its services are at, instead of where they are.
    pub claims: Option<String>,
    /// Seconds its clock is ahead.
    pub ahead: i64,
}

impl Script {
    pub fn new(ip: [u8; 4], name: &'static str) -> Self {
        Self {
            ip,
            name,
            auth: Auth::None,
            quirk: Quirk::None,
            media: &["ver20", "ver10"],
            old: false,
            streams: vec![(
                "p0",
                "s0",
                "H264",
                1280,
                720,
                format!("rtsp://{}/0", Ipv4Addr::from(ip)),
            )],
            claims: None,
            ahead: 0,
        }
    }
}

/// The login that devices accept.
pub const USER: &str = "viewer";
pub const PASSWORD: &str = "canary-pass/w@rd";

/// A running device. It ends when this is dropped.
#[derive(Debug)]
pub struct Device {
    pub script: Script,
    pub address: SocketAddr,
    /// All it was sent.
    pub requests: Arc<Mutex<Vec<String>>>,
    pub refusals: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Device {
    pub fn start(script: Script) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::from(script.ip), 0)).expect("a loopback port");
        let address = listener.local_addr().expect("an address");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let refusals = Arc::new(AtomicUsize::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let serving = Serving {
            script: script.clone(),
            address,
            requests: Arc::clone(&requests),
            refusals: Arc::clone(&refusals),
            used: AtomicUsize::new(0),
            stop: Arc::clone(&stop),
        };
        let thread = std::thread::spawn(move || {
            std::thread::scope(|scope| {
                for stream in listener.incoming() {
                    if serving.stop.load(Relaxed) {
                        break;
                    }
                    let serving = &serving;
                    scope.spawn(move || serving.serve(stream.expect("a client")));
                }
            });
        });
        Self {
            script,
            address,
            requests,
            refusals,
            stop,
            thread: Some(thread),
        }
    }

    pub fn service(&self) -> String {
        format!("http://{}/onvif/device_service", self.address)
    }

    pub fn said(&self) -> String {
        self.requests.lock().expect("no panic").join("\n")
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the device {} panicked", self.script.name);
        }
    }
}

struct Serving {
    script: Script,
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    refusals: Arc<AtomicUsize>,
    /// Nonces that have been used up.
    used: AtomicUsize,
    stop: Arc<AtomicBool>,
}

impl Serving {
    fn serve(&self, mut stream: TcpStream) {
        let Some((head, body)) = self.read(&mut stream) else {
            return;
        };
        let mut requests = self.requests.lock().expect("no panic");
        requests.push(format!("{head}{body}"));
        drop(requests);
        let ok = |text: &str| {
            format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
                text.len()
            )
        };
        let answer = match self.script.quirk {
            Quirk::None => self.answer(&head, &body),
            Quirk::Bomb => ok(
                "<!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;\">]><x>&b;</x>",
            ),
            Quirk::Garbage => ok("\u{1}\u{2}<<<>>>"),
            Quirk::Empty => String::new(),
            Quirk::Redirects => format!(
                "HTTP/1.1 307 Go\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n",
                self.script.claims.as_deref().expect("where to")
            ),
            Quirk::Silent | Quirk::Drips | Quirk::Endless => {
                return self.go_on(&mut stream);
            }
        };
        let _ = stream.write_all(answer.as_bytes());
    }

    /// Until the client leaves or the device ends.
    fn go_on(&self, stream: &mut TcpStream) {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/soap+xml\r\n\r\n";
        let piece = match self.script.quirk {
            Quirk::Endless => "<a>".repeat(20_000),
            Quirk::Drips => "<".to_owned(),
            _ => String::new(),
        };
        if !piece.is_empty() && stream.write_all(head.as_bytes()).is_err() {
            return;
        }
        stream.set_nonblocking(false).expect("a socket");
        let _ = stream.set_write_timeout(Some(Duration::from_millis(100)));
        let _ = stream.set_read_timeout(Some(Duration::from_millis(100)));
        while !self.stop.load(Relaxed) {
            if stream.write_all(piece.as_bytes()).is_err_and(|e| gone(&e)) {
                return;
            }
            if self.script.quirk != Quirk::Endless {
                match stream.read(&mut [0; 64]) {
                    Ok(0) => return,
                    Err(error) if gone(&error) => return,
                    _ => {}
                }
            }
        }
    }

    fn read(&self, stream: &mut TcpStream) -> Option<(String, String)> {
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .expect("a socket");
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let end = bytes.windows(4).position(|w| w == b"\r\n\r\n");
            if let Some(end) = end {
                let head = String::from_utf8(bytes[..end + 4].to_vec()).expect("UTF-8");
                let length = header(&head, "content-length")
                    .and_then(|l| l.parse::<usize>().ok())
                    .unwrap_or(0);
                if bytes.len() >= end + 4 + length {
                    let body = bytes[end + 4..].to_vec();
                    return Some((head, String::from_utf8(body).expect("UTF-8")));
                }
            }
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return None,
                Ok(n) => bytes.extend_from_slice(&buffer[..n]),
            }
        }
    }

    fn answer(&self, head: &str, body: &str) -> String {
        let root = xml::parse(body).expect("camring sends XML");
        let asked = &root.child("Body").expect("a body").children[0];
        let operation = asked.name.clone();
        let known = operation == "GetSystemDateAndTime" || self.knows(head, body, &root);
        if !known {
            // Asked without a login at first is no failed login.
            if header(head, "authorization").is_some() || body.contains("UsernameToken") {
                self.refusals.fetch_add(1, Relaxed);
            }
            return match self.script.auth {
                Auth::Digest | Auth::DigestOnce => {
                    let challenge = challenge(&self.nonce());
                    http("401 No", &format!("WWW-Authenticate: {challenge}\r\n"), "")
                }
                Auth::Basic => http("401 No", "WWW-Authenticate: Basic realm=\"cam\"\r\n", ""),
                _ => http(
                    "400 Bad Request",
                    "",
                    &envelope(
                        "<s:Fault><s:Code><s:Value>s:Sender</s:Value><s:Subcode><s:Value>\
                         ter:NotAuthorized</s:Value></s:Subcode></s:Code></s:Fault>",
                    ),
                ),
            };
        }
        let path = head.split(' ').nth(1).unwrap_or_default();
        let newer = path == "/onvif/media2";
        match self.content(&operation, asked, newer) {
            Some(text) => http(
                "200 OK",
                "",
                &envelope(&format!(
                    "<x:{operation}Response>{text}</x:{operation}Response>"
                )),
            ),
            None => http(
                "500 Error",
                "",
                &envelope(
                    "<s:Fault><s:Code><s:Value>s:Receiver</s:Value></s:Code><s:Reason><s:Text>\
                     Action Not\u{7f} Implemented</s:Text></s:Reason></s:Fault>",
                ),
            ),
        }
    }

    fn knows(&self, head: &str, body: &str, root: &Element) -> bool {
        match self.script.auth {
            Auth::None => true,
            Auth::Basic => false,
            Auth::Token => {
                let token = root.at(&["Header", "Security", "UsernameToken"]);
                token.is_some_and(|token| self.token(token))
            }
            Auth::Digest | Auth::DigestOnce => {
                let given = header(head, "authorization");
                let good = given.is_some_and(|given| digest(&given, body, &self.nonce()));
                if good && self.script.auth == Auth::DigestOnce {
                    self.used.fetch_add(1, Relaxed);
                }
                good
            }
        }
    }

    fn nonce(&self) -> String {
        format!("{NONCE}{}", self.used.load(Relaxed))
    }

    fn token(&self, token: &Element) -> bool {
        let text = |name: &str| token.text_at(&[name]).expect("a whole token").to_owned();
        let created = text("Created");
        let nonce = BASE64.decode(text("Nonce")).expect("base64");
        let mut hash = Sha1::new();
        hash.update(nonce);
        hash.update(&created);
        hash.update(PASSWORD);
        let now = jiff::Timestamp::now().as_second() + self.script.ahead;
        let made: jiff::Timestamp = created.parse().expect("a time");
        // A device gives a few seconds; this machine may be busy.
        (made.as_second() - now).abs() < 300
            && text("Username") == USER
            && text("Password") == BASE64.encode(hash.finalize())
    }

    fn content(&self, operation: &str, asked: &Element, newer: bool) -> Option<String> {
        let base = match &self.script.claims {
            Some(claims) => claims.clone(),
            None => format!("http://{}", self.address),
        };
        let script = &self.script;
        Some(match operation {
            "GetSystemDateAndTime" => {
                let now = jiff::Timestamp::now().as_second() + script.ahead;
                let now = jiff::Timestamp::from_second(now).expect("a time");
                let now = now.to_zoned(jiff::tz::TimeZone::UTC);
                format!(
                    "<SystemDateAndTime><UTCDateTime><Time><Hour>{}</Hour><Minute>{}</Minute><Second>{}\
                     </Second></Time><Date><Year>{}</Year><Month>{}</Month><Day>{}</Day></Date>\
                     </UTCDateTime></SystemDateAndTime>",
                    now.hour(),
                    now.minute(),
                    now.second(),
                    now.year(),
                    now.month(),
                    now.day()
                )
            }
            "GetDeviceInformation" => format!(
                "<Manufacturer>Acme</Manufacturer><Model>{}</Model><FirmwareVersion>1.2&#x1b;[31m\
                 </FirmwareVersion><SerialNumber>SN1</SerialNumber>",
                script.name
            ),
            "GetServices" if !script.old => {
                let service = |version: &&str, path: &str| {
                    format!(
                        "<Service><Namespace>http://www.onvif.org/{version}/media/wsdl</Namespace>\
                         <XAddr>{base}/onvif/{path}</XAddr></Service>"
                    )
                };
                let path = |version: &&str| {
                    if *version == "ver20" {
                        "media2"
                    } else {
                        "media"
                    }
                };
                let each = script.media.iter().map(|v| service(v, path(v)));
                each.collect()
            }
            "GetCapabilities" => format!(
                "<Capabilities><Media><XAddr>{base}/onvif/media</XAddr></Media></Capabilities>"
            ),
            "GetProfiles" => {
                let each = script.streams.iter().map(|(token, source, codec, w, h, _)| {
                    let source = format!("<SourceToken>{source}</SourceToken>");
                    let encoder = format!(
                        "<Encoding>{codec}</Encoding><Resolution><Width>{w}</Width><Height>{h}</Height>\
                         </Resolution><RateControl><FrameRateLimit>25</FrameRateLimit></RateControl>"
                    );
                    match newer {
                        true => format!(
                            "<x:Profiles token=\"{token}\"><Name>{token}</Name><Configurations>\
                             <VideoSource>{source}</VideoSource><VideoEncoder>{encoder}</VideoEncoder>\
                             </Configurations></x:Profiles>"
                        ),
                        false => format!(
                            "<x:Profiles token=\"{token}\"><Name>{token}</Name><VideoSourceConfiguration>\
                             {source}</VideoSourceConfiguration><VideoEncoderConfiguration>{encoder}\
                             </VideoEncoderConfiguration></x:Profiles>"
                        ),
                    }
                });
                each.collect()
            }
            "GetStreamUri" => {
                let token = asked.text_at(&["ProfileToken"]).expect("a token");
                let stream = script.streams.iter().find(|s| s.0 == token)?;
                let uri = stream.5.replace('&', "&amp;");
                match newer {
                    true => format!("<Uri>{uri}</Uri>"),
                    false => format!("<MediaUri><Uri>{uri}</Uri></MediaUri>"),
                }
            }
            _ => return None,
        })
    }
}

fn challenge(nonce: &str) -> String {
    format!("Digest realm=\"cam\", nonce=\"{nonce}\", qop=\"auth\", algorithm=MD5")
}

/// RFC 7616, with the client's own code for the sum: only its inputs are this side's.
fn digest(given: &str, body: &str, nonce: &str) -> bool {
    let field = |name: &str| {
        let at = given.find(&format!("{name}="))? + name.len() + 1;
        let rest = given[at..].trim_start_matches('"');
        Some(rest[..rest.find(['"', ',']).unwrap_or(rest.len())].to_owned())
    };
    let challenge = challenge(nonce);
    let challenges = http_auth::parse_challenges(&challenge).expect("a challenge");
    let mut client = http_auth::DigestClient::try_from(&challenges[0]).expect("a digest");
    let uri = field("uri").expect("a uri");
    let wanted = |client: &mut http_auth::DigestClient| {
        let params = http_auth::PasswordParams {
            username: USER,
            password: PASSWORD,
            uri: &uri,
            method: "POST",
            body: Some(body.as_bytes()),
        };
        let cnonce = field("cnonce").expect("a cnonce");
        client
            .respond_with_testing_cnonce(&params, &cnonce)
            .expect("an answer")
    };
    // The count of uses is part of the sum: up to this one.
    let count = u32::from_str_radix(&field("nc").expect("nc"), 16).expect("hex");
    if !given.contains(&format!(" nonce=\"{nonce}\"")) {
        return false;
    }
    let last = (0..count.min(100)).map(|_| wanted(&mut client)).last();
    let response = |text: &str| {
        let at = text.find("response=\"").map(|at| at + 10)?;
        text.get(at..at + 32).map(str::to_owned)
    };
    last.is_some_and(|last| response(&last).is_some() && response(&last) == response(given))
}

fn gone(error: &std::io::Error) -> bool {
    use std::io::ErrorKind as K;
    !matches!(error.kind(), K::WouldBlock | K::TimedOut | K::Interrupted)
}

fn header(head: &str, name: &str) -> Option<String> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name)
            .then(|| value.trim().to_owned())
    })
}

fn http(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn envelope(body: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"{ENVELOPE}\" xmlns:x=\"x\" xmlns:ter=\"t\">\
         <s:Body>{body}</s:Body></s:Envelope>"
    )
}

/// Answers probes on the loopback interface, for all of these devices, until it is dropped.
#[derive(Debug)]
pub struct Responder {
    pub port: u16,
    pub probes: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Responder {
    /// `answers`: from which address, and the datagram.
    pub fn start(answers: Vec<([u8; 4], Vec<u8>)>) -> Self {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a port");
        let group = camring::onvif::discovery::GROUP;
        socket
            .join_multicast_v4(&group, &Ipv4Addr::LOCALHOST)
            .expect("the loopback interface has multicast");
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .expect("a socket");
        let port = socket.local_addr().expect("an address").port();
        let stop = Arc::new(AtomicBool::new(false));
        let probes = Arc::new(AtomicUsize::new(0));
        let (ends, counted) = (Arc::clone(&stop), Arc::clone(&probes));
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while !ends.load(Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else {
                    continue;
                };
                let text = std::str::from_utf8(&buffer[..length]).expect("UTF-8");
                let root = xml::parse(text).expect("a probe is XML");
                assert!(root.at(&["Body", "Probe", "Types"]).is_some(), "{text}");
                counted.fetch_add(1, Relaxed);
                for (ip, answer) in &answers {
                    let socket = UdpSocket::bind((Ipv4Addr::from(*ip), 0)).expect("a port");
                    socket.send_to(answer, from).expect("it is sent");
                }
            }
        });
        Self {
            port,
            probes,
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the responder panicked");
        }
    }
}

/// The answer of one device to a probe.
pub fn answer(reference: &str, name: &str, xaddrs: &str) -> Vec<u8> {
    envelope(&format!(
        "<ProbeMatches><ProbeMatch><EndpointReference><Address>urn:uuid:{reference}</Address>\
         </EndpointReference><Types>dn:NetworkVideoTransmitter</Types><Scopes>\
         onvif://www.onvif.org/name/{name} onvif://www.onvif.org/hardware/HW</Scopes><XAddrs>{xaddrs}\
         </XAddrs></ProbeMatch></ProbeMatches>"
    ))
    .into_bytes()
}
