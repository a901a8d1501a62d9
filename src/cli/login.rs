//! The arguments of the commands that make users and tokens.
#![deny(unsafe_code)]

use clap::{Args, Subcommand, ValueEnum};

/// `camring user`
#[derive(Clone, Debug, Subcommand)]
pub enum UserCommand {
    /// Hash a password, and print the [[http.user]] to put into the configuration
    #[command(after_help = "\
Asks for the password on the terminal, twice, without showing it; without a terminal it is the first line of
standard input. It is never an argument: arguments are in the list of processes and in the shell's history.

Examples:
  camring user hash --name anna --role admin
  pass show cameras/anna | camring user hash --name anna >> /etc/camring/config.toml")]
    Hash(LoginArgs),
}

/// `camring token`
#[derive(Clone, Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token, and print the [[http.token]] to put into the configuration
    #[command(after_help = "\
The token is printed once, in a comment, and kept nowhere: the configuration has only its hash. Programs
send it as `Authorization: Bearer …`; players that can only send a name and a password send it as password.

Examples:
  camring token new --name recorder-backup
  camring token new --name detector --role operator")]
    New(LoginArgs),
}

/// For whom, and what they may do.
#[derive(Args, Clone, Debug)]
pub struct LoginArgs {
    /// The user's or the token's name, in the log and the dashboard
    #[arg(long, value_name = "NAME")]
    pub name: String,

    /// What it may do
    #[arg(long, value_enum, default_value_t = RoleArg::Viewer)]
    pub role: RoleArg,
}

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RoleArg {
    /// See cameras and recordings
    Viewer,
    /// Also set markers, protect recordings, start and stop cameras, export
    Operator,
    /// Also add and remove cameras, delete recordings, read the audit log
    Admin,
}
