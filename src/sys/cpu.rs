//! Cores: which are allowed, pinning, and how nice a thread is.
#![deny(unsafe_code)]

use std::io;

use rustix::thread::CpuSet;

/// The cores that this process may use, ascending. Never empty.
pub fn allowed() -> io::Result<Vec<u32>> {
    let set = rustix::thread::sched_getaffinity(None)?;
    let cores: Vec<u32> = (0..CpuSet::MAX_CPU)
        .filter(|&core| set.is_set(core))
        .map(|core| core as u32)
        .collect();
    if cores.is_empty() {
        return Err(io::Error::other("the kernel reports no allowed core"));
    }
    Ok(cores)
}

/// Pins the calling thread, and those it starts later, to `cores`; an empty list changes nothing.
///
/// # Errors
/// None of them is allowed or exists.
pub fn pin(cores: &[u32]) -> io::Result<()> {
    match cores {
        [] => Ok(()),
        &[core] => {
            if core_affinity::set_for_current(core_affinity::CoreId { id: core as usize }) {
                Ok(())
            } else {
                Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("core {core} is not there or not allowed"),
                ))
            }
        }
        several => {
            let mut set = nix::sched::CpuSet::new();
            for &core in several {
                set.set(core as usize)?;
            }
            Ok(nix::sched::sched_setaffinity(
                nix::unistd::Pid::from_raw(0),
                &set,
            )?)
        }
    }
}

/// Makes the calling thread nicer than its process by `by` (1 to 19): on Linux niceness belongs to
/// each thread. There is no way back without privilege.
pub fn be_nicer(by: i32) -> io::Result<()> {
    // Not by its number: the sandbox lets a thread change its own niceness only.
    let now = rustix::process::getpriority_process(None)?;
    Ok(rustix::process::setpriority_process(
        None,
        (now + by).min(19),
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_may_use_its_cores_only() {
        let all = allowed().unwrap();
        std::thread::spawn(move || {
            pin(&[]).unwrap();
            assert_eq!(allowed().unwrap(), all, "an empty list changes nothing");
            pin(&all).unwrap();
            assert_eq!(allowed().unwrap(), all);
            pin(&all[..1]).unwrap();
            assert_eq!(allowed().unwrap(), all[..1]);
            let error = pin(&[1023]).unwrap_err();
            assert!(error.to_string().contains("core 1023"), "{error}");
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_nicer_thread_leaves_the_others_as_they_are() {
        let own = || rustix::process::getpriority_process(Some(rustix::thread::gettid())).unwrap();
        let before = own();
        let nicer = std::thread::spawn(move || {
            be_nicer(2).unwrap();
            own()
        });
        assert_eq!(nicer.join().unwrap(), (before + 2).min(19));
        assert_eq!(own(), before);
    }
}
