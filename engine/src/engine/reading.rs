//! Which volumes are being read for a copy, and which of them a call of the node waits for.

use std::{
    collections::HashMap,
    sync::{MutexGuard, PoisonError},
};

use super::core::Core;
use crate::{Error, VolumeId};

impl Core {
    /// Notes that `source` is being copied into `target`, as long as the answer lives.
    pub(super) fn reading(&self, source: &VolumeId, target: &VolumeId) -> Reading<'_> {
        self.readers().entry(source.clone()).or_default().push(target.clone());
        Reading { core: self, source: source.clone(), target: target.clone() }
    }

    /// Fails while the volume is being copied, so that a deletion, or a change of its size or content, is
    /// refused at once instead of waiting.
    pub(super) fn check_not_read(&self, id: &VolumeId) -> Result<(), Error> {
        match self.readers().get(id).and_then(|targets| targets.first()) {
            Some(target) => {
                Err(Error::InUse { id: id.clone(), by: format!("the making of volume {target} from it") })
            }
            None => Ok(()),
        }
    }

    /// Notes that a call of the node waits for the volume, as long as the answer lives.
    pub(super) fn want(&self, id: &VolumeId) -> Want<'_> {
        *self.wanted().entry(id.clone()).or_default() += 1;
        Want { core: self, id: id.clone() }
    }

    pub(super) fn is_wanted(&self, id: &VolumeId) -> bool {
        self.wanted().contains_key(id)
    }

    fn readers(&self) -> MutexGuard<'_, HashMap<VolumeId, Vec<VolumeId>>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wanted(&self) -> MutexGuard<'_, HashMap<VolumeId, usize>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that waits for a volume.
pub(super) struct Want<'a> {
    core: &'a Core,
    id: VolumeId,
}

impl Drop for Want<'_> {
    fn drop(&mut self) {
        let mut wanted = self.core.wanted();
        if let Some(count) = wanted.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                wanted.remove(&self.id);
            }
        }
    }
}

/// A copy under way.
pub(super) struct Reading<'a> {
    core: &'a Core,
    source: VolumeId,
    target: VolumeId,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut readers = self.core.readers();
        if let Some(targets) = readers.get_mut(&self.source) {
            targets.retain(|target| *target != self.target);
            if targets.is_empty() {
                readers.remove(&self.source);
            }
        }
    }
}
