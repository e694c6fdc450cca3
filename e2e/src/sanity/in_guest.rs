//! A stand over LVM runs in a guest of its own: the whole of it, since sockets do not reach through to the host.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::order::{Ending, Order};
use crate::command;
use crate::lab::{self, Guest, Hardware, is_hidden, quoted};

/// The pool's disk, and one for what the programs write: a guest's own `/tmp` has the size of half its memory.
const DISKS: [u64; 2] = [8 << 30, 8 << 30];
/// etcd and kube-apiserver take 400 MB of it.
const MEMORY_MIB: u32 = 2048;
/// Several times what the runs of one storage take.
const LIMIT: Duration = Duration::from_mins(50);

/// Runs `task` of this program in a guest; what it reports lies in `folder` afterwards.
pub(super) fn run(folder: &Path, order: &Order, task: &[&str]) -> Result<Ending> {
    std::fs::create_dir_all(folder.join("logs"))?;
    let mut hardware = Hardware::named(&format!("sanity-{}", order.storage.name()));
    hardware.memory_mib = MEMORY_MIB;
    hardware.visible = lab::surroundings()?;
    let programs = &order.programs;
    for path in [&programs.tools, &programs.controller, &programs.plugin] {
        let place = if path.is_dir() { Some(path.as_path()) } else { path.parent() };
        hardware.visible.extend(place.filter(|place| is_hidden(place)).map(Path::to_owned));
    }
    let mut guest = Guest::new(hardware, &DISKS)?;
    if std::env::var_os("TIERCE_KEEP").is_some() {
        guest.keep()?;
    }
    std::fs::write(guest.folder().join("run.json"), serde_json::to_vec_pretty(order)?)?;
    let program = command::copy_of_this(guest.folder())?;
    guest.power_on()?;
    let script = format!(
        "{}mkfs.ext4 -q -E nodiscard /dev/ubdb && mount -o noinit_itable /dev/ubdb /mnt && mkdir /mnt/run && cp $lab/run.json /mnt/run || exit\n\
         cd /mnt/run && HOME=/mnt/run {} {} /mnt/run\n\
         status=$?\n\
         mkdir -p $lab/results/logs && cp /mnt/run/*.json /mnt/run/*.left $lab/results\n\
         cp /mnt/run/logs/{{csi-sanity-*,tierce-*}}.log $lab/results/logs\n\
         exit $status\n",
        lab::environment(guest.folder()),
        quoted(&program.to_string_lossy()),
        task.join(" ")
    );
    let outcome = guest.run(&script, LIMIT)?;
    print!("{}", outcome.output);
    let results = guest.folder().join("results");
    ensure!(results.is_dir(), "the guest left no results; the end of its console:\n{}", guest.console_tail());
    copy(&results, folder)?;
    copy(&results.join("logs"), &folder.join("logs"))?;
    guest.power_off()?;
    Ok(Ending { success: outcome.status == 0, printed: outcome.output, stray_loops: 0 })
}

/// Copies the files of a folder.
fn copy(from: &Path, to: &Path) -> Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        if entry.metadata()?.is_file() {
            let place: PathBuf = to.join(entry.file_name());
            std::fs::copy(entry.path(), &place)
                .with_context(|| format!("can't write {}", place.display()))?;
        }
    }
    Ok(())
}
