//! What a pool has promised, kept in memory so that a creation need not read every record. The disk has the
//! truth: each scan renews it.

use std::{
    collections::BTreeMap,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::fs::Stat;

use crate::{
    VolumeId,
    pool::{
        Promised, Scanned,
        record::Record,
        store::{Broken, IMAGE, RECORD, Store},
    },
};

/// An image's size on the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ImageSize {
    /// Bytes that take space.
    pub(crate) allocated: u64,
    /// Bytes from start to end.
    pub(crate) length: u64,
}

impl ImageSize {
    pub(crate) fn of(stat: &Stat) -> Self {
        let bytes = |number: i64| u64::try_from(number).unwrap_or(0);
        Self { allocated: bytes(stat.st_blocks).saturating_mul(512), length: bytes(stat.st_size) }
    }
}

/// What one volume or snapshot adds to the sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    /// Bytes promised.
    size: u64,
    snapshot: bool,
    /// Whether the volume began as a copy of another image of the pool, with which it may share blocks.
    copy: bool,
}

impl Entry {
    fn of(record: &Record) -> Self {
        let snapshot = record.role.is_some();
        let copy = snapshot || record.origin.is_some() || record.restore.is_some();
        Self { size: record.size_bytes, snapshot, copy }
    }
}

/// All volumes and snapshots of a pool.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    known: BTreeMap<VolumeId, Entry>,
    /// Number of scans under way.
    scans: u32,
    /// Changes since the first of these scans began, which the scans may have seen or not; `None`: removed.
    meanwhile: BTreeMap<VolumeId, Option<Entry>>,
}

impl Entries {
    fn change(&mut self, id: &VolumeId, entry: Option<Entry>) {
        match entry {
            Some(entry) => self.known.insert(id.clone(), entry),
            None => self.known.remove(id),
        };
        if self.scans > 0 {
            self.meanwhile.insert(id.clone(), entry);
        }
    }

    /// Ends a scan. `found`: what it found, if it succeeded.
    fn scanned(&mut self, found: Option<BTreeMap<VolumeId, Entry>>) {
        if let Some(found) = found {
            self.known = found;
            for (id, entry) in &self.meanwhile {
                match entry {
                    Some(entry) => self.known.insert(id.clone(), *entry),
                    None => self.known.remove(id),
                };
            }
        }
        self.scans -= 1;
        if self.scans == 0 {
            self.meanwhile.clear();
        }
    }
}

impl Ledger {
    pub(crate) fn set(&self, record: &Record) {
        self.entries().change(&record.id, Some(Entry::of(record)));
    }

    pub(crate) fn remove(&self, id: &VolumeId) {
        self.entries().change(id, None);
    }

    /// The sums. A copy's blocks are taken for its source's, which counts them: free space that is really
    /// there may so be overlooked, but none is offered twice.
    pub(crate) fn promised(&self, allocated: impl Fn(&VolumeId) -> u64) -> Promised {
        let known = self.entries().known.clone();
        let count = |snapshot| {
            let count = known.values().filter(|entry| entry.snapshot == snapshot).count();
            u64::try_from(count).expect("a count fits")
        };
        Promised {
            volumes: count(false),
            snapshots: count(true),
            bytes: known.values().map(|entry| entry.size).sum(),
            allocated: known.iter().filter(|(_, entry)| !entry.copy).map(|(id, _)| allocated(id)).sum(),
        }
    }

    /// Reads every volume from the disk. `image`: its image's size, `None` where it is missing.
    pub(crate) fn scan(
        &self,
        store: &Store,
        image: impl Fn(&VolumeId, Option<&Record>) -> Option<ImageSize>,
    ) -> io::Result<Vec<Scanned>> {
        self.entries().scans += 1;
        let result = Self::read(store, image);
        let (found, sizes) =
            result.map_or_else(|error| (Err(error), None), |(found, sizes)| (Ok(found), Some(sizes)));
        self.entries().scanned(sizes);
        found
    }

    fn read(
        store: &Store,
        image: impl Fn(&VolumeId, Option<&Record>) -> Option<ImageSize>,
    ) -> io::Result<(Vec<Scanned>, BTreeMap<VolumeId, Entry>)> {
        let (ids, others) = store.ids()?;
        let (mut found, mut known) = (Vec::with_capacity(ids.len()), BTreeMap::new());
        for id in ids {
            let record = match store.load(&id) {
                Ok(None) => continue,
                Ok(Some(record)) => record,
                Err(error) => Err(Broken::damaged(store.path_of(&id, RECORD), error.to_string())),
            };
            let size = image(&id, record.as_ref().ok());
            let record = record.and_then(|record| sound(store, record, size));
            let size = size.unwrap_or_default();
            // A broken volume's image still takes its place.
            let broken = Entry { size: size.length, snapshot: false, copy: false };
            known.insert(id.clone(), record.as_ref().map_or(broken, Entry::of));
            found.push(Scanned { id: Some(id), allocated: size.allocated, record });
        }
        for name in others {
            let file = store.path().join("volumes").join(name);
            let record = Err(Broken::damaged(file, "the name is not a volume id"));
            found.push(Scanned { id: None, allocated: 0, record });
        }
        Ok((found, known))
    }

    /// Bytes promised to one of them.
    pub(crate) fn promised_to(&self, id: &VolumeId) -> u64 {
        self.entries().known.get(id).map_or(0, |entry| entry.size)
    }

    /// Whether a volume was there when last looked: a hint where to look first.
    pub(crate) fn holds(&self, id: &VolumeId) -> bool {
        self.entries().known.contains_key(id)
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        // A panic elsewhere leaves the map usable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A record is only as good as its image.
fn sound(store: &Store, record: Record, size: Option<ImageSize>) -> Result<Record, Broken> {
    let broken = |reason: String| Err(Broken::damaged(store.path_of(&record.id, IMAGE), reason));
    match size {
        None => broken("the image is missing".to_owned()),
        Some(size) if size.length < record.size_bytes => {
            broken(format!("the image was cut off: {} of {} bytes are there", size.length, record.size_bytes))
        }
        Some(_) => Ok(record),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_beside_a_scan_is_neither_forgotten_nor_brought_back() {
        let id = |name: &str| name.parse::<VolumeId>().unwrap();
        let entry = |size| Entry { size, snapshot: false, copy: false };
        let mut entries = Entries::default();
        entries.change(&id("old"), Some(entry(1)));
        entries.change(&id("gone"), Some(entry(2)));
        entries.scans += 1;
        // The scan has read "gone" and not yet "new" when both change.
        entries.change(&id("new"), Some(entry(4)));
        entries.change(&id("gone"), None);
        entries.scanned(Some([("old", 1), ("gone", 2), ("found", 8)].map(|(n, s)| (id(n), entry(s))).into()));
        assert_eq!(
            entries.known,
            [("old", 1), ("new", 4), ("found", 8)].map(|(n, s)| (id(n), entry(s))).into()
        );
        assert!(entries.meanwhile.is_empty());
        entries.scans += 1;
        entries.scanned(None);
        assert_eq!(entries.known.len(), 3, "a scan that failed changes nothing");
    }

    #[test]
    fn blocks_that_a_copy_shares_are_counted_once_and_its_promise_in_full() {
        let ledger = Ledger::default();
        let entries = [("volume", false, false), ("snapshot", true, true), ("clone", false, true)];
        for (name, snapshot, copy) in entries {
            ledger.entries().change(&name.parse().unwrap(), Some(Entry { size: 10, snapshot, copy }));
        }
        assert_eq!(ledger.promised(|_| 4), Promised { volumes: 2, snapshots: 1, bytes: 30, allocated: 4 });
    }
}
