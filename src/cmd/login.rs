//! `camring user hash` and `camring token new`: what to put into the configuration.
//!
//! A password comes from the terminal, unseen, or from standard input; it is never an argument and
//! never printed. Neither command reads or changes a configuration.
#![deny(unsafe_code)]

use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Write as _};

use anyhow::{Context as _, bail};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use secrecy::{ExposeSecret as _, SecretString};

use crate::cli::{LoginArgs, RoleArg, TokenCommand, UserCommand};
use crate::cmd;
use crate::config::Role;
use crate::config::proof::{self, PASSWORD_BYTES};

/// Ctrl-C, as the terminal sends it when it raises no signal.
const INTERRUPT: u8 = 3;

/// Runs `camring user …`.
///
/// # Errors
/// The password is too short, or none came.
pub fn user(command: UserCommand) -> anyhow::Result<()> {
    let UserCommand::Hash(args) = command;
    let password = password()?;
    let hash = proof::hash_password(password.expose_secret()).map_err(anyhow::Error::msg)?;
    let hash = format!("password_hash = {}", quoted(&hash));
    Ok(cmd::print(&table("user", &args, &hash))?)
}

/// Runs `camring token …`.
///
/// # Errors
/// The system has no random numbers.
pub fn token(command: TokenCommand) -> anyhow::Result<()> {
    let TokenCommand::New(args) = command;
    let (token, hash) = proof::new_token().context("no random numbers")?;
    let hash = format!("hash = {}", quoted(&hash));
    let text = format!(
        "# For the program; it is shown only here:\n# {token}\n{}",
        table("token", &args, &hash)
    );
    Ok(cmd::print(&text)?)
}

fn table(kind: &str, args: &LoginArgs, hash: &str) -> String {
    let role = match args.role {
        RoleArg::Viewer => Role::Viewer,
        RoleArg::Operator => Role::Operator,
        RoleArg::Admin => Role::Admin,
    };
    format!(
        "[[http.{kind}]]\nname = {}\n{hash}\nrole = \"{}\"\n",
        quoted(&args.name),
        role.name()
    )
}

/// As TOML has it.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn password() -> anyhow::Result<SecretString> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return line(&mut stdin.lock(), false)?.context("no password came on standard input");
    }
    let terminal = File::options().read(true).write(true).open("/dev/tty");
    let terminal = terminal.context("cannot open the terminal")?;
    let first = ask(&terminal, "Password: ")?;
    let bytes = first.expose_secret().len();
    if !PASSWORD_BYTES.contains(&bytes) {
        bail!(
            "a password must have at least {} bytes",
            PASSWORD_BYTES.start()
        );
    }
    let again = ask(&terminal, "Again: ")?;
    if first.expose_secret() != again.expose_secret() {
        bail!("the two are different");
    }
    Ok(first)
}

/// As it was, when it ends.
struct Silent<'t> {
    terminal: &'t File,
    before: Termios,
}

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}

fn ask(mut terminal: &File, question: &str) -> anyhow::Result<SecretString> {
    let before = tcgetattr(terminal).context("cannot ask the terminal")?;
    let mut silent = before.clone();
    // Signals too: one would end us with a terminal that stays silent.
    let off = LocalModes::ECHO | LocalModes::ISIG;
    silent.local_modes.remove(off);
    silent.local_modes.insert(LocalModes::ECHONL);
    tcsetattr(terminal, OptionalActions::Flush, &silent).context("cannot silence the terminal")?;
    let _restored = Silent { terminal, before };
    terminal.write_all(question.as_bytes())?;
    line(&mut terminal, true)?.context("no password")
}

/// The first line, byte by byte: what follows is not ours. `None`: there is none.
fn line(from: &mut impl Read, interrupts: bool) -> anyhow::Result<Option<SecretString>> {
    let mut bytes = Vec::with_capacity(*PASSWORD_BYTES.end() + 2);
    let mut byte = [0];
    while from.read(&mut byte)? > 0 && byte[0] != b'\n' {
        if interrupts && byte[0] == INTERRUPT {
            bail!("interrupted");
        }
        if bytes.len() > *PASSWORD_BYTES.end() {
            bail!("a password has at most {} bytes", PASSWORD_BYTES.end());
        }
        bytes.push(byte[0]);
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    let text =
        String::from_utf8(bytes).map_err(|_| anyhow::anyhow!("the password is not UTF-8"))?;
    Ok((!text.is_empty()).then(|| SecretString::from(text)))
}
