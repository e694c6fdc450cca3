//! Copies of a thick volume: byte by byte, while it is in use from a copy-on-write snapshot that goes away
//! again.

use std::fs::File;

use super::{LvmPool, names, tags};
use crate::{
    Error,
    device::Content,
    pool::{Copies, Pause, Rest, cut_short, record::Record},
};

impl LvmPool {
    pub(super) fn copy_thick<'a>(
        &'a self,
        record: &'a Record,
        source: &'a Record,
        pause: &dyn Pause,
    ) -> Result<Option<Rest<'a>>, Error> {
        let from = names::volume(&source.id);
        if pause.user().is_none() {
            let content = self.content(source)?;
            return self.fill_new(record, &source.id, &content, &|| pause.goes_on()).map(|()| None);
        }
        self.check_room_for_copy(record, source)?;
        // As large as the source can ever need, so that it never overflows.
        let cow = names::unfinished(&record.id);
        let (full, pool) = (self.full(&from), tags::of_pool(self.id));
        let layered = self.has_layers(&from)?;
        let arguments =
            ["-qq", "-y", "-s", "-l", "100%ORIGIN", "-ky", "-K", "-ay", "-n", &cow, "--addtag", &pool, &full];
        let arguments = arguments.map(str::to_owned);
        let made =
            self.held_still(layered, source, pause, &arguments, self.bytes_while_in_use(record, source));
        self.kept_if(made, &cow)?;
        Ok(Some(Box::new(move |goes_on| self.copy_kept(record, source, &cow, goes_on))))
    }

    /// Copies what a copy-on-write snapshot keeps of a volume that may be used meanwhile. LVM neither removes
    /// nor grows its origin as long as it is there.
    fn copy_kept(
        &self,
        record: &Record,
        source: &Record,
        cow: &str,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<(), Error> {
        let _reserved = self.notes.reserve(cow);
        let copied = self.open_volume(cow).and_then(|file| {
            let content = Content { file: Some(file), bytes: source.size_bytes };
            self.fill_new(record, &source.id, &content, goes_on)
        });
        let removed = self.throw(cow).or_else(|_| self.remove_if_unfinished(cow));
        if let Err(error) = removed {
            tracing::warn!(volume = cow, %error, "can't remove a copy-on-write snapshot yet");
            self.notes.left().insert(cow.to_owned());
        }
        copied.map_err(|error| if goes_on() { error } else { cut_short(&source.id) })
    }

    /// Fails if a copy of a volume in use does not fit now. A copy that failed half-way would leave an LV to
    /// be zeroed.
    fn check_room_for_copy(&self, record: &Record, source: &Record) -> Result<(), Error> {
        self.renew(&self.turn())?;
        let needed = self.bytes_while_in_use(record, source);
        if self.view().group_free < needed { Err(self.out_of_space(needed)) } else { Ok(()) }
    }

    pub(super) fn bytes_while_in_use(&self, record: &Record, source: &Record) -> u64 {
        bytes_while_in_use(record, source, self.view().extent)
    }

    fn open_volume(&self, name: &str) -> Result<File, Error> {
        Ok(self.hold(name)?.1)
    }
}

/// Bytes that a copy of a thick volume in use takes while it is made: its own, and those of what holds the
/// source still. That is larger than the source: beside each chunk the kernel keeps where it belongs, and LVM
/// rounds up. `extent`: the group's, in bytes.
fn bytes_while_in_use(record: &Record, source: &Record, extent: u64) -> u64 {
    let whole = |bytes: u64| bytes.div_ceil(extent.max(1)).saturating_mul(extent.max(1));
    let places = (source.size_bytes / 128).saturating_add(2 * extent);
    whole(record.size_bytes).saturating_add(whole(source.size_bytes.saturating_add(places)))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, OnceLock, Weak};

    use super::*;
    use crate::pool::{
        Release,
        lvm::scripted::{EXTENT, Group, Told, record, refusal},
    };

    #[test]
    fn what_a_copy_takes_while_it_is_made_counts_once() {
        const FREE: u64 = 100 * EXTENT;
        // What is free besides what the caller has reserved, whenever something unfinished is there.
        let noted = Arc::<Mutex<Vec<u64>>>::default();
        let noting = Arc::clone(&noted);
        let myself = Arc::<OnceLock<Weak<LvmPool>>>::default();
        let pool_of = Arc::clone(&myself);
        let told = Told {
            volumes: vec![("n-snap-1-0a1b2c3d".to_owned(), 10 * EXTENT)],
            free: FREE - 10 * EXTENT,
            metadata_free: 1 << 20,
            ..Told::default()
        };
        let (_group, pool) = Group::pool(told, move |line, told| {
            match line[0].as_str() {
                "lvcreate" => {
                    let name = line.iter().find(|word| word.starts_with("n-")).unwrap();
                    told.volumes.push((name.clone(), 10 * EXTENT));
                    told.free -= 10 * EXTENT;
                }
                "lvconvert" => {
                    let pool = pool_of.get().and_then(Weak::upgrade).unwrap();
                    noting.lock().unwrap().push(pool.space().unwrap().free);
                }
                _ => {}
            }
            Ok(())
        });
        let pool = Arc::new(pool);
        myself.set(Arc::downgrade(&pool)).unwrap();
        let (snapshot, source) = (record("snap-1", 10 * EXTENT), record("pvc-1", 10 * EXTENT));
        // Neither can be read here, so each is thrown away again.
        pool.copy_kept(&snapshot, &source, "n-snap-1-0a1b2c3d", &|| true).unwrap_err();
        let content = Content { file: None, bytes: source.size_bytes };
        pool.fill_new(&snapshot, &source.id, &content, &|| true).unwrap_err();
        let noted = noted.lock().unwrap().clone();
        assert_eq!(noted.first(), Some(&FREE), "the copy-on-write snapshot: {noted:?}");
        assert_eq!(noted.last(), Some(&(FREE - 10 * EXTENT)), "the copy: {noted:?}");
    }

    #[test]
    fn a_copy_on_write_snapshot_that_could_not_be_split_goes_with_the_next_sweep() {
        let refusals = Mutex::new(2);
        let told = Told {
            volumes: vec![("n-snap-1-0a1b2c3d".to_owned(), 10 * EXTENT)],
            metadata_free: 1 << 20,
            ..Told::default()
        };
        let (group, pool) = Group::pool(told, move |line, _| {
            let mut refusals = refusals.lock().unwrap();
            if line[0] == "lvconvert" && *refusals > 0 {
                *refusals -= 1;
                return Err(refusal("device-mapper: reload ioctl failed: Device or resource busy"));
            }
            Ok(())
        });
        pool.copy_kept(&record("snap-1", EXTENT), &record("pvc-1", EXTENT), "n-snap-1-0a1b2c3d", &|| true)
            .unwrap_err();
        assert_eq!((group.count("lvconvert"), group.told().volumes[0].0.as_str()), (2, "n-snap-1-0a1b2c3d"));
        assert!(pool.has_trash());
        // It can't be zeroed here, so it stays a deleted one.
        pool.sweep(&|| true);
        assert!(group.told().volumes[0].0.starts_with("d-snap-1-"), "{:?}", group.told().volumes);
        assert!(pool.notes.left().is_empty());
    }

    #[test]
    fn a_copy_needs_room_for_more_than_twice_its_size() {
        const SIZE: u64 = 300 * EXTENT;
        let (snapshot, source) = (record("snap-1", SIZE), record("pvc-1", SIZE));
        for (free, enough) in
            [(2 * SIZE, false), (2 * SIZE + SIZE / 128 + EXTENT, false), (2 * SIZE + 5 * EXTENT, true)]
        {
            let told = Told { free, metadata_free: 1 << 20, ..Told::default() };
            let (_group, pool) = Group::pool(told, |_, _| Ok(()));
            let checked = pool.check_room_for_copy(&snapshot, &source);
            assert_eq!(checked.is_ok(), enough, "{free}: {checked:?}");
        }
    }
}
