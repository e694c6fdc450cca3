//! What the kernel keeps beyond a cluster's namespaces: loop devices and cgroup folders.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
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
    /// The disk of that file: `254:0`, padded with blanks.
    #[serde(rename = "back-maj:min")]
    pub disk: String,
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
        "NAME,BACK-FILE,BACK-INO,BACK-MAJ:MIN",
    ]))?;
    // Nothing attached: nothing printed.
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    Ok(serde_json::from_str::<Listing>(&text)?.loopdevices)
}

/// The loop devices whose file lies below `folder`, and those over such devices: the kubelet holds a raw device by a
/// loop device of its own. The ones on top come first. A node attaches its files under the paths that it sees, such
/// as `/var/lib/…`, so the path says nothing here: files are recognised by their disk and inode.
pub fn loops_below(folder: &Path, loops: &[Loop]) -> Vec<Loop> {
    if loops.is_empty() {
        return Vec::new();
    }
    let mut files = BTreeSet::new();
    collect_files(folder, &mut files);
    let mut found: Vec<Loop> = Vec::new();
    loop {
        let more: Vec<Loop> = loops
            .iter()
            .filter(|one| files.contains(&(one.disk.trim().to_owned(), one.inode)) && !found.contains(one))
            .cloned()
            .collect();
        if more.is_empty() {
            return found;
        }
        files.extend(more.iter().filter_map(|one| one.name.metadata().ok()).map(|metadata| place(&metadata)));
        found.splice(0..0, more);
    }
}

/// The disk and inode of a file, as [`Loop`] has them.
fn place(metadata: &Metadata) -> (String, u64) {
    let (major, minor) = (rustix::fs::major(metadata.dev()), rustix::fs::minor(metadata.dev()));
    (format!("{major}:{minor}"), metadata.ino())
}

fn collect_files(folder: &Path, found: &mut BTreeSet<(String, u64)>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            collect_files(&entry.path(), found);
        } else if metadata.is_file() {
            found.insert(place(&metadata));
        }
    }
}

/// Detaches what a cluster or a node left attached. One that held another may take it along, and a device that the
/// kernel still has open goes a moment later, so this looks again until none is left. Returns
/// how many there were.
pub fn detach_below(folder: &Path) -> Result<usize> {
    let mut answer = String::new();
    let mut names = BTreeSet::new();
    for _ in 0..50 {
        let ours = loops_below(folder, &loops()?);
        if ours.is_empty() {
            return Ok(names.len());
        }
        for one in &ours {
            names.insert(one.name.clone());
            let output = command::output(Command::new("losetup").arg("--detach").arg(&one.name))?;
            answer = String::from_utf8_lossy(&output.stderr).into_owned();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("loop devices below {} can't be detached: {answer}", folder.display())
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

/// Removes the empty cgroup folders of one node.
pub fn remove_node_cgroups(cluster: &str, node: Node) {
    for root in hierarchies() {
        remove_tree(&root.join(cgroup_of(cluster, node).trim_start_matches('/')));
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

    #[test]
    fn loops_are_found_by_disk_and_inode_with_those_on_top_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let file = folder.path().join("deep/data.img");
        let device = outside.path().join("loop7");
        std::fs::create_dir(folder.path().join("deep")).unwrap();
        for path in [&file, &device] {
            std::fs::write(path, "x").unwrap();
        }
        let attached = |name: &Path, (disk, inode): (String, u64)| Loop {
            name: name.into(),
            file: Some("/var/lib/tierce/data.img".to_owned()),
            inode,
            disk: format!("  {disk}  "),
        };
        let image = place(&file.metadata().unwrap());
        let loops = [
            attached(&device, image.clone()),
            attached(Path::new("/none/another-file"), (image.0.clone(), u64::MAX)),
            attached(Path::new("/none/another-disk"), ("999:9".to_owned(), image.1)),
            attached(Path::new("/none/on-top"), place(&device.metadata().unwrap())),
        ];
        let found = loops_below(folder.path(), &loops);
        assert_eq!(found, [loops[3].clone(), loops[0].clone()]);
    }
}
