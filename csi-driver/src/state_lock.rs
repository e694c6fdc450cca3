//! One node plugin at a time: the cleanup of a second one would take a creation of the first for a leftover.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

use tracing::warn;

/// Held while the plugin may touch a disk. The kernel drops it when the process ends, however it ends (flock(2)).
#[derive(Debug)]
pub struct StateLock(#[allow(dead_code, reason = "the open file is the lock")] File);

impl StateLock {
    /// Waits until no other plugin works with this state folder, which is made where it is missing.
    ///
    /// # Errors
    /// The folder or the file `lock` in it can't be made or locked.
    pub async fn acquire(state_dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(state_dir)?;
        let path = state_dir.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path)?;
        match file.try_lock() {
            Ok(()) => return Ok(Self(file)),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => {
                warn!(
                    "another node plugin works on this node ({} is locked): waiting until it ends",
                    path.display()
                );
            }
        }
        let (done, locked) = tokio::sync::oneshot::channel();
        // A thread of its own: it may wait long, and the program must be able to end meanwhile.
        std::thread::spawn(move || {
            let result = file.lock().map(|()| file);
            let _ = done.send(result);
        });
        let result = locked.await.unwrap_or_else(|_| Err(io::Error::other("the waiting thread ended")));
        result.map(Self)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_second_plugin_waits_for_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let first = StateLock::acquire(folder.path()).await.unwrap();
        let path = folder.path().to_owned();
        let mut second = tokio::spawn(async move { StateLock::acquire(&path).await });
        let early = tokio::time::timeout(Duration::from_millis(200), &mut second).await;
        assert!(early.is_err(), "it did not wait");
        drop(first);
        let second = tokio::time::timeout(Duration::from_secs(10), second).await.unwrap();
        second.unwrap().unwrap();
    }
}
