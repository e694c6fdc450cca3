//! Which processor a guest runs on. A user-mode Linux that wanders between processors is three to six times slower.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, Result};

/// What lies in sysfs for every processor of a kernel with hot-plugging: one for each guest that may share a processor with others.
const PLACES: [&str; 4] = ["", "topology", "hotplug", "power"];

/// A processor that a guest has, for as long as this lives.
pub(super) struct Processor {
    /// Its number, as `taskset` takes it.
    pub(super) number: usize,
    /// Held on a folder of the processor in sysfs, which leaves no file behind and is the same for every user.
    #[allow(dead_code, reason = "held, not read")]
    lock: Option<File>,
}

impl Processor {
    /// Takes the one that was asked for, else one of those that the fewest guests of all runs on this machine have.
    pub(super) fn take(wanted: Option<usize>) -> Result<Self> {
        match wanted {
            Some(number) => Ok(Self { number, lock: None }),
            None => Self::take_below(Path::new("/sys/devices/system/cpu")),
        }
    }

    fn take_below(root: &Path) -> Result<Self> {
        // This process's own set: a container may have only some of the machine's processors.
        let set = rustix::thread::sched_getaffinity(None)?;
        let ours: Vec<usize> =
            (0..rustix::thread::CpuSet::MAX_CPU).filter(|&number| set.is_set(number)).collect();
        for place in PLACES {
            for &number in &ours {
                let path = root.join(format!("cpu{number}")).join(place);
                let folder = match File::open(&path) {
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    opened => opened.with_context(|| format!("can't open {}", path.display()))?,
                };
                match folder.try_lock() {
                    Ok(()) => return Ok(Self { number, lock: Some(folder) }),
                    Err(TryLockError::WouldBlock) => {}
                    Err(TryLockError::Error(error)) => {
                        return Err(error).with_context(|| format!("can't lock {}", path.display()));
                    }
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
    fn guests_are_spread_over_the_processors() {
        let root = tempfile::tempdir().unwrap();
        let set = rustix::thread::sched_getaffinity(None).unwrap();
        let ours: Vec<usize> =
            (0..rustix::thread::CpuSet::MAX_CPU).filter(|&number| set.is_set(number)).collect();
        for number in &ours {
            std::fs::create_dir_all(root.path().join(format!("cpu{number}/topology"))).unwrap();
        }
        let take = || Processor::take_below(root.path()).unwrap();
        let mut taken: Vec<Processor> = (0..2 * ours.len()).map(|_| take()).collect();
        let numbers: Vec<usize> = taken.iter().map(|one| one.number).collect();
        assert_eq!(numbers, [ours.clone(), ours.clone()].concat());
        assert!(taken.iter().all(|one| one.lock.is_some()));
        // With all places taken there is still a processor, and one that was given back is the next.
        assert!(take().lock.is_none());
        let freed = taken.remove(ours.len() / 2);
        let number = freed.number;
        drop(freed);
        assert_eq!(take().number, number);
        assert_eq!(Processor::take(Some(7)).unwrap().number, 7);
    }
}
