//! What every pool can do, as an LVM pool does it.

use std::io;

use uuid::Uuid;

use super::{LvmPool, devices, physical};
use crate::{
    PoolError, PoolErrorKind, VolumeMode,
    pool::{Pool, PoolConfig, record::Record},
};

impl Pool for LvmPool {
    fn config(&self) -> &PoolConfig {
        &self.config
    }

    fn id(&self) -> Uuid {
        self.id
    }

    fn check(&self) -> Result<(), PoolError> {
        for (path, number) in &self.devices {
            if physical::number(path).ok() != Some(*number) {
                let reason = format!("the group's device {} is gone: bring the disk back", path.display());
                return Err(self.error(PoolErrorKind::MissingDevices.because(reason)));
            }
        }
        // One that the group got since is not looked at before the pool is opened again; what is missing then
        // is named.
        if self.view().lacks_devices {
            let reason =
                format!("volume group {} has devices that were not there when it was opened", self.group);
            return Err(self.error(PoolErrorKind::MissingDevices.because(reason)));
        }
        // Taken for gone it would be opened again, without the volume that is being made.
        self.level().map(drop)
    }

    fn reach_disk(&self) -> io::Result<()> {
        self.devices.iter().try_for_each(|(path, _)| devices::read_past_cache(path))
    }

    fn tend(&self) {
        // Here, so that whoever asks how much room there is need not wait for LVM. Somebody may have freed some since the last look.
        if self.view().lacks_metadata() {
            self.ask_for_metadata();
        }
        // The group may have got space since the kernel told that the pool fills up.
        if let Some(watch) = self.watch.get()
            && self.is_due()
        {
            watch.nudge();
        }
    }

    fn sector_bytes(&self, _: VolumeMode) -> u32 {
        self.sector_bytes
    }

    fn sector_bytes_of(&self, record: &Record) -> u32 {
        // The mapper over an encrypted one has sectors of its own.
        if record.encryption.is_some() { record.sector_bytes } else { self.sector_bytes }
    }

    fn grain_bytes(&self) -> u64 {
        self.view().extent.max(1)
    }

    fn is_zeroed(&self) -> bool {
        self.thin_pool.is_some()
    }
}
