//! Snapshots of removed volumes: they stay until somebody removes each by its name, and a new volume of the old name has them.

use super::{
    Error,
    devices::Devices,
    layout::SNAPSHOTS,
    names::Name,
    snapshots_and_clones::Snapshot,
    volumes::{Volume, Volumes},
};
use crate::{failure, sizes, terminal};

/// A snapshot that no volume has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    /// The name that its volume had.
    pub(super) volume: Name,
    /// Whether that volume had a size.
    pub(super) on_device: bool,
    pub(super) snapshot: Snapshot,
}

impl Volumes {
    /// Those of every removed volume, or of those of one full name; each volume's oldest first. What can't be read of one is told, and keeps
    /// nobody from the others.
    pub(super) fn kept_snapshots(&self, full: Option<&str>) -> Result<Vec<Kept>, Error> {
        let (volumes, _) = self.list()?;
        let is_gone = |name: &Name, on_device: bool| {
            Ok::<_, Error>(match volumes.iter().find(|volume| volume.name == *name) {
                Some(volume) => has_size(volume) != on_device,
                // One that can't be looked at now is there all the same.
                None => !self.is_known(name)?,
            })
        };
        let is_meant = |name: &Name| full.is_none_or(|full| name.full() == full);
        let mut kept = Vec::new();
        for stack in self.folders_below(SNAPSHOTS)? {
            for short in self.folders_below(&format!("{SNAPSHOTS}/{stack}"))? {
                let Ok(volume) = Name::new(Some(&stack), &short) else { continue };
                if !is_meant(&volume) || !is_gone(&volume, false)? {
                    continue;
                }
                match self.folder_snapshots(&volume) {
                    Ok(found) => kept.extend(found.into_iter().map(|snapshot| Kept {
                        volume: volume.clone(),
                        on_device: false,
                        snapshot,
                    })),
                    Err(error) => failure::warn(&error),
                }
            }
        }
        for (volume, name, info) in self.devices().map(Devices::all_snapshots).unwrap_or_default() {
            if is_meant(&volume) && is_gone(&volume, true)? {
                let snapshot = Snapshot { name, taken_at: info.taken_at, bytes: info.allocated_bytes };
                kept.push(Kept { volume, on_device: true, snapshot });
            }
        }
        kept.sort_by_key(|kept| (kept.volume.full(), kept.snapshot.taken_at, kept.snapshot.name.clone()));
        Ok(kept)
    }

    /// The one snapshot of that name of removed volumes of that full name; `None`: there is none.
    pub(super) fn kept_snapshot(&self, full: &str, snapshot: &str) -> Result<Option<Kept>, Error> {
        let mut found = self.kept_snapshots(Some(full))?;
        found.retain(|kept| kept.snapshot.name == snapshot);
        let last = found.pop();
        if found.is_empty() {
            return Ok(last);
        }
        Err(Error::Refused(format!(
            "Several volumes called '{full}' are removed, and more than one of them left a snapshot '{snapshot}': make one of the volumes anew, which has its own then"
        )))
    }

    /// What to say of the snapshots that a volume leaves when it is removed; `None`: it has none.
    pub(super) fn words_of_kept(&self, volume: &Volume) -> Option<String> {
        // What is copied for an export has none, and is nobody's.
        if volume.record.as_ref().is_some_and(|record| record.export_of.is_some()) {
            return None;
        }
        let found = self.snapshots_of(volume).inspect_err(|error| failure::warn(error)).unwrap_or_default();
        if found.is_empty() {
            return None;
        }
        let (bytes, name) = (sizes::used(found.iter().map(|snapshot| snapshot.bytes).sum()), &volume.name);
        Some(format!(
            "Volume '{name}' leaves {} ({bytes}): tierce --host volume snapshot list {name} shows what stays, and snapshot rm removes it",
            counted(found.len())
        ))
    }

    /// Says that a volume that is made just now has what a removed one of its name left.
    pub(super) fn tell_of_inherited(&self, name: &Name, with_size: bool) {
        let found = if with_size {
            Ok(self.devices().map(|devices| devices.snapshots(name).len()).unwrap_or_default())
        } else {
            self.folder_snapshots(name).map(|found| found.len())
        };
        match found {
            Ok(0) => {}
            Ok(count) => terminal::note(&format!(
                "Warning: volume '{name}' is new, and has {} of a removed volume of that name: tierce --host volume snapshot list {name}",
                counted(count)
            )),
            Err(error) => failure::warn(&error),
        }
    }

    /// Says which of the snapshots of that full name may not be of the volume that has it now.
    pub(super) fn tell_of_earlier(&self, full: &str, snapshots: &[Snapshot]) -> Result<(), Error> {
        let Some(volume) = self.find(full)? else {
            terminal::note(&format!("Volume '{full}' is removed, and left these snapshots"));
            return Ok(());
        };
        // Of a folder that somebody put there is not known since when it is there.
        let Some(record) = &volume.record else { return Ok(()) };
        let is_older = |snapshot: &&Snapshot| {
            // Of plain volumes it is noted in whole seconds.
            snapshot.taken_at.as_second() < record.created_at.as_second()
        };
        for snapshot in snapshots.iter().filter(is_older) {
            terminal::note(&format!(
                "Warning: snapshot '{}' is older than volume '{full}' (made at {}): it may be of an earlier volume of that name",
                snapshot.name, record.created_at
            ));
        }
        Ok(())
    }
}

fn has_size(volume: &Volume) -> bool {
    volume.device.is_some() || volume.record.as_ref().is_some_and(|record| record.pool.is_some())
}

fn counted(count: usize) -> String {
    if count == 1 { "1 snapshot".to_owned() } else { format!("{count} snapshots") }
}
