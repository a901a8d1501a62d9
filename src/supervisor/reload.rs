//! The configuration, read again while the daemon runs: what has changed is touched, nothing else.
#![deny(unsafe_code)]

use std::rc::Rc;

use super::Supervisor;
use crate::control::serve::{Ask, AskError, AskErrorKind, ToServe};

/// What became of attempts to read it again.
#[derive(Debug, Default)]
pub(super) struct Reloads {}

impl Supervisor {
    pub(super) async fn reload(self: Rc<Self>, _why: &'static str) {}

    pub(super) fn asked(self: &Rc<Self>, id: u64, _ask: Ask) {
        self.server.tell(ToServe::Answer {
            id,
            result: Err(AskError {
                kind: AskErrorKind::Failed,
                detail: String::new(),
                faults: Vec::new(),
            }),
        });
    }
}
