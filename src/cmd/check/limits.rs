//! Limits of the machine against what this site needs: which one is too small, and the command that
//! raises it.
//!
//! Pure functions of what was read. Needs are estimates on the safe side: each says what it is made of.
//! Must never warn of what the site does not use.

use std::path::Path;

use serde::Serialize;

use super::kernel::Kernel;
use crate::config::{RecordMode, Site, Stream, Transport, show_size};

/// Threads of the supervisor, of the spawner, and of the process for HTTP and recordings (with its
/// workers' processes).
const OWN_THREADS: u64 = 24;
/// Of a reader: network, decoder, the RTSP session of libavformat, and one that begins while one ends.
const READER_THREADS: u64 = 6;
/// Of a recorder: network, disk, and one that begins while one ends.
const RECORDER_THREADS: u64 = 6;
/// Of an encoder, each rendition.
const RENDITION_THREADS: u64 = 2;
/// What is mapped in a process with FFmpeg: its libraries, heap and stacks (98 libraries of 4 to 5
/// mappings each on Debian 12).
const OWN_MAPPINGS: u64 = 700;
/// A ring, its slots, and its page of each subscriber.
const RING_MAPPINGS: u64 = 8;
/// Folders that the server watches for a stream: its own, its renditions, and their newest hours.
const STREAM_WATCHES: u64 = 16;
/// Sound, status and other programs use them too.
const SPARE_INSTANCES: u64 = 4;
/// Private memory of processes that is promised beside the rings: 64 MiB for each.
const PROMISED_PER_PROCESS: u64 = 64 << 20;
/// Private memory that a process really takes.
const PRIVATE_PER_PROCESS: u64 = 8 << 20;
/// What TCP holds for a camera that sends into a busy machine.
const TCP_PER_CAMERA: u64 = 1 << 20;

/// One limit that the site touches.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Limit {
    /// As the kernel calls it: `net.core.rmem_max`.
    pub name: String,
    pub needed: u64,
    pub limit: u64,
    pub enough: bool,
    /// `null` where it is enough: what raises it.
    pub fix: Option<String>,
    /// For people, where it is not enough.
    #[serde(skip)]
    pub doubt: Option<String>,
}

/// All limits that can be told, those that are enough included.
pub fn limits(site: &Site, kernel: &Kernel, cores: usize, files: u64, rings: u64) -> Vec<Limit> {
    let need = Need::of(site);
    let mut limits = Vec::new();
    let mut add = |name: &str, needed: u64, limit: Option<u64>, doubt: &dyn Fn(u64) -> Doubt| {
        let Some(limit) = limit else { return };
        let enough = needed <= limit;
        let (text, fix) = match enough {
            true => (None, None),
            false => {
                let Doubt { what, fix } = doubt(limit);
                (Some(format!("{what}: `{fix}`")), Some(fix))
            }
        };
        limits.push(Limit {
            name: name.to_owned(),
            needed,
            limit,
            enough,
            fix,
            doubt: text,
        });
    };
    if let Some((stream, buffer)) = need.buffer {
        add("net.core.rmem_max", buffer, kernel.rmem_max, &|limit| {
            Doubt {
                what: format!(
                    "camera `{}` asks for a receive buffer of {} for its UDP sockets (the site's cameras \
                 have {} such), the kernel grants {}: bursts will be lost",
                    stream.id,
                    need.sockets.saturating_sub(1),
                    show_size(buffer),
                    show_size(limit)
                ),
                fix: sysctl("net.core.rmem_max", buffer),
            }
        });
    }
    let threads = need.threads;
    for (name, value) in [
        ("kernel.pid_max", kernel.pid_max),
        ("kernel.threads-max", kernel.threads_max),
    ] {
        // Half of it, since camring is not alone.
        add(name, threads * 2, value, &|limit| Doubt {
            what: format!(
                "camring may need {threads} processes and threads, and the whole machine may have {limit}"
            ),
            fix: sysctl(name, (threads * 4).next_power_of_two()),
        });
    }
    add("RLIMIT_NPROC", threads, kernel.user_processes, &|limit| {
        let enough = (threads * 2).next_power_of_two();
        Doubt {
            what: format!(
                "camring may need {threads} processes and threads, this user may have {limit} \
                 (`LimitNPROC={enough}` in the unit)"
            ),
            fix: format!("ulimit -Hu {enough}"),
        }
    });
    if let Some((limit, group)) = &kernel.pids_max {
        add("pids.max", threads, Some(*limit), &|limit| Doubt {
            what: format!(
                "camring may need {threads} processes and threads, the control group {} may have {limit} \
                 (`TasksMax=` in the unit)",
                group.display()
            ),
            fix: write(group, "pids.max", threads * 2),
        });
    }
    // The kernel's own count: all processes of the machine together.
    let open = kernel.files_open.unwrap_or(0);
    add(
        "fs.file-max",
        open.saturating_add(files),
        kernel.file_max,
        &|limit| Doubt {
            what: format!(
                "camring may open {files} files, {open} are open on the machine, which may have {limit}"
            ),
            fix: sysctl(
                "fs.file-max",
                (open.saturating_add(files) * 2).next_power_of_two(),
            ),
        },
    );
    add(
        "vm.max_map_count",
        need.mappings,
        kernel.max_map_count,
        &|limit| Doubt {
            what: format!(
                "a program that looks at all streams may need {} mappings, the kernel allows {limit}",
                need.mappings
            ),
            fix: sysctl("vm.max_map_count", (need.mappings * 2).next_power_of_two()),
        },
    );
    if let Some((limit, promised)) = kernel.commit {
        let mine = rings.saturating_add(need.processes * PROMISED_PER_PROCESS);
        let needed = promised.saturating_add(mine);
        add("vm.overcommit_memory", needed, Some(limit), &|limit| {
            Doubt {
                what: format!(
                    "memory must be promised before it is used here; camring needs about {}, {} of {} are \
                 promised to others",
                    show_size(mine),
                    show_size(promised),
                    show_size(limit)
                ),
                fix: sysctl("vm.overcommit_memory", 0),
            }
        });
    }
    if let Some((limit, group)) = &kernel.memory_max {
        let needed = rings.saturating_add(need.processes * PRIVATE_PER_PROCESS);
        add("memory.max", needed, Some(*limit), &|limit| Doubt {
            what: format!(
                "camring needs about {} if all cameras are 1920x1080, the control group {} may have {} \
                 (`MemoryMax=` in the unit)",
                show_size(needed),
                group.display(),
                show_size(limit)
            ),
            fix: write(group, "memory.max", needed.saturating_mul(5) / 4),
        });
    }
    if let Some((quota, group)) = &kernel.cpu_max
        && need.pinned > 0
    {
        // In hundredths of a core, as systemd has it.
        let hundredths = (quota * 100.0).round() as u64;
        let used = need.pinned.min(cores as u64).max(1) * 100;
        add("cpu.max", used, Some(hundredths), &|_| Doubt {
            what: format!(
                "the control group {} may use {quota:.2} cores, and readers are spread over {}: all of \
                 them stand still whenever it is used up (`CPUQuota={used}%` in the unit, or leave it out)",
                group.display(),
                used / 100
            ),
            fix: format!("echo max > {}", group.join("cpu.max").display()),
        });
    }
    if need.watches > 0 {
        add(
            "fs.inotify.max_user_watches",
            need.watches,
            kernel.inotify_watches,
            &|limit| Doubt {
                what: format!(
                    "the server watches up to {} folders of recordings, the kernel allows {limit}: it will \
                 look for new ones by itself, later",
                    need.watches
                ),
                fix: sysctl(
                    "fs.inotify.max_user_watches",
                    (need.watches * 4).next_power_of_two(),
                ),
            },
        );
        let instances = 1 + SPARE_INSTANCES;
        add(
            "fs.inotify.max_user_instances",
            instances,
            kernel.inotify_instances,
            &|limit| Doubt {
                what: format!(
                    "the server needs one inotify instance, and the kernel allows {limit} for all programs of \
                 its user"
                ),
                fix: sysctl("fs.inotify.max_user_instances", 128),
            },
        );
    }
    if need.tcp > 0 {
        add(
            "net.ipv4.tcp_mem",
            need.tcp,
            kernel.tcp_pressure,
            &|limit| {
                let page = rustix::param::page_size() as u64;
                let pages = need.tcp * 2 / page;
                Doubt {
                    what: format!(
                        "cameras over TCP may have {} under way, the kernel saves from {} on and slows all \
                     of them",
                        show_size(need.tcp),
                        show_size(limit)
                    ),
                    fix: format!(
                        "sysctl -w net.ipv4.tcp_mem=\"{} {pages} {}\"",
                        pages * 3 / 4,
                        pages * 3 / 2
                    ),
                }
            },
        );
    }
    limits
}

struct Doubt {
    what: String,
    fix: String,
}

fn sysctl(name: &str, value: u64) -> String {
    format!("sysctl -w {name}={value}")
}

fn write(group: &Path, file: &str, value: u64) -> String {
    format!("echo {value} > {}", group.join(file).display())
}

/// What a site needs.
struct Need<'s> {
    /// The stream that asks for the largest UDP buffer.
    buffer: Option<(&'s Stream, u64)>,
    /// UDP sockets with such buffers: RTP and RTCP.
    sockets: u64,
    threads: u64,
    processes: u64,
    mappings: u64,
    /// Streams that run on one core each.
    pinned: u64,
    watches: u64,
    tcp: u64,
}

impl<'s> Need<'s> {
    fn of(site: &'s Site) -> Self {
        let udp =
            |stream: &&Stream| matches!(stream.transport, Transport::Udp | Transport::Multicast);
        let streams = site.enabled().count() as u64;
        let largest = site
            .enabled()
            .filter(udp)
            .max_by_key(|s| s.network.receive_buffer);
        let readers: u64 = site
            .enabled()
            .map(|stream| READER_THREADS + u64::from(stream.decode.threads))
            .sum();
        let recorders: u64 = site
            .recorded()
            .map(|stream| match stream.record.mode {
                RecordMode::Encode => {
                    let renditions = stream.record.renditions.len().max(1) as u64;
                    RECORDER_THREADS + renditions * RENDITION_THREADS
                }
                _ => RECORDER_THREADS,
            })
            .sum();
        let views: u64 = site.enabled().map(|stream| stream.views.len() as u64).sum();
        // The most subscribers of one stream, each with its pages in the reader.
        let subscribers = site
            .enabled()
            .map(|stream| u64::from(stream.ring.pins))
            .max();
        let recorded = site.recorded().count() as u64;
        Self {
            buffer: largest.map(|stream| (stream, stream.network.receive_buffer)),
            sockets: site.enabled().filter(udp).count() as u64 * 2,
            threads: OWN_THREADS + readers + recorders,
            processes: site.processes() + 1,
            mappings: OWN_MAPPINGS
                + (streams * 3 + views) * RING_MAPPINGS
                + subscribers.unwrap_or(0) * 2,
            pinned: streams,
            watches: match recorded {
                0 => 0,
                n => 1 + n * STREAM_WATCHES,
            },
            tcp: site.enabled().filter(|stream| !udp(stream)).count() as u64 * TCP_PER_CAMERA,
        }
    }
}

#[cfg(test)]
#[path = "limits/tests.rs"]
mod tests;
