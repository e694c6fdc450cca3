//! Watching a thin pool: the kernel tells when it fills up, so nobody has to ask again and again.

use std::{
    os::fd::OwnedFd,
    sync::{Arc, Weak},
    thread,
};

use rustix::event::{PollFd, PollFlags};

use super::LvmPool;
use crate::kernel::device_mapper;

/// A thread that watches until this is dropped.
pub(crate) struct Watch {
    /// Its closing ends the thread.
    _open: OwnedFd,
}

/// Starts to watch a pool.
pub(crate) fn start(pool: &Arc<LvmPool>) -> std::io::Result<Watch> {
    let (ended, open) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let control = device_mapper::control()?;
    let pool = Arc::downgrade(pool);
    thread::Builder::new().name("tierce-lvm-events".to_owned()).spawn(move || {
        if let Err(error) = watch(&pool, &control, &ended) {
            tracing::error!(%error, "a thin pool is no longer watched; it is extended when its volumes change");
        }
    })?;
    Ok(Watch { _open: open })
}

fn watch(pool: &Weak<LvmPool>, control: &OwnedFd, ended: &OwnedFd) -> rustix::io::Result<()> {
    loop {
        // Armed before we look: what happens after our look wakes us.
        device_mapper::arm_poll(control)
            .map_err(|error| rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO))?;
        let Some(watched) = pool.upgrade() else { return Ok(()) };
        watched.extend_if_due();
        drop(watched);
        let mut fds = [PollFd::new(control, PollFlags::IN), PollFd::new(ended, PollFlags::IN)];
        match rustix::event::poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        if !fds[1].revents().is_empty() {
            return Ok(());
        }
    }
}
