//! `camring check`: the configuration, checked, and what would be run with it on this machine.
//!
//! Starts nothing, contacts nothing, shows no secret.
#![deny(unsafe_code)]

mod hardware;
mod kernel;
mod limits;
mod recordings;
mod systemd;

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Serialize;

pub use kernel::Kernel;
use limits::Limit;
pub use recordings::Disk;
use recordings::{PlannedRecord, PlannedRecordings};

use super::{complain, print, style};
use crate::cli::{CheckArgs, Global};
use crate::config::{self, Cpu, DecodeMode, Loaded, Site, Stream, memory, show_cores, show_size};
use crate::reader::client::Choice;
use crate::sandbox::{self, SandboxStatus};
use crate::supervisor::placement::Placement;
use crate::sys;

/// Descriptors that the supervisor needs for itself.
const OWN_DESCRIPTORS: u64 = 64;
/// Descriptors for a stream: control socket, pidfd, two rings, health page, and as many again
/// while a reader is replaced.
const STREAM_DESCRIPTORS: u64 = 10;
/// Descriptors for a subscriber: connection, bell page, pin page, notify socket.
const SUBSCRIBER_DESCRIPTORS: u64 = 4;
/// Pins that a subscriber asks for unless it says otherwise.
const USUAL_PINS: u64 = 2;

/// Runs the command.
///
/// # Errors
/// The configuration cannot be used (`ConfigError`), or the output cannot be written.
pub fn run(args: CheckArgs, global: &Global) -> anyhow::Result<()> {
    if args.hardware {
        return hardware::run(args.json);
    }
    if args.systemd {
        let read = config::read_secretless(global.config.as_deref())?;
        let servers = systemd::name_servers();
        print(&systemd::drop_in(&read, &systemd::lookup, &servers))?;
        return Ok(());
    }
    let (loaded, unread) = config::read_outside(global.config.as_deref())?;
    if !unread.is_empty() {
        let names = Vec::from_iter(unread).join(", ");
        complain(&format!(
            "note: not looked at, as only the service has them (LoadCredential=): the credentials {names}"
        ));
    }
    let plan = Plan::new(&loaded, &Machine::this());
    if args.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&plan)?))?;
        return plan.strictly(args.strict);
    }
    if !loaded.warnings.report().is_empty() {
        let warnings = loaded.warnings.render(style(&io::stderr()));
        complain(&format!("{warnings}\n"));
    }
    print(&plan.to_text())?;
    plan.strictly(args.strict)
}

/// What this machine has.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Cores that this process may use.
    pub cores: Vec<u32>,
    /// All memory, in bytes.
    pub memory: Option<u64>,
    /// Memory to be had now, in bytes, and who says so.
    pub available: Option<sys::memory::Headroom>,
    /// Descriptors that a process may have: now, and if it asks.
    pub descriptors: (Option<u64>, Option<u64>),
    /// What the kernel and the control group allow.
    pub kernel: Kernel,
    /// What processes can be confined with.
    pub sandbox: sandbox::Kernel,
}

impl Machine {
    /// This one, as seen by this process.
    pub fn this() -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        Self {
            cores: sys::cpu::allowed().unwrap_or_default(),
            memory: sys::memory::total(),
            available: sys::memory::headroom(),
            descriptors: (limit.current, limit.maximum),
            kernel: Kernel::this(),
            sandbox: sandbox::Kernel::probe(),
        }
    }
}

/// What would be run. Field names are those of `camring check --json`, and stay.
#[derive(Debug, Serialize)]
pub struct Plan {
    config: PathBuf,
    site: String,
    attach_socket: PathBuf,
    /// `None`: off.
    http_listen: Option<SocketAddr>,
    #[serde(skip)]
    http_scheme: &'static str,
    cores: Vec<u32>,
    streams: Vec<PlannedStream>,
    memory: PlannedMemory,
    recordings: PlannedRecordings,
    sandbox: SandboxStatus,
    processes: PlannedProcesses,
    descriptors: PlannedDescriptors,
    limits: Vec<Limit>,
    warnings: Vec<String>,
    #[serde(skip)]
    plan_warnings: usize,
}

#[derive(Debug, Serialize)]
struct PlannedStream {
    name: String,
    camera: String,
    stream: Option<String>,
    alias: Option<String>,
    enabled: bool,
    url: String,
    username: Option<String>,
    has_password: bool,
    transport: &'static str,
    client: &'static str,
    /// The one it begins with: `retina` or `ffmpeg`.
    client_used: &'static str,
    client_reason: &'static str,
    /// `auto`, `any` or `fixed`.
    cpu: &'static str,
    /// Empty: any, or not enabled.
    cores: Vec<u32>,
    decode_mode: &'static str,
    decode_backend: &'static str,
    decode_threads: u32,
    max_fps: Option<f32>,
    smallest_motion: Option<f32>,
    ring_depth: u32,
    ring_pins: u32,
    ring_slots: u32,
    packet_bytes: u64,
    memory_at_1080p_bytes: u64,
    memory_limit_bytes: u64,
    largest_picture: Option<&'static str>,
    views: Vec<PlannedView>,
    record: PlannedRecord,
}

#[derive(Debug, Serialize)]
struct PlannedView {
    /// As detectors attach to it: `front-door:detect`.
    name: String,
    width: u32,
    height: u32,
    format: &'static str,
    fps: Option<f32>,
    fit: &'static str,
    memory_bytes: u64,
}

#[derive(Debug, Serialize)]
struct PlannedMemory {
    at_1080p_bytes: u64,
    limit_bytes: u64,
    total_limit_bytes: Option<u64>,
    machine_bytes: Option<u64>,
    available_bytes: Option<u64>,
    available_source: Option<String>,
}

#[derive(Debug, Serialize)]
struct PlannedProcesses {
    needed: u64,
    limit: u32,
}

#[derive(Debug, Serialize)]
struct PlannedDescriptors {
    needed: u64,
    soft_limit: Option<u64>,
    hard_limit: Option<u64>,
}

impl Plan {
    /// What would be run with this configuration on this machine.
    pub fn new(loaded: &Loaded, machine: &Machine) -> Self {
        let site = &loaded.site;
        let mut placement = Placement::new(machine.cores.clone());
        let streams: Vec<_> = (0..)
            .zip(&site.streams)
            .map(|(index, stream)| {
                let cores = match stream.enabled {
                    true => placement.place(index, &stream.cpu),
                    false => Vec::new(),
                };
                PlannedStream::new(stream, cores)
            })
            .collect();
        let enabled = || streams.iter().filter(|stream| stream.enabled);
        let available = machine.available.clone();
        let memory = PlannedMemory {
            at_1080p_bytes: enabled().map(PlannedStream::likely_bytes).sum(),
            limit_bytes: enabled().map(|stream| stream.memory_limit_bytes).sum(),
            total_limit_bytes: site.limits.memory_total,
            machine_bytes: machine.memory,
            available_bytes: available.as_ref().map(|available| available.bytes),
            available_source: available.map(|available| available.source),
        };
        let count = enabled().count() as u64;
        let subscribers: u64 = enabled()
            .map(|stream| u64::from(stream.ring_pins).div_ceil(USUAL_PINS))
            .sum();
        let mut plan = Self {
            config: loaded.path.clone(),
            site: site.name.clone(),
            attach_socket: site.attach_socket(),
            cores: machine.cores.clone(),
            memory,
            recordings: PlannedRecordings::new(site, Disk::of(&site.data_dir)),
            http_listen: site.http.listen,
            http_scheme: site.http.scheme(),
            sandbox: SandboxStatus::with(site.sandbox, machine.sandbox),
            processes: PlannedProcesses {
                needed: site.processes(),
                limit: site.limits.max_processes,
            },
            descriptors: PlannedDescriptors {
                needed: OWN_DESCRIPTORS
                    + count * STREAM_DESCRIPTORS
                    + subscribers * SUBSCRIBER_DESCRIPTORS,
                soft_limit: machine.descriptors.0,
                hard_limit: machine.descriptors.1,
            },
            limits: Vec::new(),
            streams,
            warnings: Vec::new(),
            plan_warnings: 0,
        };
        plan.limits = limits::limits(
            site,
            &machine.kernel,
            machine.cores.len(),
            plan.descriptors.needed,
            plan.memory.at_1080p_bytes,
        );
        let warnings = plan.doubts(site);
        plan.plan_warnings = warnings.len();
        plan.warnings = loaded
            .warnings
            .report()
            .messages()
            .chain(warnings)
            .collect();
        plan
    }

    /// What is legal, but will not go well on this machine.
    fn doubts(&self, site: &Site) -> Vec<String> {
        let mut doubts = Vec::new();
        for (stream, planned) in site.streams.iter().zip(&self.streams) {
            if !stream.enabled {
                continue;
            }
            let name = &stream.id;
            let need = planned.memory_at_1080p_bytes;
            if need > stream.memory_per_camera {
                doubts.push(format!(
                    "camera `{name}`: its memory of {} is enough for pictures up to {}; 1920x1080 \
                     needs {}: set `memory` higher, or [camera.ring] pins or depth lower",
                    show_size(stream.memory_per_camera),
                    planned.largest_picture.unwrap_or("320x240"),
                    show_size(need),
                ));
            }
            let usable = match &stream.cpu {
                Cpu::Auto => 1,
                Cpu::Any => self.cores.len(),
                Cpu::Cores(cores) => cores.len(),
            };
            if usable > 0 && stream.decode.threads as usize > usable {
                doubts.push(format!(
                    "camera `{name}`: {} decoder threads share {usable} core{}: set `cpu` to \
                     \"any\" or to a list of as many cores, or `threads` to {usable}",
                    stream.decode.threads,
                    if usable == 1 { "" } else { "s" },
                ));
            }
            if stream.username.is_some() && stream.password.is_none() {
                doubts.push(format!("camera `{name}`: there is a user, but no password"));
            }
        }
        let memory = &self.memory;
        if let Some(total) = memory.total_limit_bytes
            && memory.at_1080p_bytes > total
        {
            doubts.push(format!(
                "the rings need {} if all cameras are 1920x1080, [limits] memory_total is {}",
                show_size(memory.at_1080p_bytes),
                show_size(total),
            ));
        }
        if let (Some(total), Some(machine)) = (memory.total_limit_bytes, memory.machine_bytes)
            && total > machine
        {
            doubts.push(format!(
                "[limits] memory_total is {}, the machine has {}",
                show_size(total),
                show_size(machine),
            ));
        }
        if let (Some(available), Some(source)) = (memory.available_bytes, &memory.available_source)
            && memory.at_1080p_bytes > available
        {
            doubts.push(format!(
                "the rings need {} if all cameras are 1920x1080, and {} is to be had ({source}): \
                 set [ring] pins or depth lower, or decode a sub stream",
                show_size(memory.at_1080p_bytes),
                show_size(available),
            ));
        }
        doubts.extend(self.recordings.doubts());
        let files = &self.descriptors;
        // The soft limit is raised at the start.
        if let Some(hard) = files.hard_limit
            && files.needed > hard
        {
            let enough = files.needed.next_power_of_two();
            doubts.push(format!(
                "camring may need {} open files, the limit here is {hard}: `LimitNOFILE={enough}` in \
                 the unit, or `ulimit -Hn {enough}` as root in this shell",
                files.needed,
            ));
        }
        doubts.extend(self.limits.iter().filter_map(|limit| limit.doubt.clone()));
        doubts
    }

    /// With `--strict`, warnings are errors.
    fn strictly(&self, strict: bool) -> anyhow::Result<()> {
        match self.warnings.len() {
            n if strict && n > 0 => {
                let plural = if n == 1 { "" } else { "s" };
                anyhow::bail!("{n} warning{plural}, and --strict")
            }
            _ => Ok(()),
        }
    }

    /// For people.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        let enabled = self.streams.iter().filter(|stream| stream.enabled).count();
        let disabled = self.streams.len() - enabled;
        let (path, plural) = (self.config.display(), if enabled == 1 { "" } else { "s" });
        let _ = write!(
            out,
            "{path}: site {:?}, {enabled} stream{plural} enabled",
            self.site
        );
        if disabled > 0 {
            let _ = write!(out, ", {disabled} disabled");
        }
        out.push_str("\n\n");
        out.push_str(&table(&self.rows()));
        out.push('\n');
        let views = self.view_rows();
        if views.len() > 1 {
            out.push_str(&table(&views));
            out.push('\n');
        }

        let memory = &self.memory;
        let _ = write!(
            out,
            "memory       {} if all cameras are 1920x1080, {} at most",
            show_size(memory.at_1080p_bytes),
            show_size(
                memory
                    .total_limit_bytes
                    .map_or(memory.limit_bytes, |total| {
                        total.min(memory.limit_bytes)
                    })
            ),
        );
        if let (Some(machine), Some(available)) = (memory.machine_bytes, memory.available_bytes) {
            let (machine, available) = (show_size(machine), show_size(available));
            let _ = write!(
                out,
                "; the machine has {machine}, {available} to be had now"
            );
        }
        out.push('\n');
        out.push_str(&self.recordings.to_text());
        let _ = write!(
            out,
            "processes    {} of at most {}\nopen files   up to {}",
            self.processes.needed, self.processes.limit, self.descriptors.needed,
        );
        if let Some(hard) = self.descriptors.hard_limit {
            let _ = write!(out, " of at most {hard}");
        }
        let _ = writeln!(
            out,
            "\ncores        {}\nsocket       {}\nhttp         {}",
            show_cores(&self.cores),
            self.attach_socket.display(),
            match self.http_listen {
                Some(listen) => format!("{}://{listen}/", self.http_scheme),
                None => "off".to_owned(),
            }
        );
        let _ = writeln!(out, "sandbox      {}", self.sandbox);
        for warning in &self.warnings[self.warnings.len() - self.plan_warnings..] {
            let _ = write!(out, "\nwarning: {warning}");
        }
        if self.plan_warnings > 0 {
            out.push('\n');
        }
        out
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let head = [
            "STREAM",
            "URL",
            "VIA",
            "CORE",
            "DECODE",
            "RECORD",
            "RINGS AT 1080P",
            "AT MOST",
            "PICTURES TO",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for stream in &self.streams {
            let mut decode = stream.decode_mode.to_owned();
            if let Some(percent) = stream.smallest_motion {
                let _ = write!(decode, " from {percent} %");
            }
            if let Some(fps) = stream.max_fps {
                let _ = write!(decode, ", {fps} fps");
            }
            if stream.decode_backend != "software" {
                let _ = write!(decode, ", {}", stream.decode_backend);
            }
            if stream.decode_threads > 1 {
                let _ = write!(decode, ", {} threads", stream.decode_threads);
            }
            let core = match (stream.enabled, stream.cores.as_slice()) {
                (false, _) => "disabled".to_owned(),
                (true, []) => "any".to_owned(),
                (true, cores) => show_cores(cores),
            };
            let url = match &stream.username {
                Some(user) => format!("{} as {}", stream.url, user.escape_default()),
                None => stream.url.clone(),
            };
            rows.push(vec![
                stream.name.clone(),
                url,
                match stream.client_used {
                    "retina" => stream.transport.to_owned(),
                    other => format!("{} ({other})", stream.transport),
                },
                core,
                decode,
                stream.record.text(),
                show_size(stream.memory_at_1080p_bytes),
                show_size(stream.memory_limit_bytes),
                stream.largest_picture.unwrap_or("none").to_owned(),
            ]);
        }
        rows
    }
}

impl Plan {
    /// Views have their ring only once somebody has looked at them.
    fn view_rows(&self) -> Vec<Vec<String>> {
        let head = ["VIEW", "SIZE", "FORMAT", "FPS", "FIT", "RING"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for view in self.streams.iter().flat_map(|stream| &stream.views) {
            rows.push(vec![
                view.name.clone(),
                format!("{}x{}", view.width, view.height),
                view.format.to_owned(),
                view.fps.map_or_else(|| "all".into(), |fps| fps.to_string()),
                view.fit.to_owned(),
                show_size(view.memory_bytes),
            ]);
        }
        rows
    }
}

impl PlannedStream {
    fn new(stream: &Stream, cores: Vec<u32>) -> Self {
        let planned = Choice::plan(stream.client, stream.url.scheme(), stream.transport.into());
        Self {
            name: stream.id.clone(),
            camera: stream.camera.clone(),
            stream: stream.stream.clone(),
            alias: stream.alias.clone(),
            enabled: stream.enabled,
            url: stream.public_url(),
            username: stream.username.clone(),
            has_password: stream.password.is_some(),
            transport: stream.transport.name(),
            client: stream.client.name(),
            client_used: planned.client(),
            client_reason: planned.reason(),
            cpu: match stream.cpu {
                Cpu::Auto => "auto",
                Cpu::Any => "any",
                Cpu::Cores(_) => "fixed",
            },
            cores,
            decode_mode: stream.decode.mode.name(),
            decode_backend: stream.decode.backend.name(),
            decode_threads: stream.decode.threads,
            max_fps: stream.decode.max_fps,
            smallest_motion: (stream.decode.mode == DecodeMode::Activity)
                .then_some(stream.decode.smallest_motion),
            ring_depth: stream.ring.depth,
            ring_pins: stream.ring.pins,
            ring_slots: memory::slots(&stream.ring, memory::USUAL_DECODER_SLOTS),
            packet_bytes: stream.ring.packets,
            memory_at_1080p_bytes: memory::rings(&stream.ring, 1920, 1080)
                .saturating_add(memory::views(&stream.ring, &stream.views)),
            memory_limit_bytes: stream.memory_per_camera,
            largest_picture: memory::largest_picture(
                &stream.ring,
                &stream.views,
                stream.memory_per_camera,
            ),
            views: stream
                .views
                .iter()
                .map(|view| PlannedView {
                    name: format!("{}:{}", stream.id, view.name),
                    width: view.width,
                    height: view.height,
                    format: view.format.name(),
                    fps: view.fps,
                    fit: view.fit.name(),
                    memory_bytes: view.ring_bytes(&stream.ring),
                })
                .collect(),
            record: PlannedRecord::new(stream),
        }
    }

    /// At 1080p, as far as it is allowed.
    fn likely_bytes(&self) -> u64 {
        self.memory_at_1080p_bytes.min(self.memory_limit_bytes)
    }
}

/// Columns as wide as their widest cell.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}
