//! Making, finding, changing and removing volumes. Each operation states what a crash after each of its steps leaves.

use std::{collections::BTreeMap, ffi::CString, os::fd::OwnedFd, path::PathBuf};

use jiff::Timestamp;
use rustix::{
    fs::{self, Mode, RenameFlags},
    io::Errno,
};
use uuid::Uuid;

use super::{
    Error,
    census::Census,
    error::Context,
    fail,
    layout::{self, Root},
    locks::Lock,
    names::{Name, STANDALONE},
    record::Record,
    removal, size,
    users::{self, Users},
};

/// What removed data is called until it is gone, in the folder of its stack: no volume's name begins with a dot.
const TRASH: &str = ".trash-";

/// The volumes below one root.
#[derive(Debug)]
pub(super) struct Volumes {
    pub(super) root: Root,
}

/// A volume as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Volume {
    pub(super) name: Name,
    pub(super) path: PathBuf,
    pub(super) record: Option<Record>,
}

impl Volume {
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
        Self { root }
    }

    /// All volumes by full name, and paths among them that can't be one.
    pub(super) fn list(&self) -> Result<(Vec<Volume>, Vec<PathBuf>), Error> {
        let (names, odd) = self.root.scan()?;
        Ok((names.into_iter().map(|name| self.volume(name)).collect::<Result<_, _>>()?, odd))
    }

    /// The volume of that full name.
    pub(super) fn get(&self, full: &str) -> Result<Volume, Error> {
        self.find(full)?.ok_or_else(|| Error::NotFound(full.to_owned()))
    }

    fn find(&self, full: &str) -> Result<Option<Volume>, Error> {
        let mut found: Option<Name> = None;
        for name in Name::readings(full)? {
            if !self.root.has_data(&name)? {
                continue;
            }
            if let Some(first) = found {
                let (first, second) = (self.root.data_path(&first), self.root.data_path(&name));
                return Err(Error::Ambiguous { name: full.to_owned(), first, second });
            }
            found = Some(name);
        }
        found.map(|name| self.volume(name)).transpose()
    }

    fn volume(&self, name: Name) -> Result<Volume, Error> {
        let record = Record::load(&self.root, &name)?;
        Ok(Volume { path: self.root.data_path(&name), name, record })
    }

    /// Makes a volume; one that exists with the same parameters is left as it is.
    ///
    /// 1. The record. A crash after it leaves a record without data, which counts as nothing and is used again.
    /// 2. The folder, by one call: the volume is there.
    pub(super) fn create(&self, name: &Name, labels: BTreeMap<String, String>) -> Result<(), Error> {
        let full = name.full();
        let _lock = Lock::acquire(&self.root, &full)?;
        if let Some(existing) = self.find(&full)? {
            return same(&existing, name, &labels);
        }
        let mut record = Record::new(Timestamp::now());
        record.labels = labels;
        record.save(&self.root, name)?;
        fail::point("create: record written");
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
        if name.stack() != STANDALONE
            && let Some(volumes) = self.root.folder(layout::VOLUMES)?
        {
            // Goes with its last volume; stays while it has another.
            let _ = fs::unlinkat(&volumes, name.stack(), fs::AtFlags::REMOVEDIR);
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
        self.remove_lone_records()
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
                if !self.root.has_data(&name)? {
                    Record::remove(&self.root, &name)?;
                }
            }
        }
        Ok(())
    }

    /// Bytes that its files take; `false`: some could not be read.
    pub(super) fn bytes_used(&self, volume: &Volume) -> Result<(u64, bool), Error> {
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

    pub(super) fn record(volume: &Volume) -> Result<Record, Error> {
        match &volume.record {
            Some(record) => Ok(record.clone()),
            None => Ok(Record::new(volume.created_at()?)),
        }
    }
}

/// One change of labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LabelChange {
    Set(String, String),
    Remove(String),
}

/// Whether an existing volume is what was asked for.
fn same(existing: &Volume, name: &Name, labels: &BTreeMap<String, String>) -> Result<(), Error> {
    let differs = |what, existing: String, requested: String| {
        Err(Error::Differs { name: name.full(), what, existing, requested })
    };
    if existing.name != *name {
        return differs("stack", existing.name.stack().to_owned(), name.stack().to_owned());
    }
    let none = BTreeMap::new();
    let has = existing.record.as_ref().map_or(&none, |record| &record.labels);
    if has != labels {
        return differs("labels", written(has), written(labels));
    }
    Ok(())
}

fn written(labels: &BTreeMap<String, String>) -> String {
    if labels.is_empty() {
        return "none".to_owned();
    }
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}
