//! Removing volumes, and what a crash after each step leaves.

use std::time::Instant;

use rustix::{fs, io::Errno};

use tierce_client::InUse;

use super::{
    Error,
    census::Census,
    devices::Devices,
    engines::{Answer, FRESH},
    error::Context,
    fail, layout, leftovers,
    locks::{Lock, Whole},
    mounting::busy,
    names::{Name, STANDALONE},
    record::Record,
    users::{self, Users},
    volumes::{Volume, Volumes},
};
use crate::{failure, terminal};

/// How often the engines are asked before a removal gives up: each time another command changed the volume until the answer was old.
const ROUNDS: u32 = 3;

/// Why a volume is not removed that another command copies or changes.
fn at_it(full: &str) -> InUse {
    InUse { name: full.to_owned(), by: "another command of tierce".to_owned(), advice: "Try again." }
}

impl Volumes {
    /// Removes a volume with its data, unless something uses it or might. `force`: also then, and one that is not there counts as removed.
    pub(super) fn remove(&self, full: &str, force: bool) -> Result<(), Error> {
        if !force {
            return self.remove_unused(full);
        }
        match self.discard(full) {
            Err(Error::NotFound { .. }) => Ok(()),
            done => self.noted(full, done),
        }
    }

    /// Notes that it is gone, also where not all of its data is.
    fn noted(&self, full: &str, done: Result<(), Error>) -> Result<(), Error> {
        if matches!(done, Ok(()) | Err(Error::Leftover { .. })) {
            self.is_removed(full);
        }
        done
    }

    /// A command that copies it is not waited for: what is written meanwhile would go with it, long after whoever asked has given up.
    fn remove_unused(&self, full: &str) -> Result<(), Error> {
        // What is known without the engines is known sooner.
        let volume = match self.get(full) {
            Err(Error::NotFound { .. }) => {
                // A removal that was killed left its lock, which goes with whoever takes it.
                let _lock = Whole::acquire(&self.root, full)?;
                self.get(full)?
            }
            other => other?,
        };
        let users = Users::of(&volume, &Census::take()?)?;
        check_unused(&volume, &users)?;
        let unreturned: Vec<String> = users.unreturned(&volume).into_iter().collect();
        for _ in 0..ROUNDS {
            // Not under the lock: an engine may wait for a call of ours that waits for it.
            let engines = self.engines.ask(&unreturned);
            let asked = Instant::now();
            let whole = Whole::unless_copied(&self.root, full)?.ok_or_else(|| at_it(full))?;
            if asked.elapsed() < FRESH {
                return self.remove_locked(full, &unreturned, engines, asked);
            }
            // What was said is too old, and an engine may have waited for this lock.
            drop(whole);
        }
        Err(at_it(full).into())
    }

    /// The same of a volume that was unused a moment ago, when these uses were not given back, its own or others': it is looked at once more
    /// and no oftener. A command that is at it just now uses it, and is not waited for.
    pub(super) fn remove_idle(&self, full: &str, unreturned: &[String]) -> Result<(), Error> {
        let engines = self.engines.ask(unreturned);
        let asked = Instant::now();
        let _whole = Whole::try_acquire(&self.root, full)?.ok_or_else(|| at_it(full))?;
        self.remove_locked(full, unreturned, engines, asked)
    }

    /// Under its lock. `unreturned`: the volumes that Podman was asked about. `asked`: when the engines were.
    fn remove_locked(
        &self,
        full: &str,
        unreturned: &[String],
        engines: Answer,
        asked: Instant,
    ) -> Result<(), Error> {
        let volume = self.get(full)?;
        let mut users = Users::of(&volume, &Census::take()?)?;
        if asked.elapsed() >= FRESH {
            // Another command was looking through it until what the engines said was old.
            return Err(at_it(full).into());
        }
        users.add_containers(&volume, &engines)?;
        check_unused(&volume, &users)?;
        if users.unreturned(&volume).is_some_and(|name| !unreturned.contains(&name)) {
            // Taken and left meanwhile: Podman was not asked whether that has ended.
            let by = "whoever took it just now".to_owned();
            return Err(InUse { name: full.to_owned(), by, advice: "Try again." }.into());
        }
        if let Some(silent) = engines.silent.into_iter().next() {
            let advice = "Use --force to remove anyway";
            return Err(Error::Unknown { name: full.to_owned(), advice, source: silent });
        }
        users.tell_of_the_gone(&volume);
        self.noted(full, self.remove_now(&volume, &users))
    }

    /// Removes a volume with its data, whoever uses it: it is detached from them first.
    pub(super) fn discard(&self, full: &str) -> Result<(), Error> {
        let _whole = Whole::acquire(&self.root, full)?;
        let volume = self.get(full)?;
        let users = Users::of(&volume, &Census::take()?)?;
        for attachment in &users.attachments {
            users::hide(&volume, attachment)?;
        }
        self.remove_now(&volume, &users)
    }

    /// Under its lock.
    ///
    /// 1. The folder gets a hidden name, by one call: the volume is gone. A crash after it leaves hidden data, which the next removal in
    ///    this stack (or `system prune`) frees, and a record, which counts as nothing.
    /// 2. The record, then the data.
    pub(super) fn remove_now(&self, volume: &Volume, users: &Users) -> Result<(), Error> {
        let kept = self.words_of_kept(volume);
        let removed = match self.device_of(volume) {
            Some((_, devices)) => self.remove_device(volume, devices, users),
            None => self.remove_folder(volume),
        };
        if let (Ok(()) | Err(Error::Leftover { .. }), Some(words)) = (&removed, kept) {
            terminal::note(&words);
        }
        match removed {
            Ok(()) | Err(Error::Leftover { .. }) => self.remove_empty_stack(volume.name.stack()).and(removed),
            Err(error) => Err(error),
        }
    }

    /// 1. The mount and its empty place. A crash after it leaves the volume whole, and unmounted.
    /// 2. The device: the volume is gone. 3. The record, which counts as nothing without it.
    fn remove_device(&self, volume: &Volume, devices: &Devices, users: &Users) -> Result<(), Error> {
        let name = &volume.name;
        devices.unmount(name, &volume.path).map_err(|error| busy(error, volume))?;
        self.remove_place(name)?;
        fail::point("remove: place removed");
        if let Err(error) = devices.delete(name) {
            // Held open where only its holder can let it go, as by a container: it stays as it was.
            self.mount(volume)?;
            return Err(match error {
                Error::Engine(tierce_engine::Error::InUse { by, .. }) => {
                    let by = if users.is_empty() { by } else { users.names().join(", ") };
                    let advice = "A volume with a size can't be taken from that: end it first.";
                    InUse { name: name.full(), by, advice }.into()
                }
                other => other,
            });
        }
        fail::point("remove: device deleted");
        Record::remove(&self.root, name)
    }

    /// Removes the empty folder that a device is mounted at.
    pub(super) fn remove_place(&self, name: &Name) -> Result<(), Error> {
        let Some(stack) = self.root.stack(name.stack())? else { return Ok(()) };
        match fs::unlinkat(&stack, name.short(), fs::AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => {
                let place = || format!("remove the empty place {}", self.root.data_path(name).display());
                Err(error).doing(place)
            }
        }
    }

    fn remove_folder(&self, volume: &Volume) -> Result<(), Error> {
        let name = &volume.name;
        let doing = || format!("remove {}", volume.path.display());
        let Some(stack) = self.root.stack(name.stack())? else { return Ok(()) };
        let hidden = leftovers::set_aside(&stack, name.short()).doing(doing)?;
        fail::point("remove: hidden");
        fs::fsync(&stack).doing(doing)?;
        Record::remove(&self.root, name)?;
        fail::point("remove: record removed");
        let freed = leftovers::free(&stack, &hidden);
        fail::point("remove: data removed");
        freed.map_err(|source| {
            let folder = self.root.path().join(layout::VOLUMES).join(name.stack());
            let done = format!("Volume '{name}' is removed, but not all of its data");
            Error::Leftover { done, folder, source }
        })
    }

    fn remove_empty_stack(&self, stack: &str) -> Result<(), Error> {
        if stack != STANDALONE
            && let Some(volumes) = self.root.folder(layout::VOLUMES)?
        {
            // Goes with its last volume; stays while it has another.
            let _ = fs::unlinkat(&volumes, stack, fs::AtFlags::REMOVEDIR);
        }
        Ok(())
    }

    /// Frees what commands left, and removes records without data. Returns what could not be freed: it does not keep the rest.
    pub(super) fn clean(&self) -> Result<Vec<Error>, Error> {
        let mut troubles = self.remove_unheld_locks()?;
        troubles.extend(self.free_leftovers()?);
        if self.root.folder(layout::VOLUMES)?.is_none() {
            return Ok(troubles);
        }
        troubles.extend(self.remove_half_made()?);
        self.remove_lone_records()?;
        if !self.all_devices()?.map_or(Ok(true), Devices::clean)? {
            terminal::note(
                "Warning: other commands are making something just now: what killed ones left of volumes with a size stays until the next tierce --host system prune",
            );
        }
        Ok(troubles)
    }

    fn remove_lone_records(&self) -> Result<(), Error> {
        for name in Record::names(&self.root)? {
            // Who has it just now, makes the volume or removes it.
            let Ok(Some(_lock)) = Lock::try_acquire(&self.root, &name.full()) else { continue };
            // What can't be read may say where its volume lies, and what opens it.
            let Ok(record) = Record::load(&self.root, &name) else { continue };
            // One that lies where we can't look may well be there.
            if !self.root.has_data(&name)? && matches!(self.device(&name, record.as_ref()), Ok(None)) {
                Record::remove(&self.root, &name)?;
            }
        }
        Ok(())
    }
}

/// For whoever cares that a volume is gone: what of its data could not be removed is told, and is no error.
pub(super) fn left_is_told(removed: Result<(), Error>) -> Result<(), Error> {
    match removed {
        Err(error @ Error::Leftover { .. }) => {
            failure::warn(&error);
            Ok(())
        }
        other => other,
    }
}

/// Refuses what anything uses.
fn check_unused(volume: &Volume, users: &Users) -> Result<(), Error> {
    if users.is_empty() {
        return Ok(());
    }
    let advice = if users.are_only_said() {
        "Use --force to remove anyway, or tierce --host volume detach if that is gone."
    } else {
        "Use --force to remove anyway."
    };
    Err(InUse { name: volume.name.full(), by: users.names().join(", "), advice }.into())
}

#[cfg(test)]
mod tests {
    use super::{
        super::{keys::Asking, layout::Root, volumes::NewVolume},
        *,
    };

    #[test]
    fn what_is_taken_after_a_prune_has_looked_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let volumes = Volumes::new(Root::new(folder.path()), &[], Asking::Never);
        volumes.create(&Name::new(None, "a").unwrap(), &NewVolume::default()).unwrap();
        let kept = |user: &str| match volumes.remove_idle("a", &[]) {
            Err(Error::InUse(InUse { by, .. })) => assert!(by.contains(user), "{by}"),
            other => unreachable!("{other:?}"),
        };
        let place = volumes.get("a").unwrap().path;
        let mut child = std::process::Command::new("sleep").arg("600").current_dir(&place).spawn().unwrap();
        kept("sleep (process ");
        child.kill().unwrap();
        child.wait().unwrap();
        let lock = Lock::acquire(&volumes.root, "a").unwrap();
        kept("another command of tierce");
        drop(lock);
        volumes.remove_idle("a", &[]).unwrap();
        assert!(volumes.find("a").unwrap().is_none());
    }
}
