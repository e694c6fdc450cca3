//! Making, finding, changing and removing volumes. Each operation states what a crash after each of its steps leaves.

use std::{cell::OnceCell, collections::BTreeMap, ffi::CString, os::fd::OwnedFd, path::PathBuf};

use jiff::Timestamp;
use rustix::{
    fs::{self, Mode, RenameFlags},
    io::Errno,
};
use tierce_engine::{Filesystem, VolumeInfo, VolumeMode};
use uuid::Uuid;

use super::{
    Error,
    attachments::Holder,
    census::Census,
    error::Context,
    fail,
    images::{Images, Shape},
    keys,
    layout::{self, Root},
    locks::Lock,
    names::{Name, STANDALONE},
    record::Record,
    removal, size,
    users::{self, Users},
};
use crate::{labels::LabelChange, sizes};

/// What removed data is called until it is gone, in the folder of its stack: no volume's name begins with a dot.
const TRASH: &str = ".trash-";

/// The volumes below one root.
pub(super) struct Volumes {
    pub(super) root: Root,
    /// Opened by the first who needs them.
    images: OnceCell<Images>,
}

/// A volume as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Volume {
    pub(super) name: Name,
    pub(super) path: PathBuf,
    pub(super) record: Option<Record>,
    /// The image of a volume with a size.
    pub(super) image: Option<VolumeInfo>,
}

/// What a new volume shall be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct NewVolume {
    pub(super) labels: BTreeMap<String, String>,
    /// `None`: a plain folder without a limit.
    pub(super) shape: Option<Shape>,
    /// Where its key is, if it is encrypted.
    pub(super) key_file: Option<PathBuf>,
    /// Who fills it before it counts as whole.
    pub(super) filling: Option<Holder>,
}

impl Volume {
    /// Whether it was to be filled, and who did that has ended before it was whole.
    pub(super) fn is_half_made(&self) -> Result<bool, Error> {
        match self.record.as_ref().and_then(|record| record.filling.as_ref()) {
            Some(filling) => Ok(!filling.is_alive()?),
            None => Ok(false),
        }
    }

    /// Its place as the kernel's tables write it.
    pub(super) fn real_path(&self) -> Result<PathBuf, Error> {
        match self.path.canonicalize() {
            // An image whose place is gone shows when it is mounted next.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(self.path.clone()),
            other => other.doing(|| format!("resolve {}", self.path.display())),
        }
    }

    pub(super) fn filesystem(&self) -> Option<Filesystem> {
        match self.image.as_ref()?.mode {
            VolumeMode::Filesystem(filesystem) => Some(filesystem),
            VolumeMode::Block => None,
        }
    }

    /// When it was made; of a folder that somebody put there: when it was last changed.
    pub(super) fn created_at(&self) -> Result<Timestamp, Error> {
        if let Some(record) = &self.record {
            return Ok(record.created_at);
        }
        let doing = || format!("look at {}", self.path.display());
        let changed = std::fs::metadata(&self.path).and_then(|data| data.modified()).doing(doing)?;
        Ok(Timestamp::try_from(changed).unwrap_or(Timestamp::UNIX_EPOCH))
    }
}

impl Volumes {
    pub(super) fn new(root: Root) -> Self {
        Self { root, images: OnceCell::new() }
    }

    /// The images below the root; `None`: no volume has a size.
    pub(super) fn images(&self) -> Result<Option<&Images>, Error> {
        if self.images.get().is_none()
            && let Some(images) = Images::open(&self.root)?
        {
            return Ok(Some(self.images.get_or_init(|| images)));
        }
        Ok(self.images.get())
    }

    /// The images below the root, which are made possible where they are not yet. Needs root.
    fn make_images(&self) -> Result<&Images, Error> {
        if self.images()?.is_none() {
            let images = Images::make(&self.root)?;
            return Ok(self.images.get_or_init(|| images));
        }
        self.images.get().ok_or_else(|| Error::NeedsRoot { what: "A volume with a size".to_owned() })
    }

    fn image(&self, name: &Name) -> Result<Option<VolumeInfo>, Error> {
        self.images()?.map_or(Ok(None), |images| images.get(name))
    }

    /// All volumes by full name, and what lies among them and is none.
    pub(super) fn list(&self) -> Result<(Vec<Volume>, Vec<String>), Error> {
        let (names, odd) = self.root.scan()?;
        let mut odd: Vec<String> = odd
            .into_iter()
            .map(|path| format!("{} is no volume: it is no folder, or its name has other characters than letters, digits, '_', '.' and '-'", path.display()))
            .collect();
        let mut found: BTreeMap<Name, Option<VolumeInfo>> =
            names.into_iter().map(|name| (name, None)).collect();
        if let Some(images) = self.images()? {
            let (images, broken) = images.list()?;
            found.extend(images.into_iter().map(|(name, info)| (name, Some(info))));
            odd.extend(broken.into_iter().map(|broken| format!("{broken}: it is left alone")));
        }
        let volume = |(name, image)| {
            let record = Record::load(&self.root, &name)?;
            Ok(Volume { path: self.root.data_path(&name), name, record, image })
        };
        let mut volumes = found.into_iter().map(volume).collect::<Result<Vec<_>, Error>>()?;
        volumes.sort_by_key(|volume| volume.name.full());
        for volume in &volumes {
            if volume.is_half_made()? {
                odd.push(format!(
                    "volume '{}' holds a part of an archive only, its import was interrupted: import it again, or remove it",
                    volume.name
                ));
            }
        }
        Ok((volumes, odd))
    }

    /// The volume of that full name.
    pub(super) fn get(&self, full: &str) -> Result<Volume, Error> {
        self.find(full)?.ok_or_else(|| Error::NotFound(full.to_owned()))
    }

    pub(super) fn find(&self, full: &str) -> Result<Option<Volume>, Error> {
        let mut found: Option<Volume> = None;
        for name in Name::readings(full)? {
            let image = self.image(&name)?;
            if image.is_none() && !self.root.has_data(&name)? {
                continue;
            }
            let path = self.root.data_path(&name);
            if let Some(first) = found {
                return Err(Error::Ambiguous { name: full.to_owned(), first: first.path, second: path });
            }
            let record = Record::load(&self.root, &name)?;
            found = Some(Volume { name, path, record, image });
        }
        Ok(found)
    }

    /// Makes a volume; one that exists with the same parameters is left as it is.
    ///
    /// 1. The record. A crash after it leaves a record without data, which counts as nothing and is used again.
    /// 2. The folder, or the image, by one call: the volume is there.
    /// 3. Of an image: its place, and its mount there. A crash before leaves it unmounted; the next use mounts it.
    pub(super) fn create(&self, name: &Name, new: &NewVolume) -> Result<(), Error> {
        let full = name.full();
        // Whoever may not make it shall not leave a record.
        if new.shape.is_some() {
            self.make_images()?;
        }
        if let Some(existing) = self.find(&full)?
            && existing.is_half_made()?
        {
            self.remove(&full, true)?;
        }
        let _lock = Lock::acquire(&self.root, &full)?;
        if let Some(existing) = self.find(&full)? {
            same(&existing, name, new)?;
            return self.mount(&existing);
        }
        let mut record = Record::new(Timestamp::now());
        record.labels.clone_from(&new.labels);
        record.filling.clone_from(&new.filling);
        record.key_file.clone_from(&new.key_file);
        record.save(&self.root, name)?;
        fail::point("create: record written");
        let Some(shape) = new.shape else { return self.make_place(name) };
        let made = self.make_images()?.create(name, shape, None);
        if made.is_err() {
            Record::remove(&self.root, name)?;
        }
        made?;
        fail::point("create: image made");
        let mounted = self.mount(&self.get(&full)?);
        if mounted.is_err() {
            // Nobody can have written to it yet.
            self.make_images()?.delete(name)?;
            self.remove_place(name)?;
            Record::remove(&self.root, name)?;
        }
        mounted
    }

    /// Mounts a volume with a size at its place, unless it is; others are always there. Under the volume's lock.
    pub(super) fn mount(&self, volume: &Volume) -> Result<(), Error> {
        let (Some(_), Some(images)) = (&volume.image, self.images()?) else { return Ok(()) };
        if !self.root.has_data(&volume.name)? {
            self.make_place(&volume.name)?;
        }
        fail::point("mount: place made");
        let key_file = volume.record.as_ref().and_then(|record| record.key_file.as_deref());
        images.mount(&volume.name, &volume.path, || keys::of_volume(&volume.name.full(), key_file))
    }

    /// Makes the folder of a volume's data.
    fn make_place(&self, name: &Name) -> Result<(), Error> {
        let doing = || format!("make {}", self.root.data_path(name).display());
        loop {
            let stack = self.root.make_stack(name.stack())?;
            match fs::mkdirat(&stack, name.short(), Mode::from_raw_mode(0o755)) {
                // The stack's folder went with the last of its volumes just now.
                Err(Errno::NOENT) => {}
                other => {
                    other.doing(doing)?;
                    fail::point("create: folder made");
                    return fs::fsync(&stack).doing(doing);
                }
            }
        }
    }

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
                return Err(Error::InUse {
                    name: full.to_owned(),
                    by,
                    advice: "Use --force to remove anyway.",
                });
            }
            for attachment in &users.attachments {
                users::hide(&volume, attachment)?;
            }
        }
        match (&volume.image, self.images()?) {
            (Some(_), Some(images)) => self.remove_image(&volume, images)?,
            _ => self.remove_folder(&volume)?,
        }
        self.remove_empty_stack(volume.name.stack())
    }

    /// 1. The mount and its empty place. A crash after it leaves the volume whole, and unmounted.
    /// 2. The image: the volume is gone. 3. The record, which counts as nothing without it.
    fn remove_image(&self, volume: &Volume, images: &Images) -> Result<(), Error> {
        let name = &volume.name;
        images.unmount(name, &volume.path).map_err(|error| busy(error, volume))?;
        self.remove_place(name)?;
        fail::point("remove: place removed");
        images.delete(name)?;
        fail::point("remove: image deleted");
        Record::remove(&self.root, name)
    }

    /// Removes the empty folder that an image is mounted at.
    fn remove_place(&self, name: &Name) -> Result<(), Error> {
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
                removal::remove_tree(folder, &name).doing(doing)?;
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
        self.images()?.map_or(Ok(()), Images::clean)
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
                if !self.root.has_data(&name)? && self.image(&name)?.is_none() {
                    Record::remove(&self.root, &name)?;
                }
            }
        }
        Ok(())
    }

    /// Notes where the key of an encrypted volume is from now on, and mounts it.
    pub(super) fn mount_with_key(&self, full: &str, key_file: PathBuf) -> Result<(), Error> {
        let _lock = Lock::acquire(&self.root, full)?;
        let mut volume = self.get(full)?;
        if volume.image.as_ref().is_none_or(|image| !image.encrypted) {
            return Err(Error::Refused(format!("Volume '{full}' is not encrypted, and needs no key")));
        }
        let mut record = Self::record(&volume)?;
        record.key_file = Some(key_file);
        volume.record = Some(record.clone());
        self.mount(&volume)?;
        record.save(&self.root, &volume.name)
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
        let _lock = Lock::acquire(&self.root, full)?;
        let volume = self.get(full)?;
        let (Some(_), Some(images)) = (&volume.image, self.images()?) else {
            return Err(Error::Refused(format!(
                "Volume '{full}' has no size to change: it is a plain folder; make one with --size and copy the data (tierce --host volume cp)"
            )));
        };
        self.mount(&volume)?;
        let grown = images.grow(&volume.name, size_bytes, &volume.path)?;
        fail::point("resize: image grown");
        if !grown && Users::of(&volume, &Census::take()?)?.is_empty() {
            images.unmount(&volume.name, &volume.path).map_err(|error| busy(error, &volume))?;
            fail::point("resize: unmounted");
            self.mount(&volume)?;
        } else if !grown {
            eprintln!(
                "Warning: volume '{full}' is in use, and its filesystem can't grow meanwhile: it grows when it is mounted next"
            );
        }
        Ok(())
    }

    /// Bytes that its files take; `false`: some could not be read.
    pub(super) fn bytes_used(&self, volume: &Volume) -> Result<(u64, bool), Error> {
        if let (Some(info), Some(images)) = (&volume.image, self.images()?) {
            return Ok((images.bytes_used(info, &volume.path)?, true));
        }
        let below = format!("{}/{}/{}", layout::VOLUMES, volume.name.stack(), volume.name.short());
        match self.root.folder(&below)? {
            None => Ok((0, true)),
            Some(folder) => size::bytes_used(&folder).doing(|| format!("add up {}", volume.path.display())),
        }
    }

    /// Sets and removes labels.
    pub(super) fn label(&self, full: &str, changes: &[LabelChange]) -> Result<(), Error> {
        let _lock = Lock::acquire(&self.root, full)?;
        let volume = self.get(full)?;
        let mut record = Self::record(&volume)?;
        for change in changes {
            match change {
                LabelChange::Set(key, value) => record.labels.insert(key.clone(), value.clone()),
                LabelChange::Remove(key) => record.labels.remove(key),
            };
        }
        record.save(&self.root, &volume.name)
    }

    /// Notes that a volume has all that it was to be filled with.
    pub(super) fn is_whole(&self, full: &str) -> Result<(), Error> {
        let _lock = Lock::acquire(&self.root, full)?;
        let volume = self.get(full)?;
        let mut record = Self::record(&volume)?;
        record.filling = None;
        record.save(&self.root, &volume.name)
    }

    pub(super) fn record(volume: &Volume) -> Result<Record, Error> {
        match &volume.record {
            Some(record) => Ok(record.clone()),
            None => Ok(Record::new(volume.created_at()?)),
        }
    }
}

/// Whether an existing volume is what was asked for.
fn same(existing: &Volume, name: &Name, new: &NewVolume) -> Result<(), Error> {
    let differs = |what, existing: String, requested: String| {
        Err(Error::Differs { name: name.full(), what, existing, requested })
    };
    if existing.name != *name {
        return differs("stack", existing.name.stack().to_owned(), name.stack().to_owned());
    }
    let none = BTreeMap::new();
    let has = existing.record.as_ref().map_or(&none, |record| &record.labels);
    if *has != new.labels {
        return differs("labels", written(has), written(&new.labels));
    }
    let size = |bytes: Option<u64>| bytes.map_or_else(|| "none".to_owned(), sizes::limit);
    let (has, wants) =
        (existing.image.as_ref().map(|image| image.size_bytes), new.shape.map(|shape| shape.size_bytes));
    if has != wants.map(|bytes| bytes.next_multiple_of(4096)) {
        return differs("size", size(has), size(wants));
    }
    let kind = |filesystem: Option<Filesystem>| filesystem.map_or_else(String::new, |one| one.to_string());
    let encrypted = |encrypted: bool| if encrypted { "LUKS2" } else { "none" }.to_owned();
    let has = existing.image.as_ref().is_some_and(|image| image.encrypted);
    let wants = new.shape.is_some_and(|shape| shape.encrypted);
    if has != wants {
        return differs("encryption", encrypted(has), encrypted(wants));
    }
    let (has, wants) = (existing.filesystem(), new.shape.map(|shape| shape.filesystem));
    if has == wants { Ok(()) } else { differs("filesystem", kind(has), kind(wants)) }
}

/// A mount that is busy, in the words of this command.
pub(super) fn busy(error: Error, volume: &Volume) -> Error {
    match error {
        Error::Engine(tierce_engine::Error::InUse { by, .. }) => {
            Error::InUse { name: volume.name.full(), by, advice: "End that first, then try again." }
        }
        other => other,
    }
}

fn written(labels: &BTreeMap<String, String>) -> String {
    if labels.is_empty() {
        return "none".to_owned();
    }
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}
