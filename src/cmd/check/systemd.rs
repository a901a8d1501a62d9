//! `camring check --systemd`: a drop-in for the unit, made from the site's cameras.
//!
//! Looks names up, contacts no camera, reads no secret, shows none.
#![deny(unsafe_code)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::path::Path;

use crate::config::{Secretless, Site, Transport};

/// Where `camring.service` may write without being told.
const WRITABLE: [&str; 2] = [Site::DEFAULT_DATA_DIR, Site::DEFAULT_RUNTIME_DIR];

/// How names are looked up: tests have their own.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Result<Vec<IpAddr>, String>;

/// This machine's way.
pub fn lookup(name: &str) -> Result<Vec<IpAddr>, String> {
    match (name, 0u16).to_socket_addrs() {
        Ok(found) => Ok(found.map(|address| address.ip()).take(16).collect()),
        Err(error) => Err(error.to_string()),
    }
}

/// Name servers that the unit must reach if it is to look names up; those on this machine are anyway.
pub fn name_servers() -> Vec<IpAddr> {
    let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    servers_in(&text)
}

fn servers_in(text: &str) -> Vec<IpAddr> {
    let lines = text.lines().map(str::trim);
    let servers = lines.filter_map(|line| line.strip_prefix("nameserver")?.trim().parse().ok());
    servers
        .filter(|server: &IpAddr| !server.is_loopback())
        .collect()
}

/// The text of the drop-in.
pub fn drop_in(read: &Secretless, lookup: Lookup<'_>, servers: &[IpAddr]) -> String {
    let (site, path) = (&read.site, &read.path);
    let mut out = format!(
        "# Made by `camring check --systemd` from {}. Make it anew when cameras are added or move.\n\
         # To be put into /etc/systemd/system/camring.service.d/site.conf, then:\n\
         #   systemctl daemon-reload && systemctl restart camring\n\
         [Service]\n",
        path.display()
    );
    network(&mut out, site, lookup, servers);
    folders(&mut out, site, path);
    if !read.credentials.is_empty() {
        out.push_str("\n# Passwords that the configuration refers to: one file each, readable by root only.\n");
        for name in &read.credentials {
            let _ = writeln!(out, "LoadCredential={name}:/etc/camring/{name}.password");
        }
    }
    out
}

fn network(out: &mut String, site: &Site, lookup: Lookup<'_>, servers: &[IpAddr]) {
    out.push_str(
        "# No packet to or from any other address, for all processes of the unit.\n\
         IPAddressDeny=any\n\
         # This machine: the dashboard, HLS and the API, a name server or proxy on it. Whoever watches from\n\
         # elsewhere, without a proxy here, needs a line too, for example: IPAddressAllow=192.0.2.0/24\n\
         IPAddressAllow=localhost\n",
    );
    let mut names = false;
    let mut groups = false;
    let mut seen = BTreeSet::new();
    for stream in site.streams.iter().filter(|stream| stream.enabled) {
        let camera = &stream.id;
        groups |= stream.transport == Transport::Multicast;
        let Some(host) = stream.url.host_str() else {
            continue;
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse::<IpAddr>() {
            if seen.insert(address) {
                let _ = writeln!(out, "# {camera}\nIPAddressAllow={address}");
            }
            continue;
        }
        names = true;
        let found = lookup(bare).map(BTreeSet::from_iter);
        match found {
            Ok(found) if !found.is_empty() => {
                let new: Vec<_> = found.into_iter().filter(|ip| seen.insert(*ip)).collect();
                if !new.is_empty() {
                    let _ = writeln!(out, "# {camera}: {bare}, as it is now");
                }
                for address in new {
                    let _ = writeln!(out, "IPAddressAllow={address}");
                }
            }
            other => {
                let why = other
                    .err()
                    .unwrap_or_else(|| "it has no address".to_owned());
                let why = why.replace(|c: char| c.is_control(), " ");
                let _ = writeln!(
                    out,
                    "# {camera}: {bare} CANNOT BE RESOLVED ({why}): it stays unreachable until its address \
                     is here\n#IPAddressAllow="
                );
            }
        }
    }
    if groups {
        out.push_str("# Cameras with transport = \"multicast\" name their groups themselves.\nIPAddressAllow=multicast\n");
    }
    if names && !servers.is_empty() {
        out.push_str("# Name servers, for cameras that are named.\n");
        for server in servers {
            let _ = writeln!(out, "IPAddressAllow={server}");
        }
    }
}

fn folders(out: &mut String, site: &Site, config: &Path) {
    let mut others = BTreeSet::new();
    for folder in [&site.data_dir, &site.runtime_dir] {
        if !WRITABLE.iter().any(|known| folder.starts_with(known)) {
            others.insert(folder.clone());
        }
    }
    if !others.is_empty() {
        out.push_str("\n# [site] data_dir and runtime_dir.\n");
        for folder in others {
            let _ = writeln!(out, "ReadWritePaths={}", folder.display());
        }
    }
    let config = fs::canonicalize(config).unwrap_or_else(|_| config.to_owned());
    if let Some(folder) = config.parent() {
        let _ = write!(
            out,
            "\n# For changes made in the dashboard or with the API, take the # away and let the service write the \
             folder\n# and the file, not the passwords beside it: chown camring:camring {0} {1}\n\
             #ReadWritePaths={0}\n",
            folder.display(),
            config.display()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::secretless;

    fn made(text: &str) -> String {
        let read = secretless(text, Path::new("/nowhere/site.toml")).unwrap();
        let lookup = |name: &str| match name {
            "yard.example" => Ok(vec![
                "192.0.2.7".parse().unwrap(),
                "2001:db8::7".parse().unwrap(),
            ]),
            _ => Err("no such name".to_owned()),
        };
        drop_in(&read, &lookup, &["192.0.2.53".parse().unwrap()])
    }

    #[test]
    fn every_camera_has_its_addresses_and_nobody_else() {
        let text = made(
            "[[camera]]\nname = \"door\"\nurl = \"rtsp://192.0.2.1/a\"\npassword = \"${credential:door}\"\n\
             username = \"u\"\n\
             [[camera]]\nname = \"six\"\nurl = \"rtsp://[2001:db8::1]/a\"\ntransport = \"multicast\"\n\
             [[camera]]\nname = \"yard\"\nurl = \"rtsp://u:${credential:yard}@yard.example/a\"\n\
             [[camera]]\nname = \"gone\"\nurl = \"rtsp://gone.example/a\"\n\
             [[camera]]\nname = \"off\"\nurl = \"rtsp://192.0.2.99/a\"\nenabled = false\n\
             # password = \"${credential:comment}\"\n",
        );
        let values = |key: &str| -> Vec<String> {
            let lines = text.lines().filter_map(|line| line.strip_prefix(key));
            lines.map(str::to_owned).collect()
        };
        assert_eq!(values("IPAddressDeny="), ["any"]);
        assert_eq!(
            values("IPAddressAllow="),
            [
                "localhost",
                "192.0.2.1",
                "2001:db8::1",
                "192.0.2.7",
                "2001:db8::7",
                "multicast",
                "192.0.2.53"
            ]
        );
        assert!(
            text.contains("# gone: gone.example CANNOT BE RESOLVED (no such name)"),
            "{text}"
        );
        assert_eq!(
            values("LoadCredential="),
            [
                "door:/etc/camring/door.password",
                "yard:/etc/camring/yard.password"
            ]
        );
        assert!(text.contains("\n#ReadWritePaths=/nowhere\n"), "{text}");
        assert_eq!(values("ReadWritePaths="), [""; 0]);
    }

    #[test]
    fn a_site_of_addresses_needs_no_name_server() {
        let text = made(
            "[site]\ndata_dir = \"/srv/video\"\n[[camera]]\nname = \"a\"\nurl = \"rtsp://192.0.2.1/\"\n",
        );
        assert!(!text.contains("192.0.2.53"), "{text}");
        assert!(text.contains("\nReadWritePaths=/srv/video\n"), "{text}");
        assert!(!text.contains("LoadCredential"), "{text}");
    }

    #[test]
    fn name_servers_of_other_machines_count() {
        let text = "# x\nnameserver 127.0.0.53\nnameserver 192.0.2.53\n nameserver  2001:db8::53\nsearch a\n";
        let found: Vec<IpAddr> = servers_in(text);
        assert_eq!(found.len(), 2, "{found:?}");
    }
}
