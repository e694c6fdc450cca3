//! Holding a volume still while its content is copied.

use std::{path::PathBuf, thread};

use super::{
    core::Core,
    devices::{ATTEMPTS, PAUSE},
    finding::Located,
};
use crate::{
    Error, VolumeId, VolumeMode,
    device::Device,
    mount::{place::Place, table},
    pool::Pause,
};

/// How a volume is in use.
enum Use {
    /// Not at all: whoever holds its lock is alone with it.
    Nowhere,
    Mounted(Place),
    /// As a raw block device, open to anybody it was published to.
    Device(Device),
}

/// A volume while it is copied.
pub(super) struct Source<'a> {
    core: &'a Core,
    id: VolumeId,
    used: Use,
    user: Option<String>,
}

impl Core {
    /// Finds out what it takes to hold a volume (or snapshot) still. The caller holds its lock.
    pub(super) fn source<'a>(&'a self, found: &Located) -> Result<Source<'a>, Error> {
        let source = |used, user| Ok(Source { core: self, id: found.record.id.clone(), used, user });
        let Located { pool, record } = found;
        if record.role.is_some() {
            // Nobody ever writes to a snapshot: who has it open reads it for another copy.
            return source(Use::Nowhere, None);
        }
        let mut last = PathBuf::new();
        for attempt in 0..=ATTEMPTS {
            let Some(below) = pool.device(record)? else { return source(Use::Nowhere, None) };
            let device = match &record.encryption {
                // What is mounted is the mapper. Without one the device is on its way out.
                Some(_) => match self.device(pool.as_ref(), record)? {
                    Some(mapper) => mapper,
                    None => below,
                },
                None => below,
            };
            let mounts = self.host.mounts()?;
            if record.mode == VolumeMode::Block {
                let user = table::user_of(&mounts, device.number).map(|mount| mount.point.clone());
                let user = user.unwrap_or_else(|| device.node.clone()).display().to_string();
                return source(Use::Device(device), Some(user));
            }
            if let Some(mount) = table::user_of(&mounts, device.number) {
                let user = mount.point.display().to_string();
                let place = Place::open(&mount.point)?.ok_or_else(|| Error::InUse {
                    id: record.id.clone(),
                    by: format!("{user}, which can't be reached"),
                })?;
                return source(Use::Mounted(place), Some(user));
            }
            last.clone_from(&device.node);
            // The kernel detaches a device a moment after its last mount went.
            drop(device);
            if attempt < ATTEMPTS {
                thread::sleep(PAUSE);
            }
        }
        let by = format!("{}: a process or another mount namespace still has it open", last.display());
        Err(Error::InUse { id: record.id.clone(), by })
    }
}

impl Pause for Source<'_> {
    fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    fn goes_on(&self) -> bool {
        !self.core.is_wanted(&self.id) && self.core.sweeps.goes_on()
    }

    fn write_out(&self) -> Result<(), Error> {
        match &self.used {
            Use::Nowhere => Ok(()),
            Use::Mounted(place) => self.core.host.write_out(place),
            Use::Device(device) => self.core.host.flush(device),
        }
    }

    fn hold(&self, work: &mut dyn FnMut() -> Result<(), Error>) -> Result<bool, Error> {
        match &self.used {
            Use::Nowhere => work().map(|()| true),
            Use::Mounted(place) => {
                let others = self.core.promises.as_ref();
                let _turn = others.map(|others| others.turn_to_freeze(&self.id)).transpose()?;
                self.core.host.while_frozen(place, work)
            }
            Use::Device(device) => {
                self.core.host.flush(device)?;
                work().map(|()| false)
            }
        }
    }
}
