//! What the machine has before and after: nothing of ours may stay behind.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::cluster::cleanup;
use crate::command;

/// Everything that outlives a process: loop devices, mounts, network interfaces, named network namespaces, cgroup
/// folders of clusters, and clusters' processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine(BTreeSet<String>);

impl Machine {
    /// Looks at the machine as it is now.
    pub fn look() -> Result<Self> {
        let mut found = BTreeSet::new();
        for one in cleanup::loops()? {
            let file = one.file.unwrap_or_default();
            found.insert(format!("loop device {} over {file}", one.name.display()));
        }
        for line in std::fs::read_to_string("/proc/self/mountinfo")?.lines() {
            if let Some(place) = line.split(' ').nth(4) {
                found.insert(format!("mount {place}"));
            }
        }
        for folder in ["/sys/class/net", "/run/netns", "/var/tmp/tierce-e2e"] {
            found.extend(entries(Path::new(folder)).map(|entry| format!("{folder}/{entry}")));
        }
        found.extend(cleanup::cgroups().into_iter().map(|folder| format!("cgroup {}", folder.display())));
        let processes =
            command::output(Command::new("pgrep").args(["--list-full", "--full", "tierce-e2e run-"]))?;
        found
            .extend(String::from_utf8_lossy(&processes.stdout).lines().map(|line| format!("process {line}")));
        Ok(Self(found))
    }

    /// What is there now and was not then.
    pub fn new_since(&self, before: &Self) -> Vec<String> {
        self.0.difference(&before.0).cloned().collect()
    }

    /// Fails with the list of what stayed behind since `self`.
    pub fn ensure_as_before(&self) -> Result<()> {
        let left = Self::look()?.new_since(self);
        ensure!(left.is_empty(), "left behind:\n  {}", left.join("\n  "));
        Ok(())
    }
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
    use super::*;

    #[test]
    fn only_what_is_new_is_reported() {
        let machine = |items: &[&str]| Machine(items.iter().map(|&item| item.to_owned()).collect());
        let before = machine(&["loop a", "mount b"]);
        assert_eq!(machine(&["mount b", "mount c"]).new_since(&before), ["mount c"]);
        assert!(machine(&["mount b"]).new_since(&before).is_empty());
    }
}
