//! The folder of a run: disks, logs, programs, the state of a guest. It goes with the harness, however that ends.

use std::fs::{File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

/// What the names of all these folders begin with, in `/var/tmp`: disks may be larger than a tmpfs.
const PREFIX: &str = "tierce-";

/// Waits for the end of the harness, which holds the other end of its standard input, and cleans up after it. What
/// dies in the same moment may still write into the folder or attach a loop device, and the node plugin makes unused targets
/// immutable. A loop device's file is known by its path, as long as that was seen from here, or by its disk and inode.
const BROOM: &str = r#"
free() {
  losetup --list --noheadings --raw --output NAME,BACK-INO,BACK-MAJ:MIN,BACK-FILE 2>/dev/null |
    while read -r name inode disk file; do
      case $file in "$1"/*) losetup --detach "$name"; continue ;; esac
      find "$1" -type f -inum "$inode" -exec stat --format %Hd:%Ld {} + 2>/dev/null | grep -qFx "$disk" &&
        losetup --detach "$name"
    done
}
read -r word || sleep 1
[ "$word" = keep ] && exit
[ "$word" = end ] || free "$1"
rm -rf -- "$1" 2>/dev/null || { sleep 1; chattr -R -f -i "$1"; rm -rf -- "$1"; }"#;

/// A folder that ends with this, or with the process if it is killed.
pub struct Folder {
    path: PathBuf,
    broom: Child,
}

impl Folder {
    /// Makes a new one, which everybody may look into; `name` is for people.
    pub fn new(name: &str) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{name}."))
            .permissions(Permissions::from_mode(0o755))
            .tempdir_in("/var/tmp")?;
        let broom = Command::new("sh")
            .args(["-c", BROOM, "sh"])
            .arg(folder.path())
            .stdin(Stdio::piped())
            // Ctrl-C in the terminal must not end it.
            .process_group(0)
            .spawn()
            .context("can't start sh")?;
        Ok(Self { path: folder.keep(), broom })
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a file that reads as zeros and takes no room, to be a disk.
    pub fn disk(&self, name: &str, bytes: u64) -> Result<PathBuf> {
        let path = self.path.join(name);
        let file = File::create_new(&path).with_context(|| format!("can't make {}", path.display()))?;
        file.set_len(bytes).with_context(|| format!("can't size {}", path.display()))?;
        Ok(path)
    }

    /// Leaves it behind, for a look.
    pub fn keep(&mut self) -> Result<()> {
        self.tell(b"keep\n")
    }

    fn tell(&mut self, word: &[u8]) -> Result<()> {
        self.broom.stdin.as_mut().context("the broom's standard input is piped")?.write_all(word)?;
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // The first word counts.
        self.tell(b"end\n").ok();
        drop(self.broom.stdin.take());
        self.broom.wait().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_with_a_harness_that_is_killed() {
        let mut folder = Folder::new("test").unwrap();
        // As the kernel closes it at the process's end.
        drop(folder.broom.stdin.take());
        folder.broom.wait().unwrap();
        assert!(!folder.path().exists());
    }

    #[test]
    fn it_goes_unless_it_is_kept() {
        let folder = Folder::new("test").unwrap();
        let path = folder.path().to_owned();
        assert_eq!(folder.disk("a", 1 << 30).unwrap().metadata().unwrap().len(), 1 << 30);
        drop(folder);
        assert!(!path.exists());

        let mut folder = Folder::new("test").unwrap();
        folder.keep().unwrap();
        let path = folder.path().to_owned();
        drop(folder);
        std::fs::remove_dir(path).unwrap();
    }
}
