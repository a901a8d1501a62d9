//! Why a socket may not be connected to, in words: which group may.
//!
//! Must never: fail. What cannot be found out is left out.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What stands in the way to `socket`, and what to do about it.
pub(super) fn advice(socket: &Path) -> String {
    // Nearest first: where the socket cannot be looked at, it is a folder that forbids it.
    for path in socket.ancestors().take(8) {
        let Ok(found) = fs::metadata(path) else {
            continue;
        };
        let (mode, gid) = (found.mode() & 0o7777, found.gid());
        let what = if path == socket { "it" } else { "its folder" };
        let group = group_name(gid);
        let called = match &group {
            Some(name) => format!("group {name}"),
            None => format!("group {gid}"),
        };
        // Connecting takes the right to write to a socket, and to search a folder.
        let needed = if path == socket { 0o020 } else { 0o010 };
        let remedy = if mode & needed == 0 {
            "which nobody but its owner may use: the daemon runs without a group for its clients"
                .to_owned()
        } else {
            let name = group.unwrap_or_else(|| gid.to_string());
            format!("so be a member of that group (usermod -aG {name} USER, then log in again)")
        };
        let place = if path == socket {
            String::new()
        } else {
            format!(" ({})", path.display())
        };
        return format!("{what}{place} belongs to {called} with mode {mode:04o}, {remedy}");
    }
    "be a member of the group that the daemon runs as".to_owned()
}

/// By `/etc/group`; groups of a directory service have only a number here.
fn group_name(gid: u32) -> Option<String> {
    let groups = fs::read_to_string("/etc/group").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let number: u32 = fields.nth(1)?.parse().ok()?;
        (number == gid && !name.is_empty()).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn folder(name: &str) -> std::path::PathBuf {
        let path =
            std::env::temp_dir().join(format!("camring-access-{}-{name}", std::process::id()));
        fs::create_dir(&path).expect("a folder");
        path
    }

    #[test]
    fn the_group_of_the_socket_is_named() {
        let folder = folder("socket");
        let socket = folder.join("attach.sock");
        fs::write(&socket, "").expect("a file");
        let gid = fs::metadata(&socket).expect("there").gid();
        let group = group_name(gid).unwrap_or_else(|| gid.to_string());
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o660)).expect("changed");
        let text = advice(&socket);
        assert!(
            text.starts_with(&format!("it belongs to group {group} with mode 0660, so")),
            "{text}"
        );
        assert!(
            text.contains(&format!("usermod -aG {group} USER")),
            "{text}"
        );
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o600)).expect("changed");
        let text = advice(&socket);
        assert!(
            text.contains("mode 0600, which nobody but its owner"),
            "{text}"
        );
        // What cannot be looked at: the nearest folder that can.
        let text = advice(&folder.join("not-there/attach.sock"));
        let place = folder.display().to_string();
        assert!(
            text.starts_with(&format!("its folder ({place}) belongs to group")),
            "{text}"
        );
        fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn groups_have_names() {
        assert_eq!(group_name(0).as_deref(), Some("root"));
        assert_eq!(group_name(u32::MAX - 7), None);
    }
}
