//! The `camring` program: `camring::cmd` does the work.
#![deny(unsafe_code)]

use std::process::ExitCode;

use camring::{cmd, supervisor::spawner};

fn main() -> ExitCode {
    // The template that readers are forked from: before anything that starts a thread, draws a
    // random number or reads a configuration.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|argument| argument == spawner::ARGUMENT)
    {
        return ExitCode::from(u8::try_from(cmd::run::spawner()).unwrap_or(1));
    }
    cmd::main()
}
