//! The container images of a local cluster, as archives in the cache; no registry is involved.

mod base;
pub mod earlier;
pub mod oci;
pub mod ours;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{cache, command};

/// The image of test pods: a shell and the usual small programs.
pub const BUSYBOX: &str = "docker.io/library/busybox:1.36";

/// The archives that every cluster needs: pods' namespaces, test pods, and the CSI sidecars.
pub fn basic(tools: &Path) -> Result<Vec<PathBuf>> {
    Ok(vec![
        single(&tools.join("pause"), crate::cluster::PAUSE_IMAGE)?,
        busybox()?,
        single(&tools.join("csi-provisioner"), "registry.k8s.io/sig-storage/csi-provisioner:v6.3.0")?,
        single(&tools.join("csi-resizer"), "registry.k8s.io/sig-storage/csi-resizer:v2.3.0")?,
        single(&tools.join("csi-snapshotter"), "registry.k8s.io/sig-storage/csi-snapshotter:v8.7.0")?,
        single(&tools.join("snapshot-controller"), "registry.k8s.io/sig-storage/snapshot-controller:v8.7.0")?,
    ])
}

/// An image of one static program, under the program's own name.
fn single(program: &Path, name: &str) -> Result<PathBuf> {
    let file = program.file_name().context("a program has a name")?.to_string_lossy().into_owned();
    // The tools' folder is named after what they were built from.
    let key = cache::Key::default().with(name).with(program.to_string_lossy().as_bytes());
    archive(&file, key, |place| {
        let layer = oci::Layer::empty().folder("tmp", 0o1777)?.program(&file, program)?.finish()?;
        let entrypoint = format!("/{file}");
        let config = oci::Config { entrypoint: vec![&entrypoint], ..oci::Config::default() };
        oci::write(place, name, &config, &layer)
    })
}

fn busybox() -> Result<PathBuf> {
    let program = command::find("busybox").context("busybox is missing; run e2e/setup.sh")?;
    let key = cache::Key::default().with(BUSYBOX).with_file(&program)?;
    archive("busybox", key, |place| {
        let mut layer = oci::Layer::empty();
        for folder in ["bin", "etc", "root", "var", "mnt"] {
            layer = layer.folder(folder, 0o755)?;
        }
        layer = layer.folder("tmp", 0o1777)?.program("bin/busybox", &program)?;
        for applet in command::run(Command::new(&program).arg("--list"))?.lines() {
            if applet != "busybox" {
                layer = layer.link(&format!("bin/{applet}"), "busybox")?;
            }
        }
        let environment = vec!["PATH=/bin"];
        let config = oci::Config { entrypoint: Vec::new(), environment };
        oci::write(place, BUSYBOX, &config, &layer.finish()?)
    })
}

/// An archive in the cache, made when its key is new; older ones of that name are removed.
fn archive(name: &str, key: cache::Key, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let folder = cache::folder()?.join("images").join(name);
    let place = folder.join(format!("{}.tar", key.finish()));
    cache::once(&place, |temporary| make(temporary))?;
    for entry in std::fs::read_dir(&folder)?.flatten() {
        if entry.path() != place && entry.path().extension().is_some_and(|end| end == "tar") {
            std::fs::remove_file(entry.path()).ok();
        }
    }
    Ok(place)
}
