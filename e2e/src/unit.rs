//! The tests that Cargo runs, so that nothing of them stays when they are killed in the middle.

use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

use crate::cargo;
use crate::cargo::workspace;
use crate::folder::Folder;

/// Runs them. Their temporary files lie in one folder, which goes with this process. As root they have processes and mounts of their
/// own, which end with it too; what an ordinary user's tests started ends by itself.
pub fn run() -> Result<()> {
    let folder = Folder::new("unit")?;
    let mut tests = if rustix::process::geteuid().is_root() {
        let mut tests = Command::new("setpriv");
        tests.args([
            "--pdeathsig",
            "KILL",
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ]);
        tests.arg(cargo::program());
        tests
    } else {
        Command::new(cargo::program())
    };
    cargo::forget_own_package(&mut tests);
    let status = tests
        .current_dir(workspace())
        .args(["test", "--workspace"])
        .env("TMPDIR", folder.path())
        .stdin(Stdio::null())
        .status()?;
    ensure!(status.success(), "the tests that Cargo runs failed, see above");
    Ok(())
}
