//! Messages to a reader, with their descriptors, while its socket has no room.
#![deny(unsafe_code)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;

use tokio::sync::Notify;

use super::policy;
use super::rings::Outgoing;
use crate::control::{AsyncControl, ControlError};

/// Messages that wait for room in a reader's socket.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: RefCell<VecDeque<Rc<Outgoing>>>,
    wake: Notify,
}

impl Outbox {
    /// With the messages that must come first.
    pub fn new(first: Vec<Outgoing>) -> Self {
        Self {
            queue: RefCell::new(first.into_iter().map(Rc::new).collect()),
            wake: Notify::new(),
        }
    }

    pub fn push(&self, message: Outgoing) {
        self.queue.borrow_mut().push_back(Rc::new(message));
        self.wake.notify_one();
    }

    /// More waits than a living reader ever leaves.
    pub fn overflown(&self) -> bool {
        self.queue.borrow().len() > policy::OUTBOX
    }

    /// Waits for the oldest message. It stays until [`Outbox::sent`]. Cancel-safe.
    pub async fn front(&self) -> Rc<Outgoing> {
        loop {
            let front = self.queue.borrow().front().cloned();
            match front {
                Some(message) => return message,
                None => self.wake.notified().await,
            }
        }
    }

    pub fn sent(&self) {
        self.queue.borrow_mut().pop_front();
    }
}

/// Sends what is in the outbox, for ever; returns when that is no longer possible. Cancel-safe.
pub(super) async fn send_all(control: &AsyncControl, outbox: Option<&Outbox>) -> ControlError {
    let Some(outbox) = outbox else {
        return std::future::pending().await;
    };
    loop {
        let next = outbox.front().await;
        let fds: Vec<_> = next.fds.iter().map(OwnedFd::as_fd).collect();
        if let Err(error) = control.send(&next.message, &fds).await {
            return error;
        }
        outbox.sent();
    }
}
