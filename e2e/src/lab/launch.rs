//! How a guest's process is started: what lies in its folder, and its command line.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::hardware::Hardware;
use super::kernel::Kernel;
use crate::command;

const INIT: &str = include_str!("guest-init.sh");

/// Programs that a guest needs from the system, with the Debian package of each.
const PROGRAMS: [(&str, &str); 9] = [
    ("linux.uml", "user-mode-linux"),
    ("lvm", "lvm2"),
    ("thin_check", "thin-provisioning-tools"),
    ("cryptsetup", "cryptsetup-bin"),
    ("dmsetup", "dmsetup"),
    ("dmeventd", "dmeventd"),
    ("modprobe", "kmod"),
    ("setpriv", "util-linux"),
    ("ip", "iproute2"),
];

/// Names the packages that are missing on this machine; none: guests can run.
pub fn missing() -> Vec<&'static str> {
    let mut packages: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| command::find(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    packages.dedup();
    packages
}

/// Fails with what to do when guests can't run here.
pub fn ensure_possible() -> Result<()> {
    let packages = missing();
    if !packages.is_empty() {
        bail!("missing on this machine: {}; run e2e/setup.sh", packages.join(", "));
    }
    // Where a guest is started later there may be no network to fetch it.
    Kernel::choose();
    Ok(())
}

/// Writes what a boot of the guest reads from its folder.
pub(super) fn write(folder: &Path, hardware: &Hardware, mark: &str) -> Result<()> {
    let init = folder.join("init.sh");
    std::fs::write(&init, INIT)?;
    std::fs::set_permissions(&init, Permissions::from_mode(0o755))?;
    // A copy is not set-user-id: see the script.
    let programs = folder.join("bin");
    std::fs::create_dir_all(&programs)?;
    let mount = command::find("mount").context("no `mount` on this machine")?;
    std::fs::write(programs.join("mount"), std::fs::read(mount)?)?;
    std::fs::set_permissions(programs.join("mount"), Permissions::from_mode(0o755))?;
    let lines =
        |paths: &[PathBuf]| paths.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>().join("\n");
    for (file, text) in [
        ("visible", lines(&hardware.visible)),
        ("shared", lines(&hardware.shared)),
        ("modules", hardware.modules.join(" ")),
        ("kernel", Kernel::choose().modules.to_string_lossy().into_owned()),
        ("name", hardware.name.clone()),
        ("mark", mark.to_owned()),
    ] {
        std::fs::write(folder.join(file), text + "\n")?;
    }
    // The kernel finds a guest of this name from before the power cut here, and refuses to start.
    std::fs::remove_dir_all(folder.join("uml")).ok();
    Ok(())
}

/// The guest's command: standard input and output are its serial line, standard error is its console.
///
/// It runs in a process namespace whose first process dies with the caller's thread: user-mode Linux starts threads
/// and traced processes that would survive their leader and keep the disks locked.
pub(super) fn command(folder: &Path, hardware: &Hardware, disks: &[PathBuf], processor: usize) -> Command {
    let memory = u64::from(hardware.memory_mib) << 20;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare"]);
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-current-user"]);
    }
    command.args(["--pid", "--fork", "--kill-child"]);
    // Not the kernel itself: a panic ends it by a signal of its own, which a namespace's first process would not get.
    command.args(["sh", "-c", r#""$@"; exit $?"#, "sh", "taskset", "--cpu-list", &processor.to_string()]);
    // What older kernels don't know goes into the environment of their init.
    command.args(Kernel::choose().words()).arg(format!("mem={}M", hardware.memory_mib)).arg("seccomp=auto");
    command.args(["root=/dev/root", "rootfstype=hostfs", "rootflags=/", "rw", "quiet"]);
    command.arg(format!("init={}", folder.join("init.sh").display()));
    command.arg(format!("uml_dir={}/", folder.join("uml").display()));
    command.args(["umid=guest", "con=null", "con0=null,fd:2", "ssl=null", "ssl0=fd:0,fd:1"]);
    // The measuring of RAID 6 at each boot takes longer than the rest of it.
    command.arg("initcall_blacklist=raid6_select_algo");
    for (number, disk) in disks.iter().enumerate() {
        command.arg(format!("ubd{number}={}", disk.display()));
    }
    command.args(&hardware.arguments);
    // The guest's memory is a file without a name there, in a tmpfs by default.
    let shared =
        rustix::fs::statvfs("/dev/shm").map_or(0, |room| room.f_bavail.saturating_mul(room.f_frsize));
    if shared > memory {
        command.env_remove("TMPDIR");
    } else {
        command.env("TMPDIR", folder);
    }
    command
}
