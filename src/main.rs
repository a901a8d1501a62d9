//! The `camring` program: `camring::cmd` does the work.
#![deny(unsafe_code)]

use std::process::ExitCode;

use camring::{cmd, serve, supervisor::spawner, worker};

fn main() -> ExitCode {
    // The template that readers are forked from: before anything that starts a thread, draws a
    // random number or reads a configuration.
    let code = match std::env::args_os().nth(1) {
        Some(argument) if argument == spawner::ARGUMENT => cmd::run::spawner(),
        Some(argument) if argument == serve::ARGUMENT => cmd::run::serve(),
        Some(argument) if argument == worker::ARGUMENT => cmd::run::worker(),
        _ => return cmd::main(),
    };
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
