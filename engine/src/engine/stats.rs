//! How full a volume is.

use std::path::Path;

use super::core::Core;
use crate::{Error, Stats, VolumeId, VolumeMode};

impl Core {
    pub(super) fn stats(&self, id: &VolumeId, path: &Path) -> Result<Stats, Error> {
        let found = self.find(id)?;
        let (place, device) = self.device_at(&found, path)?;
        match found.record.mode {
            VolumeMode::Filesystem(filesystem) => self.host.stats(filesystem, &place),
            VolumeMode::Block => {
                let used_bytes = found.pool.allocated(id).min(device.bytes);
                let available_bytes = device.bytes - used_bytes;
                Ok(Stats { total_bytes: device.bytes, used_bytes, available_bytes, inodes: None })
            }
        }
    }
}
