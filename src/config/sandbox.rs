//! `[sandbox]`: how processes give up what they do not need. What that is, `crate::sandbox` knows.

use serde::{Deserialize, Serialize};

/// `[sandbox]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// Whether.
    pub enabled: SandboxMode,
    /// What becomes of a process that does what it must not.
    pub on_violation: OnViolation,
}

/// Whether processes are sandboxed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SandboxMode {
    /// With all that the kernel has.
    #[default]
    Auto,
    /// A process that lacks a part of it does not begin.
    Require,
    /// Not at all.
    Off,
}

impl SandboxMode {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Require, Self::Off];

    /// As in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Require => "require",
            Self::Off => "off",
        }
    }
}

/// What a forbidden system call brings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnViolation {
    /// EPERM, and a line in the kernel's log.
    #[default]
    Errno,
    /// The end of the process, by SIGSYS.
    Kill,
}

impl OnViolation {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Errno, Self::Kill];

    /// As in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Errno => "errno",
            Self::Kill => "kill",
        }
    }
}
