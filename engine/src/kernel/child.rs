//! Calls that may never return, since a server of the network does not answer: each in a process of its own, which is killed when its time is
//! over. One that even then does not end hurts nobody but itself: it has no descriptor of ours but those that its call needs.

use std::{
    ffi::CStr,
    fs::File,
    io::{self, Read},
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitOptions, kill_process, waitpid},
};

/// What is to be done.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Call<'a> {
    /// Mount a filesystem of the network.
    Mount { source: &'a CStr, kind: &'a CStr, options: &'a CStr, at: &'a CStr, flags: libc::c_ulong },
    /// Show what is mounted at `from` at another place; `to` is a handle of it.
    Bind { from: &'a CStr, to: BorrowedFd<'a>, readonly: bool },
    /// Unmount.
    Unmount { at: &'a CStr, flags: libc::c_int },
    /// Write out what the filesystem at a path has in memory.
    Sync { at: &'a CStr },
    /// Ask for the fill level, which is written to `out`.
    Fill { at: &'a CStr, out: BorrowedFd<'a> },
}

/// The numbers of a fill level.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fill {
    pub(crate) block_bytes: u64,
    pub(crate) blocks: u64,
    pub(crate) free: u64,
    pub(crate) available: u64,
    pub(crate) inodes: u64,
    pub(crate) free_inodes: u64,
}

/// Reads what [`Call::Fill`] wrote.
pub(crate) fn fill_in(from: OwnedFd) -> io::Result<Fill> {
    let mut bytes = [0; size_of::<[u64; 6]>()];
    File::from(from).read_exact(&mut bytes)?;
    let number = |at: usize| {
        let mut number = [0; 8];
        number.copy_from_slice(&bytes[at * 8..(at + 1) * 8]);
        u64::from_ne_bytes(number)
    };
    Ok(Fill {
        block_bytes: number(0),
        blocks: number(1),
        free: number(2),
        available: number(3),
        inodes: number(4),
        free_inodes: number(5),
    })
}

/// Carries a call out; `None`: it took too long. `needs`: descriptors that its paths speak of, at most two.
pub(crate) fn in_child(
    call: Call<'_>,
    needs: &[BorrowedFd<'_>],
    limit: Duration,
) -> io::Result<Option<io::Result<()>>> {
    let mut kept = [-1; 3];
    let further = match call {
        Call::Bind { to, .. } => Some(to),
        Call::Fill { out, .. } => Some(out),
        Call::Mount { .. } | Call::Unmount { .. } | Call::Sync { .. } => None,
    };
    for (to, from) in kept.iter_mut().zip(needs.iter().take(2).copied().chain(further)) {
        *to = from.as_raw_fd();
    }
    kept.sort_unstable();
    // SAFETY: other threads do not exist in the child, so whatever lock one of them held is held there for ever; the child therefore makes
    // system calls only, on memory that was laid out before, and never returns.
    let child = match unsafe { libc::fork() } {
        0 => child(call, kept),
        -1 => return Err(io::Error::last_os_error()),
        pid => Pid::from_raw(pid).expect("fork gives a child's positive number to its parent"),
    };
    if let Some(code) = ended(child, limit)? {
        let errno = i32::from(code);
        return Ok(Some(if errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(errno)) }));
    }
    let _ = kill_process(child, Signal::KILL);
    if ended(child, Duration::from_millis(500))?.is_none() {
        // It ends when the server is back, or its mount is given up.
        thread::spawn(move || waitpid(Some(child), WaitOptions::empty()));
    }
    Ok(None)
}

/// The exit code of a child, if it ends in time; one that was killed from outside counts as interrupted.
fn ended(child: Pid, limit: Duration) -> io::Result<Option<u8>> {
    let start = Instant::now();
    let mut pause = Duration::from_micros(200);
    loop {
        match waitpid(Some(child), WaitOptions::NOHANG) {
            Ok(Some((_, status))) => {
                let code = status.exit_status().and_then(|code| u8::try_from(code).ok());
                return Ok(Some(code.unwrap_or(4)));
            }
            Ok(None) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        if start.elapsed() >= limit {
            return Ok(None);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

fn child(call: Call<'_>, kept: [libc::c_int; 3]) -> ! {
    // SAFETY: only calls that signal-safety(7) lists and system calls without a wrapper, each on values of this frame or on strings that the
    // parent laid out. Every other descriptor is closed; signals are blocked, as the parent's handlers are not ours.
    unsafe {
        let mut all = std::mem::zeroed::<libc::sigset_t>();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
        libc::setsid();
        let mut first = 0;
        for keep in kept {
            if keep < first {
                continue;
            }
            if keep > first {
                libc::syscall(libc::SYS_close_range, first, keep - 1, 0);
            }
            first = keep + 1;
        }
        libc::syscall(libc::SYS_close_range, first, libc::c_int::MAX, 0);
        let done = match call {
            Call::Mount { source, kind, options, at, flags } => {
                libc::mount(source.as_ptr(), at.as_ptr(), kind.as_ptr(), flags, options.as_ptr().cast()) == 0
            }
            Call::Unmount { at, flags } => libc::umount2(at.as_ptr(), flags) == 0,
            Call::Bind { from, to, readonly } => bind(from, to.as_raw_fd(), readonly),
            Call::Sync { at } => {
                let folder = libc::open(at.as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC);
                folder >= 0 && libc::syncfs(folder) == 0
            }
            Call::Fill { at, out } => {
                let mut fill = std::mem::zeroed::<libc::statvfs>();
                let asked = libc::statvfs(at.as_ptr(), &raw mut fill) == 0;
                let numbers: [u64; 6] =
                    [fill.f_frsize, fill.f_blocks, fill.f_bfree, fill.f_bavail, fill.f_files, fill.f_ffree];
                asked && libc::write(out.as_raw_fd(), numbers.as_ptr().cast(), size_of_val(&numbers)) > 0
            }
        };
        libc::_exit(if done { 0 } else { *libc::__errno_location() });
    }
}

/// # Safety
/// Makes system calls only.
unsafe fn bind(from: &CStr, to: libc::c_int, readonly: bool) -> bool {
    const OPEN_TREE_CLONE: libc::c_int = 1;
    const MOVE_MOUNT_F_EMPTY_PATH: libc::c_int = 0x4;
    const MOVE_MOUNT_T_EMPTY_PATH: libc::c_int = 0x40;
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC | libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: each call reads strings and a struct that live longer than it.
    unsafe {
        let tree = libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, from.as_ptr(), flags);
        let Ok(tree) = libc::c_int::try_from(tree) else { return false };
        if tree < 0 {
            return false;
        }
        if readonly {
            // `struct mount_attr` of `linux/mount.h`: what is set, cleared, the propagation, the user namespace.
            let attributes: [u64; 4] = [1, 0, 0, 0];
            let (flags, size) = (libc::AT_EMPTY_PATH, size_of::<[u64; 4]>());
            let empty = c"".as_ptr();
            if libc::syscall(libc::SYS_mount_setattr, tree, empty, flags, attributes.as_ptr(), size) != 0 {
                return false;
            }
        }
        let (empty, flags) = (c"".as_ptr(), MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
        libc::syscall(libc::SYS_move_mount, tree, empty, to, empty, flags) == 0
    }
}
