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
pub(crate) struct Ledger(Mutex<BTreeMap<VolumeId, u64>>);

impl Ledger {
    pub(crate) fn set(&self, record: &Record) {
        self.sizes().insert(record.id.clone(), record.size_bytes);
    }

    pub(crate) fn remove(&self, id: &VolumeId) {
        self.sizes().remove(id);
    }

    /// The sums.
    pub(crate) fn promised(&self, allocated: impl Fn(&VolumeId) -> u64) -> Promised {
        let sizes = self.sizes().clone();
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
        *self.sizes() = sizes;
        Ok(found)
    }

    fn sizes(&self) -> MutexGuard<'_, BTreeMap<VolumeId, u64>> {
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
