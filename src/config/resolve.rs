//! From what was written to what follows from it: defaults, overrides, ranges, references.
//!
//! Goes on after a problem with the value that would hold without the bad key, so that one run
//! finds as much as it can. If there was any problem, the result is thrown away.

mod record;
mod settings;
mod source;
mod views;

use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;

use secrecy::SecretString;
use serde_spanned::Spanned;

use super::error::Problem;
use super::memory;
use super::network::Network;
use super::raw::{Field, RawCamera, RawConfig, RawSite, RawStream};
use super::record::Record;
use super::site::{Client, Cpu, Decode, Retry, Ring, Site, Stream, Transport};
use super::value::{self, Environment, show_size};
use super::view::View;

pub use settings::show_cores;
pub use source::{camera_url, plain_password};

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
    record: Record,
    network: Network,
    memory: u64,
    memory_at: Option<Range<usize>>,
    transport: Transport,
    client: Client,
    tls_verify: bool,
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
        let network = self.network(Network::default(), &raw.network, None);
        let limits = self.limits(&raw.limits);
        let http = self.http(&raw.http);
        let log_format = self.log_format(&raw.log);
        let (record, retention, max_encoders) = self.record_site(&raw.record);
        let base = Base {
            ring,
            decode,
            retry,
            record,
            network,
            memory: limits.memory_per_camera,
            memory_at: place(&raw.limits.memory_per_camera),
            transport: Transport::Tcp,
            client: Client::Auto,
            tls_verify: true,
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
            http,
            log_format,
            retention,
            max_encoders,
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
        self.no_views(own, raw_streams.first());
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
        let what = if camera.is_some() { "stream" } else { "camera" };
        let written = (&raw.name, &raw.span);
        self.name_of(written, (table, "front-door", what), camera, taken)
    }

    /// The same of anything: how it is written and where, and the table, an example, and what it is.
    fn name_of(
        &mut self,
        (written, span): (&Field<String>, &Range<usize>),
        (table, example, what): (&str, &str, &str),
        camera: Option<&str>,
        taken: &mut HashMap<String, Range<usize>>,
    ) -> Option<String> {
        let Some(written) = written.set() else {
            if written.is_absent() {
                self.problems.push(
                    Problem::new(format!("{table} has no `name`"), span.clone())
                        .camera(camera)
                        .label(format!("needs a name, such as `name = {example:?}`")),
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
        let views = self.views(raw, shown);
        let written = url;
        let (url, username, password) = self.url(written, &base, shown)?;
        self.memory(&base, &views, raw, shown);
        self.reachable(&base, raw, &url, written.span(), shown);
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
            tls_verify: base.tls_verify,
            cpu: base.cpu,
            enabled: base.enabled,
            decode: base.decode,
            ring: base.ring,
            retry: base.retry,
            record: base.record,
            network: base.network,
            memory_per_camera: base.memory,
            views,
        })
    }

    fn memory(&mut self, base: &Base, views: &[View], raw: &RawStream, camera: Option<&str>) {
        let of_views = memory::views(&base.ring, views);
        let need = memory::least(&base.ring, views);
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
                     {}x{}, and {} of packets{}; more memory, or fewer of these",
                    memory::slots(&base.ring, memory::USUAL_DECODER_SLOTS),
                    base.ring.depth,
                    memory::USUAL_DECODER_SLOTS,
                    base.ring.pins,
                    memory::SMALLEST.0,
                    memory::SMALLEST.1,
                    show_size(base.ring.packets),
                    match views.len() {
                        0 => String::new(),
                        1 => format!(", and {} for its view", show_size(of_views)),
                        n => format!(", and {} for its {n} views", show_size(of_views)),
                    },
                )),
        );
    }

    /// What concerns all cameras together.
    fn whole(&mut self, raw: &RawConfig, site: &Site) {
        let enabled = site.enabled().count();
        let recorded = site.recorded().count();
        let processes = site.processes();
        if processes > u64::from(site.limits.max_processes) {
            let span = place(&raw.limits.max_processes).unwrap_or(raw.limits.span.clone());
            self.problems.push(
                Problem::new("more cameras than processes are allowed", span).label(format!(
                    "{enabled} streams, {recorded} of them recorded, need {processes} processes: one for \
                     starting others{}",
                    match site.serves() {
                        true => ", and one for HTTP and recordings",
                        false => "",
                    }
                )),
            );
        }
        let need: u64 = site
            .enabled()
            .map(|stream| memory::least(&stream.ring, &stream.views))
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

fn place<T>(field: &Field<T>) -> Option<Range<usize>> {
    field.set().map(Spanned::span)
}
