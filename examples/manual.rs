//! Makes what a package has beside the program, from the definitions of the command line and from the annotated
//! configuration: `cargo run --example manual -- man|completions FOLDER`.
//!
//! An example and not a command: what is made once per version needs no code in every installed program,
//! and what it depends on is no dependency of the daemon.
#![deny(unsafe_code)]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use camring::cli::Cli;
use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_mangen::roff::{Roff, bold, roman};

/// The configuration as it is shipped: every key with its default and what it means.
const CONFIG: &str = include_str!("../config.toml");

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["man", folder] => man(Path::new(folder)),
        ["completions", folder] => completions(Path::new(folder)),
        _ => {
            eprintln!("usage: manual man|completions FOLDER");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(made) => {
            for path in made {
                println!("{}", path.display());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("manual: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `camring.1`, a page for each command and those below it, and `camring.toml.5`. Returns what was written.
///
/// # Errors
/// The folder cannot be made, or a file in it not be written.
pub fn man(folder: &Path) -> io::Result<Vec<PathBuf>> {
    fs::create_dir_all(folder)?;
    let mut made = Vec::new();
    let mut write = |name: String, page: Vec<u8>| {
        let path = folder.join(name);
        made.push(path.clone());
        fs::write(path, page)
    };
    let mut cli = Cli::command().disable_help_flag(true);
    cli.build();
    let mut left = vec![("camring".to_owned(), &cli)];
    while let Some((name, command)) = left.pop() {
        let parts = command.get_subcommands().filter(|c| !c.is_hide_set());
        left.extend(parts.map(|part| (format!("{name}-{}", part.get_name()), part)));
        write(format!("{name}.1"), page(command, &name)?)?;
    }
    write("camring.toml.5".into(), config_page())?;
    Ok(made)
}

fn page(command: &clap::Command, name: &str) -> io::Result<Vec<u8>> {
    // As it is called, `camring run`; the page's own name has a hyphen, which `man camring run` looks for.
    let called = name.replace('-', " ");
    // clap wants a name that lives for ever.
    let lasting: &'static str = name.to_owned().leak();
    let command = command
        .clone()
        .name(lasting)
        .display_name(name.to_owned())
        .bin_name(called);
    let man = clap_mangen::Man::new(command)
        .title(name.to_uppercase())
        .section("1")
        .source(concat!("camring ", env!("CARGO_PKG_VERSION")))
        .manual("camring");
    let mut text = Vec::new();
    man.render(&mut text)?;
    // What `--help` says last, under a heading that says so.
    let text = String::from_utf8_lossy(&text).replace(".SH EXTRA\n", ".SH DETAILS\n");
    let mut more = Roff::new();
    more.control("SH", ["FILES"]);
    more.control("TP", []);
    more.text([bold("/etc/camring/config.toml")]);
    more.text([roman("the cameras of this site: camring.toml(5)")]);
    more.control("TP", []);
    more.text([bold("/run/camring/attach.sock")]);
    more.text([roman("where detectors attach: members of group camring")]);
    more.control("TP", []);
    more.text([bold("/var/lib/camring")]);
    more.text([roman("recordings")]);
    more.control("SH", ["SEE ALSO"]);
    let others = match name {
        "camring" => "camring.toml(5), systemctl(1); /usr/share/doc/camring",
        _ => "camring(1), camring.toml(5); /usr/share/doc/camring",
    };
    more.text([roman(others)]);
    Ok((text + &more.to_roff()).into_bytes())
}

/// The annotated configuration is its manual: a test holds it equal to what the program does.
fn config_page() -> Vec<u8> {
    let mut page = Roff::new();
    let source = concat!("camring ", env!("CARGO_PKG_VERSION"));
    page.control("TH", ["CAMRING.TOML", "5", "", source, "camring"]);
    page.control("SH", ["NAME"]);
    page.text([roman("camring.toml - the cameras of a site")]);
    page.control("SH", ["SYNOPSIS"]);
    page.text([bold("/etc/camring/config.toml")]);
    page.control("SH", ["DESCRIPTION"]);
    page.text([roman(
        "What camring reads, in TOML. All keys with their defaults follow, as in the file that is installed; only \
         cameras have to be written. More about each key is in /usr/share/doc/camring/reference/config.md. \
         \"camring check\" says what is wrong with a file, and where, or what comes of it.",
    )]);
    page.control("SH", ["ALL KEYS"]);
    page.control("nf", []);
    for line in CONFIG.lines() {
        page.text([roman(line)]);
    }
    page.control("fi", []);
    page.control("SH", ["SEE ALSO"]);
    page.text([roman("camring(1), camring-check(1), camring-reload(1)")]);
    page.to_roff().into_bytes()
}

/// For bash, zsh and fish, named as each of them looks for it. Returns what was written.
///
/// # Errors
/// The folder cannot be made, or a file in it not be written.
pub fn completions(folder: &Path) -> io::Result<Vec<PathBuf>> {
    fs::create_dir_all(folder)?;
    let shells = [
        (Shell::Bash, "camring"),
        (Shell::Zsh, "_camring"),
        (Shell::Fish, "camring.fish"),
    ];
    let mut made = Vec::new();
    for (shell, name) in shells {
        let path = folder.join(name);
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "camring", &mut text);
        fs::write(&path, text)?;
        made.push(path);
    }
    Ok(made)
}
