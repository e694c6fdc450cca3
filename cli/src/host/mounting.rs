//! Mounting volumes with a size, with their keys where they are encrypted; growing them.

use rustix::io::Errno;
use tierce_client::InUse;

use super::{
    Error,
    census::Census,
    devices::{Devices, Mounted},
    error::Context,
    fail,
    keys::{self, GivenKey, KeySource},
    locks::{Lock, Whole},
    record::Record,
    users::Users,
    volumes::{Volume, Volumes},
};
use crate::{privilege, terminal};

impl Volumes {
    /// Mounts a volume with a size at its place, unless it is; others are always there. Under the volume's lock.
    pub(super) fn mount(&self, volume: &Volume) -> Result<(), Error> {
        let Some(devices) = self.with_place(volume)? else { return self.give_access(volume) };
        match devices.mount(&volume.name, &volume.path, None, None)? {
            Mounted::Done => {}
            Mounted::KeyNeeded | Mounted::KeyWrong => {
                self.unlock(volume, devices, None)?;
            }
        }
        self.give_access(volume)
    }

    /// Gives a new volume's folder the owner and mode that were asked for, once: what its users make of it stays.
    fn give_access(&self, volume: &Volume) -> Result<(), Error> {
        if !volume.record.as_ref().is_some_and(|record| record.access_is_due) {
            return Ok(());
        }
        // What was noted meanwhile must stay.
        let mut record = Record::load(&self.root, &volume.name)?.map_or_else(|| Self::record(volume), Ok)?;
        if let Some(access) = record.access {
            let doing = || format!("give {} the owner and mode that were asked for", volume.path.display());
            match access.give(&self.open_data(volume)?) {
                // The second: nobody has that id in this user namespace.
                Err(Errno::PERM | Errno::INVAL) if !privilege::is_root() => {
                    return Err(Error::NeedsRoot {
                        what: "Giving a volume's folder to another user or group",
                        instead: "leave --uid and --gid out",
                    });
                }
                given => given.doing(doing)?,
            }
        }
        fail::point("create: access given");
        record.access_is_due = false;
        record.save(&self.root, &volume.name)
    }

    /// The same with a key that is seen to open it, mounted already or not; the record says from then on where that comes from.
    pub(super) fn mount_opened(&self, volume: &Volume, given: &GivenKey) -> Result<(), Error> {
        let full = volume.name.full();
        let Some(devices) = self.with_place(volume)? else { return Ok(()) };
        if !is_encrypted(volume) {
            return Err(Error::Refused(format!("Volume '{full}' is not encrypted, and needs no key")));
        }
        // The key that it has is also the next one: what is mounted is looked at too, and nothing changes.
        match devices.mount(&volume.name, &volume.path, Some(&given.key), Some(&given.key))? {
            Mounted::Done => {
                self.note_key(volume, &given.source)?;
                self.give_access(volume)
            }
            Mounted::KeyNeeded | Mounted::KeyWrong => Err(keys::wrong(&full, &given.source)),
        }
    }

    /// The devices, where the volume has one; its place is made if it is missing.
    fn with_place<'a>(&'a self, volume: &'a Volume) -> Result<Option<&'a Devices>, Error> {
        let Some((_, devices)) = self.device_of(volume) else { return Ok(None) };
        if !self.root.has_data(&volume.name)? {
            self.make_place(&volume.name)?;
        }
        fail::point("mount: place made");
        Ok(Some(devices))
    }

    /// Opens an encrypted volume with the first of its keys that does. `verify`: it may be mounted already, and the key is looked at all the
    /// same.
    pub(super) fn unlock(
        &self,
        volume: &Volume,
        devices: &Devices,
        verify: Option<Verify>,
    ) -> Result<GivenKey, Error> {
        let full = volume.name.full();
        let mut last = Error::Refused(format!(
            "Volume '{full}' is encrypted, and its record, which says where the key is, is gone: say it again with tierce --host volume mount {full} --key-file FILE"
        ));
        for source in sources(volume) {
            let attempts = match (&source, self.asking) {
                (KeySource::Passphrase, keys::Asking::Terminal) => keys::ATTEMPTS,
                _ => 1,
            };
            for attempt in 1..=attempts {
                let opened = keys::of_volume(&full, &source, self.asking).and_then(|key| {
                    let next = verify.map(|Verify| &key);
                    match devices.mount(&volume.name, &volume.path, Some(&key), next)? {
                        Mounted::Done => Ok(key),
                        Mounted::KeyNeeded | Mounted::KeyWrong => Err(keys::wrong(&full, &source)),
                    }
                });
                match opened {
                    Ok(key) => {
                        self.note_key(volume, &source)?;
                        return Ok(GivenKey { source, key });
                    }
                    // Only a mistyped passphrase is worth another try.
                    Err(error @ Error::Refused(_)) if attempt < attempts => {
                        terminal::note(&format!("{error}: again"));
                    }
                    Err(error) => last = error,
                }
            }
        }
        Err(last)
    }

    /// Notes where the key of a volume comes from: the one that opened it is the only one from then on.
    pub(super) fn note_key(&self, volume: &Volume, source: &KeySource) -> Result<(), Error> {
        // What else was noted since we looked must stay.
        let now = Record::load(&self.root, &volume.name)?;
        let mut record = now.map_or_else(|| Self::record(volume), Ok)?;
        if record.key.as_ref() == Some(source) && record.next_key.is_none() {
            return Ok(());
        }
        record.key = Some(source.clone());
        record.next_key = None;
        record.save(&self.root, &volume.name)
    }

    /// Unmounts a volume that nothing uses, does something, and mounts it again. A key that is needed for that is had before.
    pub(super) fn while_unmounted<T>(
        &self,
        volume: &Volume,
        devices: &Devices,
        work: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let given =
            if is_encrypted(volume) { Some(self.unlock(volume, devices, Some(Verify))?) } else { None };
        devices.unmount(&volume.name, &volume.path).map_err(|error| busy(error, volume))?;
        let done = work();
        let key = given.as_ref().map(|given| &given.key);
        match devices.mount(&volume.name, &volume.path, key, None)? {
            Mounted::Done => done,
            Mounted::KeyNeeded | Mounted::KeyWrong => {
                let full = volume.name.full();
                done.and(Err(Error::Refused(format!(
                    "Volume '{full}' does not open with its key any more: say which one does with tierce --host volume mount {full}"
                ))))
            }
        }
    }

    /// Mounts the volume of that full name with that key, which its record notes.
    pub(super) fn mount_with_key(&self, full: &str, given: &GivenKey) -> Result<(), Error> {
        let _lock = Lock::acquire(&self.root, full)?;
        let volume = self.get(full)?;
        if volume.device.is_none() {
            return Err(Error::Refused(format!("Volume '{full}' is not encrypted, and needs no key")));
        }
        self.mount_opened(&volume, given)
    }

    /// Mounts the volume of that full name where it has a size and is not mounted: after a reboot, or before its first use.
    pub(super) fn mount_named(&self, full: &str) -> Result<Volume, Error> {
        let _lock = Lock::acquire(&self.root, full)?;
        let volume = self.get(full)?;
        self.mount(&volume)?;
        Ok(volume)
    }

    /// Makes a volume larger, with its filesystem. Where the kernel can't grow that one while it is mounted, it is mounted anew, if nothing
    /// uses it.
    pub(super) fn resize(&self, full: &str, size_bytes: u64) -> Result<(), Error> {
        let _whole = Whole::acquire(&self.root, full)?;
        let volume = self.get(full)?;
        let Some((device, devices)) = self.device_of(&volume) else {
            return Err(Error::Refused(format!(
                "Volume '{full}' has no size to change: it is a plain folder; make one with --size and copy the data (tierce --host volume cp)"
            )));
        };
        self.mount(&volume)?;
        let grown = devices.grow(&volume.name, &device.pool, size_bytes, &volume.path)?;
        fail::point("resize: device grown");
        let mut record = Record::load(&self.root, &volume.name)?.map_or_else(|| Self::record(&volume), Ok)?;
        record.asked_bytes = Some(size_bytes);
        record.save(&self.root, &volume.name)?;
        if !grown && Users::of(&volume, &Census::take()?)?.is_empty() {
            self.while_unmounted(&volume, devices, || {
                fail::point("resize: unmounted");
                Ok(())
            })?;
        } else if !grown {
            terminal::note(&format!(
                "Warning: volume '{full}' is in use, and its filesystem can't grow meanwhile: it grows when it is mounted next"
            ));
        }
        Ok(())
    }
}

/// That a key is to be looked at though the volume may be mounted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Verify;

pub(super) fn is_encrypted(volume: &Volume) -> bool {
    volume.device.as_ref().is_some_and(|device| device.encrypted)
}

/// Where the keys that may open a volume come from: files first, as nobody is asked for them; of a change that was interrupted the new one
/// first.
fn sources(volume: &Volume) -> Vec<KeySource> {
    let noted = volume.record.iter().flat_map(|record| [&record.next_key, &record.key]).flatten();
    let mut sources: Vec<KeySource> = noted.cloned().collect();
    sources.sort_by_key(|source| *source == KeySource::Passphrase);
    sources.dedup();
    let known = volume.device.as_ref().and_then(|device| device.key_fingerprint.as_deref());
    if sources.is_empty() && known.is_some_and(|print| print.ends_with(":passphrase")) {
        sources.push(KeySource::Passphrase);
    }
    sources
}

/// A mount that is busy, in the words of this command.
pub(super) fn busy(error: Error, volume: &Volume) -> Error {
    match error {
        Error::Engine(tierce_engine::Error::InUse { by, .. }) => {
            InUse { name: volume.name.full(), by, advice: "End that first, then try again." }.into()
        }
        other => other,
    }
}
