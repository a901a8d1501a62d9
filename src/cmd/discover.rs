//! `camring discover`: cameras on the network, as configuration to be pasted.
//!
//! Promises: writes nothing, and changes nothing on a device; the password comes from a file, a variable or
//! a terminal and is printed nowhere; what devices say is clean before it is shown, and means nothing
//! but itself in a configuration. Must never: take a password from the command line.

mod blocks;
mod known;
mod report;

use std::fs::File;
use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::path::Path;

use anyhow::Context as _;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use secrecy::SecretString;

use super::{complain, print};
use crate::cli::{DiscoverArgs, Global};
use crate::config::show_duration;
use crate::onvif::discovery::{self, MAX_DEVICES};
use crate::onvif::{self, Login, Target};
use blocks::Password;
use known::Known;

/// A password of a camera is not longer.
const LONGEST_PASSWORD: u64 = 1024;

/// Runs the command.
///
/// # Errors
/// Nothing could be asked, or no device told of a stream.
pub fn run(args: DiscoverArgs, global: &Global) -> anyhow::Result<()> {
    let known = Known::read(global.config.as_deref())?;
    let (login, password) = match &args.user {
        None => (None, Password::None),
        Some(user) => {
            let (secret, from) = password(&args)?;
            let login = Login {
                user: user.clone(),
                password: secret,
            };
            (Some(login), from)
        }
    };
    let (targets, notes) = match args.address.is_empty() {
        false => (named(&args.address)?, Vec::new()),
        true => listen(&args)?,
    };
    for note in &notes {
        complain(&format!("note: {note}"));
    }
    let devices = onvif::ask_all(&targets, login.as_ref(), |device| {
        tracing::debug!(address = %device.address, failure = ?device.failure, "asked");
    });
    let found = blocks::cameras(devices, &known);
    let user = login.as_ref().map(|login| login.user.as_str());
    if args.json {
        print(&format!(
            "{}\n",
            serde_json::to_string_pretty(&report::json(&found, user, &password))?
        ))?;
    } else if args.table {
        print(&report::table(&found))?;
    } else {
        complain(&report::table(&found));
        print(&blocks::toml(&found, user, &password))?;
    }
    let streams = found
        .iter()
        .any(|found| found.device.profiles.iter().any(|p| p.uri.is_ok()));
    if streams {
        return Ok(());
    }
    match (found.len(), login) {
        (1, None) => anyhow::bail!("the device told of no stream; most want a login: --user NAME"),
        (1, Some(_)) => anyhow::bail!("the device told of no stream"),
        (n, None) => {
            anyhow::bail!("none of {n} devices told of a stream; most want a login: --user NAME")
        }
        (n, Some(_)) => anyhow::bail!("none of {n} devices told of a stream"),
    }
}

fn named(addresses: &[String]) -> anyhow::Result<Vec<Target>> {
    let each = addresses.iter().take(MAX_DEVICES).map(|address| {
        Target::named(address).map_err(|fault| anyhow::anyhow!("--address {address:?}: {fault}"))
    });
    each.collect()
}

fn listen(args: &DiscoverArgs) -> anyhow::Result<(Vec<Target>, Vec<String>)> {
    let interfaces = discovery::interfaces(&args.interface)?;
    let names: Vec<_> = interfaces
        .iter()
        .map(|i| format!("{} ({})", i.name, i.address))
        .collect();
    if interfaces.is_empty() {
        anyhow::bail!(
            "no interface is up that has an IPv4 address and knows multicast: name one with \
             --interface, or a device with --address"
        );
    }
    let heard = discovery::probe(&interfaces, args.discovery_port, args.timeout)
        .with_context(|| format!("cannot ask on {}", names.join(", ")))?;
    if heard.answers.is_empty() {
        anyhow::bail!(
            "nobody answered within {} on {}: cameras answer in their own network only, and some \
             must have ONVIF switched on; --timeout 10s waits longer, --address HOST asks one directly",
            show_duration(args.timeout),
            names.join(", ")
        );
    }
    let mut notes = Vec::new();
    if heard.rejected > 0 {
        notes.push(format!("{} datagrams were no answer", heard.rejected));
    }
    if heard.left_out > 0 {
        notes.push(format!(
            "more than {MAX_DEVICES} devices answered: {} answers are left out",
            heard.left_out
        ));
    }
    let mut targets: Vec<_> = heard.answers.into_iter().map(Target::from).collect();
    for index in 0..targets.len() {
        let reference = targets[index].reference.clone();
        let twin = |(other, target): &(usize, &Target)| {
            *other != index && !reference.is_empty() && target.reference == reference
        };
        if let Some((_, twin)) = targets.iter().enumerate().find(twin) {
            let warning = format!(
                "calls itself the same as {}: one device with two addresses, or one that pretends",
                twin.address
            );
            targets[index].warnings.push(warning);
        }
    }
    Ok((targets, notes))
}

fn password(args: &DiscoverArgs) -> anyhow::Result<(SecretString, Password)> {
    if let Some(path) = &args.password_file {
        return Ok((of_file(path)?, Password::Credential));
    }
    if let Some(name) = &args.password_env {
        let value = std::env::var(name)
            .map_err(|_| anyhow::anyhow!("the variable {name:?} is not set, or not text"))?;
        return Ok((value.into(), Password::Variable(name.clone())));
    }
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        anyhow::bail!(
            "--user needs a password: --password-file FILE or --password-env NAME, or a terminal to \
             ask for it"
        );
    }
    Ok((ask(&stdin)?, Password::Credential))
}

fn of_file(path: &Path) -> anyhow::Result<SecretString> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("cannot read {shown}"))?;
    let mut line = String::new();
    io::BufReader::new(file.take(LONGEST_PASSWORD + 1))
        .read_line(&mut line)
        .with_context(|| format!("cannot read {shown}"))?;
    if line.len() as u64 > LONGEST_PASSWORD {
        anyhow::bail!("the first line of {shown} is too long for a password");
    }
    let line = line.strip_suffix('\n').unwrap_or(&line);
    let line = line.strip_suffix('\r').unwrap_or(line);
    Ok(line.to_owned().into())
}

/// Asks at the terminal, which does not show what is typed.
fn ask(stdin: &io::Stdin) -> anyhow::Result<SecretString> {
    let before = tcgetattr(stdin)?;
    let mut silent = before.clone();
    // ISIG off as well: Ctrl-C must not leave the terminal silent. It is read as a character.
    silent.local_modes -= LocalModes::ECHO | LocalModes::ISIG;
    let mut err = io::stderr();
    write!(err, "Password: ")?;
    err.flush()?;
    tcsetattr(stdin, OptionalActions::Flush, &silent)?;
    let mut line = String::new();
    let read = stdin.lock().take(LONGEST_PASSWORD).read_line(&mut line);
    tcsetattr(stdin, OptionalActions::Flush, &before)?;
    writeln!(err)?;
    read?;
    if line.contains('\u{3}') {
        anyhow::bail!("interrupted");
    }
    let line = line.strip_suffix('\n').unwrap_or(&line);
    Ok(line.to_owned().into())
}
