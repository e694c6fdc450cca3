//! The disk on which a guest keeps `/var/lib`, with the images loaded already: this machine does that in seconds, a guest
//! in a minute.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::host::Host;
use super::layout::{CONTAINERD_ROOT, IMAGES_LOADED};
use crate::{cache, command};

/// Room for images and pods; it takes no more than is written.
const BYTES: u64 = 32 << 30;
/// Until containerd answers.
const START_LIMIT: Duration = Duration::from_secs(30);
/// The one snapshotter whose folders can be made here and used there.
const SNAPSHOTTER: &str = "overlayfs";

/// The disk that every guest gets a copy of, from the cache. `None`: this machine can't make it, so guests load the images
/// themselves.
pub(super) fn ensure_template(images: &[PathBuf], host: &Host) -> Result<Option<PathBuf>> {
    if host.snapshotter != SNAPSHOTTER {
        return Ok(None);
    }
    let version = command::run(Command::new("containerd").arg("--version"))?;
    let names: Vec<String> = images.iter().map(|image| image.to_string_lossy().into_owned()).collect();
    // An archive's name says its content.
    let key = cache::Key::default().with(version).with(names.join("\n")).finish();
    let folder = cache::folder()?.join("images/disk");
    let place = folder.join(format!("{key}.img"));
    cache::once(&place, |temporary| make(temporary, images))?;
    for entry in std::fs::read_dir(&folder)?.flatten() {
        if entry.path() != place && entry.path().extension().is_some_and(|end| end == "img") {
            std::fs::remove_file(entry.path()).ok();
        }
    }
    Ok(Some(place))
}

/// Makes a guest's disk: a copy of the template, or an empty filesystem.
pub(super) fn make_disk(disk: &Path, template: Option<&Path>) -> Result<()> {
    cache::once(disk, |temporary| match template {
        Some(template) => command::run(
            Command::new("cp").args(["--sparse=always", "--reflink=auto"]).arg(template).arg(temporary),
        )
        .map(drop),
        None => make_filesystem(temporary, None),
    })
}

fn make(disk: &Path, images: &[PathBuf]) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("tierce-images-").tempdir_in("/var/tmp")?;
    let tree = scratch.path().join("disk");
    let root = tree.join(CONTAINERD_ROOT);
    std::fs::create_dir_all(&root)?;
    let containerd = Containerd::start(scratch.path(), &root)?;
    for image in images {
        containerd
            .ctr(&["--namespace=k8s.io", "images", "import", "--snapshotter", SNAPSHOTTER], Some(image))?;
    }
    containerd.end()?;
    std::fs::File::create(tree.join(IMAGES_LOADED))?;
    make_filesystem(disk, Some(&tree))
}

fn make_filesystem(disk: &Path, tree: Option<&Path>) -> Result<()> {
    std::fs::File::create(disk)?.set_len(BYTES)?;
    let mut mkfs = Command::new("mkfs.ext4");
    mkfs.arg("-q");
    if let Some(tree) = tree {
        mkfs.arg("-d").arg(tree);
    }
    command::run(mkfs.arg(disk)).map(drop)
}

/// A containerd that ends with this process, in mounts of its own.
struct Containerd {
    child: Child,
    socket: PathBuf,
}

impl Containerd {
    fn start(scratch: &Path, root: &Path) -> Result<Self> {
        let socket = scratch.join("containerd.sock");
        let log = scratch.join("log");
        let config = scratch.join("config.toml");
        std::fs::write(
            &config,
            format!(
                "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
                 [grpc]\naddress = \"{}\"\n",
                root.display(),
                scratch.join("state").display(),
                socket.display()
            ),
        )?;
        let output = std::fs::File::create(&log)?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--mount", "containerd", "--config"])
            .arg(config)
            .stdin(std::process::Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("can't start containerd")?;
        let containerd = Self { child, socket };
        let deadline = Instant::now() + START_LIMIT;
        while containerd.ctr(&["version"], None).is_err() {
            ensure!(Instant::now() < deadline, "containerd does not answer: {}", command::tail(&log, 5));
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(containerd)
    }

    fn ctr(&self, arguments: &[&str], file: Option<&Path>) -> Result<()> {
        let mut ctr = Command::new("ctr");
        ctr.arg("--address").arg(&self.socket).args(arguments).args(file);
        command::run(&mut ctr).map(drop)
    }

    /// Ends it and waits, so that its database is whole.
    fn end(mut self) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(
            pid.context("a process id is positive")?,
            rustix::process::Signal::TERM,
        )?;
        self.child.wait().context("can't wait for containerd").map(drop)
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // Both fail where it has ended.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
