//! Disks that misbehave on command, for tests in guests of the disk lab: they answer with errors or zeros, they lose
//! what they were given, or they write down everything in order.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // Each test binary uses a part of it.

pub mod write_log;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a disk does with its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduct {
    /// As a disk should.
    Good,
    /// Every request fails.
    Errors,
    /// Reads work, every write fails.
    FailsWrites,
    /// Reads work, writes are acknowledged and forgotten.
    DropsWrites,
    /// Reads give zeros, writes are acknowledged and forgotten.
    Zeros,
    /// Each request waits this many milliseconds.
    Slow(u16),
}

/// A device-mapper device over a whole disk. It goes with this, whatever still uses it.
pub struct Mapped {
    name: String,
    disk: PathBuf,
    sectors: u64,
}

impl Mapped {
    /// A well-behaved device `/dev/mapper/<name>` over the disk.
    pub fn over(disk: &Path, name: &str) -> Self {
        Self::with_table(disk, name, |disk, sectors| table(disk, sectors, Conduct::Good))
    }

    /// A device with a table of one's own, from the disk and its length in sectors of 512 bytes.
    pub fn with_table(disk: &Path, name: &str, table: impl Fn(&Path, u64) -> String) -> Self {
        let sectors = sectors(disk);
        dmsetup(&["create", name, "--table", &table(disk, sectors)]);
        Self { name: name.to_owned(), disk: disk.to_owned(), sectors }
    }

    /// The device.
    pub fn path(&self) -> PathBuf {
        Path::new("/dev/mapper").join(&self.name)
    }

    /// Changes what the disk does from now on, for requests that wait too. Nothing is flushed before.
    pub fn behave(&self, conduct: Conduct) {
        dmsetup(&["suspend", "--noflush", "--nolockfs", &self.name]);
        dmsetup(&["load", &self.name, "--table", &table(&self.disk, self.sectors, conduct)]);
        dmsetup(&["resume", &self.name]);
    }

    /// Sends a message to the device's target.
    pub fn message(&self, message: &[&str]) {
        dmsetup(&[&["message", &self.name, "0"], message].concat());
    }

    /// Removes it; fails when something still uses it.
    pub fn remove(self) {
        dmsetup(&["remove", "--retry", &self.name]);
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        if self.path().exists() {
            // Also under a mount: its users get errors, and it goes when the last of them does.
            let _ = Command::new("dmsetup").args(["remove", "--force", "--deferred", &self.name]).output();
        }
    }
}

fn table(disk: &Path, sectors: u64, conduct: Conduct) -> String {
    let disk = disk.display();
    match conduct {
        Conduct::Good => format!("0 {sectors} linear {disk} 0"),
        Conduct::Errors => format!("0 {sectors} error"),
        // Up for no second, down for an hour.
        Conduct::FailsWrites => format!("0 {sectors} flakey {disk} 0 0 3600 1 error_writes"),
        Conduct::DropsWrites => format!("0 {sectors} flakey {disk} 0 0 3600 1 drop_writes"),
        Conduct::Zeros => format!("0 {sectors} zero"),
        Conduct::Slow(milliseconds) => format!("0 {sectors} delay {disk} 0 {milliseconds}"),
    }
}

/// The disks that a test in a guest may do anything to; `None`, and a line that says so, elsewhere.
pub fn disks() -> Option<Vec<PathBuf>> {
    let Ok(disks) = std::env::var("TIERCE_LAB_DISKS") else {
        let test = std::thread::current().name().unwrap_or("test").to_owned();
        println!("skipped: {test} needs a guest of the disk lab");
        return None;
    };
    Some(disks.split_whitespace().map(PathBuf::from).collect())
}

/// A block device's length in sectors of 512 bytes.
pub fn sectors(disk: &Path) -> u64 {
    let disk = fs::canonicalize(disk).unwrap();
    let size = Path::new("/sys/class/block").join(disk.file_name().unwrap()).join("size");
    fs::read_to_string(size).unwrap().trim().parse().unwrap()
}

fn dmsetup(arguments: &[&str]) {
    let output = Command::new("dmsetup").args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "dmsetup {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
}
