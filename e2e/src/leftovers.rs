//! What the machine has before and after: nothing of a run may stay behind.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::cluster::cleanup::{self, Loop};
use crate::command;

/// How many times we look again for leftovers, twice a second.
const LOOKS: usize = 6;

/// Everything that outlives a process: loop devices, mounts, network interfaces, named network namespaces, cgroup folders of clusters, and
/// clusters' processes. What belongs to another run on this machine (another cluster, a guest of the lab, csi-sanity) is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The folders of the run.
    own: Vec<PathBuf>,
    found: BTreeSet<String>,
}

impl Machine {
    /// Looks at the machine as it is now, for the run whose files lie in these folders.
    pub fn look(own: &[PathBuf]) -> Result<Self> {
        let others = folders_of_others(own);
        let mut found: BTreeSet<String> = own_loops(cleanup::loops()?, own, &others)
            .into_iter()
            .map(|one| format!("loop device {} over {}", one.name.display(), one.file.unwrap_or_default()))
            .collect();
        for line in std::fs::read_to_string("/proc/self/mountinfo")?.lines() {
            if let Some(place) = line.split(' ').nth(4).filter(|place| !is_of(&others, place)) {
                found.insert(format!("mount {place}"));
            }
        }
        for folder in ["/sys/class/net", "/run/netns"] {
            found.extend(entries(Path::new(folder)).map(|entry| format!("{folder}/{entry}")));
        }
        for own in own.iter().filter(|own| own.exists()) {
            found.insert(format!("folder {}", own.display()));
        }
        let names = || own.iter().filter_map(|own| own.file_name());
        let cgroups =
            cleanup::cgroups().into_iter().flat_map(|root| names().map(move |name| root.join(name)));
        found.extend(
            cgroups.filter(|folder| folder.exists()).map(|folder| format!("cgroup {}", folder.display())),
        );
        let processes =
            command::output(Command::new("pgrep").args(["--list-full", "--full", "tierce-e2e run-"]))?;
        let processes = String::from_utf8_lossy(&processes.stdout).into_owned();
        let of_us = |line: &&str| line.split(' ').any(|word| is_of(own, word));
        found.extend(processes.lines().filter(of_us).map(|line| format!("process {line}")));
        Ok(Self { own: own.to_owned(), found })
    }

    /// What is there now and was not then.
    pub fn new_since(&self, before: &Self) -> Vec<String> {
        self.found.difference(&before.found).cloned().collect()
    }

    /// Fails with the list of what stayed behind since `self`. What is only on its way, of this run or of another whose folder ends in
    /// this moment, is gone after a few looks.
    pub fn ensure_as_before(&self) -> Result<()> {
        let mut left = Self::look(&self.own)?.new_since(self);
        for _ in 0..LOOKS {
            if left.is_empty() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(500));
            let still = Self::look(&self.own)?.new_since(self);
            left.retain(|one| still.contains(one));
        }
        bail!("left behind:\n  {}", left.join("\n  "))
    }
}

/// A folder as it stands in a path: `/a/b` holds `/a/b` and `/a/b/c`, and not `/a/bc`.
fn is_of(folders: &[PathBuf], path: &str) -> bool {
    folders.iter().any(|folder| Path::new(path).starts_with(folder))
}

/// The folders of all other runs of the harness that are under way.
fn folders_of_others(own: &[PathBuf]) -> Vec<PathBuf> {
    let clusters = Path::new("/var/tmp/tierce-e2e");
    let mut folders: Vec<PathBuf> = entries(clusters).map(|name| clusters.join(name)).collect();
    let runs =
        entries(Path::new("/var/tmp")).filter(|name| name.starts_with("tierce-") && name.contains('.'));
    folders.extend(runs.map(|name| Path::new("/var/tmp").join(name)));
    folders.retain(|folder| !own.contains(folder));
    folders
}

/// The loop devices of a run: those over its files, and those whose file is gone, unless they belong to somebody else. A node attaches its
/// files under the paths that it sees, and a file that is there is somebody else's: the run's own are gone when the run has ended.
fn own_loops(loops: Vec<Loop>, own: &[PathBuf], others: &[PathBuf]) -> Vec<Loop> {
    let foreign: Vec<Loop> = others.iter().flat_map(|other| cleanup::loops_below(other, &loops)).collect();
    let ours: Vec<Loop> = own.iter().flat_map(|own| cleanup::loops_below(own, &loops)).collect();
    let file_is_gone = |one: &Loop| {
        one.file.as_deref().is_some_and(|file| file.ends_with("(deleted)") && !is_of(others, file))
    };
    loops
        .into_iter()
        .filter(|one| ours.contains(one) || file_is_gone(one) && !foreign.contains(one))
        .collect()
}

fn entries(folder: &Path) -> impl Iterator<Item = String> {
    std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn only_what_is_new_is_reported() {
        let machine = |items: &[&str]| Machine {
            own: Vec::new(),
            found: items.iter().map(|&item| item.to_owned()).collect(),
        };
        let before = machine(&["loop a", "mount b"]);
        assert_eq!(machine(&["mount b", "mount c"]).new_since(&before), ["mount c"]);
        assert!(machine(&["mount b"]).new_since(&before).is_empty());
    }

    #[test]
    fn the_loop_devices_of_another_cluster_are_not_counted() {
        let all = tempfile::tempdir().unwrap();
        let over = |name: &str, folder: &str, shown: &str| {
            let file = all.path().join(folder).join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, "").unwrap();
            let metadata = file.metadata().unwrap();
            let (major, minor) = (rustix::fs::major(metadata.dev()), rustix::fs::minor(metadata.dev()));
            Loop {
                name: name.into(),
                file: Some(shown.to_owned()),
                inode: metadata.ino(),
                disk: format!("{major}:{minor}"),
            }
        };
        let image = "/var/lib/tierce/pools/hdd/volumes/a/data.img";
        let loops = vec![
            over("ours", "demo/node-1", image),
            over("theirs", "other/node-1", image),
            over("theirs-unlinked-elsewhere", "other/node-1", &format!("{image} (deleted)")),
            over("a-package-of-the-host", "snaps", "/var/lib/snapd/snaps/core.snap"),
            // As tests on this kernel leave it for a moment, whose folder goes first.
            Loop {
                file: Some(format!("{} (deleted)", all.path().join("other/unit/disk").display())),
                inode: u64::MAX,
                ..over("theirs-in-a-folder-that-went", "other", image)
            },
            Loop {
                file: Some(format!("{image} (deleted)")),
                inode: u64::MAX,
                ..over("leaked", "demo", image)
            },
        ];
        let others = [all.path().join("other")];
        let counted = own_loops(loops, &[all.path().join("demo")], &others);
        let names: Vec<_> = counted.iter().map(|one| one.name.to_str().unwrap()).collect();
        assert_eq!(names, ["ours", "leaked"]);
    }
}
