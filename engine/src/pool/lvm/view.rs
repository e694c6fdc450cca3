//! What a pool held when LVM was last asked, and what we changed since: a creation need not ask again. Pure.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use uuid::Uuid;

use crate::{
    VolumeId,
    pool::{
        Promised, Scanned,
        lvm::{
            names::{self, Named},
            report::{LogicalVolume, NeverMade, Report},
            tags,
        },
        record::{Encryption, Format, Record},
        store::Broken,
        stored::Unreadable,
    },
};

/// Bytes of the group's metadata area that are kept for what there is: each use and each growth of a volume
/// changes its record.
const METADATA_RESERVE: u64 = 64 << 10;
/// More than LVM writes of a volume without its tags, in bytes.
const BARE_VOLUME_TEXT: u64 = 800;

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Bytes of its LV.
    pub(crate) size: u64,
    pub(crate) record: Result<Record, Broken>,
    /// Our tags on the LV.
    pub(crate) tags: Vec<String>,
    /// Whether the LV's ends may still show what lay there before.
    pub(crate) raw: bool,
}

impl Entry {
    /// Bytes promised to it.
    pub(crate) fn promised(&self) -> u64 {
        self.record.as_ref().map_or(self.size, |record| record.size_bytes)
    }
}

/// A pool's volumes and its group's space. Sizes in bytes.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    pub(crate) group_id: String,
    pub(crate) group_size: u64,
    pub(crate) group_free: u64,
    pub(crate) extent: u64,
    /// Bytes by which LVM's description of the group can still grow.
    pub(crate) metadata_free: u64,
    /// Whether that is a guess, of what was made since LVM was asked.
    pub(crate) metadata_guessed: bool,
    /// Whether the group has devices that LVM does not see.
    pub(crate) lacks_devices: bool,
    pub(crate) volumes: BTreeMap<VolumeId, Entry>,
    /// LVs of deleted volumes.
    pub(crate) deleted: BTreeMap<String, Deleted>,
    /// LVs that were to become volumes, or to help with that.
    pub(crate) unfinished: BTreeMap<String, Unfinished>,
    /// The unfinished LV that LVM wrote down and never made.
    pub(crate) never_made: Option<NeverMade>,
    /// Thin LVs in our thin pool that are not ours.
    pub(crate) foreign: Vec<String>,
    /// Every LV of the group.
    pub(crate) names: Vec<String>,
}

/// An LV that was to become a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unfinished {
    pub(crate) id: VolumeId,
    /// Bytes.
    pub(crate) size: u64,
    /// Whether the LV is whole and takes the volume's place.
    pub(crate) swap: bool,
}

/// The LV of a deleted volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deleted {
    pub(crate) size: u64,
    pub(crate) zeroing: Zeroing,
}

/// The part of a deleted thick volume that is to be zeroed before others get its space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Zeroing {
    /// Nothing: the volume was never written to.
    Nothing,
    /// The LUKS2 header: without that the rest is noise.
    Header,
    All,
}

impl Zeroing {
    /// `raw`: whether it was never used. Where a record can't be read, everything is zeroed.
    fn of(raw: bool, record: &Result<Record, impl Sized>) -> Self {
        let begun = |encryption: &Encryption| encryption.header != Format::Never;
        match record {
            _ if raw => Self::Nothing,
            Ok(record) if record.encryption.as_ref().is_some_and(begun) => Self::Header,
            _ => Self::All,
        }
    }
}

impl View {
    /// Reads a report. `thin_pool`: the pool's thin pool; `None`: it is thick. `kernel`: the thin pool's
    /// transaction as the kernel said after that; `None`: it says none.
    pub(crate) fn of(report: &Report, pool: Uuid, thin_pool: Option<&str>, kernel: Option<u64>) -> Self {
        let group = report.group();
        let never_made =
            thin_pool.zip(kernel).and_then(|(thin_pool, kernel)| report.never_made(thin_pool, kernel));
        let mut view = Self {
            group_id: group.uuid.clone(),
            group_size: group.size,
            group_free: group.free,
            extent: group.extent,
            metadata_free: group.metadata_free,
            lacks_devices: group.missing_devices > 0,
            ..Self::default()
        };
        for volume in &report.volumes {
            view.names.push(volume.name.clone());
            let here = match thin_pool {
                Some(pool) => volume.pool == pool,
                None => volume.pool.is_empty() && !volume.is_thin_pool(),
            };
            if here {
                view.add(
                    &group.name,
                    volume,
                    pool,
                    never_made.as_ref().filter(|found| found.name == volume.name),
                );
            }
        }
        view
    }

    fn add(&mut self, group: &str, volume: &LogicalVolume, pool: Uuid, never_made: Option<&NeverMade>) {
        let ours = tags::mark(&volume.tags);
        match names::read(&volume.name) {
            Named::Volume(id) | Named::Unfinished(id) if ours && never_made.is_some() => {
                self.never_made = never_made.cloned();
                let unfinished = Unfinished { id, size: volume.size, swap: false };
                self.unfinished.insert(volume.name.clone(), unfinished);
            }
            Named::Volume(id) if ours || volume.tags.iter().any(|tag| tags::is_ours(tag)) => {
                let record = tags::read(pool, &id, &volume.tags)
                    .and_then(|record| sound(record, volume).map_err(Unreadable::Damaged))
                    .map_err(|why| Broken { file: path(group, &volume.name), why });
                let tags: Vec<String> =
                    volume.tags.iter().filter(|tag| tags::is_ours(tag)).cloned().collect();
                let raw = tags.iter().any(|tag| tag == tags::RAW);
                self.volumes.insert(id, Entry { size: volume.size, record, tags, raw });
            }
            Named::Deleted(id) if ours => {
                let raw = volume.tags.iter().any(|tag| tag == tags::RAW);
                let zeroing = Zeroing::of(raw, &tags::read(pool, &id, &volume.tags));
                self.deleted.insert(volume.name.clone(), Deleted { size: volume.size, zeroing });
            }
            Named::Unfinished(id) if ours => {
                let swap = volume.tags.iter().any(|tag| tag == tags::SWAP);
                self.unfinished.insert(volume.name.clone(), Unfinished { id, size: volume.size, swap });
            }
            _ => self.foreign.push(volume.name.clone()),
        }
    }

    /// Notes a volume that was just made.
    pub(crate) fn made(&mut self, record: Record, size: u64, tags: Vec<String>, takes: u64) {
        let raw = tags.iter().any(|tag| tag == tags::RAW);
        self.names.push(names::volume(&record.id));
        let text: usize = tags.iter().map(String::len).sum();
        let text = u64::try_from(text).expect("tags fit").saturating_add(BARE_VOLUME_TEXT);
        self.metadata_free = self.metadata_free.saturating_sub(text);
        self.metadata_guessed = true;
        self.volumes.insert(record.id.clone(), Entry { size, record: Ok(record), tags, raw });
        self.group_free = self.group_free.saturating_sub(takes);
    }

    /// Notes that a volume was deleted: its LV now has that name.
    pub(crate) fn deleted(&mut self, id: &VolumeId, name: &str) {
        if let Some(entry) = self.volumes.remove(id) {
            let zeroing = Zeroing::of(entry.raw, &entry.record);
            self.deleted.insert(name.to_owned(), Deleted { size: entry.size, zeroing });
            let before = names::volume(id);
            self.names.retain(|name| *name != before);
            self.names.push(name.to_owned());
        }
    }

    /// Notes that the end of a deleted volume was given back to the group.
    pub(crate) fn cut_off(&mut self, name: &str, bytes: u64) {
        if let Some(deleted) = self.deleted.get_mut(name) {
            self.group_free = self.group_free.saturating_add(deleted.size.saturating_sub(bytes));
            deleted.size = bytes;
        }
    }

    /// Whether the group's metadata area is so full that nothing more is made.
    pub(crate) fn lacks_metadata(&self) -> bool {
        self.metadata_free < METADATA_RESERVE
    }

    /// Whether it only seems so: what is made counts by a guess, which must refuse nothing by itself.
    pub(crate) fn seems_to_lack_metadata(&self) -> bool {
        self.lacks_metadata() && self.metadata_guessed
    }

    /// The sums of what is promised. `allocated`: bytes that all volumes take.
    pub(crate) fn promised(&self, allocated: u64) -> Promised {
        let is_snapshot = |entry: &&Entry| entry.record.as_ref().is_ok_and(|record| record.role.is_some());
        let snapshots = self.volumes.values().filter(is_snapshot).count();
        Promised {
            volumes: u64::try_from(self.volumes.len() - snapshots).expect("a count fits"),
            snapshots: u64::try_from(snapshots).expect("a count fits"),
            bytes: self.volumes.values().map(Entry::promised).sum(),
            allocated,
        }
    }

    /// Every volume, as a scan reports it. `allocated`: bytes that one takes.
    pub(crate) fn scanned(&self, allocated: impl Fn(&VolumeId, &Entry) -> u64) -> Vec<Scanned> {
        let scanned = |(id, entry): (&VolumeId, &Entry)| Scanned {
            id: Some(id.clone()),
            allocated: allocated(id, entry),
            record: entry.record.clone(),
        };
        self.volumes.iter().map(scanned).collect()
    }
}

/// Refuses a record whose LV is shorter than the record says.
fn sound(record: Record, volume: &LogicalVolume) -> Result<Record, String> {
    if volume.size < record.size_bytes {
        return Err(format!(
            "the logical volume was cut off: {} of {} bytes are there",
            volume.size, record.size_bytes
        ));
    }
    Ok(record)
}

/// A logical volume's path, for messages.
pub(crate) fn path(group: &str, volume: &str) -> PathBuf {
    Path::new("/dev").join(group).join(volume)
}
