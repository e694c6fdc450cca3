//! What a pool has promised, kept in memory so that a creation need not read every record. The disk has the truth: each scan renews it.

use std::{
    collections::BTreeMap,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

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

/// Sizes of all volumes of a pool, in bytes.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    sizes: BTreeMap<VolumeId, u64>,
    /// Scans under way.
    scans: u32,
    /// What changed since the first of them began, which they may have seen or not; `None`: removed.
    meanwhile: BTreeMap<VolumeId, Option<u64>>,
}

impl Entries {
    fn change(&mut self, id: &VolumeId, size: Option<u64>) {
        match size {
            Some(size) => self.sizes.insert(id.clone(), size),
            None => self.sizes.remove(id),
        };
        if self.scans > 0 {
            self.meanwhile.insert(id.clone(), size);
        }
    }

    /// Ends a scan, with what it found where it came to its end.
    fn scanned(&mut self, found: Option<BTreeMap<VolumeId, u64>>) {
        if let Some(found) = found {
            self.sizes = found;
            for (id, size) in &self.meanwhile {
                match size {
                    Some(size) => self.sizes.insert(id.clone(), *size),
                    None => self.sizes.remove(id),
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
        self.entries().change(&record.id, Some(record.size_bytes));
    }

    pub(crate) fn remove(&self, id: &VolumeId) {
        self.entries().change(id, None);
    }

    /// The sums.
    pub(crate) fn promised(&self, allocated: impl Fn(&VolumeId) -> u64) -> Promised {
        let sizes = self.entries().sizes.clone();
        Promised {
            volumes: u64::try_from(sizes.len()).expect("a count fits"),
            bytes: sizes.values().sum(),
            allocated: sizes.keys().map(allocated).sum(),
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
    ) -> io::Result<(Vec<Scanned>, BTreeMap<VolumeId, u64>)> {
        let (ids, others) = store.ids()?;
        let (mut found, mut sizes) = (Vec::with_capacity(ids.len()), BTreeMap::new());
        for id in ids {
            let record = match store.load(&id) {
                Ok(None) => continue,
                Ok(Some(record)) => record,
                Err(error) => Err(Broken { file: store.path_of(&id, RECORD), reason: error.to_string() }),
            };
            let size = image(&id, record.as_ref().ok());
            let record = record.and_then(|record| sound(store, record, size));
            let size = size.unwrap_or_default();
            // A broken volume's image still takes its place.
            sizes.insert(id.clone(), record.as_ref().map_or(size.length, |record| record.size_bytes));
            found.push(Scanned { id: Some(id), allocated: size.allocated, record });
        }
        for name in others {
            let file = store.path().join("volumes").join(name);
            let record = Err(Broken { file, reason: "the name is not a volume id".to_owned() });
            found.push(Scanned { id: None, allocated: 0, record });
        }
        Ok((found, sizes))
    }

    /// Whether a volume was there when last looked: a hint where to look first.
    pub(crate) fn holds(&self, id: &VolumeId) -> bool {
        self.entries().sizes.contains_key(id)
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        // A panic elsewhere leaves the map usable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A record is only as good as its image.
fn sound(store: &Store, record: Record, size: Option<ImageSize>) -> Result<Record, Broken> {
    let broken = |reason| Err(Broken { file: store.path_of(&record.id, IMAGE), reason });
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
        let mut entries = Entries::default();
        entries.change(&id("old"), Some(1));
        entries.change(&id("gone"), Some(2));
        entries.scans += 1;
        // The scan has read "gone" and not yet "new" when both change.
        entries.change(&id("new"), Some(4));
        entries.change(&id("gone"), None);
        entries.scanned(Some([(id("old"), 1), (id("gone"), 2), (id("found"), 8)].into()));
        assert_eq!(entries.sizes, [(id("old"), 1), (id("new"), 4), (id("found"), 8)].into());
        assert!(entries.meanwhile.is_empty());
        entries.scans += 1;
        entries.scanned(None);
        assert_eq!(entries.sizes.len(), 3, "a scan that failed changes nothing");
    }
}
