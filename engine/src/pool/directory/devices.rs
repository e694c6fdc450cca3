//! An image as a loop device: found by its identity, attached, grown, detached.

use std::{
    collections::HashMap,
    os::fd::AsFd,
    sync::{Mutex, MutexGuard, PoisonError, atomic::Ordering},
};

use rustix::{
    fs::{self, OFlags},
    io::Errno,
};

use super::{DirectoryPool, NO, YES};
use crate::{
    Error, VolumeId, VolumeMode,
    device::{Attached, Device},
    error::Context,
    pool::{
        Devices,
        loops::{self, Identity, Loop},
        record::Record,
        store::IMAGE,
    },
};

impl DirectoryPool {
    fn identity(&self, id: &VolumeId) -> Result<Option<Identity>, Error> {
        let Some(folder) = self.store.folder(id)? else { return Ok(None) };
        match fs::statat(&folder, IMAGE, fs::AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            other => other
                .map(|stat| Some(Identity::of(&stat)))
                .doing(|| format!("look at {}", self.image_path(id).display())),
        }
    }

    pub(super) fn find(&self, id: &VolumeId) -> Result<Option<Loop>, Error> {
        let Some(identity) = self.identity(id)? else { return Ok(None) };
        let hint = lock(&self.hints).get(id).copied();
        let found =
            loops::find(identity, hint).doing(|| format!("look for the loop device of volume {id}"))?;
        match &found {
            Some(found) => lock(&self.hints).insert(id.clone(), found.index()),
            None => lock(&self.hints).remove(id),
        };
        Ok(found)
    }

    fn remember(&self, found: &Loop) {
        self.direct_io.store(if found.direct_io() { YES } else { NO }, Ordering::Relaxed);
    }

    /// Forgets where a volume's loop device was.
    pub(super) fn forget_device(&self, id: &VolumeId) {
        lock(&self.hints).remove(id);
    }

    fn mark(&self) -> String {
        loops::mark(self.store.id, "")
    }
}

impl Devices for DirectoryPool {
    fn attach(&self, record: &Record) -> Result<Device, Error> {
        let id = &record.id;
        let (device, fresh) = if let Some(found) = self.find(id)? {
            (found, false)
        } else {
            let image = self.open_image(id, OFlags::RDWR)?;
            self.check_length(&image, record)?;
            self.fill_holes(&image, record);
            // A filesystem's loop device goes with its last mount, so a plugin that is killed leaks none. A
            // raw block device must stay while it is not open.
            let autoclear = matches!(record.mode, VolumeMode::Filesystem(_));
            let name = loops::mark(self.store.id, id.as_str());
            let attached = loops::attach(image.as_fd(), record.sector_bytes, autoclear, &name)
                .doing(|| format!("attach {} to a loop device", self.image_path(id).display()))?;
            lock(&self.hints).insert(id.clone(), attached.index());
            (attached, true)
        };
        self.remember(&device);
        let size =
            |device: &Loop| device.bytes().doing(|| format!("ask {} for its size", device.node().display()));
        let mut bytes = size(&device)?;
        if bytes < record.size_bytes {
            device.follow_image().doing(|| format!("grow {}", device.node().display()))?;
            bytes = size(&device)?;
        }
        Ok(Device {
            number: device.number(),
            node: device.node(),
            bytes,
            fresh,
            _hold: Some(device.into_fd()),
        })
    }

    fn attached(&self, id: &VolumeId) -> Result<Option<Attached>, Error> {
        Ok(self.find(id)?.map(|device| device.attached()))
    }

    fn device(&self, record: &Record) -> Result<Option<Device>, Error> {
        let Some(device) = self.find(&record.id)? else { return Ok(None) };
        let bytes = device.bytes().doing(|| format!("ask {} for its size", device.node().display()))?;
        Ok(Some(Device {
            number: device.number(),
            node: device.node(),
            bytes,
            fresh: false,
            _hold: Some(device.into_fd()),
        }))
    }

    fn detach(&self, id: &VolumeId) -> Result<bool, Error> {
        let Some(device) = self.find(id)? else { return Ok(false) };
        let node = device.node();
        device.detach().doing(|| format!("detach {}", node.display()))?;
        Ok(true)
    }

    fn free_stale(&self, is_stale: &dyn Fn(&VolumeId, &Attached) -> bool) -> (Vec<String>, Vec<String>) {
        let (mut freed, mut problems) = (Vec::new(), Vec::new());
        let images: HashMap<Identity, VolumeId> = match self.store.ids() {
            // Without the list nothing is known to be stale.
            Err(error) => return (freed, vec![chain(&self.error("can't list the volumes", &error))]),
            Ok((ids, _)) => ids.into_iter().filter_map(|id| Some((self.identity(&id).ok()??, id))).collect(),
        };
        let found = match loops::all(|_| true) {
            Ok(found) => found,
            Err(error) => return (freed, vec![format!("list the loop devices: {error}")]),
        };
        let mark = self.mark();
        for device in found.into_iter().filter(|device| device.name().starts_with(&mark)) {
            let attached = device.attached();
            if images.get(&device.identity()).is_some_and(|id| !is_stale(id, &attached)) {
                continue;
            }
            match device.detach() {
                Ok(true) => freed.push(attached.node.display().to_string()),
                // Its last user will free it.
                Ok(false) => {}
                Err(error) => problems.push(format!("detach {}: {error}", attached.node.display())),
            }
        }
        (freed, problems)
    }
}

/// An error with its sources, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these protect are caches; a panic elsewhere leaves them usable.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
