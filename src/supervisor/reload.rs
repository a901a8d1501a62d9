//! The configuration, read again or edited while the daemon runs: what has changed is touched,
//! nothing else.
//!
//! Promises: a stream whose settings are the same does not skip a frame. A configuration that is
//! wrong, or would need a new daemon, changes nothing at all. One change at a time, in the order in
//! which they were asked for; the file is read and written on another thread.
#![deny(unsafe_code)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::camera::Camera;
use super::service::{Order, give};
use super::{Supervisor, policy};
use crate::config::edit::{self, Edit, EditError};
use crate::config::{self, ConfigError, Http, Retention, Site, Stream, Style};
use crate::control::serve::{Ask, AskError, AskErrorKind, KeyFault, ToServe, parts};
use crate::serve::SiteView;
use crate::sys::clock;

/// Of what is wrong with a configuration, this much is in status.
const LONGEST_ERROR: usize = 8 << 10;
/// Names in a line of the log.
const NAMES_LISTED: usize = 10;

/// What became of attempts to change the configuration.
#[derive(Debug, Default)]
pub(super) struct Reloads {
    /// Held by who changes it.
    turn: Mutex<()>,
    last: RefCell<Last>,
}

/// The same, for status.
#[derive(Clone, Debug, Default)]
pub(super) struct Last {
    /// Since the daemon started.
    pub attempts: u64,
    /// Of those, applied.
    pub applied: u64,
    pub unix_ms: Option<u64>,
    /// What the last one changed.
    pub changes: Option<String>,
    /// Why the last one was refused.
    pub error: Option<String>,
}

impl Reloads {
    pub fn last(&self) -> Last {
        self.last.borrow().clone()
    }

    fn done(&self, result: &Result<Changes, String>) {
        let mut last = self.last.borrow_mut();
        last.attempts += 1;
        last.unix_ms = Some(clock::unix_ms());
        match result {
            Ok(changes) => {
                last.applied += 1;
                last.changes = Some(changes.to_string());
                last.error = None;
            }
            Err(error) => {
                let end = error.floor_char_boundary(LONGEST_ERROR);
                // It may quote a key that the API was sent, and is shown on terminals.
                let odd = |c: char| c.is_control() && c != '\n';
                last.changes = None;
                last.error = Some(error[..end].replace(odd, " "));
            }
        }
    }
}

/// What a server keeps for its life: all but users and tokens.
fn kept(site: &Site) -> (Http, Retention) {
    let http = Http {
        users: Vec::new(),
        tokens: Vec::new(),
        ..site.http.clone()
    };
    (http, site.retention)
}

/// What a new configuration changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    added: Vec<String>,
    removed: Vec<String>,
    /// Read anew.
    restarted: Vec<String>,
    /// Recorded in another way, enabled or disabled.
    changed: Vec<String>,
    unchanged: usize,
    /// Something that is for the whole site.
    site: bool,
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = [
            ("added", &self.added),
            ("removed", &self.removed),
            ("restarted", &self.restarted),
            ("changed", &self.changed),
        ];
        for (what, names) in lists.into_iter().filter(|(_, names)| !names.is_empty()) {
            write!(f, "{} {what} (", names.len())?;
            let listed: Vec<_> = names
                .iter()
                .take(NAMES_LISTED)
                .map(String::as_str)
                .collect();
            f.write_str(&listed.join(", "))?;
            if names.len() > NAMES_LISTED {
                f.write_str(", …")?;
            }
            f.write_str("), ")?;
        }
        if self.site {
            f.write_str("site settings changed, ")?;
        }
        write!(f, "{} unchanged", self.unchanged)
    }
}

impl Supervisor {
    fn config_path(&self) -> Result<PathBuf, String> {
        let path = self.options.config.clone();
        path.ok_or_else(|| "the configuration was not read from a file".to_owned())
    }

    /// Reads the file again and applies it. Never fails: what is wrong is in the log and in status.
    pub(super) async fn reload(self: Rc<Self>, why: &'static str) {
        let _turn = self.reloads.turn.lock().await;
        let result = match self.config_path() {
            Ok(path) => self.read_again(path).await,
            Err(error) => Err(error),
        };
        match &result {
            Ok(changes) => tracing::info!("{why}: configuration applied: {changes}"),
            Err(error) => tracing::error!("{why}: the configuration stays as it was: {error}"),
        }
        self.reloads.done(&result);
        self.status_is_stale();
    }

    async fn read_again(self: &Rc<Self>, path: PathBuf) -> Result<Changes, String> {
        let read = tokio::task::spawn_blocking(move || config::read(Some(&path)));
        let loaded = match read.await {
            Ok(loaded) => loaded.map_err(|error| error.render(Style::Plain))?,
            Err(_) => return Err("it could not be read".into()),
        };
        for warning in loaded.warnings.report().messages() {
            tracing::warn!("{}: {warning}", loaded.path.display());
        }
        self.apply(loaded.site)
    }

    /// What keeps a configuration from being applied to this daemon.
    fn needs_restart(&self, new: &Site) -> Option<String> {
        let old = self.site();
        let keys = [
            ("data_dir", &old.data_dir, &new.data_dir),
            ("runtime_dir", &old.runtime_dir, &new.runtime_dir),
        ];
        let fixed: Vec<_> = keys
            .iter()
            .filter(|(_, old, new)| old != new)
            .map(|(key, old, _)| format!("[site] {key} (now {})", old.display()))
            .collect();
        (!fixed.is_empty()).then(|| {
            format!(
                "{} cannot change while the daemon runs: restart it, or take the change back",
                fixed.join(" and ")
            )
        })
    }

    /// Makes the new configuration hold.
    fn apply(self: &Rc<Self>, new: Site) -> Result<Changes, String> {
        if let Some(why) = self.needs_restart(&new) {
            return Err(why);
        }
        let old = self.site();
        let mut changes = Changes::default();
        let cameras = self.cameras();
        let mut before: HashMap<&str, &Rc<Camera>> =
            cameras.iter().map(|c| (c.id.as_str(), c)).collect();
        let (mut after, mut added) = (Vec::new(), Vec::new());
        for stream in &new.streams {
            match before.remove(stream.id.as_str()) {
                Some(camera) => {
                    self.change(camera, stream, &mut changes);
                    after.push(camera.clone());
                }
                None => {
                    let camera = self.new_camera(stream);
                    changes.added.push(stream.id.clone());
                    after.push(camera.clone());
                    added.push(camera);
                }
            }
        }
        let gone = cameras
            .iter()
            .filter(|camera| before.contains_key(camera.id.as_str()));
        for camera in gone {
            changes.removed.push(camera.id.clone());
            camera.removed.set(true);
            give(&camera.order, Order::End);
            give(&camera.recorder.order, Order::End);
            self.leaving.borrow_mut().push(camera.clone());
        }
        changes.site = {
            let of = |site: &Site| {
                let Site {
                    name,
                    limits,
                    http,
                    sandbox,
                    retention,
                    max_encoders,
                    ..
                } = site.clone();
                (name, limits, http, sandbox, retention, max_encoders)
            };
            of(&old) != of(&new)
        };
        let new = Rc::new(new);
        *self.site.borrow_mut() = new.clone();
        *self.cameras.borrow_mut() = after.into();
        self.encoders.borrow_mut().set_places(new.max_encoders);
        self.grant_encoders();
        let mut pause = Duration::ZERO;
        for camera in &added {
            self.keep_camera(camera, pause);
            pause += policy::STAGGER;
        }
        self.tell_server(&old, &new);
        self.status_is_stale();
        Ok(changes)
    }

    /// A stream that is in both configurations.
    fn change(&self, camera: &Rc<Camera>, new: &Stream, changes: &mut Changes) {
        let old = camera.wanted();
        if *old == *new {
            changes.unchanged += 1;
            return;
        }
        let anew = read_differently(&old, new);
        let next = Rc::new(new.clone());
        match *camera.wanted() == *camera.stream() && !anew && old.enabled == new.enabled {
            true => camera.exchange(next),
            false => camera.prepare(next),
        }
        let order = match (camera.rests(), new.enabled) {
            (_, false) => Order::Rest,
            (false, true) if !anew => *camera.order.borrow(),
            (_, true) => Order::Run(self.next_order()),
        };
        give(&camera.order, order);
        match anew && old.enabled && new.enabled {
            true => changes.restarted.push(new.id.clone()),
            false => changes.changed.push(new.id.clone()),
        }
        let recorder = &camera.recorder;
        let differently = recorder.job.prepare(new);
        let now = *recorder.order.borrow();
        let order = match (now, new.enabled && new.record.is_on()) {
            (_, false) => Order::Rest,
            (Order::Run(_), true) if !differently => now,
            (_, true) => Order::Run(self.next_order()),
        };
        give(&recorder.order, order);
    }

    fn tell_server(&self, old: &Site, new: &Site) {
        let runs = matches!(*self.server.order.borrow(), Order::Run(_));
        if !new.serves() {
            give(&self.server.order, Order::Rest);
        } else if !runs || kept(old) != kept(new) || old.sandbox != new.sandbox {
            give(&self.server.order, Order::Run(self.next_order()));
        } else {
            self.server
                .tell(ToServe::Access(Box::new(new.http.clone())));
            let view = SiteView::of(new);
            if view != SiteView::of(old) {
                parts(&view)
                    .into_iter()
                    .for_each(|part| self.server.tell(part));
            }
        }
    }

    /// A question of the server's; answered when it is done.
    pub(super) fn asked(self: &Rc<Self>, id: u64, ask: Ask) {
        let supervisor = self.clone();
        tokio::task::spawn_local(async move {
            let result = supervisor.answer(ask).await;
            supervisor.server.tell(ToServe::Answer { id, result });
        });
    }

    async fn answer(self: &Rc<Self>, ask: Ask) -> Result<Value, AskError> {
        tracing::info!("the API asks for {ask:?}");
        let (edit, name) = match ask {
            Ask::AddCamera { camera } => {
                let name = camera
                    .get("name")
                    .and_then(Value::as_str)
                    .map(str::to_owned);
                (Edit::Add(camera), name)
            }
            Ask::PatchCamera { camera, patch } => {
                let name = patch.get("name").and_then(Value::as_str);
                let name = name.unwrap_or(&camera).to_owned();
                (Edit::Patch(camera, patch), Some(name))
            }
            Ask::RemoveCamera { camera } => (Edit::Remove(camera.clone()), Some(camera)),
            Ask::RestartCamera { camera } => return self.restart(&camera),
        };
        let _turn = self.reloads.turn.lock().await;
        let result = self.edit(edit).await;
        let told = result.clone();
        self.reloads.done(&told.map_err(|error| error.detail));
        let changes = result?;
        tracing::info!("configuration edited and applied: {changes}");
        Ok(json!({ "camera": name, "changes": changes.to_string() }))
    }

    /// Ends a camera's processes; they come back at once.
    fn restart(&self, name: &str) -> Result<Value, AskError> {
        let cameras = self.cameras();
        let own: Vec<_> = cameras
            .iter()
            .filter(|camera| camera.wanted().camera == name)
            .collect();
        if own.is_empty() {
            return Err(unknown(name));
        }
        let mut restarted = 0;
        for camera in own {
            if camera.rests() {
                continue;
            }
            restarted += 1;
            give(&camera.order, Order::Run(self.next_order()));
            if matches!(*camera.recorder.order.borrow(), Order::Run(_)) {
                give(&camera.recorder.order, Order::Run(self.next_order()));
            }
        }
        match restarted {
            0 => Err(AskError {
                kind: AskErrorKind::Conflict,
                detail: format!("camera {name:?} is disabled: start it instead"),
                faults: Vec::new(),
            }),
            _ => Ok(json!({ "camera": name, "changes": format!("{restarted} restarted") })),
        }
    }

    /// Edits the file and applies what comes of it.
    async fn edit(self: &Rc<Self>, edit: Edit) -> Result<Changes, AskError> {
        let path = self.config_path().map_err(failed)?;
        let running = Site::clone(&self.site());
        let made = tokio::task::spawn_blocking(move || {
            let old = edit::Text::read(&path).map_err(|error| unreadable(&path, &error))?;
            let new = edit::apply(old.as_str(), &edit).map_err(refused)?;
            let site = config::check(&new, &path).map_err(|error| invalid(&error))?;
            if let Edit::Patch(camera, patch) = &edit {
                // What somebody has written by hand holds as well as what runs.
                let written = config::check(old.as_str(), &path).ok();
                let before: Vec<_> = written.iter().chain([&running]).collect();
                astray(edit::led_astray(&before, camera, &site, patch))?;
            }
            Ok((path, old, new, site))
        });
        let (path, old, new, site) = match made.await {
            Ok(made) => made?,
            Err(_) => return Err(failed("the configuration could not be read".to_owned())),
        };
        if let Some(why) = self.needs_restart(&site) {
            // Written by hand, and not ours to apply.
            return Err(AskError {
                kind: AskErrorKind::Conflict,
                ..failed(format!("the configuration file has other changes: {why}"))
            });
        }
        let written = tokio::task::spawn_blocking(move || {
            old.replace(&new).map_err(|e| unwritable(&path, &e))
        });
        match written.await {
            Ok(written) => written?,
            Err(_) => return Err(failed("the configuration could not be written".to_owned())),
        }
        self.apply(site).map_err(failed)
    }
}

/// Whether a reader would do anything else with the one than with the other.
fn read_differently(old: &Stream, new: &Stream) -> bool {
    let listens = old.record.wants_audio();
    let mut old = old.clone();
    old.record = new.record.clone();
    old.alias = new.alias.clone();
    old.enabled = new.enabled;
    // Of how it is recorded, one thing alone is the reader's concern: whether it reads the sound.
    old != *new || listens != new.record.wants_audio()
}

/// A camera's password goes nowhere else than where it was meant for: whoever sends it to another
/// host must know it.
fn astray(keys: Vec<String>) -> Result<(), AskError> {
    if keys.is_empty() {
        return Ok(());
    }
    let fault = |field| KeyFault {
        field,
        detail: "must be sent along with a URL of another host or port".into(),
    };
    Err(AskError {
        kind: AskErrorKind::Invalid,
        detail:
            "the URL leads to another host or port, and the camera has a password: send it again \
                 with the URL, so that it cannot be sent to a stranger"
                .into(),
        faults: keys.into_iter().map(fault).collect(),
    })
}

fn failed(detail: String) -> AskError {
    AskError {
        kind: AskErrorKind::Failed,
        detail,
        faults: Vec::new(),
    }
}

fn unknown(name: &str) -> AskError {
    AskError {
        kind: AskErrorKind::UnknownCamera,
        detail: format!("no camera {name:?} in the configuration"),
        faults: Vec::new(),
    }
}

fn refused(error: EditError) -> AskError {
    let detail = error.to_string();
    match error {
        EditError::Unknown(name) => unknown(&name),
        EditError::Exists(_) => AskError {
            kind: AskErrorKind::Exists,
            faults: vec![KeyFault {
                field: "name".into(),
                detail: "must be another one".into(),
            }],
            ..failed(detail)
        },
        EditError::Value { field, .. } => AskError {
            kind: AskErrorKind::Invalid,
            faults: vec![KeyFault {
                field,
                detail: detail.clone(),
            }],
            ..failed(detail)
        },
        EditError::Broken(_) | EditError::Inline => AskError {
            kind: AskErrorKind::Conflict,
            ..failed(detail)
        },
    }
}

/// What the loader says, key by key.
fn invalid(error: &ConfigError) -> AskError {
    let ConfigError::Invalid(report) = error else {
        return failed(error.to_string());
    };
    let faults: Vec<_> = report
        .faults()
        .map(|(key, detail)| KeyFault {
            field: key.unwrap_or_default().to_owned(),
            detail,
        })
        .collect();
    let detail = faults
        .first()
        .map_or_else(String::new, |f| f.detail.clone());
    AskError {
        kind: AskErrorKind::Invalid,
        detail,
        faults,
    }
}

fn unreadable(path: &std::path::Path, error: &io::Error) -> AskError {
    failed(format!("cannot read {}: {error}", path.display()))
}

fn unwritable(path: &std::path::Path, error: &io::Error) -> AskError {
    let text = match error.kind() {
        io::ErrorKind::AlreadyExists => {
            return AskError {
                kind: AskErrorKind::Conflict,
                ..failed("the configuration file was changed at the same moment: try again".into())
            };
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => format!(
            "cannot write {0}: {error}; the user that runs camring must be able to write the file and \
             its folder (under systemd: ReadWritePaths={1} in the unit, and `chown camring {1} {0}`)",
            path.display(),
            path.parent().unwrap_or(path).display(),
        ),
        _ => format!("cannot write {}: {error}", path.display()),
    };
    failed(text)
}
