//! `lab suite --here`: the same tests on the kernel of this machine, over disks that are files. What a test program leaves when it is killed is
//! taken away by a process that outlives it.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::command;
use crate::folder::Folder;

/// What the tests ask of device-mapper; where a kernel has them built in, there is nothing to load.
const MODULES: [&str; 6] =
    ["dm-mod", "dm-thin-pool", "dm-snapshot", "dm-crypt", "dm-flakey", "dm-log-writes"];

/// Waits for the end of the harness, then removes each mapper over a loop device over a file below `$1`, the upper before the lower ones, and
/// detaches those loop devices.
const SWEEPER: &str = r#"read -r word
loops=$(losetup --noheadings --output NAME,BACK-FILE | awk -v folder="$1/" 'index($2, folder) == 1 { print $1 }')
[ -n "$loops" ] || exit 0
below() { for of in $loops; do [ "$1" = "${of#/dev/}" ] && return 0; done; case " $mappers " in *" $1 "*) return 0; esac; return 1; }
mappers= names=
for round in 1 2 3 4 5 6 7 8; do
  for mapper in /sys/block/dm-*; do
    [ -d "$mapper" ] || continue
    case " $mappers " in *" ${mapper##*/} "*) continue; esac
    for lower in "$mapper"/slaves/*; do
      if below "${lower##*/}"; then
        read -r name <"$mapper/dm/name"
        mappers="$mappers ${mapper##*/}" names="$name $names"
        break
      fi
    done
  done
done
for name in $names; do dmsetup remove --force --retry "$name"; done >/dev/null 2>&1
for of in $loops; do losetup --detach "$of"; done"#;

/// The disks and the temporary folder of one test program, on this machine.
pub(super) struct Here {
    disks: Vec<PathBuf>,
    sweeper: Child,
    // After the sweeper: the files go when nothing uses them.
    folder: Folder,
}

/// Fails with what is missing when the tests can't run on this machine's kernel.
pub(super) fn ensure_possible() -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "the tests need root on this machine's own kernel: run this with sudo, or leave --here out for guests"
    );
    for module in MODULES {
        command::output(Command::new("modprobe").args(["--quiet", module])).ok();
    }
    let said = command::output(Command::new("dmsetup").arg("targets"))?;
    let targets = String::from_utf8_lossy(&said.stdout).into_owned();
    let lacks: Vec<&str> = ["thin-pool", "snapshot", "crypt", "flakey", "log-writes"]
        .into_iter()
        .filter(|target| !targets.lines().any(|line| line.split(' ').next() == Some(target)))
        .collect();
    if !said.status.success() || !lacks.is_empty() {
        bail!(
            "this machine's kernel has no device-mapper for: {}; leave --here out, and guests are used",
            lacks.join(", ")
        );
    }
    Ok(())
}

impl Here {
    pub(super) fn new(name: &str, disks: usize, bytes: u64) -> Result<Self> {
        let folder = Folder::new(name)?;
        let sweeper = Command::new("sh")
            .args(["-c", SWEEPER, "sh"])
            .arg(folder.path())
            .stdin(Stdio::piped())
            // Ctrl-C in the terminal must not end it.
            .process_group(0)
            .spawn()
            .context("can't start sh")?;
        let mut here = Self { disks: Vec::new(), sweeper, folder };
        std::fs::create_dir(here.temporary())?;
        for number in 0..disks {
            let file = here.folder.disk(&format!("disk-{number}"), bytes)?;
            let device =
                command::run(Command::new("losetup").args(["--find", "--show", "--nooverlap"]).arg(file))?;
            here.disks.push(PathBuf::from(device.trim_end()));
        }
        Ok(here)
    }

    /// Runs a test program to its end; its output with both streams in order.
    pub(super) fn run(
        &self,
        program: &Path,
        arguments: &[&str],
        variables: &[(&str, PathBuf)],
        beside: &Path,
    ) -> Result<(u8, String)> {
        let (mut reader, writer) = std::io::pipe()?;
        let disks: Vec<_> = self.disks.iter().map(|disk| disk.to_string_lossy()).collect();
        // Mounts of its own, and an end with the harness.
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "--kill-child", "--pid", "--fork", "--mount-proc"])
            .arg(program)
            .args(arguments)
            .current_dir(beside)
            .env("TIERCE_LAB", "1")
            .env("TIERCE_LAB_FOLDER", self.folder.path())
            .env("TIERCE_LAB_DISKS", disks.join(" "))
            .env("TMPDIR", self.temporary())
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer);
        let mut child = command.spawn().context("can't start unshare")?;
        // Its ends of the pipe are the child's alone now.
        drop(command);
        let mut output = Vec::new();
        std::io::copy(&mut reader, &mut output)?;
        let status = child.wait()?;
        let status = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX);
        Ok((status, String::from_utf8_lossy(&output).into_owned()))
    }

    fn temporary(&self) -> PathBuf {
        self.folder.path().join("tmp")
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        if let Some(mut stdin) = self.sweeper.stdin.take() {
            stdin.write_all(b"end\n").ok();
        }
        self.sweeper.wait().ok();
    }
}
