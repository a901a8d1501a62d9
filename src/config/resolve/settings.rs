//! Settings: tables of numbers, words, sizes and durations, each with what is allowed.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use secrecy::SecretString;
use serde_spanned::Spanned;

use super::super::error::{Problem, nearest};
use super::super::log::LogFormat;
use super::super::network::Network;
use super::super::raw::{
    DurationText, Field, RawCpu, RawDecode, RawLimits, RawLog, RawNetwork, RawRetry, RawRing,
    RawStream, SizeText,
};
use super::super::site::{
    Client, Cpu, Decode, DecodeBackend, DecodeMode, Limits, Retry, Ring, Transport,
};
use super::super::value::{self, show_duration, show_size};
use super::{Base, Resolver, place};

/// What a single size of memory may be.
const MEMORY: RangeInclusive<u64> = 1 << 20..=1 << 42;

impl Resolver<'_> {
    pub(super) fn number(
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

    pub(super) fn size(
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

    pub(super) fn duration(
        &mut self,
        key: &str,
        written: &Field<DurationText>,
        camera: Option<&str>,
    ) -> Option<Duration> {
        self.duration_in(key, written, Retry::SHORTEST..=Retry::LONGEST, camera)
    }

    pub(super) fn duration_in(
        &mut self,
        key: &str,
        written: &Field<DurationText>,
        allowed: RangeInclusive<Duration>,
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
    pub(super) fn word<T: Copy>(
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

    pub(super) fn log_format(&mut self, raw: &RawLog) -> LogFormat {
        let formats = LogFormat::ALL.map(|format| (format.name(), format));
        let written = self.word("format", &raw.format, &formats, None);
        written.unwrap_or_default()
    }

    pub(super) fn ring(&mut self, base: Ring, raw: &RawRing, camera: Option<&str>) -> Ring {
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

    pub(super) fn decode(&mut self, base: Decode, raw: &RawDecode, camera: Option<&str>) -> Decode {
        let mut decode = base;
        let modes = [
            DecodeMode::Always,
            DecodeMode::OnDemand,
            DecodeMode::KeyFrames,
            DecodeMode::Activity,
        ]
        .map(|mode| (mode.name(), mode));
        if let Some(mode) = self.word("mode", &raw.mode, &modes, camera) {
            decode.mode = mode;
        }
        let backends = DecodeBackend::ALL.map(|backend| (backend.name(), backend));
        if let Some(backend) = self.word("backend", &raw.backend, &backends, camera) {
            decode.backend = backend;
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
        if let Some(written) = raw.smallest_motion.set() {
            let percent = *written.get_ref();
            let range = Decode::MIN_SMALLEST_MOTION..=Decode::MAX_SMALLEST_MOTION;
            if range.contains(&percent) {
                decode.smallest_motion = percent as f32;
            } else {
                self.problems.push(
                    Problem::new("`smallest_motion` is out of range", written.span())
                        .camera(camera)
                        .label(format!(
                            "must be from {} to {}, in percent of the picture",
                            range.start(),
                            range.end()
                        )),
                );
            }
        }
        decode
    }

    pub(super) fn limits(&mut self, raw: &RawLimits) -> Limits {
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

    pub(super) fn network(
        &mut self,
        base: Network,
        raw: &RawNetwork,
        camera: Option<&str>,
    ) -> Network {
        let buffer = Network::MIN_RECEIVE_BUFFER..=Network::MAX_RECEIVE_BUFFER;
        Network {
            dscp: self
                .number("dscp", &raw.dscp, 0..=Network::MAX_DSCP, camera)
                .and_then(|dscp| u8::try_from(dscp).ok())
                .unwrap_or(base.dscp),
            receive_buffer: self
                .size("receive_buffer", &raw.receive_buffer, buffer, camera)
                .unwrap_or(base.receive_buffer),
        }
    }

    pub(super) fn retry(&mut self, base: Retry, raw: &RawRetry, camera: Option<&str>) -> Retry {
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

    /// What is written in `[[camera]]` or `[[camera.stream]]`, over what held without it.
    pub(super) fn layer(&mut self, mut base: Base, raw: &RawStream, camera: Option<&str>) -> Base {
        base.ring = self.ring(base.ring, &raw.ring, camera);
        base.decode = self.decode(base.decode, &raw.decode, camera);
        base.retry = self.retry(base.retry, &raw.retry, camera);
        base.network = self.network(base.network, &raw.network, camera);
        base.record = self.record(base.record, &raw.record, camera);
        if let Some(memory) = self.size("memory", &raw.memory, MEMORY, camera) {
            base.memory = memory;
            base.memory_at = place(&raw.memory);
        }
        let transports = [
            Transport::Tcp,
            Transport::Udp,
            Transport::Multicast,
            Transport::Http,
        ]
        .map(|it| (it.name(), it));
        if let Some(transport) = self.word("transport", &raw.transport, &transports, camera) {
            base.transport = transport;
        }
        let clients = [Client::Auto, Client::Retina, Client::Ffmpeg].map(|it| (it.name(), it));
        if let Some(client) = self.word("client", &raw.client, &clients, camera) {
            base.client = client;
        }
        if let Some(verify) = raw.tls_verify.set() {
            base.tls_verify = *verify.get_ref();
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

    pub(super) fn cpu(
        &mut self,
        written: Option<&Spanned<RawCpu>>,
        camera: Option<&str>,
    ) -> Option<Cpu> {
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
