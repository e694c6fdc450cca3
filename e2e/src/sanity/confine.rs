//! A stand gets a process of its own with the rights that it needs and no more: over the simulator it is an ordinary
//! user's, over images it is PID 1 of namespaces that take every mount and process with them, over LVM it has a guest.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::in_guest;
use super::order::{Ending, Order};
use super::stand::{Programs, Storage, TOOLS};
use crate::cluster::cleanup;

/// `nobody` and its group on every Linux.
const NOBODY: u32 = 65_534;

/// Runs `task` of this program in a process of its own; `folder` is the run's own. Ctrl-C and SIGTERM end it.
pub(crate) fn run(folder: &Path, order: Order, task: &[&str]) -> Result<Ending> {
    let storage = order.storage;
    if storage.is_lvm() {
        return in_guest::run(folder, &order, task);
    }
    let ended = finish(command(folder, order, task)?);
    let mut stray_loops = 0;
    if storage == Storage::Directory {
        stray_loops = cleanup::loops_below(folder, &cleanup::loops()?).len();
        cleanup::detach_below(folder)?;
        // The place of a mount is immutable until it is unmounted in order, which a run that broke off did not do.
        crate::command::output(Command::new("chattr").args(["-R", "-f", "-i"]).arg(folder))?;
    }
    let (success, printed) = ended?;
    Ok(Ending { success, printed, stray_loops })
}

fn finish(command: Command) -> Result<(bool, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut command = tokio::process::Command::from(command);
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut interrupted, mut terminated) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let child =
            command.kill_on_drop(true).stdout(Stdio::piped()).spawn().context("can't start setpriv")?;
        let output = tokio::select! {
            output = child.wait_with_output() => Some(output?),
            _ = interrupted.recv() => None,
            _ = terminated.recv() => None,
        };
        let Some(output) = output else {
            // Dropping the child killed it; what it started ends with it, a moment later.
            tokio::time::sleep(Duration::from_millis(300)).await;
            bail!("interrupted")
        };
        Ok((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
    })
}

fn command(folder: &Path, order: Order, task: &[&str]) -> Result<Command> {
    let as_root = rustix::process::geteuid().is_root();
    let mut order = order;
    std::fs::create_dir_all(folder).with_context(|| format!("can't make {}", folder.display()))?;
    let program = crate::command::copy_of_this(folder)?;
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
            for tool in TOOLS {
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
        Storage::LvmThin | Storage::LvmThick => {
            bail!("volume groups need a guest's kernel")
        }
        Storage::Directory => {
            ensure!(as_root, "images, loop devices and mounts need root: run this with sudo");
            line.args(["--", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
        }
    }
    std::fs::write(folder.join("run.json"), serde_json::to_vec_pretty(&order)?)?;
    line.arg(program).args(task).arg(folder).current_dir(folder).env("HOME", folder);
    line.stdin(Stdio::null());
    Ok(line)
}
