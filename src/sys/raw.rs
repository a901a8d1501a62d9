//! The one unsafe module for processes: forking, descriptors, signals, the title in `ps`.
//!
//! Promises: every function here is safe to call from anywhere, at worst it returns an error; in
//! particular [`fork_detached`] refuses to fork a process that has a second thread.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, waitpid};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::process::{self, Isolation};

/// A child that found itself without its supervisor ends with this code; nobody reads it.
const EXIT_ORPHAN: i32 = 101;
/// A child whose body panicked.
const EXIT_PANIC: i32 = 102;
/// A child that could not isolate itself: it must not go on to touch a camera.
const EXIT_ISOLATION: i32 = 103;

/// Where a forked child keeps its control socket.
const CONTROL_FD: RawFd = 3;

/// Ends the process at once: no destructors, no `atexit` handlers. What a forked child needs: its
/// other threads still run, and the template's handlers are not its own.
pub fn exit_now(code: i32) -> ! {
    let _ = io::stdout().flush();
    let _ = io::stderr().flush();
    // SAFETY: `_exit` takes any status and touches no memory of this process.
    unsafe { libc::_exit(code) }
}

/// One malloc arena for all threads. glibc gives each thread its own otherwise, and 100 readers of
/// two threads would keep 100 half-empty heaps more.
///
/// What is as large as a picture goes back to the system when it is freed. glibc would move its
/// limit up at the first such block, and keep all later ones in a heap that never shrinks.
///
/// Call it before the first thread starts.
pub fn one_malloc_arena() {
    /// What most cameras send between key frames stays below. Key frames are above: once a second or
    /// two, a few of them at a time (as received, as Annex B, as the decoder's packet); in the heap
    /// each reader would keep room for all of these for ever.
    const OWN_MAPPING: i32 = 64 << 10;
    // SAFETY: `mallopt` only sets a parameter; glibc allows it at any time.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_MAPPING);
    }
}

/// Takes descriptor 0 and leaves `/dev/null` in its place: how an executed child is handed its
/// control socket without naming a number.
pub fn take_stdin() -> io::Result<OwnedFd> {
    let taken = io::stdin().as_fd().try_clone_to_owned()?;
    let null = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    // SAFETY: descriptor 0 is `std`'s and stays open throughout: dup2 replaces it atomically, and
    // no `OwnedFd` owns it.
    if unsafe { libc::dup2(null.as_raw_fd(), 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(taken)
}

/// Registers a descriptor with the current tokio runtime. Give [`Interest::READABLE`] for a pidfd.
pub fn watch_fd(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open and stays the same descriptor for as long as the `AsyncFd` that
    // now owns it; nothing else can close it.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(io::Error::from)
}

/// The bytes of `argv` in this process's memory: what `ps` and `top` show.
///
/// A process started with a long `argv[0]` has room for a long title; a fork inherits it.
#[derive(Debug)]
pub struct TitleArea {
    start: usize,
    len: usize,
}

impl TitleArea {
    /// Finds the area. From here on `std::env::args` no longer tells what was given.
    ///
    /// # Errors
    /// `/proc/self/stat` unreadable, or not as proc(5) says.
    pub fn find() -> io::Result<Self> {
        let stat = fs::read_to_string("/proc/self/stat")?;
        let fields = process::stat_fields(&stat).unwrap_or_default();
        // proc(5): arg_start and arg_end are fields 48 and 49; `fields` starts with the third.
        let number = |n: usize| fields.get(n - 3).and_then(|f| f.parse::<usize>().ok());
        match (number(48), number(49)) {
            (Some(start), Some(end)) if start != 0 && end > start && end - start < 1 << 20 => {
                Ok(Self {
                    start,
                    len: end - start,
                })
            }
            _ => Err(io::Error::other("/proc/self/stat has no argument area")),
        }
    }

    /// Shows `title` in `ps`, cut to the room there is. The title must not be secret.
    pub fn set(&self, title: &str) {
        let text = &title.as_bytes()[..title.len().min(self.len - 1)];
        let area = std::ptr::with_exposed_provenance_mut::<u8>(self.start);
        // SAFETY: [start, start + len) is what the kernel recorded at exec (or what a fork has in
        // the same place) as the argument strings, on the main thread's stack above every frame:
        // mapped and writable for the life of the process. Rust holds no reference into it
        // (`std::env::args` copies out of it at each call, on whichever thread calls; this process
        // parsed its arguments before it had a title, and has one thread). The last byte stays 0,
        // so that whoever reads the last string as a C string finds its end.
        unsafe {
            std::ptr::write_bytes(area, 0, self.len);
            std::ptr::copy_nonoverlapping(text.as_ptr(), area, text.len());
        }
    }
}

/// What [`fork_detached`] gives the new process.
pub struct ForkedChild<'a, T> {
    /// Whose child the new process becomes: the nearest living subreaper above this process.
    pub supervisor: Pid,
    /// Its one descriptor besides the standard three.
    pub control: OwnedFd,
    /// What `ps` shows, and its area.
    pub title: (&'a TitleArea, &'a str),
    /// What `top` shows: 15 bytes.
    pub name: &'a str,
    /// What it does; its result is the exit code. A plain function, so that it cannot carry a
    /// descriptor of the template's over the point where all of them are closed.
    pub body: fn(OwnedFd, T) -> i32,
    /// Handed to `body`: plain data.
    pub argument: T,
}

impl<T> std::fmt::Debug for ForkedChild<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ForkedChild")
            .field("title", &self.title.1)
            .finish_non_exhaustive()
    }
}

/// Forks twice, so that the new process is a child of `supervisor` (which must be a subreaper) and
/// not of the caller, and returns its pid. By then it *is* the supervisor's child, who can wait
/// for it by pidfd.
///
/// The new process waits until it has been adopted, asks to be killed when the supervisor's thread
/// that adopted it ends, closes every descriptor but the standard three and its control socket (as
/// descriptor 3), resets signals, limits itself ([`Isolation`]) and runs `body`.
///
/// # Errors
/// A second thread (forking would copy its locks in whatever state they are), or no process to be
/// had.
pub fn fork_detached<T: Copy + 'static>(child: ForkedChild<'_, T>) -> io::Result<Pid> {
    let (pid_read, pid_write) = pipe_with(PipeFlags::CLOEXEC)?;
    let (go_read, go_write) = pipe_with(PipeFlags::CLOEXEC)?;
    match fork()? {
        Some(intermediate) => {
            drop((pid_write, go_read, child));
            let mut pid = [0u8; 4];
            let told = fs::File::from(pid_read).read_exact(&mut pid);
            // The intermediate process ends at once whatever happens, and with that the new one is
            // the supervisor's. Only a signal can interrupt this.
            while matches!(
                waitpid(Some(intermediate), WaitOptions::empty()),
                Err(Errno::INTR)
            ) {}
            told.map_err(|_| io::Error::other("the second fork failed: no process to be had"))?;
            // Written or not: at end of file the child looks who its parent is, too.
            let _ = fs::File::from(go_write).write_all(&[1]);
            process::pid(i32::from_ne_bytes(pid)).ok_or_else(|| io::Error::other("pid 0"))
        }
        None => {
            match fork() {
                Ok(Some(pid)) => {
                    let mut pipe = fs::File::from(pid_write);
                    let _ = pipe.write_all(&pid.as_raw_pid().to_ne_bytes());
                    exit_now(0)
                }
                Ok(None) => {
                    // Else end of file would never come.
                    drop((pid_read, pid_write, go_write));
                    let _ = fs::File::from(go_read).read(&mut [0u8; 1]);
                    become_child(child)
                }
                Err(_) => exit_now(1),
            }
        }
    }
}

/// `fork`, refused where a second thread exists. `None`: this is the child.
fn fork() -> io::Result<Option<Pid>> {
    let threads = fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(io::Error::other(format!(
            "fork refused: {threads} threads, and only a process with one can be copied whole"
        )));
    }
    // SAFETY: this process has one thread, as just counted (no other thread exists that could
    // start one), so the child's copy of every lock and of the heap is consistent, and the child
    // may do all that this process may.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid => Ok(process::pid(pid)),
    }
}

fn become_child<T: Copy>(child: ForkedChild<'_, T>) -> ! {
    let ForkedChild {
        supervisor,
        control,
        title,
        name,
        body,
        argument,
    } = child;
    if process::die_with_parent(supervisor).is_err() {
        exit_now(EXIT_ORPHAN);
    }
    // SAFETY: `control` is open. From here on no value made before the fork is used again except
    // plain memory (title, body): this function never returns to the frames that own the other
    // descriptors, and ends with `_exit`, so closing those behind their owners' backs cannot make
    // anybody use or close a descriptor that is not his. `control` itself is forgotten for the
    // same reason, its duplicate owned once.
    let control = unsafe {
        if control.as_raw_fd() != CONTROL_FD && libc::dup2(control.as_raw_fd(), CONTROL_FD) < 0 {
            exit_now(EXIT_ISOLATION);
        }
        std::mem::forget(control);
        if libc::close_range(CONTROL_FD as u32 + 1, u32::MAX, 0) != 0 {
            exit_now(EXIT_ISOLATION);
        }
        libc::fcntl(CONTROL_FD, libc::F_SETFD, libc::FD_CLOEXEC);
        OwnedFd::from_raw_fd(CONTROL_FD)
    };
    reset_signals();
    title.0.set(title.1);
    process::name_thread(name);
    if let Err(error) = Isolation::apply() {
        eprintln!("{}: cannot isolate itself: {error}", title.1);
        exit_now(EXIT_ISOLATION);
    }
    let code = catch_unwind(AssertUnwindSafe(|| body(control, argument))).unwrap_or(EXIT_PANIC);
    exit_now(code)
}

/// Default handlers and an empty mask, but for: `SIGPIPE` (ignored, as Rust programs have it);
/// `SIGINT` and `SIGHUP` (ignored: Ctrl-C at a terminal is the supervisor's to handle, which then
/// asks its children to say goodbye to their cameras); `SIGSEGV` and `SIGBUS` (Rust's handlers,
/// which tell a stack overflow and else restore the default).
fn reset_signals() {
    // SAFETY: `sigaction` with a zeroed structure and SIG_DFL or SIG_IGN is a valid action for
    // every catchable signal, and fails harmlessly for the others; the mask is a local, fully
    // initialised by sigemptyset.
    unsafe {
        for signal in 1..=libc::SIGRTMAX() {
            let handler = match signal {
                libc::SIGKILL | libc::SIGSTOP | libc::SIGSEGV | libc::SIGBUS => continue,
                libc::SIGPIPE | libc::SIGINT | libc::SIGHUP => libc::SIG_IGN,
                _ => libc::SIG_DFL,
            };
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler;
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

/// Whether the kernel has been told that the clock is kept right; `None` where it must not be asked, as in
/// some containers.
pub fn clock_synchronised() -> Option<bool> {
    // SAFETY: all zeros is a valid `timex`: plain numbers, and `modes` 0 asks and sets nothing.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a whole `timex` of ours, which lives until the call is over.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    match state {
        -1 => None,
        libc::TIME_ERROR => Some(false),
        _ => Some(timex.status & libc::STA_UNSYNC == 0),
    }
}

/// One instruction of a seccomp filter, as the kernel lays it out (`struct sock_filter`).
pub type Instruction = seccompiler::sock_filter;

/// Installs a seccomp filter for the calling thread and those that it starts, for good. `log`: refusals
/// are written into the kernel's log. Needs `no_new_privs`.
///
/// # Errors
/// The kernel's answer; a program that is longer than it takes.
pub fn install_filter(program: &[Instruction], log: bool) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let flags = match log {
        true => libc::SECCOMP_FILTER_FLAG_LOG,
        false => 0,
    };
    let program = libc::sock_fprog {
        len: length,
        // The kernel does not write to it.
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: `program` says where `length` instructions are, which both have the layout of the kernel's
    // `struct sock_filter` (u16, u8, u8, u32, `repr(C)`) and live until the call is over; the kernel
    // copies and checks them. What the filter does to this process is what the caller asked for; no memory
    // of it changes.
    let done = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether the kernel knows seccomp filters that end a process.
pub fn has_seccomp() -> bool {
    let action: u32 = libc::SECCOMP_RET_KILL_PROCESS;
    // SAFETY: the pointer is to a number of ours, which the kernel reads during the call.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_GET_ACTION_AVAIL,
            0,
            &raw const action,
        )
    };
    answer == 0
}

/// The version of the kernel's Landlock; 0: it has none, or it is not switched on.
pub fn landlock_abi() -> u32 {
    const VERSION: libc::c_ulong = 1;
    // SAFETY: with this flag the kernel takes no pointer, makes nothing, and returns a number.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0usize,
            VERSION,
        )
    };
    u32::try_from(answer).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_is_not_forked() {
        // Any test has: the harness's own thread waits beside it.
        let error = std::thread::spawn(fork).join().unwrap().unwrap_err();
        assert!(error.to_string().contains("fork refused"), "{error}");
    }

    #[test]
    fn the_title_area_begins_with_the_program() {
        let area = TitleArea::find().unwrap();
        let arguments = fs::read("/proc/self/cmdline").unwrap();
        assert_eq!(area.len, arguments.len());
    }
}
