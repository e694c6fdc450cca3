//! Copies: snapshots, clones, and the exchange of a volume's content.
//!
//! In a thin pool a copy is a thin snapshot: it shares its chunks and needs neither its source nor a reserve.
//! A thick volume is copied byte by byte into an LV of its own; while it is in use, from a copy-on-write
//! snapshot that goes away again. What is not ready in one step is made under the name `n-<id>-<n>` and
//! renamed when it is whole; what a crash leaves of it is put among the deleted volumes by the next recovery.

use super::{LvmPool, names, tags};
use crate::{
    Error, VolumeMode,
    device::Content,
    error::Context,
    kernel::device_mapper,
    pool::{Copies, PAUSE_LIMIT, Pause, Rest, record::Record},
};

impl Copies for LvmPool {
    fn copy<'a>(
        &'a self,
        record: &'a Record,
        source: &'a Record,
        pause: &dyn Pause,
    ) -> Result<Option<Rest<'a>>, Error> {
        self.check_names(&record.id)?;
        let from = names::volume(&source.id);
        let available = self.entry(&source.id)?.size;
        if self.thin_pool.is_none() {
            return self.copy_thick(record, source, pause);
        }
        let tags = tags::of(self.id, record);
        let layered = self.has_layers(&from)?;
        // One command makes all of it, except where it may turn out only then that the filesystem thawed too
        // early.
        if record.size_bytes <= available && (source.mode == VolumeMode::Block || !layered) {
            let name = names::volume(&record.id);
            self.held_still(
                layered,
                source,
                pause,
                &self.snapping(&from, &name, &tags, record),
                record.size_bytes,
            )?;
            self.view().made(record.clone(), available, tags, 0);
            return Ok(None);
        }
        let name = names::unfinished(&record.id);
        let arguments = self.snapping(&from, &name, &tags, record);
        let made = self.held_still(layered, source, pause, &arguments, record.size_bytes);
        self.kept_if(made, &name)?;
        if record.size_bytes > available {
            let larger = self.lvextend(&self.turn(), &name, record.size_bytes);
            self.kept_if(larger, &name)?;
        }
        self.appear(&name, record)?;
        Ok(None)
    }

    fn bytes_for_copy(&self, record: &Record, source: &Record, in_use: bool) -> u64 {
        if in_use && self.thin_pool.is_none() {
            self.bytes_while_in_use(record, source)
        } else {
            record.size_bytes
        }
    }

    fn overwrites_copies(&self) -> bool {
        // dm-thin never writes again to a chunk that was there when a snapshot was taken, whether anybody
        // shares it by now or not.
        self.thin_pool.is_none()
    }

    fn content(&self, record: &Record) -> Result<Content, Error> {
        let (_, file) = self.hold(&names::volume(&record.id))?;
        Ok(Content { file: Some(file), bytes: record.size_bytes })
    }

    fn fill(
        &self,
        record: &Record,
        source: &Record,
        content: Content,
        pause: &dyn Pause,
    ) -> Result<(), Error> {
        self.fill_new(record, &source.id, &content, &|| pause.goes_on())
    }

    fn bytes_to_roll_back(&self, volume: &Record) -> u64 {
        if self.thin_pool.is_some() { 0 } else { volume.size_bytes }
    }

    fn roll_back(&self, volume: &Record, snapshot: &Record) -> Result<(), Error> {
        // What an exchange that failed left could be taken for this one's after a crash.
        for left in self.swaps_of(&volume.id) {
            self.drop_unfinished(&left)?;
        }
        let mut tags = tags::of(self.id, volume);
        tags.push(tags::SWAP.to_owned());
        let name = if self.thin_pool.is_some() {
            let name = names::unfinished(&volume.id);
            let whole = volume.size_bytes <= self.entry(&snapshot.id)?.size;
            let first = if whole { tags.clone() } else { vec![tags::of_pool(self.id)] };
            let arguments = self.snapping(&names::volume(&snapshot.id), &name, &first, volume);
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let made = self.lvcreate(&self.turn(), &arguments, volume.size_bytes);
            self.kept_if(made, &name)?;
            if !whole {
                let larger = self.lvextend(&self.turn(), &name, volume.size_bytes);
                self.kept_if(larger, &name)?;
                self.kept_if(self.add_tags(&name, &tags), &name)?;
            }
            name
        } else {
            let name = names::unfinished(&volume.id);
            let _reserved = self.notes.reserve(&name);
            self.made_with(&name, volume, &snapshot.id, &self.content(snapshot)?, &tags, &|| true)?;
            name
        };
        let (old, deleted) = (names::volume(&volume.id), names::deleted(&volume.id));
        let turn = self.turn();
        self.change(&turn, "lvrename", &["-qq", &self.group, &old, &deleted])?;
        self.finish_swap(&turn, &name, volume.id.as_str())?;
        Ok(self.renew(&turn)?)
    }
}

impl LvmPool {
    /// What `lvcreate` is told for a thin snapshot. LVM holds what is written to the source for that moment,
    /// and a filesystem right on it with that.
    fn snapping(&self, from: &str, name: &str, tags: &[String], record: &Record) -> Vec<String> {
        let mut arguments = vec!["-qq", "-y", "-s", "-ky", "-n", name];
        if record.role.is_none() {
            arguments.extend(["-K", "-ay"]);
        }
        for tag in tags {
            arguments.extend(["--addtag", tag]);
        }
        let from = self.full(from);
        arguments.push(&from);
        arguments.into_iter().map(str::to_owned).collect()
    }

    /// Runs `lvcreate`, with the filesystem held where LVM can't hold it: above another layer. A filesystem
    /// right on the volume must not be frozen before, or LVM can't suspend the volume. An error where it
    /// thawed before the end; what was made is then of no use.
    ///
    /// Nobody waits for our turn with the filesystem frozen, and what a failed command changed is looked at
    /// when it writes again.
    pub(super) fn held_still(
        &self,
        layered: bool,
        source: &Record,
        pause: &dyn Pause,
        arguments: &[String],
        requested: u64,
    ) -> Result<(), Error> {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        if source.mode != VolumeMode::Block && !layered {
            return self.lvcreate(&self.turn(), &arguments, requested);
        }
        // Minutes of writing must not keep others from the group.
        pause.write_out()?;
        let turn = self.turn();
        let mut still = false;
        self.lvcreate_by(&turn, requested, || {
            let mut made = Ok(());
            still = pause.hold(&mut || {
                made = self.lvm.change("lvcreate", &arguments).map(drop);
                Ok(())
            })?;
            Ok(made)
        })?;
        if still || source.mode == VolumeMode::Block {
            return Ok(());
        }
        Err(Error::CopyNeedsPause {
            id: source.id.clone(),
            by: pause.user().unwrap_or("another process").to_owned(),
            reason: format!(
                "LVM took longer than {} s for its snapshot in volume group {}; try again when the group is less busy",
                PAUSE_LIMIT.as_secs(),
                self.group
            ),
        })
    }

    /// Whether another device lies on a volume.
    pub(super) fn has_layers(&self, name: &str) -> Result<bool, Error> {
        let Some(state) = self.state(name)? else { return Ok(false) };
        let holders = device_mapper::holders(state.mapped.number)
            .doing(|| format!("look what lies on {}", self.full(name)))?;
        Ok(!holders.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex, mpsc},
        thread,
        time::{Duration, Instant},
    };

    use super::*;
    use crate::pool::lvm::scripted::{EXTENT, Group, Told, record, refusal};

    /// A filesystem that is frozen during the work, for as long as this notes.
    #[derive(Default)]
    struct Freezing {
        frozen: Mutex<Duration>,
        is_frozen: Mutex<bool>,
    }

    impl Pause for Freezing {
        fn user(&self) -> Option<&str> {
            Some("/somewhere")
        }

        fn hold(&self, work: &mut dyn FnMut() -> Result<(), Error>) -> Result<bool, Error> {
            let start = Instant::now();
            *self.is_frozen.lock().unwrap() = true;
            let worked = work();
            *self.is_frozen.lock().unwrap() = false;
            *self.frozen.lock().unwrap() += start.elapsed();
            worked.map(|()| true)
        }
    }

    #[test]
    fn a_filesystem_is_not_frozen_while_a_copy_waits_for_another_command_of_ours() {
        const LONG: Duration = Duration::from_millis(600);
        let (tell, renaming) = mpsc::channel();
        let (group, pool) =
            Group::pool(Told { metadata_free: 1 << 20, ..Told::default() }, move |line, _| {
                if line[0] == "lvrename" {
                    tell.send(()).unwrap();
                    thread::sleep(LONG);
                }
                if line[0] == "lvcreate" { Err(refusal("no")) } else { Ok(()) }
            });
        let pause = Freezing::default();
        let source = record("pvc-1", EXTENT);
        let error = thread::scope(|scope| {
            scope.spawn(|| pool.change(&pool.turn(), "lvrename", &["vg", "a", "b"]));
            renaming.recv().unwrap();
            pool.held_still(true, &source, &pause, &["-s".to_owned()], EXTENT).unwrap_err()
        });
        assert!(matches!(error, Error::Command(_)), "{error:?}");
        let frozen = *pause.frozen.lock().unwrap();
        assert!(frozen < LONG / 2, "it was frozen for {frozen:?}");
        assert_eq!(group.count("lvcreate"), 1);
    }

    #[test]
    fn what_a_failed_copy_changed_is_looked_at_after_the_thaw() {
        let pause = Arc::new(Freezing::default());
        let (seen, reports) = (Arc::clone(&pause), Arc::new(Mutex::new(Vec::new())));
        let noted = Arc::clone(&reports);
        let (_group, pool) =
            Group::pool(Told { metadata_free: 1 << 20, ..Told::default() }, move |line, _| {
                if line[0] == "fullreport" {
                    noted.lock().unwrap().push(*seen.is_frozen.lock().unwrap());
                }
                if line[0] == "lvcreate" { Err(refusal("no")) } else { Ok(()) }
            });
        reports.lock().unwrap().clear();
        let source = record("pvc-1", EXTENT);
        pool.held_still(true, &source, pause.as_ref(), &["-s".to_owned()], EXTENT).unwrap_err();
        assert_eq!(*reports.lock().unwrap(), [false]);
    }
}
