//! The `camring` program: `camring::cmd` does the work.
#![deny(unsafe_code)]

use std::process::ExitCode;

use camring::{cmd, supervisor::spawner, worker};

fn main() -> ExitCode {
    // The template that readers are forked from: before anything that starts a thread, draws a
    // random number or reads a configuration.
    let role = std::env::args_os().nth(1);
    if role.as_ref().is_some_and(|role| role == spawner::ARGUMENT) {
        return ExitCode::from(u8::try_from(cmd::run::spawner()).unwrap_or(1));
    }
    if role.is_some_and(|role| role == worker::ARGUMENT) {
        return ExitCode::from(u8::try_from(worker::main()).unwrap_or(1));
    }
    cmd::main()
}
