//! What makes a volume fit for many users: its root belongs to a group, and so does what is made in it.

use std::path::Path;

use super::core::Core;
use crate::{Change, Error, VolumeId, VolumeMode};

impl Core {
    pub(super) fn give_to_group(&self, id: &VolumeId, at: &Path, gid: u32) -> Result<Change<()>, Error> {
        let found = self.find(id)?;
        if found.record.mode == VolumeMode::Block {
            return Err(Error::Unsupported(format!("volume {id} is a raw block device, which has no group")));
        }
        let (place, _) = self.device_at(&found, at)?;
        Ok(Change::of(self.host.give_to_group(&place, gid)?))
    }
}
