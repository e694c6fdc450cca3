//! Clones, snapshots and restores. Devices are the engine's to copy; plain folders are copied file by file, blocks shared where the
//! filesystem can.

use std::{os::fd::OwnedFd, path::PathBuf, time::Instant};

use jiff::Timestamp;
use rustix::{
    fs::{self, AtFlags, Mode, RenameFlags},
    io::Errno,
};

use tierce_client::InUse;

use super::{
    Error,
    census::Census,
    copying::Hold,
    engines::FRESH,
    error::{Context, no_snapshot},
    fail,
    layout::{self, SNAPSHOTS},
    left_out::LeftOut,
    leftovers,
    locks::{Lock, Whole},
    names::{self, Name},
    record::Record,
    shape::Shape,
    tree_size,
    unfinished_copies::Whose,
    users::Users,
    volumes::{Volume, Volumes},
};
use crate::terminal;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) name: String,
    pub(super) taken_at: Timestamp,
    /// Bytes it takes, shared ones counted in full.
    pub(super) bytes: u64,
}

/// What came of a restore.
#[derive(Debug)]
pub(super) struct Restored {
    /// The snapshot that keeps what the volume had before.
    pub(super) safety: String,
    /// Why not all files of before are removed from the volume's place.
    pub(super) left: Option<Error>,
}

impl Volumes {
    /// Makes a volume with the content that another has now.
    pub(super) fn clone_volume(&self, from: &str, to: &Name, left_out: &LeftOut) -> Result<(), Error> {
        let full = to.full();
        if from == full {
            return Err(Error::InvalidArgument(format!(
                "Volume '{from}' can't be cloned to itself: give another name"
            )));
        }
        self.remove_unfinished_copies(Whose::Volume(from))?;
        Hold::shared_or_alone(|hold| self.clone_held(from, to, left_out, hold))
    }

    fn clone_held(&self, from: &str, to: &Name, left_out: &LeftOut, hold: Hold) -> Result<(), Error> {
        let full = to.full();
        let _data = hold.data(&self.root, from)?;
        // Two clones in opposite directions must not wait for each other.
        let lock = |name: &str| Lock::acquire(&self.root, name);
        let (of_source, _of_copy) = if *from < *full {
            let first = lock(from)?;
            (first, lock(&full)?)
        } else {
            let first = lock(&full)?;
            (lock(from)?, first)
        };
        let source = self.get(from)?;
        source.check_whole()?;
        if self.find(&full)?.is_some() {
            return Err(Error::Exists { what: format!("Volume '{full}'") });
        }
        let mut record = Record::new(Timestamp::now());
        record.labels = source.record.as_ref().map(|record| record.labels.clone()).unwrap_or_default();
        // A copy is opened by the key of its source.
        record.key = source.record.as_ref().and_then(|record| record.key.clone());
        record.next_key = source.record.as_ref().and_then(|record| record.next_key.clone());
        record.pool = source.device.as_ref().map(|device| device.pool.clone());
        record.asked_bytes = source.record.as_ref().and_then(|record| record.asked_bytes);
        // Its folder has what that of the source has.
        record.access = source.record.as_ref().and_then(|record| record.access);
        record.save(&self.root, to)?;
        self.tell_of_inherited(to, source.device.is_some());
        fail::point("clone: record written");
        let _of_source = self.kept(&source, hold, of_source);
        let Some(((device, devices), filesystem)) = self.device_of(&source).zip(source.filesystem()) else {
            let folder = self.open_data(&source)?;
            let stack = self.root.make_stack(to.stack())?;
            return self.copied(&folder, (&stack, to.short()), &source, left_out);
        };
        let (size_bytes, encrypted, pool) = (device.size_bytes, device.encrypted, device.pool.clone());
        let shape = Shape { size_bytes, filesystem, encrypted, pool };
        let copied =
            self.at_rest(&source, devices, hold, || devices.create(to, &shape, Some(device.id.clone())));
        copied?;
        fail::point("clone: device made");
        match self.mount(&self.get(&full)?) {
            // It is there, as any volume whose passphrase nobody said yet.
            Err(error @ Error::Locked { .. }) => {
                terminal::note(&format!("Warning: {error}"));
                Ok(())
            }
            other => other,
        }
    }

    pub(super) fn open_data(&self, volume: &Volume) -> Result<OwnedFd, Error> {
        let below = format!("{}/{}/{}", layout::VOLUMES, volume.name.stack(), volume.name.short());
        self.root.folder(&below)?.ok_or_else(|| self.not_found(&volume.name.full()))
    }

    /// Takes a snapshot. One that exists is an error: its content is of another moment.
    pub(super) fn snapshot(&self, full: &str, snapshot: &str, left_out: &LeftOut) -> Result<(), Error> {
        names::check("Snapshot", snapshot)?;
        self.remove_unfinished_copies(Whose::Volume(full))?;
        let _snapshots = Lock::snapshots(&self.root, full)?;
        Hold::shared_or_alone(|hold| {
            let _data = hold.data(&self.root, full)?;
            let lock = Lock::acquire(&self.root, full)?;
            let volume = self.get(full)?;
            volume.check_whole()?;
            let _lock = self.kept(&volume, hold, lock);
            self.take_snapshot(&volume, snapshot, left_out, hold)
        })
    }

    /// The same under the volume's locks.
    fn take_snapshot(
        &self,
        volume: &Volume,
        snapshot: &str,
        left_out: &LeftOut,
        hold: Hold,
    ) -> Result<(), Error> {
        if self.snapshots_of(volume)?.iter().any(|existing| existing.name == snapshot) {
            return Err(Error::Exists { what: format!("Snapshot '{snapshot}' of volume '{}'", volume.name) });
        }
        if let Some((device, devices)) = self.device_of(volume) {
            let taken = || devices.snapshot(&volume.name, &device.pool, snapshot);
            return self.at_rest(volume, devices, hold, taken);
        }
        let within = self.root.make_folder(&snapshots_below(&volume.name))?;
        self.close_snapshots()?;
        self.copied(&self.open_data(volume)?, (&within, snapshot), volume, left_out)
    }

    /// Copies of users' files are for those who may read the originals: the folder itself lets nobody pass.
    fn close_snapshots(&self) -> Result<(), Error> {
        let path = self.root.path().join(SNAPSHOTS);
        fs::chmod(&path, Mode::RWXU).doing(|| format!("close {} to others", path.display()))
    }

    /// A volume's snapshots, or those that a removed one left, oldest first.
    pub(super) fn snapshots(&self, full: &str) -> Result<Vec<Snapshot>, Error> {
        match self.get(full) {
            Err(error @ Error::NotFound { .. }) => {
                let kept = self.kept_snapshots(Some(full))?;
                if kept.is_empty() {
                    Err(error)
                } else {
                    Ok(kept.into_iter().map(|one| one.snapshot).collect())
                }
            }
            volume => self.snapshots_of(&volume?),
        }
    }

    pub(super) fn snapshots_of(&self, volume: &Volume) -> Result<Vec<Snapshot>, Error> {
        if let Some((_, devices)) = self.device_of(volume) {
            let snapshot = |(name, info): (String, tierce_engine::SnapshotInfo)| Snapshot {
                name,
                taken_at: info.taken_at,
                bytes: info.allocated_bytes,
            };
            return Ok(devices.snapshots(&volume.name).into_iter().map(snapshot).collect());
        }
        self.folder_snapshots(&volume.name)
    }

    /// The snapshots of the plain volume of that name, oldest first.
    pub(super) fn folder_snapshots(&self, volume: &Name) -> Result<Vec<Snapshot>, Error> {
        let Some(within) = self.root.folder(&snapshots_below(volume))? else { return Ok(Vec::new()) };
        let path = self.root.path().join(snapshots_below(volume));
        let doing = || format!("list {}", path.display());
        let mut found = Vec::new();
        for name in layout::entries(&within).doing(doing)? {
            if !names::is_valid(&name) {
                continue;
            }
            let folder = layout::open_beneath(&within, &name, fs::OFlags::RDONLY | fs::OFlags::DIRECTORY)
                .doing(doing)?;
            // Renamed into place when it was whole, and untouched since.
            let changed = fs::fstat(&folder).doing(doing)?;
            let taken_at = Timestamp::from_second(changed.st_ctime).unwrap_or(Timestamp::UNIX_EPOCH);
            let (bytes, _) = tree_size::bytes_used(&folder);
            found.push(Snapshot { name, taken_at, bytes });
        }
        found.sort_by(|one, other| (one.taken_at, &one.name).cmp(&(other.taken_at, &other.name)));
        Ok(found)
    }

    pub(super) fn remove_snapshot(&self, full: &str, snapshot: &str) -> Result<(), Error> {
        names::check("Snapshot", snapshot)?;
        let _snapshots = Lock::snapshots(&self.root, full)?;
        let _data = Lock::share_data(&self.root, full)?;
        let own = {
            let _lock = Lock::acquire(&self.root, full)?;
            self.get(full).and_then(|volume| self.existing(&volume, snapshot).map(|()| volume))
        };
        let (name, on_device) = match own {
            Ok(volume) => (volume.name.clone(), volume.device.is_some()),
            Err(error @ (Error::NotFound { .. } | Error::SnapshotNotFound { .. })) => {
                let kept = self.kept_snapshot(full, snapshot)?.ok_or(error)?;
                (kept.volume, kept.on_device)
            }
            Err(error) => return Err(error),
        };
        if let Some(devices) = self.devices().filter(|_| on_device) {
            return devices.delete_snapshot(&name, snapshot);
        }
        self.drop_snapshot(&name, snapshot)
    }

    /// Removes a snapshot of a volume that is a folder, under the lock of its snapshots.
    fn drop_snapshot(&self, name: &Name, snapshot: &str) -> Result<(), Error> {
        let full = name.full();
        let doing = || format!("remove snapshot '{snapshot}' of volume '{full}'");
        let Some(within) = self.root.folder(&snapshots_below(name))? else { return Ok(()) };
        let hidden = leftovers::set_aside(&within, snapshot).doing(doing)?;
        fail::point("snapshot rm: hidden");
        fs::fsync(&within).doing(doing)?;
        let freed = leftovers::free(&within, &hidden);
        self.remove_empty_snapshot_folders(name)?;
        freed.map_err(|source| {
            let folder = self.root.path().join(snapshots_below(name));
            let done =
                format!("Snapshot '{snapshot}' of volume '{full}' is removed, but not all of its data");
            Error::Leftover { done, folder, source }
        })
    }

    fn existing(&self, volume: &Volume, snapshot: &str) -> Result<(), Error> {
        let all: Vec<String> = self.snapshots_of(volume)?.into_iter().map(|existing| existing.name).collect();
        if all.iter().any(|existing| existing == snapshot) {
            return Ok(());
        }
        Err(no_snapshot(&volume.name, snapshot, all))
    }

    /// Gives a volume the content of its snapshot back. What it had before is kept as a further snapshot.
    ///
    /// 1. The snapshot of what is there now. 2. A copy of the old one beside the volume. 3. Both change places, by one call.
    /// 4. What was there before goes.
    ///
    /// A crash leaves the volume as it was or as it shall be, never in between.
    ///
    /// A container that is stopped stands in no way: stopping it is what one does for a restore, it finds what was restored when it is started,
    /// and what it had is kept.
    pub(super) fn restore(&self, full: &str, snapshot: &str, left_out: &LeftOut) -> Result<Restored, Error> {
        names::check("Snapshot", snapshot)?;
        // What is known without the engines is known sooner.
        let volume = self.get(full)?;
        volume.check_whole()?;
        self.existing(&volume, snapshot)?;
        let mut meant = self.snapshots_of(&volume)?;
        meant.retain(|one| one.name == snapshot);
        self.tell_of_earlier(full, &meant)?;
        let users = Users::of(&volume, &Census::take()?)?;
        check_stopped(&volume, &users)?;
        let (engines, asked, _snapshots, _whole) = loop {
            // Not under the locks: an engine may wait for a call of ours that waits for them.
            let engines = self.engines.ask(users.unreturned(&volume).as_slice());
            let asked = Instant::now();
            // Held to the end: nobody begins to use it through us meanwhile.
            let locks = (Lock::snapshots(&self.root, full)?, Whole::acquire(&self.root, full)?);
            if asked.elapsed() < FRESH {
                break (engines, asked, locks.0, locks.1);
            }
            // What was said is too old: they are asked anew.
        };
        let volume = self.get(full)?;
        volume.check_whole()?;
        self.existing(&volume, snapshot)?;
        let mut users = Users::of(&volume, &Census::take()?)?;
        if asked.elapsed() >= FRESH {
            // A command was looking through it until what the engines said was old.
            let by = "another command of tierce".to_owned();
            return Err(InUse { name: full.to_owned(), by, advice: "Try again." }.into());
        }
        users.add_running(&volume, &engines)?;
        check_stopped(&volume, &users)?;
        // To stop the engine is a way to stop all that it runs, where it is one.
        if let Some(silent) = engines.silent.into_iter().find(|silent| !silent.runs_nothing()) {
            let advice = silent.advice();
            return Err(Error::Unknown { name: full.to_owned(), advice, source: silent });
        }
        if let Some((device, devices)) = self.device_of(&volume) {
            return self.while_unmounted(&volume, devices, || {
                fail::point("restore: unmounted");
                let safety = devices.restore(&volume.name, &device.pool, snapshot)?;
                fail::point("restore: restored");
                Ok(Restored { safety, left: None })
            });
        }
        let safety = self.free_safety_name(&volume, snapshot)?;
        self.take_snapshot(&volume, &safety, left_out, Hold::Alone)?;
        fail::point("restore: safety taken");
        let doing = || format!("restore snapshot '{snapshot}' of volume '{full}'");
        let from = self.root.folder(&format!("{}/{snapshot}", snapshots_below(&volume.name)))?;
        let from = from.ok_or_else(|| no_snapshot(&volume.name, snapshot, Vec::new()))?;
        let stack = self.root.make_stack(volume.name.stack())?;
        let hidden = self.copied_hidden(&from, (&stack, volume.name.short()), &volume, left_out)?;
        fail::point("restore: copied");
        // Who came by the folder's path, and not through us, while that was copied.
        if let Err(error) =
            Census::take().and_then(|census| check_stopped(&volume, &Users::of(&volume, &census)?))
        {
            leftovers::give_free(&stack, &hidden).doing(doing)?;
            self.drop_snapshot(&volume.name, &safety)?;
            return Err(error);
        }
        let exchanged =
            fs::renameat_with(&stack, &hidden, &stack, volume.name.short(), RenameFlags::EXCHANGE);
        if exchanged.is_err() {
            leftovers::give_free(&stack, &hidden).doing(doing)?;
        }
        exchanged.doing(doing)?;
        fs::fsync(&stack).doing(doing)?;
        fail::point("restore: exchanged");
        let aside = leftovers::set_aside(&stack, &hidden).doing(doing)?;
        fail::point("restore: set aside");
        let left = leftovers::free(&stack, &aside).err().map(|source| {
            let folder = self.root.path().join(layout::VOLUMES).join(volume.name.stack());
            let done = format!("Volume '{full}' is restored, but not all of its files of before are removed");
            Error::Leftover { done, folder, source }
        });
        Ok(Restored { safety, left })
    }

    /// The name of the snapshot that a restore takes first.
    fn free_safety_name(&self, volume: &Volume, snapshot: &str) -> Result<String, Error> {
        // Cut to what a name may have.
        let short: String = snapshot.chars().take(80).collect();
        let base = format!("before-{short}-{}", Timestamp::now().strftime("%Y%m%d-%H%M%S"));
        let taken = self.snapshots_of(volume)?;
        let numbered = (2_u32..).map(|number| format!("{base}-{number}"));
        let mut names = std::iter::once(base.clone()).chain(numbered);
        let free = names.find(|name| !taken.iter().any(|snapshot| snapshot.name == *name));
        Ok(free.unwrap_or(base))
    }

    fn remove_empty_snapshot_folders(&self, name: &Name) -> Result<(), Error> {
        let Some(snapshots) = self.root.folder(SNAPSHOTS)? else { return Ok(()) };
        for empty in [format!("{}/{}", name.stack(), name.short()), name.stack().to_owned()] {
            match fs::unlinkat(&snapshots, &empty, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => {}
                Err(error) => {
                    return Err(error)
                        .doing(|| format!("remove the empty folder {}", PathBuf::from(empty).display()));
                }
            }
        }
        Ok(())
    }
}

/// Refuses what anything uses just now.
fn check_stopped(volume: &Volume, users: &Users) -> Result<(), Error> {
    if users.is_empty() {
        return Ok(());
    }
    let (name, by) = (volume.name.full(), users.names().join(", "));
    Err(InUse { name, by, advice: "Stop that before restoring." }.into())
}

fn snapshots_below(name: &Name) -> String {
    format!("{SNAPSHOTS}/{}/{}", name.stack(), name.short())
}
