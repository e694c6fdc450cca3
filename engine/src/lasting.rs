//! Side effects that outlive the process: each goes through here, so that a test can let a fault come before
//! or after any of them.
//!
//! The point is called `lasting` and is reached twice for each side effect, counted through the whole
//! process. In builds without the feature `failpoints` of the crate `fail`, which only tests turn on, nothing
//! is left of it.

use std::io;

use rustix::io::Errno;

use crate::{CommandError, Error};

/// An error that a test lets happen.
#[allow(dead_code)] // Without the feature nothing fails here.
pub(crate) trait Injected {
    fn injected(what: &str) -> Self;
}

impl Injected for io::Error {
    fn injected(what: &str) -> Self {
        Self::other(format!("a test lets this fail: {what}"))
    }
}

impl Injected for Errno {
    fn injected(_: &str) -> Self {
        Self::IO
    }
}

impl Injected for Error {
    fn injected(what: &str) -> Self {
        Self::Io { doing: what.to_owned(), source: io::Error::injected(what) }
    }
}

impl Injected for CommandError {
    fn injected(what: &str) -> Self {
        Self::Spawn { line: what.to_owned(), source: io::Error::injected(what) }
    }
}

/// Carries out a change that lasts. `what` names the change in the message of a fault.
pub(crate) fn lasting<T, E: Injected>(what: &str, act: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    point(what)?;
    let done = act()?;
    point(what)?;
    Ok(done)
}

// Without the fault points, so in a release, it can't fail.
#[allow(clippy::unnecessary_wraps)]
fn point<E: Injected>(what: &str) -> Result<(), E> {
    fail::fail_point!("lasting", |_| Err(E::injected(what)));
    let _ = what;
    Ok(())
}
