//! What the kernel keeps beyond a cluster's namespaces: loop devices and cgroup folders.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::layout::Node;
use crate::command;

/// The parent of all cgroup folders of a cluster's pods, below each hierarchy's root.
const CGROUPS: &str = "tierce-e2e";
const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// The cgroup folder of a node's pods.
pub fn cgroup_of(cluster: &str, node: Node) -> String {
    format!("/{CGROUPS}/{cluster}/{}", node.name())
}

/// A loop device as `losetup` lists it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Loop {
    /// `/dev/loop7`.
    pub name: PathBuf,
    /// The file it was attached to, as the kernel remembers its path.
    #[serde(rename = "back-file")]
    pub file: Option<String>,
    /// The inode of that file.
    #[serde(rename = "back-ino")]
    pub inode: u64,
}

/// All attached loop devices of this machine.
pub fn loops() -> Result<Vec<Loop>> {
    #[derive(Deserialize)]
    struct Listing {
        loopdevices: Vec<Loop>,
    }
    let text = command::run(Command::new("losetup").args([
        "--list",
        "--json",
        "--output",
        "NAME,BACK-FILE,BACK-INO",
    ]))?;
    // Nothing attached: nothing printed.
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    Ok(serde_json::from_str::<Listing>(&text)?.loopdevices)
}

/// The loop devices whose file lies, or lay until it was deleted, below `folder`. `losetup` shows a path as its
/// mount namespace saw it when attached, so files are also found by their inode.
pub fn loops_below(folder: &Path, loops: &[Loop]) -> Vec<Loop> {
    let mut inodes = Vec::new();
    collect_inodes(folder, &mut inodes);
    loops.iter().filter(|one| belongs(one, folder, &inodes)).cloned().collect()
}

fn belongs(one: &Loop, folder: &Path, inodes: &[u64]) -> bool {
    let below = one.file.as_ref().is_some_and(|file| Path::new(file).starts_with(folder));
    let image = one.file.as_ref().is_some_and(|file| file.contains("/lib/tierce/"));
    below || (image && inodes.contains(&one.inode))
}

fn collect_inodes(folder: &Path, found: &mut Vec<u64>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            collect_inodes(&entry.path(), found);
        } else if metadata.is_file() {
            found.push(metadata.ino());
        }
    }
}

/// Detaches what a cluster or a node left attached; returns how many there were.
pub fn detach_below(folder: &Path) -> Result<usize> {
    let ours = loops_below(folder, &loops()?);
    for one in &ours {
        command::run(Command::new("losetup").arg("--detach").arg(&one.name))?;
    }
    Ok(ours.len())
}

/// The folders of clusters in every cgroup hierarchy.
pub fn cgroups() -> Vec<PathBuf> {
    hierarchies().into_iter().map(|root| root.join(CGROUPS)).filter(|folder| folder.exists()).collect()
}

/// One with cgroup v2; with v1 one per controller.
fn hierarchies() -> Vec<PathBuf> {
    let root = PathBuf::from(CGROUP_ROOT);
    if root.join("cgroup.controllers").exists() {
        return vec![root];
    }
    std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Makes the cgroup folder of a node; the kubelet expects to find it, with every controller of the machine.
pub fn make_cgroup(cluster: &str, node: Node) -> Result<()> {
    for root in hierarchies() {
        let mut folder = root;
        for part in cgroup_of(cluster, node).trim_start_matches('/').split('/') {
            enable_controllers(&folder);
            folder.push(part);
            std::fs::create_dir_all(&folder).with_context(|| format!("can't make {}", folder.display()))?;
        }
    }
    Ok(())
}

/// With cgroup v2 a folder's children have only the controllers that it passes on. Best effort: a controller that
/// the machine keeps for itself is one that the kubelet reports as missing.
fn enable_controllers(folder: &Path) {
    let controllers = std::fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
    for controller in controllers.split_whitespace() {
        std::fs::write(folder.join("cgroup.subtree_control"), format!("+{controller}")).ok();
    }
}

/// Removes the empty cgroup folders of a cluster from every hierarchy.
pub fn remove_cgroups(cluster: &str) {
    for ours in cgroups() {
        remove_tree(&ours.join(cluster));
        std::fs::remove_dir(&ours).ok();
    }
}

/// A cgroup folder is removed by rmdir, its children first; its files are not real.
fn remove_tree(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    std::fs::remove_dir(folder).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attached(file: &str, inode: u64) -> Loop {
        Loop { name: "/dev/loop0".into(), file: Some(file.to_owned()), inode }
    }

    #[test]
    fn only_loops_over_our_own_files_are_ours() {
        let folder = Path::new("/var/tmp/tierce-e2e/x");
        let inodes = [7, 8];
        assert!(belongs(&attached("/var/tmp/tierce-e2e/x/nodes/a", 1), folder, &inodes));
        assert!(belongs(&attached("/var/lib/tierce/pools/hdd/volumes/v/data.img", 7), folder, &inodes));
        assert!(!belongs(&attached("/var/lib/tierce/pools/hdd/volumes/v/data.img", 9), folder, &inodes));
        assert!(!belongs(&attached("/var/tmp/tierce-e2e/xy/nodes/a", 1), folder, &inodes));
        assert!(!belongs(&attached("/home/me/disk.img", 7), folder, &inodes));
    }
}
