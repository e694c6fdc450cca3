//! Which processor a guest runs on. A user-mode Linux that wanders between processors is three to six times slower.

use std::fs::{File, TryLockError};
use std::path::PathBuf;

use anyhow::{Context as _, Result};

/// A processor that a guest has, for as long as this lives.
pub(super) struct Processor {
    /// Its number, as `taskset` takes it.
    pub(super) number: usize,
    /// Held on the processor's own folder in sysfs, which leaves no file behind and is the same for every user.
    #[allow(dead_code, reason = "held, not read")]
    lock: Option<File>,
}

impl Processor {
    /// Takes the one that was asked for, else one that no other guest has, else any.
    pub(super) fn take(wanted: Option<usize>) -> Result<Self> {
        if let Some(number) = wanted {
            return Ok(Self { number, lock: None });
        }
        // This process's own set: a container may have only some of the machine's processors.
        let set = rustix::thread::sched_getaffinity(None)?;
        let ours: Vec<usize> =
            (0..rustix::thread::CpuSet::MAX_CPU).filter(|&number| set.is_set(number)).collect();
        for &number in &ours {
            let path = PathBuf::from(format!("/sys/devices/system/cpu/cpu{number}"));
            let folder = File::open(&path).with_context(|| format!("can't open {}", path.display()))?;
            match folder.try_lock() {
                Ok(()) => return Ok(Self { number, lock: Some(folder) }),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("can't lock {}", path.display()));
                }
            }
        }
        let index = usize::try_from(std::process::id())? % ours.len().max(1);
        Ok(Self { number: ours.get(index).copied().unwrap_or_default(), lock: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_guests_have_the_same_processor_to_themselves() {
        // Guests of other runs may have them all.
        let first = Processor::take(None).unwrap();
        let second = Processor::take(None).unwrap();
        assert!(first.lock.is_none() || second.lock.is_none() || first.number != second.number);
        assert_eq!(Processor::take(Some(7)).unwrap().number, 7);
    }
}
