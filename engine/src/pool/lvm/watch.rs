//! Watching a thin pool: the kernel tells when it fills up, so it need not be polled. It tells once: where
//! the pool could not grow then, a later look nudges.

use std::{
    os::fd::OwnedFd,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags};
use rustix::pipe::PipeFlags;

use crate::kernel::device_mapper;

/// The least time between two nudges: a group without space is not asked each second.
const NUDGE_PAUSE: Duration = Duration::from_secs(10);

/// A thread that watches until this value is dropped.
pub(crate) struct Watch {
    /// Closing it ends the thread; a byte makes the thread look at the pool.
    open: OwnedFd,
    nudged: Mutex<Option<Instant>>,
}

impl Watch {
    /// Makes the thread look whether the pool can grow now. Returns at once.
    pub(super) fn nudge(&self) {
        let mut nudged = self.nudged.lock().unwrap_or_else(PoisonError::into_inner);
        if nudged.is_none_or(|last| last.elapsed() >= NUDGE_PAUSE) {
            *nudged = Some(Instant::now());
            // Full of nudges it need not hear of one more.
            let _ = rustix::io::write(&self.open, &[0]);
        }
    }
}

/// Starts to watch. `look` extends the pool if it can grow, and is called each time that this may be so. It
/// returns `false` when the pool is gone.
pub(crate) fn start(look: impl Fn() -> bool + Send + 'static) -> std::io::Result<Watch> {
    let (ended, open) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    let control = device_mapper::control()?;
    thread::Builder::new().name("tierce-lvm-events".to_owned()).spawn(move || {
        if let Err(error) = watch(look, &control, &ended) {
            tracing::error!(%error, "a thin pool is no longer watched; it is extended when its volumes change");
        }
    })?;
    Ok(Watch { open, nudged: Mutex::default() })
}

fn watch(look: impl Fn() -> bool, control: &OwnedFd, ended: &OwnedFd) -> rustix::io::Result<()> {
    loop {
        // Armed before we look: what happens after our look wakes us.
        device_mapper::arm_poll(control)
            .map_err(|error| rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO))?;
        if !look() {
            return Ok(());
        }
        let mut fds = [PollFd::new(control, PollFlags::IN), PollFd::new(ended, PollFlags::IN)];
        match rustix::event::poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        // A nudge is a reason to look; the end of the pipe reads as nothing.
        if !fds[1].revents().is_empty() && rustix::io::read(ended, &mut [0_u8; 64])? == 0 {
            return Ok(());
        }
    }
}
