//! Making volumes, and what a crash after each step leaves.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rustix::{
    fs::{self, Mode},
    io::Errno,
};
use tierce_engine::Filesystem;

use tierce_client::Differs;

use super::{
    Error,
    access::Access,
    error::Context,
    fail,
    locks::Lock,
    names::Name,
    pools,
    record::Record,
    volumes::{NewVolume, Volume, Volumes},
};
use crate::sizes;

impl Volumes {
    /// Makes a volume; one that exists with the same parameters is left as it is.
    ///
    /// 1. The record. A crash after it leaves a record without data, which counts as nothing and is used again.
    /// 2. The folder, or the device, by one call: the volume is there.
    /// 3. Of a device: its place, and its mount there. A crash before leaves it unmounted; the next use mounts it.
    /// 4. The owner and mode that were asked for. A crash before leaves that to the next use.
    pub(super) fn create(&self, name: &Name, new: &NewVolume) -> Result<(), Error> {
        let full = name.full();
        if new.shape.as_ref().is_some_and(|shape| shape.encrypted) {
            pools::check_encryption(&full)?;
        }
        // Whoever may not make it shall not leave a record.
        let devices = match &new.shape {
            Some(shape) => Some(self.devices_with(&shape.pool)?),
            None => None,
        };
        let _lock = Lock::acquire(&self.root, &full)?;
        let existing = match self.find(&full)? {
            Some(left) if new.filling.is_some() && left.is_half_made()? => {
                self.make_room(&left)?;
                None
            }
            other => other,
        };
        if let Some(existing) = existing {
            existing.check_whole()?;
            same(&existing, name, new)?;
            if new.by_full_name {
                self.add_labels(&existing, &new.labels)?;
            }
            return match &new.key {
                Some(given) => self.mount_opened(&existing, given),
                None => self.mount(&existing),
            };
        }
        let mut record = Record::new(Timestamp::now());
        record.labels.clone_from(&new.labels);
        record.filling.clone_from(&new.filling);
        record.key = new.key.as_ref().map(|given| given.source.clone());
        record.stack.clone_from(&new.stack);
        record.access = new.access;
        record.access_is_due = new.access.is_some();
        record.pool = new.shape.as_ref().map(|shape| shape.pool.clone());
        record.asked_bytes = new.shape.as_ref().map(|shape| shape.size_bytes);
        record.save(&self.root, name)?;
        self.tell_of_inherited(name, new.shape.is_some());
        fail::point("create: record written");
        let (Some(shape), Some(devices)) = (&new.shape, devices) else {
            self.make_place(name)?;
            let given = self.get(&full).and_then(|made| self.mount(&made));
            if given.is_err() {
                self.remove_place(name)?;
                Record::remove(&self.root, name)?;
            }
            return given;
        };
        let made = devices.create(name, shape, None);
        if made.is_err() {
            Record::remove(&self.root, name)?;
        }
        made?;
        fail::point("create: device made");
        let made = self.get(&full)?;
        let mounted = match &new.key {
            Some(given) => self.mount_opened(&made, given),
            None => self.mount(&made),
        };
        if mounted.is_err() {
            // Nobody can have written to it yet.
            devices.delete(name)?;
            self.remove_place(name)?;
            Record::remove(&self.root, name)?;
        }
        mounted
    }

    /// Notes labels that an existing volume does not have yet.
    fn add_labels(&self, volume: &Volume, labels: &BTreeMap<String, String>) -> Result<(), Error> {
        let mut record = Self::record(volume)?;
        let before = record.labels.len();
        record.labels.extend(labels.clone());
        if record.labels.len() == before {
            return Ok(());
        }
        record.save(&self.root, &volume.name)
    }

    /// Makes the folder of a volume's data.
    pub(super) fn make_place(&self, name: &Name) -> Result<(), Error> {
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
}

/// Whether an existing volume is what was asked for.
pub(super) fn same(existing: &Volume, name: &Name, new: &NewVolume) -> Result<(), Error> {
    let differs = |parameter, existing: String, requested: String| {
        Err(Differs { what: "Volume", name: name.full(), parameter, existing, requested }.into())
    };
    if existing.name != *name && !new.by_full_name {
        return differs("stack", existing.name.stack().to_owned(), name.stack().to_owned());
    }
    let none = BTreeMap::new();
    let has = existing.record.as_ref().map_or(&none, |record| &record.labels);
    let contradicts = |(key, value): (&String, &String)| has.get(key).is_some_and(|own| own != value);
    let other_labels = if new.by_full_name { new.labels.iter().any(contradicts) } else { *has != new.labels };
    if other_labels {
        return differs("labels", written(has), written(&new.labels));
    }
    if let Some(wish) = new.access {
        let asked = existing.record.as_ref().and_then(|record| record.access).unwrap_or_default();
        let there = std::fs::metadata(&existing.path).map(|folder| Access::of(&folder)).unwrap_or_default();
        if let Some((option, has, wants)) = asked.contradiction(there, wish) {
            return differs(option, has, wants);
        }
    }
    let device = existing.device.as_ref();
    let size = |bytes: Option<u64>| bytes.map_or_else(|| "none".to_owned(), sizes::limit);
    let (has, wants) =
        (device.map(|device| device.size_bytes), new.shape.as_ref().map(|shape| shape.size_bytes));
    // A pool may have made more of what was asked for.
    let asked = device.and(existing.record.as_ref().and_then(|record| record.asked_bytes)).or(has);
    let whole = |bytes: Option<u64>| bytes.map(|bytes| bytes.next_multiple_of(4096));
    if whole(asked) != whole(wants) {
        return differs("size", size(has), size(wants));
    }
    let pool = |pool: Option<&str>| pool.unwrap_or("none").to_owned();
    let (has, wants) =
        (device.map(|device| device.pool.as_str()), new.shape.as_ref().map(|shape| shape.pool.as_str()));
    if has != wants {
        return differs("pool", pool(has), pool(wants));
    }
    let kind = |filesystem: Option<Filesystem>| filesystem.map_or_else(String::new, |one| one.to_string());
    let encrypted = |encrypted: bool| if encrypted { "LUKS2" } else { "none" }.to_owned();
    let has = device.is_some_and(|device| device.encrypted);
    let wants = new.shape.as_ref().is_some_and(|shape| shape.encrypted);
    if has != wants {
        return differs("encryption", encrypted(has), encrypted(wants));
    }
    let (has, wants) = (existing.filesystem(), new.shape.as_ref().map(|shape| shape.filesystem));
    if has == wants { Ok(()) } else { differs("filesystem", kind(has), kind(wants)) }
}

fn written(labels: &BTreeMap<String, String>) -> String {
    if labels.is_empty() {
        return "none".to_owned();
    }
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}
