//! One ring of a stream, for as long as the recording lasts: attached to the daemon like anybody, and again
//! when the daemon, the ring or the camera has gone.
//!
//! Promises: nothing here waits for what is not there but [`Attached::wait`]; a daemon that refuses is asked
//! again every [`RETRY_PAUSE`], no faster.
#![deny(unsafe_code)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use camring_ring::{AttachError, Client, RETRY_PAUSE, RingError};

/// A subscription, or the next try to get one.
#[derive(Debug)]
pub(super) struct Attached<S> {
    socket: PathBuf,
    stream: String,
    client: Option<Client>,
    subscription: Option<S>,
    retry_at: Option<Instant>,
    trouble: String,
}

impl<S> Attached<S> {
    /// Nothing is contacted yet.
    pub(super) fn new(socket: PathBuf, stream: String) -> Self {
        Self {
            socket,
            stream,
            client: None,
            subscription: None,
            retry_at: None,
            trouble: String::new(),
        }
    }

    /// Where it attaches.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Why there is none: empty while attached.
    pub(super) fn trouble(&self) -> &str {
        &self.trouble
    }

    pub(super) fn is_attached(&self) -> bool {
        self.subscription.is_some()
    }

    pub(super) fn subscription(&mut self) -> Option<&mut S> {
        self.subscription.as_mut()
    }

    /// Attaches with `ask`, which must not wait: true if that has been done now. Does nothing before the
    /// pause after the last try is over.
    pub(super) fn attach(
        &mut self,
        ask: impl FnOnce(&Client, &str) -> Result<S, AttachError>,
    ) -> bool {
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            return false;
        }
        match self.ask(ask) {
            Ok(subscription) => {
                self.subscription = Some(subscription);
                self.retry_at = None;
                self.trouble.clear();
                true
            }
            Err(error) => {
                if matches!(error, AttachError::Disconnected | AttachError::Io(_)) {
                    self.client = None;
                }
                self.failed(error.to_string());
                false
            }
        }
    }

    fn ask(
        &mut self,
        ask: impl FnOnce(&Client, &str) -> Result<S, AttachError>,
    ) -> Result<S, AttachError> {
        let client = match &self.client {
            Some(client) => client,
            None => self.client.insert(Client::connect(&self.socket)?),
        };
        ask(client, &self.stream)
    }

    /// The subscription has ended, by this error.
    pub(super) fn lost(&mut self, error: &RingError) {
        if matches!(error, RingError::Disconnected) {
            self.client = None;
        }
        self.subscription = None;
        self.failed(error.to_string());
    }

    fn failed(&mut self, text: String) {
        if text != self.trouble {
            tracing::debug!("not attached: {text}");
        }
        self.trouble = text;
        self.retry_at = Some(Instant::now() + RETRY_PAUSE);
    }

    /// Waits with `wait`, or for the next try, but no longer than this.
    pub(super) fn wait<T>(
        &mut self,
        timeout: Duration,
        wait: impl FnOnce(&mut S, Duration) -> Result<T, RingError>,
    ) {
        let Some(subscription) = &mut self.subscription else {
            let pause = self.retry_at.map_or(RETRY_PAUSE, |at| {
                at.saturating_duration_since(Instant::now())
            });
            std::thread::sleep(pause.min(timeout));
            return;
        };
        if let Err(error) = wait(subscription, timeout) {
            self.lost(&error);
        }
    }
}
