//! Of the metrics, what the server knows by itself: recordings, its answers, its process.
#![deny(unsafe_code)]

use std::fmt;
use std::fs;

use super::requests::{Counted, LIMITS};
use super::table::*;
use super::write::Writer;
use crate::config::Retention;
use crate::config::certificate::Expiry;
use crate::serve::App;
use crate::serve::retention::{Reason, State};
use crate::sys::usage;

/// A look at the server.
#[derive(Debug)]
pub struct Own {
    pub retention: State,
    pub limits: Retention,
    pub index_ready: bool,
    pub renditions: usize,
    pub requests: Counted,
    pub running: u64,
    pub listeners: usize,
    pub certificate_expires: Option<Expiry>,
}

impl Own {
    /// Now.
    pub fn look(app: &App) -> Self {
        Self {
            retention: app.retention.state(),
            limits: app.retention.limits(),
            index_ready: app.index.is_settled(),
            renditions: app.index.places().len(),
            requests: app.requests.counted(),
            running: app.requests.running(),
            listeners: app.events.receiver_count(),
            certificate_expires: *app.certificate_expires.borrow(),
        }
    }

    /// Writes all of it.
    pub fn write(&self, w: &mut Writer<'_>) -> fmt::Result {
        self.recordings(w)?;
        w.one(&INDEX_READY, u8::from(self.index_ready))?;
        w.one(&INDEX_RENDITIONS, self.renditions as f64)?;
        w.family(&HTTP_REQUESTS, |f| {
            for ((route, method, code), count) in &self.requests.answers {
                let code = code.to_string();
                let labels = [("method", *method), ("route", route), ("code", &*code)];
                f.count(&labels, *count)?;
            }
            Ok(())
        })?;
        w.family(&HTTP_DURATION, |f| {
            for (route, durations) in &self.requests.durations {
                let limits = LIMITS.into_iter();
                f.histogram(
                    &[("route", route)],
                    durations.sum,
                    limits,
                    &durations.counts,
                )?;
            }
            Ok(())
        })?;
        w.one(&HTTP_RUNNING, self.running as f64)?;
        w.one(&HTTP_LISTENERS, self.listeners as f64)?;
        let expires = self.certificate_expires;
        w.maybe(&HTTP_EXPIRES, expires.map(|end| end.0 as f64))
    }

    fn recordings(&self, w: &mut Writer<'_>) -> fmt::Result {
        let state = &self.retention;
        // Before the first look, nothing is known: 0 would be an alarm.
        let looked = state.passes > 0;
        let known = |bytes: u64| looked.then_some(bytes as f64);
        w.maybe(&DISK_SIZE, known(state.total))?;
        w.maybe(&DISK_FREE, known(state.free))?;
        w.maybe(&RECORDINGS, known(state.usage.bytes))?;
        w.maybe(&RECORDINGS_PROTECTED, known(state.protected_bytes))?;
        w.family(&RECORDINGS_OLDEST, |f| {
            for (camera, ms) in &state.oldest {
                f.value(&[("camera", camera)], *ms as f64 / 1e3)?;
            }
            Ok(())
        })?;
        w.one(&RETENTION_KEEP, self.limits.keep.as_secs_f64())?;
        let most = self.limits.max_bytes;
        w.maybe(&RETENTION_MAX, most.map(|bytes| bytes as f64))?;
        w.one(&RETENTION_MIN_FREE, self.limits.min_free as f64)?;
        let reasons = [
            (Reason::Age, "age"),
            (Reason::Size, "size"),
            (Reason::FreeSpace, "free_space"),
            (Reason::Request, "request"),
        ];
        let deleted = |reason| state.deleted.get(&reason).copied().unwrap_or_default();
        w.family(&RETENTION_FILES, |f| {
            for (reason, name) in reasons {
                f.count(&[("reason", name)], deleted(reason).files)?;
            }
            Ok(())
        })?;
        w.family(&RETENTION_BYTES, |f| {
            for (reason, name) in reasons {
                f.count(&[("reason", name)], deleted(reason).bytes)?;
            }
            Ok(())
        })?;
        w.family(&RETENTION_ERRORS, |f| f.count(&[], state.errors))?;
        w.family(&RETENTION_PASSES, |f| f.count(&[], state.passes))?;
        let passed = state.last_pass_ms.map(|ms| ms as f64 / 1e3);
        w.maybe(&RETENTION_PASSED, passed)?;
        w.one(&RETENTION_TROUBLE, u8::from(state.trouble.is_some()))?;
        w.one(&RETENTION_PAUSED, u8::from(state.age_paused.is_some()))
    }
}

/// The server's process, by the names that Prometheus' own libraries use.
pub fn process(w: &mut Writer<'_>) -> fmt::Result {
    let pid = rustix::process::getpid();
    let cpu = usage::cpu_time_ns(pid).map(|ns| ns as f64 / 1e9);
    w.maybe(&SELF_CPU, cpu)?;
    w.maybe(
        &SELF_RESIDENT,
        usage::resident_bytes(pid).map(|bytes| bytes as f64),
    )?;
    w.maybe(&SELF_STARTED, started())?;
    let open = fs::read_dir("/proc/self/fd").ok();
    // The folder that is being read has one, too.
    let open = open.map(|entries| entries.count().saturating_sub(1) as f64);
    w.maybe(&SELF_FDS, open)?;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    w.maybe(&SELF_MAX_FDS, limit.current.map(|most| most as f64))?;
    let threads = fs::read_dir("/proc/self/task").ok();
    w.maybe(&SELF_THREADS, threads.map(|tasks| tasks.count() as f64))
}

/// Unix time at which this process started, in seconds: proc_pid_stat(5), field 22, in ticks since boot.
fn started() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: f64 = fields.split_ascii_whitespace().nth(19)?.parse().ok()?;
    let times = fs::read_to_string("/proc/stat").ok()?;
    let booted = times.lines().find_map(|line| line.strip_prefix("btime "))?;
    let booted: f64 = booted.trim().parse().ok()?;
    Some(booted + ticks / rustix::param::clock_ticks_per_second() as f64)
}
