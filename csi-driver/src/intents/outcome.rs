//! How the work on one object ended.

use tierce_crds::conditions::Verdict;
use tierce_engine::Error;

/// What is on the disk now, and why that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome<I> {
    /// What is on the disk, as far as it is known.
    pub(crate) info: Option<I>,
    /// Why the disk is not as it should be, so that it is tried again.
    pub(crate) trouble: Option<Verdict>,
    /// Where room is missing: the largest size in bytes that would fit.
    pub(crate) largest: Option<u64>,
}

impl<I> Outcome<I> {
    /// The disk is as it should be.
    pub(crate) fn ready(info: I) -> Self {
        Self { info: Some(info), trouble: None, largest: None }
    }

    /// The plan refuses: no permitted step leads to what the object asks for.
    pub(crate) fn refused(verdict: Verdict, info: Option<I>) -> Self {
        Self { info, trouble: Some(verdict), largest: None }
    }

    /// The engine failed; `verdict` says how the API calls that.
    pub(crate) fn failed(error: &Error, verdict: fn(&Error) -> Verdict, info: Option<I>) -> Self {
        let largest = match error {
            Error::OutOfSpace { largest, .. } => Some(*largest),
            _ => None,
        };
        Self { info, trouble: Some(verdict(error)), largest }
    }
}
