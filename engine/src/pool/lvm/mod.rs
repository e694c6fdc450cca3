//! LVM pools: each volume is a logical volume of a volume group, thin or thick.
//!
//! ```text
//! v-<id>          one volume; its record is in its tags
//! d-<id>-<n>      a deleted volume whose space is still being freed
//! ```
//! A volume appears by one `lvcreate` with its record in it, changes its record by one `lvchange`, and disappears by one `lvrename`, so a
//! crash leaves either all of it or none. Whatever else is in the group is not ours; its space counts as taken.
//!
//! An LV is active from its making on, until the group is deactivated or a raw block volume is unstaged: activating costs as much as
//! making. So an active LV that nobody has open is not in use, and nothing that has to be cleaned up.

mod call;
mod copies;
mod make;
mod names;
mod open;
mod report;
mod tags;
mod thin;
mod view;
mod watch;
mod wipe;

use std::{
    fs::File,
    path::PathBuf,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use uuid::Uuid;

use crate::{
    CommandError, Error, PoolError, VolumeId, VolumeMode,
    device_mapper::{self, Mapped, State},
    error::Context,
    mount::table::DeviceNumber,
    pool::{
        Attached, Content, Device, Pause, Pool, PoolConfig, Promised, Scanned, ThinUsage, record::Record,
        space::Disk, store::Broken,
    },
};
use call::Lvm;
use thin::Fill;
use view::{Entry, View};

use names::{group_of, of_device};

/// The devices that are a volume's by their names, in groups of these pools (or of any), asked of the kernel alone.
pub(crate) fn marked(id: &VolumeId, pools: Option<&[Uuid]>) -> Result<Vec<Mapped>, Error> {
    let mut found =
        device_mapper::all().doing(|| format!("look for the device-mapper device of volume {id}"))?;
    found.retain(|device| {
        let Some(group) = group_of(&device.uuid) else { return false };
        of_device(&device.name).is_some_and(|(_, volume)| volume == names::volume(id))
            && pools.is_none_or(|pools| pools.iter().any(|pool| open::is_of_group(*pool, group)))
    });
    Ok(found)
}

/// The same in the terms of all pools. It stays until it is deactivated.
pub(crate) fn attached(device: &Mapped) -> Attached {
    Attached { number: device.number, node: device.node(), autoclear: false }
}

/// An LVM pool.
pub(crate) struct LvmPool {
    config: PoolConfig,
    id: Uuid,
    group: String,
    thin_pool: Option<String>,
    /// Whether the thin pool is extended from the group's free space.
    extends: bool,
    lvm: Lvm,
    /// The group's devices and their numbers.
    devices: Vec<(PathBuf, DeviceNumber)>,
    sector_bytes: u32,
    /// Held while LVM works on the group and its result is noted. LVM's own lock would order the commands, but not our notes.
    turn: Mutex<()>,
    view: Mutex<View>,
    watch: OnceLock<watch::Watch>,
}

impl LvmPool {
    fn trouble(&self, reason: String) -> PoolError {
        let path = self.config.backend.place();
        PoolError { pool: self.config.name.clone(), path, reason, errno: None }
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn view(&self) -> MutexGuard<'_, View> {
        // Each change of it is one assignment; a panic elsewhere leaves it usable.
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The argument by which LVM knows a logical volume.
    fn full(&self, name: &str) -> String {
        format!("{}/{name}", self.group)
    }

    /// Asks LVM anew. Only in our turn.
    fn renew(&self, _turn: &MutexGuard<'_, ()>) -> Result<(), CommandError> {
        let report = self.lvm.report(&self.group)?;
        *self.view() = View::of(&report, self.id, self.thin_pool.as_deref());
        Ok(())
    }

    /// Runs a command; what it changed where it failed is looked up.
    fn change(
        &self,
        turn: &MutexGuard<'_, ()>,
        command: &str,
        arguments: &[&str],
    ) -> Result<(), CommandError> {
        let result = self.lvm.change(command, arguments).map(drop);
        if result.is_err()
            && let Err(error) = self.renew(turn)
        {
            tracing::warn!(pool = self.config.name, %error, "can't look what a failed command changed");
        }
        result
    }

    /// The active device of a logical volume.
    fn state(&self, name: &str) -> Result<Option<State>, Error> {
        let state = device_mapper::state(&names::device(&self.group, name))
            .doing(|| format!("ask device-mapper for {}", self.full(name)))?;
        let group = self.view().group_id.clone();
        Ok(state.filter(|state| group_of(&state.mapped.uuid) == Some(&group)))
    }

    /// Makes an active logical volume with these tags, by one command.
    fn make_empty(
        &self,
        turn: &MutexGuard<'_, ()>,
        name: &str,
        record: &Record,
        tags: &[String],
    ) -> Result<(), Error> {
        self.check_names(&record.id)?;
        let size = format!("{}b", record.size_bytes);
        // -ky: not activated with the rest of the group when the machine starts; whoever needs it activates it.
        let mut arguments = vec!["-qq", "-y", "-ky", "-K", "-ay", "-n", name];
        match &self.thin_pool {
            Some(pool) => arguments.extend(["-V", &size, "--thinpool", pool]),
            None => arguments.extend(["-Wn", "-Zn", "-L", &size]),
        }
        for tag in tags {
            arguments.extend(["--addtag", tag]);
        }
        arguments.push(&self.group);
        self.change(turn, "lvcreate", &arguments).map_err(|error| self.refused(error, record.size_bytes))
    }

    fn check_names(&self, id: &VolumeId) -> Result<(), Error> {
        if names::fit(&self.group, id) {
            return Ok(());
        }
        Err(Error::InvalidArgument(format!(
            "the id {id} makes too long a device name in volume group {}: give it fewer characters, '-' counts twice",
            self.group
        )))
    }

    /// A command's refusal, which may be for want of space.
    fn refused(&self, error: CommandError, requested: u64) -> Error {
        if call::no_space(&error) { self.out_of_space(requested) } else { error.into() }
    }

    /// Makes sure that a logical volume is an active device which is not suspended. `true`: it was not active before.
    fn activate(&self, name: &str) -> Result<(State, bool), Error> {
        let before = self.state(name)?;
        match &before {
            None => {
                self.change(&self.turn(), "lvchange", &["-qq", "-ay", "-K", &self.full(name)])?;
            }
            // A command that was killed in the middle left it so: everything that is written to it waits.
            Some(state) if state.mapped.suspended => self.refresh(name)?,
            Some(state) => return Ok((state.clone(), false)),
        }
        let state = self.state(name)?.ok_or_else(|| Error::Io {
            doing: format!("activate {}: LVM ended well, but the kernel has no such device", self.full(name)),
            source: std::io::ErrorKind::NotFound.into(),
        })?;
        Ok((state, before.is_none()))
    }

    /// Gives the kernel the logical volume's table anew and resumes it.
    fn refresh(&self, name: &str) -> Result<(), Error> {
        Ok(self.change(&self.turn(), "lvchange", &["-qq", "--refresh", &self.full(name)])?)
    }

    fn bytes(&self, name: &str, number: DeviceNumber) -> Result<u64, Error> {
        device_mapper::bytes(number).doing(|| format!("ask for the size of {}", self.full(name)))
    }

    /// The thin pool's fill level; `None`: the pool is thick.
    fn level(&self) -> Result<Option<Fill>, PoolError> {
        let Some(pool) = &self.thin_pool else { return Ok(None) };
        open::fill(&self.group, pool).map(Some).map_err(|reason| self.trouble(reason))
    }

    /// Bytes that a logical volume of a thin pool takes; 0 while it is not active: then nobody can tell.
    fn mapped(&self, name: &str) -> u64 {
        let status = device_mapper::status(&names::device(&self.group, name));
        match status {
            Ok(Some(target)) if target.kind == "thin" => thin::mapped_bytes(&target.text).unwrap_or(0),
            _ => 0,
        }
    }

    fn takes(&self, name: &str, size: u64) -> u64 {
        if self.thin_pool.is_some() { self.mapped(name) } else { size }
    }

    fn trash(&self) -> u64 {
        let deleted = self.view().deleted.clone();
        deleted.iter().map(|(name, deleted)| self.takes(name, deleted.size)).sum()
    }

    fn out_of_space(&self, requested: u64) -> Error {
        let largest = match self.disk() {
            Ok(disk) if !disk.closed => disk.free,
            _ => 0,
        };
        Error::OutOfSpace { pool: self.config.name.clone(), requested, largest }
    }

    fn entry(&self, id: &VolumeId) -> Result<Entry, Error> {
        let entry = self.view().volumes.get(id).cloned();
        entry.ok_or_else(|| Error::NotFound { id: id.clone() })
    }

    /// Zeroes both ends of a thick volume that nobody has used yet.
    fn zero_ends(&self, name: &str) -> Result<(), Error> {
        let (state, _) = self.activate(name)?;
        let bytes = self.bytes(name, state.mapped.number)?;
        wipe::ends(&state.mapped.node(), bytes).doing(|| format!("zero the ends of {}", self.full(name)))
    }

    /// Extends the thin pool where it is due and the group has the space.
    pub(crate) fn extend_if_due(&self) {
        let Some(pool) = self.thin_pool.as_deref().filter(|_| self.extends) else { return };
        let turn = self.turn();
        let Ok(Some(level)) = self.level() else { return };
        if level.growth(u64::MAX >> 1, 1) == thin::Growth::default() {
            return;
        }
        if let Err(error) = self.renew(&turn) {
            tracing::warn!(pool = self.config.name, %error, "can't look for space to extend the thin pool");
            return;
        }
        let (free, extent) = {
            let view = self.view();
            (view.group_free, view.extent)
        };
        let growth = level.growth(free, extent);
        if growth == thin::Growth::default() {
            tracing::warn!(
                pool = self.config.name,
                ?level,
                "the thin pool fills up and its group has no space left"
            );
            return;
        }
        let full = self.full(pool);
        for (what, bytes) in [("--poolmetadatasize", growth.metadata), ("-L", growth.data)] {
            if bytes == 0 {
                continue;
            }
            let by = format!("+{bytes}b");
            match self.change(&turn, "lvextend", &["-qq", "-y", what, &by, &full]) {
                Ok(()) => tracing::info!(pool = self.config.name, what, bytes, "extended the thin pool"),
                Err(error) => {
                    tracing::warn!(pool = self.config.name, what, bytes, %error, "can't extend the thin pool");
                }
            }
        }
        if let Err(error) = self.renew(&turn) {
            tracing::warn!(pool = self.config.name, %error, "can't look at the group after extending");
        }
    }

    /// Wipes and removes the LVs of deleted volumes.
    fn sweep_deleted(&self) -> (usize, Vec<String>) {
        let deleted = self.view().deleted.clone();
        let (mut ready, mut problems) = (Vec::new(), Vec::new());
        for (name, volume) in &deleted {
            // A thin pool zeroes a chunk before it gives it to the next volume.
            match if self.thin_pool.is_none() && volume.used { self.wipe_deleted(name) } else { Ok(()) } {
                Ok(()) => ready.push(self.full(name)),
                Err(error) => problems.push(format!("wipe {}: {error}", self.full(name))),
            }
        }
        if ready.is_empty() {
            return (0, problems);
        }
        let mut arguments = vec!["-qq", "-f"];
        arguments.extend(ready.iter().map(String::as_str));
        let turn = self.turn();
        let result = self.lvm.change("lvremove", &arguments);
        if let Err(error) = self.renew(&turn) {
            problems.push(format!("look at group {}: {error}", self.group));
        }
        let left = self.view().deleted.clone();
        let removed = deleted.keys().filter(|name| !left.contains_key(*name)).count();
        if let Err(error) = result {
            problems.push(call::words(&error));
        }
        (removed, problems)
    }

    fn wipe_deleted(&self, name: &str) -> Result<(), Error> {
        let (state, _) = self.activate(name)?;
        let bytes = self.bytes(name, state.mapped.number)?;
        wipe::all(&state.mapped.node(), bytes).doing(|| format!("zero {}", self.full(name)))
    }

    fn device_of(&self, name: &str, state: &State, fresh: bool) -> Result<Device, Error> {
        let node = state.mapped.node();
        let hold = File::open(&node).doing(|| format!("open {}", node.display()))?;
        let bytes = self.bytes(name, state.mapped.number)?;
        Ok(Device { number: state.mapped.number, node, bytes, fresh, _hold: Some(hold.into()) })
    }
}

impl Pool for LvmPool {
    fn config(&self) -> &PoolConfig {
        &self.config
    }

    fn id(&self) -> Uuid {
        self.id
    }

    fn check(&self) -> Result<(), PoolError> {
        for (path, number) in &self.devices {
            if open::number(path).ok() != Some(*number) {
                return Err(self.trouble(format!("the group's device {} is gone", path.display())));
            }
        }
        self.level().map(drop)
    }

    fn disk(&self) -> Result<Disk, PoolError> {
        let trash = self.trash();
        if let Some(fill) = self.level()? {
            open::healthy(&self.group, self.thin_pool.as_deref().unwrap_or_default(), fill.status.health)
                .map_err(|reason| self.trouble(reason))?;
            return Ok(Disk {
                id: open::disk_id(self.id),
                capacity: fill.capacity(),
                free: fill.capacity().saturating_sub(fill.used()),
                trash,
                closed: fill.is_closed(),
            });
        }
        let view = self.view();
        Ok(Disk {
            id: open::disk_id(self.id),
            capacity: view.group_size,
            free: view.group_free,
            trash,
            closed: false,
        })
    }

    fn promised(&self) -> Promised {
        let view = self.view().clone();
        let allocated = match self.level() {
            // What snapshots share counts once, so the pool is asked and not its volumes.
            Ok(Some(fill)) => {
                let others: u64 =
                    view.foreign.iter().chain(view.deleted.keys()).map(|name| self.mapped(name)).sum();
                fill.used().saturating_sub(others)
            }
            _ => view.volumes.values().map(|entry| entry.size).sum(),
        };
        view.promised(allocated)
    }

    fn direct_io(&self) -> Option<bool> {
        None
    }

    fn thin(&self) -> Option<ThinUsage> {
        self.level().ok().flatten().map(|fill| fill.usage())
    }

    fn scan(&self) -> Result<Vec<Scanned>, PoolError> {
        self.renew(&self.turn())
            .map_err(|error| self.trouble(format!("can't list the volumes: {}", call::words(&error))))?;
        if let Err(error) = self.finish_swaps() {
            tracing::warn!(pool = self.config.name, %error, "can't end an interrupted restore");
        }
        let view = self.view().clone();
        Ok(view.scanned(|id, entry| self.takes(&names::volume(id), entry.size)))
    }

    fn held(&self, id: &VolumeId) -> bool {
        self.view().volumes.contains_key(id)
    }

    fn load(&self, id: &VolumeId) -> Result<Option<Result<Record, Broken>>, Error> {
        // From memory: nobody but us writes these tags. Each scan looks again.
        Ok(self.view().volumes.get(id).map(|entry| entry.record.clone()))
    }

    fn save(&self, record: &Record) -> Result<(), Error> {
        let before = self.entry(&record.id)?;
        let name = names::volume(&record.id);
        let mut tags = tags::of(self.id, record);
        if before.raw {
            if record.may_hold_data() {
                self.zero_ends(&name)?;
            } else {
                tags.push(tags::RAW.to_owned());
            }
        }
        let mut arguments = vec!["-qq".to_owned()];
        for old in before.tags.iter().filter(|tag| !tags.contains(tag)) {
            arguments.extend(["--deltag".to_owned(), old.clone()]);
        }
        for new in tags.iter().filter(|tag| !before.tags.contains(tag)) {
            arguments.extend(["--addtag".to_owned(), new.clone()]);
        }
        if arguments.len() == 1 {
            return Ok(());
        }
        arguments.push(self.full(&name));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let turn = self.turn();
        self.change(&turn, "lvchange", &arguments)?;
        let raw = tags.iter().any(|tag| tag == tags::RAW);
        if let Some(entry) = self.view().volumes.get_mut(&record.id) {
            (entry.record, entry.tags, entry.raw) = (Ok(record.clone()), tags, raw);
        }
        Ok(())
    }

    fn allocated(&self, id: &VolumeId) -> u64 {
        let size = self.view().volumes.get(id).map(|entry| entry.size);
        size.map_or(0, |size| self.takes(&names::volume(id), size))
    }

    fn sector_bytes(&self, _: VolumeMode) -> u32 {
        self.sector_bytes
    }

    fn grain_bytes(&self) -> u64 {
        self.view().extent.max(1)
    }

    fn is_zeroed(&self) -> bool {
        self.thin_pool.is_some()
    }

    fn create(&self, record: &Record) -> Result<(), Error> {
        let name = names::volume(&record.id);
        let mut tags = tags::of(self.id, record);
        if self.thin_pool.is_none() {
            tags.push(tags::RAW.to_owned());
        }
        let turn = self.turn();
        self.make_empty(&turn, &name, record, &tags)?;
        let size = record.size_bytes.next_multiple_of(self.view().extent.max(1));
        self.view().made(record.clone(), size, tags, if self.thin_pool.is_some() { 0 } else { size });
        drop(turn);
        if self.thin_pool.is_none() { self.zero_ends(&name) } else { Ok(()) }
    }

    fn copy(&self, record: &Record, source: &Record, pause: &dyn Pause) -> Result<(), Error> {
        self.copy_of(record, source, pause)
    }

    fn content(&self, record: &Record) -> Result<Content, Error> {
        let name = names::volume(&record.id);
        let (state, _) = self.activate(&name)?;
        let node = state.mapped.node();
        let file = File::open(&node).doing(|| format!("open {}", node.display()))?;
        Ok(Content { file: Some(file), bytes: record.size_bytes })
    }

    fn fill(&self, record: &Record, _: &Record, content: Content) -> Result<(), Error> {
        self.fill_new(record, &content)
    }

    fn roll_back(&self, volume: &Record, snapshot: &Record) -> Result<(), Error> {
        self.swap(volume, snapshot)
    }

    fn resize(&self, record: &Record) -> Result<(), Error> {
        let before = self.entry(&record.id)?;
        let name = names::volume(&record.id);
        if before.size >= record.size_bytes {
            return Ok(());
        }
        let size = format!("{}b", record.size_bytes);
        let turn = self.turn();
        self.change(&turn, "lvextend", &["-qq", "-y", "-L", &size, &self.full(&name)])
            .map_err(|error| self.refused(error, record.size_bytes))?;
        let mut view = self.view();
        let bytes = record.size_bytes.next_multiple_of(view.extent.max(1));
        if self.thin_pool.is_none() {
            view.group_free = view.group_free.saturating_sub(bytes.saturating_sub(before.size));
        }
        if let Some(entry) = view.volumes.get_mut(&record.id) {
            entry.size = bytes;
        }
        Ok(())
    }

    fn delete(&self, id: &VolumeId) -> Result<bool, Error> {
        if !self.held(id) {
            return Ok(false);
        }
        let (name, new) = (names::volume(id), names::deleted(id));
        let turn = self.turn();
        self.change(&turn, "lvrename", &["-qq", &self.group, &name, &new])?;
        self.view().deleted(id, &new);
        Ok(true)
    }

    fn sweep(&self) -> (usize, Vec<String>) {
        self.sweep_deleted()
    }

    fn sweep_unfinished(&self) -> (usize, Vec<String>) {
        self.remove_unfinished()
    }

    fn is_empty(&self, id: &VolumeId) -> Result<bool, Error> {
        if self.thin_pool.is_none() {
            // There is no map of what was written: the record and the look at the device decide.
            return Ok(true);
        }
        let name = names::volume(id);
        let status = device_mapper::status(&names::device(&self.group, &name))
            .doing(|| format!("ask for the map of {}", self.full(&name)))?;
        let mapped =
            status.filter(|target| target.kind == "thin").and_then(|target| thin::mapped_bytes(&target.text));
        mapped.map(|bytes| bytes == 0).ok_or_else(|| Error::Io {
            doing: format!("understand the map of {}", self.full(&name)),
            source: std::io::ErrorKind::InvalidData.into(),
        })
    }

    fn wipe(&self, record: &Record) -> Result<bool, Error> {
        let name = names::volume(&record.id);
        let (state, _) = self.activate(&name)?;
        let (node, bytes) = (state.mapped.node(), self.bytes(&name, state.mapped.number)?);
        if self.thin_pool.is_some() {
            // Pools that ignore discards keep the chunks; these are zeroed instead.
            if wipe::discard(&node, bytes).is_err() || !self.is_empty(&record.id)? {
                wipe::all(&node, bytes).doing(|| format!("zero {}", self.full(&name)))?;
            }
            return Ok(true);
        }
        wipe::ends(&node, bytes).doing(|| format!("zero the ends of {}", self.full(&name)))?;
        Ok(false)
    }

    fn attach(&self, record: &Record) -> Result<Device, Error> {
        let name = names::volume(&record.id);
        let entry = self.entry(&record.id)?;
        let (state, fresh) = self.activate(&name)?;
        if self.bytes(&name, state.mapped.number)? < record.size_bytes {
            // A growth that was killed between LVM's metadata and the kernel.
            self.refresh(&name)?;
        }
        if entry.raw {
            self.zero_ends(&name)?;
        }
        let device = self.device_of(&name, &state, fresh)?;
        if device.bytes < record.size_bytes {
            let reason = format!(
                "its logical volume {} has {} of {} bytes",
                self.full(&name),
                device.bytes,
                record.size_bytes
            );
            return Err(Error::BrokenRecord { id: record.id.clone(), reason });
        }
        Ok(device)
    }

    fn attached(&self, id: &VolumeId) -> Result<Option<Attached>, Error> {
        let Some(state) = self.state(&names::volume(id))? else { return Ok(None) };
        let staged = self.view().volumes.get(id).is_some_and(|entry| {
            entry
                .record
                .as_ref()
                .is_ok_and(|record| record.mode == VolumeMode::Block && record.staged_at.is_some())
        });
        // Active alone is not in use. One that is open, by a mount or a program, is.
        let in_use = staged || state.open_count > 0;
        Ok(in_use.then(|| Attached {
            number: state.mapped.number,
            node: state.mapped.node(),
            autoclear: !staged,
        }))
    }

    fn device(&self, record: &Record) -> Result<Option<Device>, Error> {
        let name = names::volume(&record.id);
        if self.attached(&record.id)?.is_none() {
            return Ok(None);
        }
        self.state(&name)?.map(|state| self.device_of(&name, &state, false)).transpose()
    }

    fn detach(&self, id: &VolumeId) -> Result<bool, Error> {
        let name = names::volume(id);
        if self.state(&name)?.is_none() {
            return Ok(false);
        }
        match self.change(&self.turn(), "lvchange", &["-qq", "-an", &self.full(&name)]) {
            Ok(()) => Ok(true),
            // Its last user keeps it; callers look again.
            Err(error) if call::said(&error, &["in use"]) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    fn free_stale(&self, _: &dyn Fn(&VolumeId, &Attached) -> bool) -> (Vec<String>, Vec<String>) {
        let (mut freed, mut problems) = (Vec::new(), Vec::new());
        let all = match device_mapper::all() {
            Ok(all) => all,
            Err(error) => return (freed, vec![format!("list the device-mapper devices: {error}")]),
        };
        let (group_id, known) = {
            let view = self.view();
            (view.group_id.clone(), view.names.clone())
        };
        for device in all.into_iter().filter(|device| group_of(&device.uuid) == Some(&group_id)) {
            let Some((_, volume)) = of_device(&device.name) else { continue };
            if names::read(&volume) == names::Named::Other {
                continue;
            }
            if known.contains(&volume) {
                // A command that was killed in the middle left it suspended: whoever writes to it waits for ever.
                if device.suspended
                    && let Err(error) = self.refresh(&volume)
                {
                    problems.push(format!("resume {}: {error}", self.full(&volume)));
                }
                continue;
            }
            match device_mapper::remove(&device.name) {
                Ok(true) => freed.push(device.node().display().to_string()),
                // Its last user keeps it.
                Ok(false) => {}
                Err(error) => problems.push(format!("remove device {}: {error}", device.name)),
            }
        }
        (freed, problems)
    }
}
