//! Child processes.

use std::{os::unix::process::CommandExt, process::Command};

/// Lets the kernel kill the child when the thread that starts it ends: a mkfs must not outlive the process
/// that knows of it.
pub(crate) fn die_with_parent(command: &mut Command) {
    // SAFETY: the closure runs between fork and exec and does one prctl(2), which is async-signal-safe and
    // allocates nothing.
    unsafe {
        command.pre_exec(|| {
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
            Ok(())
        });
    }
}
