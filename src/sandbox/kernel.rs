//! What the kernel has of it, for `status`, `check` and people who wonder.
#![deny(unsafe_code)]

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::Sandbox;
use crate::sys;

/// What processes can be confined with here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// Filters of system calls.
    pub seccomp: bool,
    /// The version of Landlock; 0: there is none, or it is not switched on.
    pub landlock_abi: u32,
}

impl Kernel {
    /// Asks it.
    pub fn probe() -> Self {
        Self {
            seccomp: sys::has_seccomp(),
            landlock_abi: sys::landlock_abi(),
        }
    }

    /// What is not there, in words; empty: all that is used is.
    pub fn lacks(self) -> Vec<&'static str> {
        let mut lacks = Vec::new();
        if !self.seccomp {
            lacks.push("no seccomp: system calls are not filtered");
        }
        match self.landlock_abi {
            0 => lacks.push(
                "no Landlock (Linux 5.13, and `landlock` in the kernel's lsm= list): files are closed off \
                 by seccomp alone, recorders and the server can open what their user can",
            ),
            1..=3 => lacks.push("Landlock without network (Linux 6.7): any TCP port can be reached"),
            4..=5 => lacks.push(
                "Landlock without scopes (Linux 6.12): signals to other processes are refused to readers \
                 and workers by seccomp, to recorders and the server they are not",
            ),
            _ => {}
        }
        lacks
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seccomp = match self.seccomp {
            true => "seccomp yes",
            false => "seccomp no",
        };
        match self.landlock_abi {
            0 => write!(f, "{seccomp}, Landlock no"),
            abi => write!(f, "{seccomp}, Landlock ABI {abi}"),
        }
    }
}

/// How processes are confined.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxStatus {
    /// `[sandbox] enabled`.
    pub enabled: String,
    /// `[sandbox] on_violation`.
    pub on_violation: String,
    /// What the kernel has.
    #[serde(flatten)]
    pub kernel: Kernel,
    /// What of it is not there, in words.
    pub lacks: Vec<String>,
}

impl fmt::Display for SandboxStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.enabled, self.kernel)?;
        for lack in &self.lacks {
            write!(f, "; {lack}")?;
        }
        Ok(())
    }
}

impl SandboxStatus {
    /// As configured, on this machine.
    pub fn new(sandbox: Sandbox) -> Self {
        Self::with(sandbox, Kernel::probe())
    }

    /// The same, with a kernel that was asked before.
    pub fn with(sandbox: Sandbox, kernel: Kernel) -> Self {
        Self {
            enabled: sandbox.enabled.name().to_owned(),
            on_violation: sandbox.on_violation.name().to_owned(),
            kernel,
            lacks: kernel.lacks().into_iter().map(str::to_owned).collect(),
        }
    }
}
