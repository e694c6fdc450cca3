//! Logical volumes as devices: activating them, finding them, and freeing those whose volume is gone.

use std::{fs::File, io, path::Path};

use rustix::{
    fs::{self, Mode, OFlags},
    io::Errno,
};
use uuid::Uuid;

use super::{
    LvmPool, call,
    names::{self, group_of, of_device},
    open::is_of_group,
    physical,
};
use crate::{
    Error, VolumeId, VolumeMode,
    device::{Attached, Device, DeviceNumber},
    error::Context,
    kernel::device_mapper::{self, Mapped, State},
    pool::{Devices, record::Record},
};

/// The devices that are a volume's by their names, in groups of these pools (or of any), asked of the kernel
/// alone.
pub(crate) fn marked(id: &VolumeId, pools: Option<&[Uuid]>) -> Result<Vec<Mapped>, Error> {
    let mut found =
        device_mapper::all().doing(|| format!("look for the device-mapper device of volume {id}"))?;
    found.retain(|device| {
        let Some(group) = group_of(&device.uuid) else { return false };
        of_device(&device.name).is_some_and(|(_, volume)| volume == names::volume(id))
            && pools.is_none_or(|pools| pools.iter().any(|pool| is_of_group(*pool, group)))
    });
    Ok(found)
}

/// A logical volume's device in the terms of all pools. It stays until it is deactivated.
pub(crate) fn attached(device: &Mapped) -> Attached {
    Attached { number: device.number, node: device.node(), autoclear: false }
}

/// Reads the first block of a device from the device itself.
pub(super) fn read_past_cache(device: &Path) -> io::Result<()> {
    const BLOCK: usize = 4096;
    let file = fs::open(device, OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC, Mode::empty())?;
    // Direct I/O wants a buffer at a multiple of the block's size.
    let mut buffer = vec![0; 2 * BLOCK];
    let start = buffer.as_ptr().align_offset(BLOCK);
    let read = rustix::io::pread(&file, &mut buffer[start..start + BLOCK], 0)?;
    if read == BLOCK { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

impl Devices for LvmPool {
    fn attach(&self, record: &Record) -> Result<Device, Error> {
        let name = names::volume(&record.id);
        let entry = self.entry(&record.id)?;
        let (state, fresh) = self.activate(&name)?;
        if self.bytes(&name, state.mapped.number)? < record.size_bytes {
            // A growth that was killed between LVM's metadata and the kernel.
            self.refresh(&name)?;
        }
        if entry.raw {
            // Zeros over what another process has made of it since would destroy it.
            self.renew(&self.turn())?;
            if self.entry(&record.id)?.raw {
                self.zero_ends(&name)?;
            }
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
            Err(error) if call::said(&error, &["in use", "used by another device"]) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    fn resume(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Err(error) = self.wake_thin_pool(&self.turn()) {
            problems.push(format!("resume the thin pool of {}: {}", self.group, call::words(&error)));
        }
        let all = self.all_devices().unwrap_or_else(|problem| {
            problems.push(problem);
            Vec::new()
        });
        let known = self.view().names.clone();
        for (volume, _) in all.iter().filter(|(volume, device)| device.suspended && known.contains(volume)) {
            if let Err(error) = self.refresh(volume) {
                problems.push(format!("resume {}: {error}", self.full(volume)));
            }
        }
        problems
    }

    fn free_stale(&self, _: &dyn Fn(&VolumeId, &Attached) -> bool) -> (Vec<String>, Vec<String>) {
        let (mut freed, mut problems) = (Vec::new(), Vec::new());
        let all = match self.all_devices() {
            Ok(all) => all,
            Err(problem) => return (freed, vec![problem]),
        };
        let known = self.view().names.clone();
        for (_, device) in all.into_iter().filter(|(volume, _)| !known.contains(volume)) {
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

impl LvmPool {
    /// Makes sure that a logical volume is an active device which is not suspended. `true`: it was not active
    /// before.
    pub(super) fn activate(&self, name: &str) -> Result<(State, bool), Error> {
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

    /// An active device with a descriptor that keeps it. The kernel gives a number to another device once the
    /// first is gone, and another program may have taken it down since we asked for the number, so what was
    /// opened is checked again.
    pub(super) fn hold(&self, name: &str) -> Result<(State, File), Error> {
        let (state, _) = self.activate(name)?;
        let held = self.opened(name, &state)?;
        Ok((state, held))
    }

    fn opened(&self, name: &str, state: &State) -> Result<File, Error> {
        let node = state.mapped.node();
        let doing = || format!("open {} as {}", node.display(), self.full(name));
        let file = File::open(&node).doing(doing)?;
        let is_it = |found: DeviceNumber, now: Option<Mapped>| {
            found == state.mapped.number
                && now.is_some_and(|now| now.number == found && now.uuid == state.mapped.uuid)
        };
        let now = self.state(name)?.map(|now| now.mapped);
        if is_it(physical::number_of(&file).doing(doing)?, now) {
            return Ok(file);
        }
        Err(Error::Io {
            doing: format!("{}: another device is there by now", doing()),
            source: Errno::STALE.into(),
        })
    }

    /// Loads the logical volume's table again, and resumes the device.
    fn refresh(&self, name: &str) -> Result<(), Error> {
        Ok(self.change(&self.turn(), "lvchange", &["-qq", "--refresh", &self.full(name)])?)
    }

    pub(super) fn bytes(&self, name: &str, number: DeviceNumber) -> Result<u64, Error> {
        device_mapper::bytes(number).doing(|| format!("ask for the size of {}", self.full(name)))
    }

    fn device_of(&self, name: &str, state: &State, fresh: bool) -> Result<Device, Error> {
        let node = state.mapped.node();
        let hold = self.opened(name, state)?;
        let bytes = self.bytes(name, state.mapped.number)?;
        Ok(Device { number: state.mapped.number, node, bytes, fresh, _hold: Some(hold.into()) })
    }

    /// The active devices of logical volumes that have names of ours, with these.
    fn all_devices(&self) -> Result<Vec<(String, Mapped)>, String> {
        let all = device_mapper::all().map_err(|error| format!("list the device-mapper devices: {error}"))?;
        let group_id = self.view().group_id.clone();
        let ours = |device: Mapped| {
            let volume = of_device(&device.name).filter(|_| group_of(&device.uuid) == Some(&group_id))?.1;
            (names::read(&volume) != names::Named::Other).then_some((volume, device))
        };
        Ok(all.into_iter().filter_map(ours).collect())
    }
}
