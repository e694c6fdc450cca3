//! A run of csi-sanity gets a process of its own with the rights that it needs and no more: over the simulator it is
//! an ordinary user's, over images it is PID 1 of namespaces that take every mount and process with them.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::stand::{Programs, Storage};

/// `nobody` and its group on every Linux.
const NOBODY: u32 = 65_534;

/// What a confined process is told: the contents of `run.json` in its folder.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    /// What lies below the volumes.
    pub(super) storage: Storage,
    /// What to start.
    pub(super) programs: Programs,
}

/// The command line of this program for one run; `folder` is the run's own.
pub(super) fn command(folder: &Path, order: Order) -> Result<Command> {
    let mut program = std::env::current_exe()?;
    let as_root = rustix::process::geteuid().is_root();
    let mut order = order;
    std::fs::create_dir_all(folder).with_context(|| format!("can't make {}", folder.display()))?;
    let mut line = Command::new("setpriv");
    line.args(["--pdeathsig", "KILL"]);
    match order.storage {
        Storage::Simulator if as_root => {
            // A user without rights may not look into the folders that these lie in.
            let copies = folder.join("bin");
            std::fs::create_dir(&copies)?;
            let copy = |from: &Path| -> Result<PathBuf> {
                let to = copies.join(from.file_name().context("a program has a name")?);
                std::fs::copy(from, &to).with_context(|| format!("can't copy {}", from.display()))?;
                Ok(to)
            };
            program = copy(&program)?;
            for tool in super::TOOLS {
                copy(&order.programs.tools.join(tool))?;
            }
            order.programs = Programs {
                controller: copy(&order.programs.controller)?,
                plugin: copy(&order.programs.plugin)?,
                tools: copies.clone(),
            };
            chown(folder, Some(NOBODY), Some(NOBODY))?;
            let user = NOBODY.to_string();
            line.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--no-new-privs", "--"]);
        }
        Storage::Simulator => {
            line.arg("--");
        }
        Storage::Directory => {
            ensure!(as_root, "images, loop devices and mounts need root: run this with sudo");
            line.args(["--", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
        }
    }
    std::fs::write(folder.join("run.json"), serde_json::to_vec_pretty(&order)?)?;
    line.arg(program).arg("run-sanity").arg(folder).current_dir(folder).env("HOME", folder);
    line.stdin(Stdio::null());
    Ok(line)
}
