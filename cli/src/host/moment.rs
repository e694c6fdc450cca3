//! A volume as it is at one moment, while others write to it.

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    Error,
    attachments::Holder,
    census::Census,
    copying::Hold,
    devices::Devices,
    fail,
    keys::KeySource,
    locks::Lock,
    names::Name,
    record::Record,
    shape::Shape,
    users::Users,
    volumes::{Volume, Volumes},
};
use crate::{failure, privilege};

/// The longest part of a volume's name that its copy's has.
const PART: usize = 60;
/// What stands between that and what tells copies apart.
const MARK: &str = ".export-";

impl Volumes {
    /// Whether anything uses a volume but this process.
    pub(super) fn is_used(&self, full: &str) -> Result<bool, Error> {
        Ok(!Users::of(&self.get(full)?, &Census::take()?)?.is_empty())
    }

    /// Does something with a copy of a volume with a size, which goes afterwards; with the volume itself where it can't be copied while it is
    /// in use, or there is no room. It gets the full name.
    ///
    /// The copy's record says what it is, and that this process fills it: what is left of a killed export, the next command removes.
    pub(super) fn at_one_moment<T>(
        &self,
        full: &str,
        work: impl FnOnce(&str) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let Some(copy) = self.copy_of_now(full)? else { return work(full) };
        let done = work(&copy);
        match self.discard(&copy) {
            Err(error) if done.is_ok() => Err(error),
            _ => done,
        }
    }

    fn copy_of_now(&self, full: &str) -> Result<Option<String>, Error> {
        let _data = Lock::share_data(&self.root, full)?;
        let lock = Lock::acquire(&self.root, full)?;
        let source = self.get(full)?;
        let _lock = self.kept(&source, Hold::Shared, lock);
        // Whose passphrase somebody would have to say once more.
        let asks = source.record.as_ref().is_some_and(|record| record.key == Some(KeySource::Passphrase));
        let (Some((_, devices)), false) = (self.device_of(&source), asks) else { return Ok(None) };
        let short: String = source.name.short().chars().take(PART).collect();
        let name = Name::new(None, &format!("{short}{MARK}{:08x}", Uuid::new_v4().as_fields().0))?;
        match self.make_copy(&source, devices, &name) {
            Ok(()) => Ok(Some(name.full())),
            Err(Error::Engine(tierce_engine::Error::CopyNeedsPause { .. }) | Error::NoRoom { .. }) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn make_copy(&self, source: &Volume, devices: &Devices, name: &Name) -> Result<(), Error> {
        let Some((device, filesystem)) = source.device.as_ref().zip(source.filesystem()) else {
            return Ok(());
        };
        let of_source = Self::record(source)?;
        let mut record = Record::new(Timestamp::now());
        record.filling = Some(Holder::process(std::process::id())?);
        record.export_of = Some(source.name.full());
        record.key.clone_from(&of_source.key);
        record.next_key.clone_from(&of_source.next_key);
        record.pool = Some(device.pool.clone());
        record.asked_bytes = of_source.asked_bytes;
        record.save(&self.root, name)?;
        fail::point("export: copy noted");
        let shape = Shape {
            size_bytes: device.size_bytes,
            filesystem,
            encrypted: device.encrypted,
            pool: device.pool.clone(),
        };
        if let Err(error) = devices.create(name, &shape, Some(device.id.clone())) {
            Record::remove(&self.root, name)?;
            return Err(error);
        }
        fail::point("export: copy made");
        let mounted = self.get(&name.full()).and_then(|copy| self.mount(&copy));
        if mounted.is_err() {
            self.discard(&name.full())?;
        }
        mounted
    }

    /// Removes the copies of exports that were killed, whatever the command is. One that can't be removed now is told, and stops nothing.
    pub(super) fn clear_killed_exports(&self) {
        let warn = |error: &Error| failure::warn(error);
        match self.killed_exports() {
            Ok(names) => {
                for name in names {
                    let _ = self.clear(&name).inspect_err(warn);
                }
            }
            Err(error) => warn(&error),
        }
    }

    /// The names of those copies. Only root makes such.
    fn killed_exports(&self) -> Result<Vec<Name>, Error> {
        let mut killed = Vec::new();
        if !privilege::is_root() {
            return Ok(killed);
        }
        for name in Record::names(&self.root)?.into_iter().filter(|name| name.short().contains(MARK)) {
            // A record that can't be read is told of where volumes are listed.
            if let Ok(Some(Record { export_of: Some(_), filling: Some(filling), .. })) =
                Record::load(&self.root, &name)
                && !filling.is_alive()?
            {
                killed.push(name);
            }
        }
        Ok(killed)
    }

    fn clear(&self, copy: &Name) -> Result<(), Error> {
        match self.discard(&copy.full()) {
            Err(Error::NotFound { .. }) => {}
            other => return other,
        }
        // It was killed before its device was whole, or when that was gone.
        if !self.devices().map_or(Ok(true), Devices::clean)? {
            // With the record the next command knows of it.
            return Ok(());
        }
        let _lock = Lock::acquire(&self.root, &copy.full())?;
        Record::remove(&self.root, copy)
    }
}
