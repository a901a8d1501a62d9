//! From what was written to what follows from it: defaults, overrides, ranges, references.
//!
//! Goes on after a problem with the value that would hold without the bad key, so that one run
//! finds as much as it can. If there was any problem, the result is thrown away.

use std::collections::HashMap;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde_spanned::Spanned;
use url::Url;

use super::error::{Problem, nearest};
use super::memory;
use super::raw::{
    DurationText, Field, RawCamera, RawConfig, RawCpu, RawDecode, RawLimits, RawRetry, RawRing,
    RawSite, RawStream, SizeText,
};
use super::site::{Client, Cpu, Decode, DecodeMode, Limits, Retry, Ring, Site, Stream, Transport};
use super::value::{self, Environment, ReferenceFault, show_duration, show_size};

/// Where relative to the runtime directory the attach socket is; `sun_path` has 108 bytes.
const LONGEST_RUNTIME_DIR: usize = 107 - "/attach.sock".len();

/// Everything that is wrong goes to `problems`, what is doubtful to `warnings`.
pub struct Resolver<'a> {
    source: &'a str,
    environment: &'a Environment,
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
    /// The last setting of memory that was complained about: once is enough for all its cameras.
    memory_at: Option<Range<usize>>,
}

/// What a stream starts from.
#[derive(Clone)]
struct Base {
    ring: Ring,
    decode: Decode,
    retry: Retry,
    memory: u64,
    memory_at: Option<Range<usize>>,
    transport: Transport,
    client: Client,
    cpu: Cpu,
    enabled: bool,
    username: Option<(String, Range<usize>)>,
    password: Option<(SecretString, Range<usize>)>,
}

impl<'a> Resolver<'a> {
    /// `source` is what problems point into.
    pub fn new(source: &'a str, environment: &'a Environment) -> Self {
        Self {
            source,
            environment,
            problems: Vec::new(),
            warnings: Vec::new(),
            memory_at: None,
        }
    }

    /// The site, if there are no problems.
    pub fn site(&mut self, raw: &RawConfig) -> Site {
        let name = self.site_name(&raw.site);
        let data_dir = self.folder("data_dir", &raw.site.data_dir, Site::DEFAULT_DATA_DIR);
        let runtime_dir = self.runtime_dir(&raw.site);
        let ring = self.ring(Ring::default(), &raw.ring, None);
        let decode = self.decode(Decode::default(), &raw.decode, None);
        let retry = self.retry(Retry::default(), &raw.retry, None);
        let limits = self.limits(&raw.limits);
        let base = Base {
            ring,
            decode,
            retry,
            memory: limits.memory_per_camera,
            memory_at: place(&raw.limits.memory_per_camera),
            transport: Transport::Tcp,
            client: Client::Retina,
            cpu: Cpu::Auto,
            enabled: true,
            username: None,
            password: None,
        };
        let mut streams = Vec::new();
        let mut cameras = HashMap::new();
        for camera in &raw.cameras {
            self.camera(camera, &base, &mut cameras, &mut streams);
        }
        let site = Site {
            name,
            data_dir,
            runtime_dir,
            ring,
            decode,
            limits,
            retry,
            streams,
        };
        self.whole(raw, &site);
        site
    }

    fn site_name(&mut self, raw: &RawSite) -> String {
        let Some(written) = raw.name.set() else {
            return Site::DEFAULT_NAME.to_owned();
        };
        let text = written.get_ref();
        if text.is_empty() || text.chars().count() > 64 || text.chars().any(char::is_control) {
            self.problems.push(
                Problem::new("`name` cannot be used", written.span())
                    .label("must have 1 to 64 characters, and no control characters"),
            );
        }
        text.clone()
    }

    /// `runtime_dir` of `[site]`.
    pub fn runtime_dir(&mut self, raw: &RawSite) -> PathBuf {
        let runtime_dir = self.folder("runtime_dir", &raw.runtime_dir, Site::DEFAULT_RUNTIME_DIR);
        let length = runtime_dir.as_os_str().len();
        if let Some(written) = raw.runtime_dir.set()
            && length > LONGEST_RUNTIME_DIR
        {
            self.problems.push(
                Problem::new("`runtime_dir` is too long", written.span())
                    .label(format!(
                        "has {length} bytes, the most is {LONGEST_RUNTIME_DIR}"
                    ))
                    .help("the attach socket lies in it, and Linux limits the path of a socket"),
            );
        }
        runtime_dir
    }

    fn folder(&mut self, key: &str, written: &Field<String>, default: &str) -> PathBuf {
        let Some(written) = written.set() else {
            return PathBuf::from(default);
        };
        let path = PathBuf::from(written.get_ref());
        if !path.is_absolute() || written.get_ref().chars().any(char::is_control) {
            self.problems.push(
                Problem::new(format!("`{key}` is not an absolute path"), written.span())
                    .label(format!("must begin with `/`, such as {default:?}")),
            );
        }
        path
    }

    fn number(
        &mut self,
        key: &str,
        written: &Field<i64>,
        allowed: RangeInclusive<u32>,
        camera: Option<&str>,
    ) -> Option<u32> {
        let written = written.set()?;
        let number = u32::try_from(*written.get_ref())
            .ok()
            .filter(|n| allowed.contains(n));
        if number.is_none() {
            self.problems.push(
                Problem::new(format!("`{key}` is out of range"), written.span())
                    .camera(camera)
                    .label(format!(
                        "must be from {} to {}",
                        allowed.start(),
                        allowed.end()
                    )),
            );
        }
        number
    }

    fn size(
        &mut self,
        key: &str,
        written: &Field<SizeText>,
        allowed: RangeInclusive<u64>,
        camera: Option<&str>,
    ) -> Option<u64> {
        let written = written.set()?;
        let Some(size) = value::size(&written.get_ref().0) else {
            self.problems.push(
                Problem::new(format!("`{key}` is not a size"), written.span())
                    .camera(camera)
                    .label("must be a number and a unit, such as \"8MiB\" or \"2GiB\""),
            );
            return None;
        };
        if !allowed.contains(&size) {
            let (least, most) = (show_size(*allowed.start()), show_size(*allowed.end()));
            self.problems.push(
                Problem::new(format!("`{key}` is out of range"), written.span())
                    .camera(camera)
                    .label(format!("is {size} bytes, must be from {least} to {most}")),
            );
            return None;
        }
        Some(size)
    }

    fn duration(
        &mut self,
        key: &str,
        written: &Field<DurationText>,
        camera: Option<&str>,
    ) -> Option<Duration> {
        let written = written.set()?;
        let Some(duration) = value::duration(&written.get_ref().0) else {
            self.problems.push(
                Problem::new(format!("`{key}` is not a duration"), written.span())
                    .camera(camera)
                    .label("must be a number and a unit, such as \"500ms\", \"10s\" or \"5m\""),
            );
            return None;
        };
        let allowed = Retry::SHORTEST..=Retry::LONGEST;
        if !allowed.contains(&duration) {
            let (least, most) = (
                show_duration(*allowed.start()),
                show_duration(*allowed.end()),
            );
            self.problems.push(
                Problem::new(format!("`{key}` is out of range"), written.span())
                    .camera(camera)
                    .label(format!("must be from {least} to {most}")),
            );
            return None;
        }
        Some(duration)
    }

    /// One of several words.
    fn word<T: Copy>(
        &mut self,
        key: &str,
        written: &Field<String>,
        allowed: &[(&str, T)],
        camera: Option<&str>,
    ) -> Option<T> {
        let written = written.set()?;
        let text = written.get_ref().as_str();
        if let Some((_, value)) = allowed.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let words: Vec<_> = allowed.iter().map(|(word, _)| *word).collect();
        let quoted: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
        let mut problem = Problem::new(format!("`{key}` has an unknown value"), written.span())
            .camera(camera)
            .label(format!("must be {}", quoted.join(" or ")));
        if let Some(near) = nearest(text, &words) {
            problem = problem.help(format!("did you mean {near:?}?"));
        }
        self.problems.push(problem);
        None
    }

    fn ring(&mut self, base: Ring, raw: &RawRing, camera: Option<&str>) -> Ring {
        let packets = Ring::MIN_PACKETS..=Ring::MAX_PACKETS;
        Ring {
            depth: self
                .number("depth", &raw.depth, 1..=Ring::MAX_DEPTH, camera)
                .unwrap_or(base.depth),
            pins: self
                .number("pins", &raw.pins, 1..=Ring::MAX_PINS, camera)
                .unwrap_or(base.pins),
            packets: self
                .size("packets", &raw.packets, packets, camera)
                .unwrap_or(base.packets),
        }
    }

    fn decode(&mut self, base: Decode, raw: &RawDecode, camera: Option<&str>) -> Decode {
        let mut decode = base;
        // Modes that are announced, so that people try them.
        let later = ["on-demand", "activity"];
        match raw.mode.set() {
            Some(written) if later.contains(&written.get_ref().as_str()) => self.problems.push(
                Problem::new(
                    format!(
                        "`mode = {:?}` is not available in this version",
                        written.get_ref()
                    ),
                    written.span(),
                )
                .camera(camera)
                .label("must be \"always\" or \"keyframes\""),
            ),
            _ => {
                let modes =
                    [DecodeMode::Always, DecodeMode::KeyFrames].map(|mode| (mode.name(), mode));
                if let Some(mode) = self.word("mode", &raw.mode, &modes, camera) {
                    decode.mode = mode;
                }
            }
        }
        if let Some(threads) = self.number("threads", &raw.threads, 1..=Decode::MAX_THREADS, camera)
        {
            decode.threads = threads;
        }
        if let Some(written) = raw.max_fps.set() {
            let fps = *written.get_ref();
            if fps == 0.0 {
                decode.max_fps = None;
            } else if (Decode::MIN_MAX_FPS..=Decode::MAX_MAX_FPS).contains(&fps) {
                decode.max_fps = Some(fps as f32);
            } else {
                self.problems.push(
                    Problem::new("`max_fps` is out of range", written.span())
                        .camera(camera)
                        .label(format!(
                            "must be 0 for all frames, or from {} to {}",
                            Decode::MIN_MAX_FPS,
                            Decode::MAX_MAX_FPS
                        )),
                );
            }
        }
        decode
    }

    fn limits(&mut self, raw: &RawLimits) -> Limits {
        let mut limits = Limits::default();
        // The spawner and one reader.
        let processes = 2..=Limits::MAX_MAX_PROCESSES;
        if let Some(most) = self.number("max_processes", &raw.max_processes, processes, None) {
            limits.max_processes = most;
        }
        if let Some(memory) = self.size("memory_per_camera", &raw.memory_per_camera, MEMORY, None) {
            limits.memory_per_camera = memory;
        }
        match raw.memory_total.set() {
            Some(written) if written.get_ref().0 == "auto" => {}
            _ => limits.memory_total = self.size("memory_total", &raw.memory_total, MEMORY, None),
        }
        limits
    }

    fn retry(&mut self, base: Retry, raw: &RawRetry, camera: Option<&str>) -> Retry {
        let mut retry = base;
        macro_rules! durations {
            ($($key:ident)*) => {
                $(if let Some(duration) = self.duration(stringify!($key), &raw.$key, camera) {
                    retry.$key = duration;
                })*
            };
        }
        durations! {
            initial max stable_after unauthorized
            connect_timeout first_frame_timeout stall_timeout decode_timeout
        }
        if retry.initial > retry.max
            && let Some(span) = place(&raw.initial).or(place(&raw.max))
        {
            self.problems.push(
                Problem::new("`initial` is longer than `max`", span)
                    .camera(camera)
                    .label(format!(
                        "`initial` is {}, `max` is {}",
                        show_duration(retry.initial),
                        show_duration(retry.max)
                    )),
            );
        }
        retry
    }

    fn camera(
        &mut self,
        raw: &RawCamera,
        base: &Base,
        cameras: &mut HashMap<String, Range<usize>>,
        streams: &mut Vec<Stream>,
    ) {
        let own = &raw.own;
        let name = self.name(own, "[[camera]]", None, cameras);
        // Messages need one even if it is no good.
        let shown = own.name.set().map(|name| name.get_ref().as_str());
        let base = self.layer(base.clone(), own, shown);
        let Some(raw_streams) = &raw.streams else {
            let Some(url) = own.url.set() else {
                if own.url.is_absent() {
                    self.problems.push(
                        Problem::new("`url` is missing", own.span.clone())
                            .camera(shown)
                            .label("needs `url = \"rtsp://…\"`, or one [[camera.stream]] or more"),
                    );
                }
                return;
            };
            if let Some(stream) = self.stream(name, None, true, url, base, own, shown) {
                streams.push(stream);
            }
            return;
        };
        if let Some(url) = own.url.set() {
            let mut problem = Problem::new("both `url` and `stream` are written", url.span())
                .camera(shown)
                .label("a camera with streams has its URLs in them");
            if let Some(stream) = raw_streams.first() {
                problem = problem.related(stream.span.clone(), "the first stream");
            }
            self.problems.push(problem);
        } else if raw_streams.is_empty() && !raw.faulty {
            self.problems.push(
                Problem::new("the camera has no stream", own.span.clone())
                    .camera(shown)
                    .label("needs `url = \"rtsp://…\"`, or one [[camera.stream]] or more"),
            );
        }
        let mut names = HashMap::new();
        for (index, raw) in raw_streams.iter().enumerate() {
            let stream_name = self.name(raw, "[[camera.stream]]", shown, &mut names);
            let id = match (shown, raw.name.set()) {
                (Some(camera), Some(stream)) => Some(format!("{camera}/{}", stream.get_ref())),
                (camera, _) => camera.map(str::to_owned),
            };
            let base = self.layer(base.clone(), raw, id.as_deref());
            match raw.url.set() {
                Some(url) => {
                    let names = name.clone().zip(stream_name);
                    let (camera, stream) = names.unzip();
                    let first = index == 0;
                    let id = id.as_deref();
                    if let Some(stream) = self.stream(camera, stream, first, url, base, raw, id) {
                        streams.push(stream);
                    }
                }
                None if raw.url.is_absent() => self.problems.push(
                    Problem::new("`url` is missing", raw.span.clone())
                        .camera(id.as_deref())
                        .label("needs `url = \"rtsp://…\"`"),
                ),
                None => {}
            }
        }
    }

    /// A name that is good and not taken.
    fn name(
        &mut self,
        raw: &RawStream,
        table: &str,
        camera: Option<&str>,
        taken: &mut HashMap<String, Range<usize>>,
    ) -> Option<String> {
        let Some(written) = raw.name.set() else {
            if raw.name.is_absent() {
                self.problems.push(
                    Problem::new(format!("{table} has no `name`"), raw.span.clone())
                        .camera(camera)
                        .label("needs a name, such as `name = \"front-door\"`"),
                );
            }
            return None;
        };
        let name = written.get_ref();
        if let Some(fault) = value::name_fault(name) {
            self.problems.push(
                Problem::new("`name` cannot be used", written.span())
                    .camera(camera)
                    .label(fault),
            );
            return None;
        }
        if let Some(first) = taken.get(name) {
            let what = if camera.is_some() { "stream" } else { "camera" };
            self.problems.push(
                Problem::new(format!("there are two {what}s `{name}`"), written.span())
                    .camera(camera)
                    .label("the second; give it another name")
                    .related(first.clone(), "the first"),
            );
            return None;
        }
        taken.insert(name.clone(), written.span());
        Some(name.clone())
    }

    /// What is written in `[[camera]]` or `[[camera.stream]]`, over what held without it.
    fn layer(&mut self, mut base: Base, raw: &RawStream, camera: Option<&str>) -> Base {
        base.ring = self.ring(base.ring, &raw.ring, camera);
        base.decode = self.decode(base.decode, &raw.decode, camera);
        base.retry = self.retry(base.retry, &raw.retry, camera);
        if let Some(memory) = self.size("memory", &raw.memory, MEMORY, camera) {
            base.memory = memory;
            base.memory_at = place(&raw.memory);
        }
        let transports = [Transport::Tcp, Transport::Udp].map(|it| (it.name(), it));
        if let Some(transport) = self.word("transport", &raw.transport, &transports, camera) {
            base.transport = transport;
        }
        let clients = [Client::Retina].map(|it| (it.name(), it));
        if let Some(client) = self.word("client", &raw.client, &clients, camera) {
            base.client = client;
        }
        if let Some(cpu) = self.cpu(raw.cpu.set(), camera) {
            base.cpu = cpu;
        }
        if let Some(enabled) = raw.enabled.set() {
            // A stream of a disabled camera stays so.
            base.enabled &= *enabled.get_ref();
        }
        if let Some(written) = raw.username.set()
            && let Some(username) = self.text(written, camera)
        {
            base.username = Some((username, written.span()));
        }
        if let Some(written) = raw.password.set()
            && let Some(password) = self.text(written, camera)
        {
            base.password = Some((SecretString::from(password), written.span()));
        }
        base
    }

    fn cpu(&mut self, written: Option<&Spanned<RawCpu>>, camera: Option<&str>) -> Option<Cpu> {
        const ALLOWED: &str = "must be \"auto\", \"any\" or a list of cores such as [0, 1]";
        let written = written?;
        let problem =
            |message: String, span: Range<usize>| Problem::new(message, span).camera(camera);
        let numbers = match written.get_ref() {
            RawCpu::Word(word) => match word.as_str() {
                "auto" => return Some(Cpu::Auto),
                "any" => return Some(Cpu::Any),
                _ => {
                    let message = "`cpu` has an unknown value".to_owned();
                    self.problems
                        .push(problem(message, written.span()).label(ALLOWED));
                    return None;
                }
            },
            RawCpu::Cores(numbers) => numbers,
        };
        if numbers.is_empty() {
            let message = "`cpu` lists no core".to_owned();
            self.problems
                .push(problem(message, written.span()).label(ALLOWED));
            return None;
        }
        let here = &self.environment.cores;
        let mut cores = Vec::new();
        for number in numbers {
            match u32::try_from(*number.get_ref()) {
                Ok(core) if here.is_empty() || here.contains(&core) => cores.push(core),
                _ => {
                    let message = format!("core {} is not available here", number.get_ref());
                    let label = format!("this process may use {}", show_cores(here));
                    self.problems
                        .push(problem(message, number.span()).label(label));
                }
            }
        }
        cores.sort_unstable();
        cores.dedup();
        Some(Cpu::Cores(cores))
    }

    /// Text with references followed.
    fn text(&mut self, written: &Spanned<String>, camera: Option<&str>) -> Option<String> {
        match value::expand(written.get_ref(), self.environment) {
            Ok(text) => Some(text),
            Err(fault) => {
                self.reference(written.span(), fault, camera);
                None
            }
        }
    }

    fn reference(&mut self, span: Range<usize>, fault: ReferenceFault, camera: Option<&str>) {
        // The reference itself, where it is written plainly.
        let at = self
            .source
            .get(span.clone())
            .and_then(|text| text.find(&fault.reference));
        let span = match at {
            Some(at) => span.start + at..span.start + at + fault.reference.len(),
            None => span,
        };
        let mut problem = Problem::new(fault.fault, span)
            .camera(camera)
            .label("needed here");
        if let Some(help) = fault.help {
            problem = problem.help(help);
        }
        self.problems.push(problem);
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one stream")]
    fn stream(
        &mut self,
        camera: Option<String>,
        stream: Option<String>,
        first: bool,
        url: &Spanned<String>,
        base: Base,
        raw: &RawStream,
        shown: Option<&str>,
    ) -> Option<Stream> {
        let (url, username, password) = self.url(url, &base, shown)?;
        self.memory(&base, raw, shown);
        let camera = camera?;
        let (id, alias) = match &stream {
            Some(stream) => (format!("{camera}/{stream}"), first.then(|| camera.clone())),
            None => (camera.clone(), None),
        };
        Some(Stream {
            camera,
            stream,
            id,
            alias,
            url,
            username,
            password,
            transport: base.transport,
            client: base.client,
            cpu: base.cpu,
            enabled: base.enabled,
            decode: base.decode,
            ring: base.ring,
            retry: base.retry,
            memory_per_camera: base.memory,
        })
    }

    /// The URL without credentials, and the credentials from wherever they are.
    fn url(
        &mut self,
        written: &Spanned<String>,
        base: &Base,
        camera: Option<&str>,
    ) -> Option<(Url, Option<String>, Option<SecretString>)> {
        let text = match value::expand_url(written.get_ref(), self.environment) {
            Ok(text) => text,
            Err(fault) => {
                self.reference(written.span(), fault, camera);
                return None;
            }
        };
        // Nothing of `text` may get into a message: it may hold a password.
        let (mut url, given) = match check_url(&text) {
            Ok(parts) => parts,
            Err((fault, help)) => {
                let mut problem = Problem::new("`url` cannot be used", written.span())
                    .camera(camera)
                    .label(fault);
                if let Some(help) = help {
                    problem = problem.help(help);
                }
                self.problems.push(problem);
                return None;
            }
        };
        let mut username = base.username.clone();
        let mut password = base.password.clone();
        if let Some((user, secret)) = given {
            if let Some((_, span)) = username.as_ref() {
                self.problems.push(
                    Problem::new("the user is written twice", span.clone())
                        .camera(camera)
                        .label("write either `username` and `password`, or user:password@ in `url`")
                        .related(written.span(), "here, too"),
                );
            } else if let Some((_, span)) = password.as_ref().filter(|_| secret.is_some()) {
                self.problems.push(
                    Problem::new("the password is written twice", span.clone())
                        .camera(camera)
                        .label("write it either here or in `url`")
                        .related(written.span(), "here, too"),
                );
            }
            username = Some((user, written.span()));
            password = secret.map(|secret| (secret, written.span())).or(password);
        }
        if let Some((_, span)) = password.as_ref().filter(|_| username.is_none()) {
            self.problems.push(
                Problem::new("there is a password, but no user", span.clone())
                    .camera(camera)
                    .label("needs `username` beside it"),
            );
        }
        // Cannot fail on a URL with a host; if it does, no secret stays behind.
        if url.set_username("").is_err() || url.set_password(None).is_err() {
            return None;
        }
        Some((
            url,
            username.map(|(name, _)| name),
            password.map(|(secret, _)| secret),
        ))
    }

    fn memory(&mut self, base: &Base, raw: &RawStream, camera: Option<&str>) {
        let need = memory::least(&base.ring);
        if base.memory >= need {
            return;
        }
        if base.memory_at.is_some() && base.memory_at == self.memory_at {
            return;
        }
        self.memory_at.clone_from(&base.memory_at);
        let span = base
            .memory_at
            .clone()
            .or(place(&raw.ring.packets))
            .or(place(&raw.ring.pins))
            .or(place(&raw.ring.depth))
            .unwrap_or(raw.span.clone());
        self.problems.push(
            Problem::new("its rings do not fit into its memory", span)
                .camera(camera)
                .label(format!(
                    "may take {} bytes, needs {need} bytes at least",
                    base.memory
                ))
                .help(format!(
                    "{} slots (depth {} + 1 + {} for the decoder + pins {}) for pictures of \
                     {}x{}, and {} of packets; more memory, or fewer of these",
                    memory::slots(&base.ring, memory::USUAL_DECODER_SLOTS),
                    base.ring.depth,
                    memory::USUAL_DECODER_SLOTS,
                    base.ring.pins,
                    memory::SMALLEST.0,
                    memory::SMALLEST.1,
                    show_size(base.ring.packets),
                )),
        );
    }

    /// What concerns all cameras together.
    fn whole(&mut self, raw: &RawConfig, site: &Site) {
        let enabled = site.enabled().count();
        let processes = enabled as u64 + 1;
        if processes > u64::from(site.limits.max_processes) {
            let span = place(&raw.limits.max_processes).unwrap_or(raw.limits.span.clone());
            self.problems.push(
                Problem::new("more cameras than processes are allowed", span).label(format!(
                    "{enabled} streams need {processes} processes, one of them for starting others"
                )),
            );
        }
        let need: u64 = site
            .enabled()
            .map(|stream| memory::least(&stream.ring))
            .sum();
        if let Some(total) = site.limits.memory_total
            && total < need
            && let Some(span) = place(&raw.limits.memory_total)
        {
            self.problems.push(
                Problem::new(
                    "the rings of all cameras do not fit into `memory_total`",
                    span,
                )
                .label(format!("is {total} bytes, needs {need} bytes at least")),
            );
        }
        if raw.cameras.is_empty() && self.problems.is_empty() {
            let end = self.source.trim_end().len();
            self.problems.push(
                Problem::new("there is no camera", end.saturating_sub(1)..end)
                    .label("a site needs at least one")
                    .help(
                        "for example:\n\n[[camera]]\nname = \"front-door\"\n\
                         url = \"rtsp://192.0.2.10/stream1\"\nusername = \"camring\"\n\
                         password = \"${FRONT_DOOR_PASSWORD}\"",
                    ),
            );
        } else if enabled == 0 && !raw.cameras.is_empty() && self.problems.is_empty() {
            let span = raw.cameras[0].own.enabled.set().map(Spanned::span);
            self.warnings.push(
                Problem::new(
                    "no camera is enabled",
                    span.unwrap_or(raw.cameras[0].own.span.clone()),
                )
                .label("camring will run, and read nothing"),
            );
        }
    }
}

/// What a single size in the configuration may be.
const MEMORY: RangeInclusive<u64> = 1 << 20..=1 << 42;

fn place<T>(field: &Field<T>) -> Option<Range<usize>> {
    field.set().map(Spanned::span)
}

/// `0-3,6`.
pub fn show_cores(cores: &[u32]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for core in cores {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *core => *last = *core,
            _ => ranges.push((*core, *core)),
        }
    }
    let show = |(first, last): &(u32, u32)| match first == last {
        true => format!("{first}"),
        false => format!("{first}-{last}"),
    };
    ranges.iter().map(show).collect::<Vec<_>>().join(",")
}

type UrlParts = (Url, Option<(String, Option<SecretString>)>);

/// The URL as parsed, and its user and password decoded; or what is wrong with it and what to do,
/// in words that repeat nothing of it.
fn check_url(text: &str) -> Result<UrlParts, (String, Option<String>)> {
    let encode = || {
        Some(
            "in a user or password, write `@` as %40, `:` as %3A, `/` as %2F, `?` as %3F, `#` as \
             %23, `%` as %25; or use the keys `username` and `password`, which take them as they are"
                .to_owned(),
        )
    };
    let plain = |fault: &str| (fault.to_owned(), None);
    if text.is_empty() {
        return Err(plain(
            "is empty, must be such as \"rtsp://192.0.2.10/stream1\"",
        ));
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(plain(
            "has a space or control character in it; a space is written %20",
        ));
    }
    let Some((scheme, _)) = text.split_once("://") else {
        return Err(plain("must begin with rtsp://"));
    };
    match scheme.to_ascii_lowercase().as_str() {
        "rtsp" => {}
        "rtsps" => {
            return Err(plain(
                "rtsps:// is not available in this version, must begin with rtsp://",
            ));
        }
        "http" | "https" => return Err(plain("this is a web address, must begin with rtsp://")),
        _ => return Err(plain("must begin with rtsp://")),
    }
    let url = Url::parse(text).map_err(|error| {
        use url::ParseError;
        let fault = match error {
            ParseError::EmptyHost => "has no host behind rtsp://",
            ParseError::InvalidPort => "has a port that is not a number from 1 to 65535",
            ParseError::InvalidIpv6Address => "has an IPv6 address that is none",
            ParseError::InvalidIpv4Address => "has an IPv4 address that is none",
            _ => "has a host that is none",
        };
        let suspicious = text.matches(['@', ':', '%']).count() > 1;
        (fault.to_owned(), suspicious.then(encode).flatten())
    })?;
    let host = url.host_str().unwrap_or_default();
    if host.is_empty() {
        return Err(plain("has no host behind rtsp://"));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
    if !host.chars().all(allowed) {
        return Err(("has a host that is none".to_owned(), encode()));
    }
    if url.port() == Some(0) {
        return Err(plain("has the port 0"));
    }
    if url.fragment().is_some() {
        return Err(("has a `#` in it".to_owned(), encode()));
    }
    let user = url.username();
    if user.is_empty() && url.password().is_none() {
        // `rtsp://admin:12/34@host/`: the host would be `admin`.
        if url.as_str()["rtsp://".len()..].contains('@') {
            return Err((
                "has an `@` behind the host; is that a password with a `/` or `?` in it?"
                    .to_owned(),
                encode(),
            ));
        }
        return Ok((url, None));
    }
    if user.is_empty() {
        return Err(plain("has a password, but no user"));
    }
    let not_text = || plain("has a user or password that is not UTF-8 once decoded");
    let user = value::percent_decode(user).ok_or_else(not_text)?;
    let password = match url.password() {
        Some(password) => Some(SecretString::from(
            value::percent_decode(password).ok_or_else(not_text)?,
        )),
        None => None,
    };
    Ok((url, Some((user, password))))
}

/// The doubt about a file that everybody may read and that holds a password in plain text.
pub fn plain_password(raw: &RawConfig, path: &std::path::Path) -> Option<Problem> {
    let streams = raw
        .cameras
        .iter()
        .flat_map(|camera| std::iter::once(&camera.own).chain(camera.streams.iter().flatten()));
    let secret = |stream: &RawStream| {
        let password = stream
            .password
            .set()
            .filter(|text| !text.get_ref().contains("${"));
        let url = stream
            .url
            .set()
            .filter(|text| super::mask::url(text.get_ref()) != *text.get_ref());
        password.or(url).map(Spanned::span)
    };
    let span = streams.filter_map(secret).next()?;
    Some(
        Problem::new(
            "everybody on this machine can read a camera's password",
            span,
        )
        .label("is in plain text, and the file is readable for all")
        .help(format!(
            "`chown root:camring {0} && chmod 640 {0}`, or keep the password elsewhere and \
                 write ${{NAME}} or ${{credential:NAME}}",
            path.display()
        )),
    )
}
