//! The word that the kernel's NFS server of this boot is ours, and on which addresses it listens: the kernel tells neither.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use super::error::{ExportError, Trying};

/// The file in the folder that outlives this process.
#[derive(Debug, Clone)]
pub(super) struct Marker {
    file: PathBuf,
}

impl Marker {
    pub(super) fn new(run_dir: &Path) -> Self {
        Self { file: run_dir.join("nfsd") }
    }

    /// The addresses that ours listens on; `None`: the server, if there is one, is not ours.
    pub(super) fn read(&self) -> Result<Option<Vec<IpAddr>>, ExportError> {
        let text = match fs::read_to_string(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.trying(|| format!("read {}", self.file.display()))?,
        };
        Ok(understand(&text, &boot()?))
    }

    pub(super) fn write(&self, addresses: &[IpAddr]) -> Result<(), ExportError> {
        let doing = || format!("write {}", self.file.display());
        let mut text = format!("{}\n", boot()?);
        for address in addresses {
            text = text + &address.to_string() + "\n";
        }
        if let Some(folder) = self.file.parent() {
            fs::create_dir_all(folder).trying(doing)?;
        }
        let new = self.file.with_extension("new");
        fs::write(&new, text).trying(doing)?;
        fs::rename(&new, &self.file).trying(doing)
    }

    pub(super) fn remove(&self) -> Result<(), ExportError> {
        match fs::remove_file(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.trying(|| format!("remove {}", self.file.display())),
        }
    }
}

fn boot() -> Result<String, ExportError> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    Ok(text.trying(|| "read the id of this boot".to_owned())?.trim().to_owned())
}

fn understand(text: &str, boot: &str) -> Option<Vec<IpAddr>> {
    let mut lines = text.lines();
    (lines.next() == Some(boot)).then(|| lines.filter_map(|line| line.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_of_another_boot_says_nothing() {
        let text = "boot-1\n10.0.0.2\nfd00::2\n";
        let addresses = ["10.0.0.2", "fd00::2"].map(|text| text.parse().unwrap());
        assert_eq!(understand(text, "boot-1"), Some(addresses.to_vec()));
        assert_eq!(understand(text, "boot-2"), None);
        assert_eq!(understand("", "boot-1"), None);
    }

    #[test]
    fn what_was_written_is_read_until_it_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let marker = Marker::new(&folder.path().join("run"));
        assert_eq!(marker.read().unwrap(), None);
        let addresses: Vec<IpAddr> = vec!["10.0.0.2".parse().unwrap()];
        marker.write(&addresses).unwrap();
        assert_eq!(marker.read().unwrap(), Some(addresses));
        marker.remove().unwrap();
        marker.remove().unwrap();
        assert_eq!(marker.read().unwrap(), None);
    }
}
