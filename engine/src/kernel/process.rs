//! Child processes.

use std::{io, os::unix::process::CommandExt, process::Command};

use rustix::{
    io::Errno,
    process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal},
};

/// Lets the kernel kill the child when the thread that starts it ends: a mkfs must not outlive the process
/// that knows of it.
pub(crate) fn die_with_parent(command: &mut Command) {
    die_with(command, getpid());
}

fn die_with(command: &mut Command, parent: Pid) {
    let bind = move || -> io::Result<()> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // Who was killed before that sends no signal: the program would run on, and find the device by a name that is another volume's by then.
        if getppid() == Some(parent) { Ok(()) } else { Err(Errno::SRCH.into()) }
    };
    // SAFETY: the closure runs between fork and exec and does prctl(2) and getppid(2), which are
    // async-signal-safe and allocate nothing.
    unsafe {
        command.pre_exec(bind);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_started_for_a_process_that_was_killed_meanwhile_does_not_run() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("ran");
        // Of a child of init, or of whoever takes it in, the parent is another one.
        let mut orphan = Command::new("touch");
        die_with(orphan.arg(&mark), Pid::from_raw(i32::MAX).unwrap());
        assert_eq!(orphan.status().unwrap_err().raw_os_error(), Some(Errno::SRCH.raw_os_error()));
        assert!(!mark.exists());
        let mut child = Command::new("touch");
        die_with_parent(child.arg(&mark));
        assert!(child.status().unwrap().success() && mark.exists());
    }
}
