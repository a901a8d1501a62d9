//! Whether the threads of this process have stacks that can be executed.
//!
//! The C library gives each new thread such a stack as soon as one of the libraries that are loaded asks for
//! it, by a header `PT_GNU_STACK` that says so or by having none: hand-written assembly, mostly, whose author
//! forgot to say. A filter that refuses executable memory would then refuse threads.
#![deny(unsafe_code)]

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::files::mapped;

/// Why stacks are executable, in words; `None`: they are not.
pub(super) fn executable() -> Option<String> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    if !is_executable(&maps) {
        return None;
    }
    let asks = |path: &&std::path::PathBuf| headers(path).is_some_and(|headers| asks(&headers));
    let askers: Vec<_> = mapped()
        .iter()
        .filter(asks)
        .map(|path| path.display().to_string())
        .collect();
    let who = match askers.is_empty() {
        true => "a library".to_owned(),
        false => askers.join(", "),
    };
    Some(format!(
        "{who} asks for stacks that can be executed: build it with -z noexecstack, or clear the mark with \
         patchelf --clear-execstack"
    ))
}

/// Of the main thread's stack, which the loader treats as the C library does those of others.
fn is_executable(maps: &str) -> bool {
    let stacks = maps.lines().filter(|line| line.ends_with("[stack]"));
    stacks
        .filter_map(|line| line.split_whitespace().nth(1))
        .any(|access| access.contains('x'))
}

/// Type and flags of each program header of a 64-bit library.
fn headers(path: &Path) -> Option<Vec<(u32, u32)>> {
    let file = File::open(path).ok()?;
    let mut start = [0; 64];
    file.read_exact_at(&mut start, 0).ok()?;
    let [magic @ .., class, _] = start.first_chunk::<6>()?;
    if magic != b"\x7fELF" || *class != 2 {
        return None;
    }
    let two = |at: usize| Some(u16::from_ne_bytes(*start.get(at..)?.first_chunk()?));
    let table = u64::from_ne_bytes(*start.get(32..)?.first_chunk()?);
    let (size, count) = (u64::from(two(54)?), u64::from(two(56)?));
    let header = |number: u64| {
        let mut bytes = [0; 8];
        let at = table.checked_add(number * size)?;
        file.read_exact_at(&mut bytes, at).ok()?;
        let (kind, flags) = bytes.split_at(4);
        Some((
            u32::from_ne_bytes(*kind.first_chunk()?),
            u32::from_ne_bytes(*flags.first_chunk()?),
        ))
    };
    (0..count).map(header).collect()
}

fn asks(headers: &[(u32, u32)]) -> bool {
    let stack = headers.iter().find(|(kind, _)| *kind == libc::PT_GNU_STACK);
    stack.is_none_or(|(_, flags)| flags & libc::PF_X != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stack_is_told_from_other_memory() {
        let heap = "55d0c0000000-55d0c0021000 rwxp 00000000 00:00 0   [heap]\n";
        let stack =
            |access| format!("7ffc0a000000-7ffc0a021000 {access} 00000000 00:00 0   [stack]\n");
        assert!(!is_executable(&format!("{heap}{}", stack("rw-p"))));
        assert!(is_executable(&format!("{heap}{}", stack("rwxp"))));
        assert!(!is_executable(heap));
    }

    #[test]
    fn libraries_of_this_process_are_read() {
        let all: Vec<_> = mapped().iter().map(|path| headers(path).unwrap()).collect();
        assert!(!all.is_empty() && all.iter().all(|headers| headers.len() > 3));
        assert_eq!(headers(Path::new("/proc/self/maps")), None);
        assert_eq!(
            executable().is_some(),
            all.iter().any(|headers| asks(headers))
        );
    }

    #[test]
    fn a_mark_or_none_at_all_asks() {
        let load = (libc::PT_LOAD, libc::PF_R);
        assert!(asks(&[load]));
        assert!(asks(&[
            load,
            (libc::PT_GNU_STACK, libc::PF_R | libc::PF_W | libc::PF_X)
        ]));
        assert!(!asks(&[
            load,
            (libc::PT_GNU_STACK, libc::PF_R | libc::PF_W)
        ]));
    }
}
