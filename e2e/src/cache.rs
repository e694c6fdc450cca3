//! What is expensive to make is kept in the user's cache folder under a key of what it was made from.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

/// `$XDG_CACHE_HOME/tierce`, else `~/.cache/tierce`.
pub fn folder() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME") {
        Some(folder) if !folder.is_empty() => PathBuf::from(folder),
        _ => PathBuf::from(std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?)
            .join(".cache"),
    };
    Ok(base.join("tierce"))
}

/// A key over everything that a cached thing depends on.
#[derive(Default)]
pub struct Key(Sha256);

impl Key {
    /// Adds text or bytes, with their length, so that neighbours can't run into each other.
    #[must_use]
    pub fn with(mut self, part: impl AsRef<[u8]>) -> Self {
        let part = part.as_ref();
        self.0.update(part.len().to_le_bytes());
        self.0.update(part);
        self
    }

    /// Adds a file's contents.
    pub fn with_file(self, file: &Path) -> Result<Self> {
        let bytes = std::fs::read(file).with_context(|| format!("can't read {}", file.display()))?;
        Ok(self.with(bytes))
    }

    /// The first 16 hexadecimal digits: enough for a cache.
    pub fn finish(self) -> String {
        hex(&self.0.finalize()[..8])
    }
}

/// Bytes in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes everything");
        text
    })
}

/// Makes `place` with `make`, which is given a temporary path beside it; the result appears whole or not at all.
/// Nothing is done when `place` exists.
pub fn once(place: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if place.exists() {
        return Ok(());
    }
    let parent = place.parent().context("a cached thing lies in a folder")?;
    std::fs::create_dir_all(parent).with_context(|| format!("can't make {}", parent.display()))?;
    let name = place.file_name().context("a cached thing has a name")?.to_string_lossy();
    let temporary = parent.join(format!(".{name}.{}", std::process::id()));
    remove(&temporary)?;
    if let Err(error) = make(&temporary) {
        remove(&temporary).ok();
        return Err(error);
    }
    match std::fs::rename(&temporary, place) {
        Err(error) if !place.exists() => {
            Err(error).with_context(|| format!("can't rename to {}", place.display()))
        }
        // Another process was faster: its result is as good as ours.
        Err(_) => remove(&temporary),
        Ok(()) => Ok(()),
    }
}

fn remove(path: &Path) -> Result<()> {
    if path.is_dir() {
        std::fs::remove_dir_all(path)?;
    } else if path.exists() {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_keeps_neighbours_apart() {
        let one = Key::default().with("ab").with("c").finish();
        let other = Key::default().with("a").with("bc").finish();
        assert_ne!(one, other);
        assert_eq!(one.len(), 16);
    }

    #[test]
    fn a_failed_make_leaves_nothing_and_a_good_one_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("sub/thing");
        let failed = once(&place, |temporary| {
            std::fs::write(temporary, "half")?;
            anyhow::bail!("no")
        });
        assert!(failed.is_err());
        assert_eq!(std::fs::read_dir(folder.path().join("sub")).unwrap().count(), 0);
        once(&place, |temporary| Ok(std::fs::write(temporary, "whole")?)).unwrap();
        once(&place, |_| panic!("made twice")).unwrap();
        assert_eq!(std::fs::read_to_string(&place).unwrap(), "whole");
    }
}
