//! One camera or several, over a connection that is made anew when the daemon was restarted.
//!
//! Promises: no call waits for a frame but [`Waiter::wait`]; a daemon that is absent is tried again
//! at most once per [`RETRY_PAUSE`]; one camera of several that cannot be had does not keep the
//! others waiting.
//!
//! Must never: go on after an error that trying again does not mend without saying so.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::attach::AttachError;
use crate::error::RingError;
use crate::subscriber::client::{AttachOptions, Client};
use crate::subscriber::frame::{Frame, RingChange};
use crate::subscriber::frames::Subscription;

/// How long an absent daemon, or a camera that is not ready, is left alone before the next try.
pub const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// How long after a loss of the connection a socket that may not be opened counts as one that the
/// new daemon is still setting up.
const SETTING_UP: Duration = Duration::from_secs(5);

/// How a [`Receiver`] attaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiverOptions {
    /// The same for every camera. `timeout`: how long [`Receiver::attach`] waits for the first
    /// ring.
    pub attach: AttachOptions,
    /// Connect and attach again when the daemon went away; otherwise that is
    /// [`AttachError::Disconnected`].
    pub reconnect: bool,
}

impl Default for ReceiverOptions {
    /// As [`AttachOptions::default`], with reconnecting.
    fn default() -> Self {
        Self {
            attach: AttachOptions::default(),
            reconnect: true,
        }
    }
}

/// Frames of one or several cameras, newest or in order, over one connection. When the daemon
/// goes away, frames that are held stay as they are, and the receiver connects again when there is
/// a daemon; the first frame of each camera after that says [`RingChange::Reconnected`]. `Send`.
#[derive(Debug)]
pub struct Receiver {
    path: PathBuf,
    options: ReceiverOptions,
    client: Option<Client>,
    members: Vec<Member>,
    /// Which camera is looked at first, so that a fast one does not starve the others.
    turn: usize,
    /// When what is missing is tried next. `None`: nothing is missing.
    retry_at: Option<Instant>,
    /// Since when there is no daemon.
    lost: Option<Instant>,
}

#[derive(Debug)]
struct Member {
    name: String,
    subscription: Option<Subscription>,
    /// Why there is no subscription, or why it gives nothing.
    trouble: Option<AttachError>,
    reconnected: bool,
}

/// What to wait on for a receiver's next frame; see [`Receiver::waiter`]. Waiting on it does not
/// borrow the receiver. `Send` and `Sync`.
#[derive(Debug, Clone)]
pub struct Waiter {
    client: Option<Client>,
    retry_at: Option<Instant>,
}

impl Receiver {
    /// Connects to the daemon at `path` and attaches to `names` (`camera`, `camera/stream`,
    /// `camera:view`). Waits for the first of them to be ready, `options.attach.timeout` at most;
    /// the others follow by themselves. An error that is not "not ready" is returned, whichever
    /// camera it is about.
    pub fn attach<N: AsRef<str>>(
        path: &Path,
        names: &[N],
        options: &ReceiverOptions,
    ) -> Result<Self, AttachError> {
        let start = Instant::now();
        let mut receiver = Self::open(path, names, options)?;
        while receiver.attached() == 0 {
            let waited = start.elapsed();
            let left = options.attach.timeout.saturating_sub(waited);
            if left.is_zero() {
                return Err(receiver.not_ready(waited));
            }
            std::thread::sleep(left.min(Duration::from_millis(100)));
            receiver.attach_missing()?;
        }
        Ok(receiver)
    }

    /// As [`Receiver::attach`], without waiting: it may be that no camera is ready yet.
    pub fn open<N: AsRef<str>>(
        path: &Path,
        names: &[N],
        options: &ReceiverOptions,
    ) -> Result<Self, AttachError> {
        if names.is_empty() {
            return Err(AttachError::Options {
                field: "cameras",
                found: 0,
                limit: "name at least one".to_owned(),
            });
        }
        let member = |name: &N| Member {
            name: name.as_ref().to_owned(),
            subscription: None,
            trouble: None,
            reconnected: false,
        };
        let mut receiver = Self {
            path: path.to_owned(),
            options: *options,
            client: Some(Client::connect(path)?),
            members: names.iter().map(member).collect(),
            turn: 0,
            retry_at: None,
            lost: None,
        };
        receiver.attach_missing()?;
        Ok(receiver)
    }

    /// Asks once more for every camera that is not attached; returns how many are. Any error but
    /// "not ready" is returned.
    pub fn attach_missing(&mut self) -> Result<usize, AttachError> {
        let mut first_error = None;
        self.ask_for_missing(|_, error| {
            first_error.get_or_insert(error);
        });
        match first_error {
            Some(error) => Err(error),
            None => Ok(self.attached()),
        }
    }

    /// [`AttachError::NotReady`] about the first camera that is not, after `waited`.
    pub fn not_ready(&self, waited: Duration) -> AttachError {
        let first = self.members.iter().find(|m| m.subscription.is_none());
        let text = match first.and_then(|m| m.trouble.as_ref()) {
            Some(AttachError::NotReady { text, .. }) => text.clone(),
            Some(other) => other.to_string(),
            None => "the daemon is being waited for".to_owned(),
        };
        AttachError::NotReady {
            name: first.map(|m| m.name.clone()).unwrap_or_default(),
            waited,
            text,
        }
    }

    /// The oldest frame not given out yet that is still there, with the index of its camera, in
    /// turn. `None`: nothing new. Never waits for a frame; connecting or attaching again takes
    /// what the daemon takes to answer (5 s at most each).
    ///
    /// An error of one camera of several ends up in [`Receiver::trouble`], unless it leaves none
    /// attached or is the caller's to mend (too many frames held).
    #[expect(
        clippy::should_implement_trait,
        reason = "the end of an iterator is final, None here is not"
    )]
    pub fn next(&mut self) -> Result<Option<(usize, Frame)>, AttachError> {
        self.take(Subscription::next)
    }

    /// As [`Receiver::next`], but the newest frame of the camera; those before it count as
    /// missed.
    pub fn latest(&mut self) -> Result<Option<(usize, Frame)>, AttachError> {
        self.take(Subscription::latest)
    }

    /// [`Receiver::next`], waiting for `timeout` at most.
    pub fn next_timeout(
        &mut self,
        timeout: Duration,
    ) -> Result<Option<(usize, Frame)>, AttachError> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            if let Some(found) = self.next()? {
                return Ok(Some(found));
            }
            let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
            if !self.waiter().wait(left)? {
                return Ok(None);
            }
        }
    }

    /// What to wait on after `next()` or `latest()` said `None`. Good for one wait: ask for
    /// another after the next look.
    pub fn waiter(&self) -> Waiter {
        Waiter {
            client: self.client.clone(),
            retry_at: self.retry_at,
        }
    }

    /// Descriptors to poll (see [`Subscription::poll_fd`]), if asked for when attaching, of the
    /// cameras attached now. Others after a ring was replaced or the connection made anew, so
    /// ask after each look, and look every [`RETRY_PAUSE`] while something is missing.
    pub fn poll_fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let subscriptions = self.members.iter().filter_map(|m| m.subscription.as_ref());
        subscriptions.filter_map(Subscription::poll_fd)
    }

    /// The connection. `None` while there is no daemon.
    pub fn client(&self) -> Option<&Client> {
        self.client.as_ref()
    }

    /// How many cameras were asked for.
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Name of a camera, as asked for.
    pub fn name(&self, index: usize) -> Option<&str> {
        self.members.get(index).map(|m| m.name.as_str())
    }

    /// How many cameras are attached.
    pub fn attached(&self) -> usize {
        let attached = self.members.iter().filter(|m| m.subscription.is_some());
        attached.count()
    }

    /// The subscription of a camera. `None`: not attached now.
    pub fn subscription(&self, index: usize) -> Option<&Subscription> {
        self.members.get(index)?.subscription.as_ref()
    }

    /// Why a camera gives no frames, if that is known.
    pub fn trouble(&self, index: usize) -> Option<&AttachError> {
        self.members.get(index)?.trouble.as_ref()
    }

    /// Whether something is missing: the daemon, or a camera.
    pub fn is_incomplete(&self) -> bool {
        self.retry_at.is_some()
    }

    fn take(
        &mut self,
        find: fn(&mut Subscription) -> Result<Option<Frame>, RingError>,
    ) -> Result<Option<(usize, Frame)>, AttachError> {
        if self.retry_at.is_some_and(|at| Instant::now() >= at) {
            self.renew()?;
        }
        let count = self.members.len();
        let start = self.turn;
        let mut gone = false;
        for step in 0..count {
            let index = (start + step) % count;
            let member = &mut self.members[index];
            let Some(subscription) = &mut member.subscription else {
                continue;
            };
            match find(subscription) {
                Ok(Some(frame)) => {
                    member.trouble = None;
                    self.turn = (index + 1) % count;
                    return Ok(Some((index, frame)));
                }
                Ok(None) => {}
                // The others may still have what was published before.
                Err(RingError::Disconnected) => gone = true,
                Err(error) => {
                    self.turn = (index + 1) % count;
                    self.failed(index, error)?;
                }
            }
        }
        if gone {
            self.disconnected()?;
        }
        Ok(None)
    }

    /// The daemon is gone. It may be back already, so the next look tries at once.
    fn disconnected(&mut self) -> Result<(), AttachError> {
        if !self.options.reconnect {
            return Err(AttachError::Disconnected);
        }
        self.client = None;
        for member in &mut self.members {
            member.subscription = None;
            member.reconnected = true;
        }
        let now = Instant::now();
        self.lost.get_or_insert(now);
        self.retry_at = Some(now);
        Ok(())
    }

    /// A camera's subscription has said an error.
    fn failed(&mut self, index: usize, error: RingError) -> Result<(), AttachError> {
        let alone = self.members.len() == 1;
        let (error, over) = match error {
            RingError::Removed { .. } => (error.into(), true),
            // The subscription tries again by itself.
            RingError::Reattach(error) => (*error, false),
            // For the caller to mend, or told once per frame.
            other => return Err(other.into()),
        };
        if alone {
            return Err(error);
        }
        let member = &mut self.members[index];
        if over {
            member.subscription = None;
            self.retry_at = Some(Instant::now() + RETRY_PAUSE);
            if self.attached() == 0 {
                return Err(error);
            }
        }
        self.members[index].trouble = Some(error);
        Ok(())
    }

    /// Connects and attaches what is missing.
    fn renew(&mut self) -> Result<(), AttachError> {
        if self.client.is_none() {
            self.retry_at = Some(Instant::now() + RETRY_PAUSE);
            match Client::connect(&self.path) {
                Ok(client) => self.client = Some(client),
                Err(error) if self.will_pass(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        let mut unheard = Vec::new();
        self.ask_for_missing(|index, error| unheard.push((index, error)));
        for (index, error) in unheard {
            if matches!(error, AttachError::Disconnected | AttachError::Io(_)) {
                self.disconnected()?;
                self.retry_at = Some(Instant::now() + RETRY_PAUSE);
                return Ok(());
            }
            if self.attached() == 0 {
                return Err(error);
            }
            self.members[index].trouble = Some(error);
        }
        self.lost = None;
        Ok(())
    }

    /// Whether an error of connecting is one of a daemon that is being started.
    fn will_pass(&self, error: &AttachError) -> bool {
        match error {
            AttachError::NoDaemon { .. }
            | AttachError::Connect { .. }
            | AttachError::TimedOut { .. }
            | AttachError::Disconnected
            | AttachError::Io(_) => true,
            AttachError::PermissionDenied { .. } => {
                self.lost.is_some_and(|lost| lost.elapsed() < SETTING_UP)
            }
            _ => false,
        }
    }

    /// Asks for every camera that is not attached, once. Errors other than "not ready" go to
    /// `failed`.
    fn ask_for_missing(&mut self, mut failed: impl FnMut(usize, AttachError)) {
        let Some(client) = &self.client else {
            return;
        };
        let mut missing = false;
        for (index, member) in self.members.iter_mut().enumerate() {
            if member.subscription.is_some() {
                continue;
            }
            match client.attach_now(&member.name, &self.options.attach) {
                Ok(mut subscription) => {
                    if std::mem::take(&mut member.reconnected) {
                        subscription.set_change(RingChange::Reconnected);
                    }
                    member.subscription = Some(subscription);
                    member.trouble = None;
                }
                Err(error @ AttachError::NotReady { .. }) => {
                    member.trouble = Some(error);
                    missing = true;
                }
                Err(error @ AttachError::TimedOut { .. }) => {
                    // The others would wait as long.
                    member.trouble = Some(error);
                    missing = true;
                    break;
                }
                Err(error) => {
                    missing = true;
                    let gone = matches!(error, AttachError::Disconnected | AttachError::Io(_));
                    failed(index, error);
                    if gone {
                        break;
                    }
                }
            }
        }
        self.retry_at = missing.then(|| Instant::now() + RETRY_PAUSE);
    }
}

impl Waiter {
    /// Waits until another look is worth it (`true`: something was published, the daemon went
    /// away, or it is time to try again what is missing) or the time is over (`false`; `None`: no
    /// limit). Several threads may wait.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool, AttachError> {
        let retry_in = self
            .retry_at
            .map(|at| at.saturating_duration_since(Instant::now()));
        let retry_first = match (retry_in, timeout) {
            (Some(retry), Some(timeout)) => retry <= timeout,
            (Some(_), None) => true,
            (None, _) => false,
        };
        let slice = if retry_first { retry_in } else { timeout };
        let Some(client) = &self.client else {
            std::thread::sleep(slice.unwrap_or(RETRY_PAUSE));
            return Ok(retry_first || slice.is_none());
        };
        match client.wait(slice) {
            Ok(new) => Ok(new || retry_first),
            // Looking says it, or connects again.
            Err(AttachError::Disconnected) => Ok(true),
            Err(other) => Err(other),
        }
    }
}
