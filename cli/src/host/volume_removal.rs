//! Removing volumes, and what a crash after each step leaves; freeing what interrupted commands left.

use std::{ffi::CString, os::fd::OwnedFd};

use rustix::{
    fs::{self, RenameFlags},
    io::Errno,
};
use uuid::Uuid;

use tierce_client::InUse;

use super::{
    Error,
    census::Census,
    devices::Devices,
    error::Context,
    fail, layout,
    locks::Lock,
    mounting::busy,
    names::{Name, STANDALONE},
    record::Record,
    tree_removal,
    users::{self, Users},
    volumes::{Volume, Volumes},
};

/// What removed data is called until it is gone, in the folder of its stack: no volume's name begins with a dot.
const TRASH: &str = ".trash-";

impl Volumes {
    /// Removes a volume with its data. `force`: detaches it from who uses it first.
    ///
    /// 1. Attachments go, if forced: the mount, then its entry in the record.
    /// 2. The folder gets a hidden name, by one call: the volume is gone. A crash after it leaves hidden data, which the next removal in
    ///    this stack (or `system prune`) frees, and a record, which counts as nothing.
    /// 3. The record, then the data.
    pub(super) fn remove(&self, full: &str, force: bool) -> Result<(), Error> {
        let _lock = Lock::acquire(&self.root, full)?;
        let volume = self.get(full)?;
        let users = Users::of(&volume, &Census::take()?)?;
        if !users.is_empty() {
            if !force {
                let by = users.names().join(", ");
                let advice = "Use --force to remove anyway.";
                return Err(InUse { name: full.to_owned(), by, advice }.into());
            }
            for attachment in &users.attachments {
                users::hide(&volume, attachment)?;
            }
        }
        match self.device_of(&volume) {
            Some((_, devices)) => self.remove_device(&volume, devices)?,
            None => self.remove_folder(&volume)?,
        }
        self.remove_empty_stack(volume.name.stack())
    }

    /// 1. The mount and its empty place. A crash after it leaves the volume whole, and unmounted.
    /// 2. The device: the volume is gone. 3. The record, which counts as nothing without it.
    fn remove_device(&self, volume: &Volume, devices: &Devices) -> Result<(), Error> {
        let name = &volume.name;
        devices.unmount(name, &volume.path).map_err(|error| busy(error, volume))?;
        self.remove_place(name)?;
        fail::point("remove: place removed");
        devices.delete(name)?;
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
        let hidden = format!("{TRASH}{}", Uuid::new_v4().simple());
        fs::renameat_with(&stack, name.short(), &stack, &hidden, RenameFlags::NOREPLACE).doing(doing)?;
        fail::point("remove: hidden");
        fs::fsync(&stack).doing(doing)?;
        Record::remove(&self.root, name)?;
        fail::point("remove: record removed");
        self.empty_trash(name.stack(), &stack)?;
        fail::point("remove: data removed");
        Ok(())
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

    fn empty_trash(&self, stack: &str, folder: &OwnedFd) -> Result<(), Error> {
        let path = || self.root.path().join(layout::VOLUMES).join(stack);
        for hidden in layout::entries(folder).doing(|| format!("list {}", path().display()))? {
            if hidden.starts_with(TRASH) {
                let doing =
                    || format!("free the space of a removed volume, {}", path().join(&hidden).display());
                let name = CString::new(hidden.as_str()).doing(doing)?;
                tree_removal::remove_tree(folder, &name).doing(doing)?;
            }
        }
        Ok(())
    }

    /// Frees what interrupted removals left, and records without data.
    pub(super) fn clean(&self) -> Result<(), Error> {
        let Some(volumes) = self.root.folder(layout::VOLUMES)? else { return Ok(()) };
        let doing = || format!("list {}", self.root.path().join(layout::VOLUMES).display());
        for stack in layout::entries(&volumes).doing(doing)? {
            if layout::is_folder(&volumes, &stack).doing(doing)?
                && let Some(folder) = self.root.stack(&stack)?
            {
                self.empty_trash(&stack, &folder)?;
            }
        }
        self.clean_copies()?;
        self.remove_half_made()?;
        self.remove_lone_records()?;
        self.all_devices()?.map_or(Ok(()), Devices::clean)
    }

    /// Removes volumes whose import was interrupted.
    fn remove_half_made(&self) -> Result<(), Error> {
        for volume in self.list()?.0 {
            if volume.is_half_made()? {
                self.remove(&volume.name.full(), true)?;
            }
        }
        Ok(())
    }

    fn remove_lone_records(&self) -> Result<(), Error> {
        let Some(records) = self.root.folder(layout::RECORDS)? else { return Ok(()) };
        let doing = || format!("list {}", self.root.path().join(layout::RECORDS).display());
        for stack in layout::entries(&records).doing(doing)? {
            let Ok(folder) =
                layout::open_beneath(&records, &stack, fs::OFlags::RDONLY | fs::OFlags::DIRECTORY)
            else {
                continue;
            };
            for file in layout::entries(&folder).doing(doing)? {
                let Some(Ok(name)) = file.strip_suffix(".json").map(|short| Name::new(Some(&stack), short))
                else {
                    continue;
                };
                let _lock = Lock::acquire(&self.root, &name.full())?;
                // What can't be read may say where its volume lies, and what opens it.
                let Ok(record) = Record::load(&self.root, &name) else { continue };
                // One that lies where we can't look may well be there.
                if !self.root.has_data(&name)? && matches!(self.device(&name, record.as_ref()), Ok(None)) {
                    Record::remove(&self.root, &name)?;
                }
            }
        }
        Ok(())
    }
}
