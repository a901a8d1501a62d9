//! What systemd is told: ready, alive, how it goes, stopping. Nothing where systemd does not ask.
#![deny(unsafe_code)]

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// The service manager's end of the daemon's state.
#[derive(Debug)]
pub(super) struct Notifier {
    /// Half of what the unit's `WatchdogSec` says.
    alive_every: Option<Duration>,
    alive: Instant,
    status: String,
}

impl Notifier {
    pub fn new() -> Self {
        Self {
            alive_every: sd_notify::watchdog_enabled().map(|period| period / 2),
            alive: Instant::now(),
            status: String::new(),
        }
    }

    /// The attach socket is there, and readers are being started.
    pub fn ready(&mut self) {
        send(&[NotifyState::Ready]);
    }

    /// From the main loop, once a second: that loop lives, and this is how it goes.
    pub fn tick(&mut self, status: String) {
        if let Some(period) = self.alive_every
            && self.alive.elapsed() >= period.saturating_sub(super::policy::TICK)
        {
            self.alive = Instant::now();
            send(&[NotifyState::Watchdog]);
        }
        if status != self.status {
            send(&[NotifyState::Status(&status)]);
            self.status = status;
        }
    }

    /// Shutting down.
    pub fn stopping(&mut self) {
        send(&[NotifyState::Stopping]);
    }
}

fn send(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("sd_notify: {error}");
    }
}
