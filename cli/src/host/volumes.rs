//! The volumes below one root: finding them, and what is noted of them.

use std::{
    cell::{OnceCell, RefCell},
    collections::BTreeMap,
    path::PathBuf,
};

use jiff::Timestamp;
use tierce_client::known;
use tierce_engine::{Filesystem, VolumeInfo, VolumeMode};

use super::{
    Error,
    access::Access,
    attachments::Holder,
    devices::Devices,
    engines::{Caller, Engines},
    error::Context,
    keys::{Asking, GivenKey},
    layout::{self, Root},
    locks::Lock,
    names::{Name, STANDALONE},
    pools::{Need, Pools},
    record::Record,
    shape::Shape,
    tree_size,
};
use crate::{
    config::{LOCAL_POOL, Pool},
    failure,
    labels::LabelChange,
    terminal,
};

/// The volumes below one root.
pub(super) struct Volumes {
    pub(super) root: Root,
    pools: Pools,
    /// Whom passphrases are asked of.
    pub(super) asking: Asking,
    /// Who is asked which containers refer to a volume.
    pub(super) engines: Engines,
    /// Opened by the first who needs them.
    devices: OnceCell<Devices>,
    /// The full names of those that were removed.
    removed: RefCell<Vec<String>>,
}

/// A volume as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Volume {
    pub(super) name: Name,
    pub(super) path: PathBuf,
    pub(super) record: Option<Record>,
    /// The image or logical volume of a volume with a size.
    pub(super) device: Option<VolumeInfo>,
}

/// What a new volume shall be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct NewVolume {
    pub(super) labels: BTreeMap<String, String>,
    /// `None`: a plain folder without a limit.
    pub(super) shape: Option<Shape>,
    /// Whose its folder shall be.
    pub(super) access: Option<Access>,
    /// Its key, if it is encrypted.
    pub(super) key: Option<GivenKey>,
    /// Who fills it before it counts as whole.
    pub(super) filling: Option<Holder>,
    /// Whoever asks knows a full name only, as engines of containers do: a volume of that name is meant in whatever stack it lies, and may have
    /// more labels.
    pub(super) by_full_name: bool,
    /// The stack that it is made for, if its name does not say that.
    pub(super) stack: Option<String>,
}

impl Volume {
    /// Its place as the kernel's tables write it.
    pub(super) fn real_path(&self) -> Result<PathBuf, Error> {
        match self.path.canonicalize() {
            // A device whose place is gone shows when it is mounted next.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(self.path.clone()),
            other => other.doing(|| format!("resolve {}", self.path.display())),
        }
    }

    /// The stack that it was made for; `None`: none, or that was not noted.
    pub(super) fn stack(&self) -> Option<&str> {
        match self.name.stack() {
            STANDALONE => self.record.as_ref()?.stack.as_deref(),
            stack => Some(stack),
        }
    }

    pub(super) fn filesystem(&self) -> Option<Filesystem> {
        match self.device.as_ref()?.mode {
            VolumeMode::Filesystem(filesystem) => Some(filesystem),
            VolumeMode::Block => None,
        }
    }

    /// Whether a folder of which nothing is noted went since it was found.
    pub(super) fn is_gone(&self) -> bool {
        let there = std::fs::symlink_metadata(&self.path);
        self.record.is_none()
            && self.device.is_none()
            && there.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
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

/// What lies below a root.
pub(super) struct Listing {
    /// By full name.
    pub(super) volumes: Vec<Volume>,
    /// What lies among them and is none, and pools that can't be read.
    pub(super) odd: Vec<String>,
    /// Volumes that can't be looked at now: they are not among the others.
    pub(super) out_of_sight: Vec<Name>,
}

impl Volumes {
    /// `pools`: what the configuration adds to the images below the root.
    pub(super) fn new(root: Root, pools: &[Pool], asking: Asking) -> Self {
        let engines = Engines::default();
        let (devices, removed) = (OnceCell::new(), RefCell::default());
        Self { pools: Pools::new(&root, pools), root, asking, engines, devices, removed }
    }

    /// The same for an engine that waits for our answer: it is not asked anything meanwhile.
    pub(super) fn for_caller(self, caller: Option<Caller>) -> Self {
        Self { engines: Engines::but(caller), ..self }
    }

    /// The devices of volumes with a size; `None`: nobody needed one yet.
    pub(super) fn devices(&self) -> Option<&Devices> {
        self.devices.get()
    }

    /// A volume's device, and who can do something with it; `None`: it is a plain folder.
    pub(super) fn device_of<'a>(&'a self, volume: &'a Volume) -> Option<(&'a VolumeInfo, &'a Devices)> {
        volume.device.as_ref().zip(self.devices())
    }

    /// The devices, with the pools open that are needed; `None`: nothing was ever made there.
    fn opened(&self, need: Need<'_>) -> Result<Option<&Devices>, Error> {
        if self.devices.get().is_none() {
            if self.pools.settings(&self.pools.needed(need), None)?.is_empty() {
                return Ok(None);
            }
            let none = Devices::start(&self.root, &self.pools)?;
            self.devices.get_or_init(|| none);
        }
        let devices = self.devices.get();
        devices.map_or(Ok(()), |devices| devices.open(need))?;
        Ok(devices)
    }

    /// Every pool that may hold volumes, opened; `None`: there is none.
    pub(super) fn all_devices(&self) -> Result<Option<&Devices>, Error> {
        self.opened(Need::All)
    }

    /// Whether a volume may be made in that pool, as far as that is known before the pool is opened.
    pub(super) fn check_pool(&self, pool: &str) -> Result<(), Error> {
        self.pools.check(pool)
    }

    /// The devices, with that pool open so that a volume can be made in it. Needs root.
    pub(super) fn devices_with(&self, pool: &str) -> Result<&Devices, Error> {
        self.check_pool(pool)?;
        let devices = if let Some(devices) = self.devices() {
            devices
        } else {
            let none = Devices::start(&self.root, &self.pools)?;
            self.devices.get_or_init(|| none)
        };
        devices.ensure(pool)?;
        Ok(devices)
    }

    /// A volume's device. Its record says which pool is asked for it, and that one must answer: "not there" is said by a pool that was read.
    ///
    /// Of a volume without a record every pool is asked. One that is away does not stop that: a record is there before the device, and a disk
    /// that is away must not stop whoever has nothing on it.
    pub(super) fn device(&self, name: &Name, record: Option<&Record>) -> Result<Option<VolumeInfo>, Error> {
        let unavailable = |error: &Error| {
            use tierce_engine::Error::{PoolUnavailable, UnknownPool};
            matches!(error, Error::Engine(PoolUnavailable(_) | UnknownPool { .. }))
        };
        let found = match record {
            Some(Record { pool: Some(pool), .. }) => return self.device_in(pool, name),
            // A plain folder, or an image whose record was written before there were other pools.
            Some(Record { pool: None, .. }) => match self.opened(Need::Volume(LOCAL_POOL))? {
                Some(devices) => devices.get_in(name, LOCAL_POOL),
                None => return Ok(None),
            },
            None => match self.all_devices()? {
                Some(devices) => devices.get(name),
                None => return Ok(None),
            },
        };
        match found {
            Err(error) if unavailable(&error) => Ok(None),
            other => other,
        }
    }

    fn device_in(&self, pool: &str, name: &Name) -> Result<Option<VolumeInfo>, Error> {
        if !self.pools.can_be_opened(pool) {
            return Err(Error::PoolNotOpen { name: name.full(), pool: pool.to_owned() });
        }
        let found = match self.opened(Need::Volume(pool))? {
            Some(devices) => devices.get_in(name, pool),
            None => Err(tierce_engine::Error::UnknownPool { pool: pool.to_owned() }.into()),
        };
        found.map_err(|error| match error {
            // What is there now was never made a pool.
            Error::Engine(tierce_engine::Error::UnknownPool { pool }) => {
                Error::PoolMissing { name: name.full(), place: self.pools.place(&pool), pool }
            }
            other => other,
        })
    }

    /// All volumes by full name; what lies among them and is none; and pools that can't be read, whose volumes are not among them.
    pub(super) fn list(&self) -> Result<(Vec<Volume>, Vec<String>), Error> {
        let listing = self.listing()?;
        Ok((listing.volumes, listing.odd))
    }

    pub(super) fn listing(&self) -> Result<Listing, Error> {
        let mut out_of_sight = Vec::new();
        let (names, odd) = self.root.scan()?;
        let mut odd: Vec<String> = odd
            .into_iter()
            .map(|path| format!("{} is no volume: it is no folder, or its name has other characters than letters, digits, '_', '.' and '-'", path.display()))
            .collect();
        let mut found: BTreeMap<Name, Option<VolumeInfo>> =
            names.into_iter().map(|name| (name, None)).collect();
        let listed = self.all_devices()?.map(Devices::list).unwrap_or_default();
        found.extend(listed.volumes.into_iter().map(|(name, info)| (name, Some(info))));
        odd.extend(listed.broken);
        odd.extend(listed.unread.iter().map(|(_, why)| format!("the volumes of {why} (they are not shown)")));
        let unread: Vec<String> = listed.unread.into_iter().map(|(pool, _)| pool).collect();
        // Of a volume whose place was removed, its record alone says that it lies in a pool that is away.
        for name in Record::names(&self.root)?.into_iter().filter(|name| !found.contains_key(name)) {
            let pool = Record::load(&self.root, &name).ok().flatten().and_then(|record| record.pool);
            if pool.is_some_and(|pool| unread.contains(&pool) || !self.pools.can_be_opened(&pool)) {
                out_of_sight.push(name);
            }
        }
        let mut volumes = Vec::new();
        for (name, device) in found {
            let record = match Record::load(&self.root, &name) {
                Err(error @ (Error::BrokenRecord { .. } | Error::NewerRecord { .. })) => {
                    odd.push(format!("{error} (it is not shown)"));
                    out_of_sight.push(name);
                    continue;
                }
                record => record?,
            };
            match record.as_ref().and_then(|record| record.pool.as_ref()).filter(|_| device.is_none()) {
                Some(pool) if unread.contains(pool) => {
                    out_of_sight.push(name);
                    continue;
                }
                Some(pool) if !self.pools.can_be_opened(pool) => {
                    let error = Error::PoolNotOpen { name: name.full(), pool: pool.clone() };
                    odd.push(format!("{error} (it is not shown)"));
                    out_of_sight.push(name);
                    continue;
                }
                _ => {}
            }
            volumes.push(Volume { path: self.root.data_path(&name), name, record, device });
        }
        volumes.sort_by_key(|volume| volume.name.full());
        for volume in &volumes {
            // A copy of a killed export that is still there was told of by whoever could not remove it.
            let is_copy = volume.record.as_ref().is_some_and(|record| record.export_of.is_some());
            if !is_copy && volume.is_half_made()? {
                odd.push(Error::HalfMade { name: volume.name.full() }.to_string());
            }
        }
        Ok(Listing { volumes, odd, out_of_sight })
    }

    /// The volume of that full name.
    pub(super) fn get(&self, full: &str) -> Result<Volume, Error> {
        match self.find(full)? {
            Some(volume) => Ok(volume),
            None => Err(self.not_found(full)),
        }
    }

    pub(super) fn not_found(&self, full: &str) -> Error {
        let (names, _) = self.root.scan().unwrap_or_default();
        Error::NotFound { name: full.to_owned(), known: known(names.iter().map(Name::full).collect()) }
    }

    /// Whether the root has anything of that name, wherever the volume itself lies.
    pub(super) fn is_known(&self, name: &Name) -> Result<bool, Error> {
        Ok(!matches!(Record::load(&self.root, name), Ok(None)) || self.root.has_data(name)?)
    }

    /// Whether there is a volume of that full name that can't be looked at now, for that reason.
    pub(super) fn is_out_of_sight(&self, full: &str, reason: &Error) -> bool {
        let readings = Name::readings(full).unwrap_or_default();
        !matches!(reason, Error::NotFound { .. })
            && readings.iter().any(|name| matches!(self.is_known(name), Ok(true)))
    }

    /// Notes that one is gone.
    pub(super) fn is_removed(&self, full: &str) {
        self.removed.borrow_mut().push(full.to_owned());
    }

    /// Tells of an engine that does not know that they are gone.
    pub(super) fn tell_who_lists_the_removed(&self) {
        let removed = self.removed.borrow();
        if removed.is_empty() {
            return;
        }
        let troubles = self.engines.troubles_with_list(&removed);
        // In the words of our plugin, which Podman repeats.
        let is_named = |name: &&String| {
            let words = Error::not_found_words(name);
            troubles.iter().any(|trouble| trouble.contains(&words))
        };
        if let Some(name) = removed.iter().find(is_named) {
            terminal::note(&format!(
                "Podman still has volume '{name}' on its list, and shows no list until it forgets that: run podman volume reload"
            ));
        }
    }

    pub(super) fn find(&self, full: &str) -> Result<Option<Volume>, Error> {
        let readings = Name::readings(full)?;
        let mut found: Option<Volume> = None;
        let known = readings.iter().map(|name| self.is_known(name)).collect::<Result<Vec<bool>, Error>>()?;
        // Those that the root knows of come first: for the others every pool has to be asked.
        for asked in [true, false] {
            let readings = readings.iter().zip(&known).filter(|(_, known)| **known == asked);
            for (name, _) in readings {
                let record = Record::load(&self.root, name);
                let device = self.device(name, record.as_ref().ok().and_then(Option::as_ref))?;
                if device.is_none() && !self.root.has_data(name)? {
                    continue;
                }
                let path = self.root.data_path(name);
                if let Some(first) = found {
                    return Err(Error::Ambiguous { name: full.to_owned(), first: first.path, second: path });
                }
                found = Some(Volume { name: name.clone(), path, record: record?, device });
            }
            if found.is_some() {
                break;
            }
        }
        Ok(found)
    }

    /// Bytes that its files take; `false`: some could not be read.
    pub(super) fn bytes_used(&self, volume: &Volume) -> Result<(u64, bool), Error> {
        if let Some((info, devices)) = self.device_of(volume) {
            return Ok((devices.bytes_used(info, &volume.path)?, true));
        }
        let below = format!("{}/{}/{}", layout::VOLUMES, volume.name.stack(), volume.name.short());
        Ok(self.root.folder(&below)?.map_or((0, true), |folder| tree_size::bytes_used(&folder)))
    }

    /// The same for a list of many: what is not known of one is told, and keeps nobody from the others.
    pub(super) fn bytes_told(&self, volume: &Volume) -> u64 {
        let (bytes, whole) = self.bytes_used(volume).unwrap_or_else(|error| {
            failure::warn(&error);
            (0, false)
        });
        if !whole {
            terminal::note(&format!(
                "Warning: some folders of volume '{}' can't be read: its size is at least what is shown",
                volume.name
            ));
        }
        bytes
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
        if let Some(record) = &volume.record {
            return Ok(record.clone());
        }
        let mut record = Record::new(volume.created_at()?);
        record.pool = volume.device.as_ref().map(|device| device.pool.clone());
        Ok(record)
    }
}
