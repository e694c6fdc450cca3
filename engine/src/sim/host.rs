//! The simulated kernel: mounts are entries of a table.

use std::{io, sync::Arc, thread, time::Duration};

use uuid::Uuid;

use super::{
    SimHost,
    devices::{attached, mapper_of, node},
    pool::SimPool,
    state::{SimFilesystem, State},
};
use crate::{
    Error, Filesystem, Inodes, PoolError, Stats, VolumeId,
    crypt::Crypt,
    device::{Attached, Device, DeviceNumber},
    filesystem::{
        grow::GrowError,
        make::NewFilesystem,
        probe::{Probe, Superblock},
    },
    host::{Host, Operations},
    mount::{
        place::Place,
        table::{Carries, Mount, top_at},
    },
    pool::{Backend, Pool, PoolConfig, store},
};

impl Host for SimHost {}

impl Operations for SimHost {
    fn disk_patience(&self) -> Duration {
        // A simulated disk is never busy.
        Duration::from_secs(10)
    }

    fn open_pool(&self, config: &PoolConfig, known: Option<Uuid>) -> Result<Arc<dyn Pool>, PoolError> {
        Ok(Arc::new(SimPool::open(config, known, self.capacity_bytes, Arc::clone(&self.state))?))
    }

    fn is_pool(&self, config: &PoolConfig) -> Result<bool, PoolError> {
        let Backend::Directory { path, .. } = &config.backend else { return Ok(false) };
        store::is_pool(&config.name, path)
    }

    fn marked(&self, id: &VolumeId, _: Option<&[Uuid]>) -> Result<Vec<Attached>, Error> {
        Ok(self.state.look(|tables| {
            let mapper = mapper_of(tables, id).map(|mapper| mapper.attached());
            attached(tables, id).into_iter().chain(mapper).collect()
        }))
    }

    fn detach_marked(&self, id: &VolumeId, _: &[Uuid]) -> Result<bool, Error> {
        self.state.change("detach", |tables| {
            tables.mappers.remove(id);
            tables.attached.remove(id)
        })
    }

    fn crypt(&self) -> &dyn Crypt {
        &self.crypt
    }

    fn mounts(&self) -> Result<Vec<Mount>, Error> {
        Ok(self.state.look(|tables| tables.mounts.clone()))
    }

    fn probe(&self, device: &Device) -> Result<Probe, Error> {
        let found = self.state.look(|tables| {
            let id = tables.volume(device.number)?;
            tables.filesystems.get(id).cloned()
        });
        Ok(found.map_or(Probe::Zeros, |found| {
            Probe::Found(Superblock {
                filesystem: found.filesystem,
                uuid: found.uuid,
                label: found.label,
                bytes: found.bytes,
            })
        }))
    }

    fn make_filesystem(&self, device: &Device, new: &NewFilesystem<'_>) -> Result<(), Error> {
        let made = SimFilesystem {
            filesystem: new.filesystem,
            uuid: new.uuid,
            label: new.filesystem.label(new.label),
            bytes: device.bytes,
            text: String::new(),
        };
        self.state.change("make a filesystem", |tables| {
            if let Some(id) = tables.volume(device.number).cloned() {
                tables.filesystems.insert(id, made);
            }
        })
    }

    fn wants_repair(&self, device: &Device, _: Filesystem) -> Result<bool, Error> {
        Ok(self.meets(device.number, State::hangs))
    }

    fn repair(&self, device: &Device) -> Result<(), Error> {
        self.wait_while(device.number, State::hangs);
        Ok(())
    }

    fn grow_unmounted(&self, device: &Device, _: Filesystem) -> Result<(), Error> {
        self.grow(device)
    }

    fn grow_mounted(&self, device: &Device, _: Filesystem, _: &Place) -> Result<u64, GrowError> {
        self.grow(device).map_err(GrowError::Failed)?;
        Ok(device.bytes)
    }

    fn distinguish(&self, _: &Device, _: Filesystem, _: Uuid) -> Result<(), Error> {
        Ok(())
    }

    fn write_out(&self, _: &Place) -> Result<(), Error> {
        Ok(())
    }

    fn while_frozen(&self, _: &Place, work: &mut dyn FnMut() -> Result<(), Error>) -> Result<bool, Error> {
        work().map(|()| true)
    }

    fn thaw(&self, mount: &Mount) -> Result<bool, Error> {
        if let Carries::Filesystem { device, .. } = mount.carries {
            self.wait_while(device, State::hangs);
        }
        Ok(false)
    }

    fn flush(&self, _: &Device) -> Result<(), Error> {
        Ok(())
    }

    fn ours<'a>(&self, mounts: &'a [Mount]) -> Vec<&'a Mount> {
        mounts.iter().collect()
    }

    fn mount(&self, device: &Device, filesystem: Filesystem, _: &[String], at: &Place) -> Result<(), Error> {
        self.wait_while(device.number, State::mounts_slowly);
        let carries = Carries::Filesystem { device: device.number, whole: true };
        self.push(at, carries, false, format!("{filesystem} of {}", device.node.display()))
    }

    fn bind(&self, device: DeviceNumber, _: &Place, to: &Place, readonly: bool) -> Result<(), Error> {
        let carries = Carries::Filesystem { device, whole: true };
        self.push(to, carries, readonly, format!("filesystem of {}", node(device).display()))
    }

    fn bind_node(&self, device: &Device, to: &Place, readonly: bool) -> Result<(), Error> {
        let carries = Carries::Node { device: device.number };
        self.push(to, carries, readonly, format!("device node {}", device.node.display()))
    }

    fn unmount(&self, at: &Place) -> Result<bool, Error> {
        let removed = self.state.change("unmount", |tables| {
            let top = top_at(&tables.mounts, at.path()).map(|mount| mount.id);
            tables.mounts.retain(|mount| Some(mount.id) != top);
            top.is_some()
        })?;
        if removed {
            Ok(true)
        } else {
            Err(Error::Io {
                doing: format!("unmount {}", at.path().display()),
                source: io::ErrorKind::InvalidInput.into(),
            })
        }
    }

    fn seal(&self, _: &Place) -> Result<(), Error> {
        // Only a real kernel has what protects a mount point from its owner.
        Ok(())
    }

    fn unseal(&self, _: &Place) -> Result<(), Error> {
        Ok(())
    }

    fn give_to_group(&self, _: &Place, _: u32) -> Result<bool, Error> {
        // Simulated filesystems have no folders.
        Ok(false)
    }

    fn stats(&self, filesystem: Filesystem, at: &Place) -> Result<Stats, Error> {
        let bytes = self.state.look(|tables| {
            let carries = top_at(&tables.mounts, at.path())?.carries;
            let Carries::Filesystem { device, .. } = carries else { return None };
            Some(tables.filesystems.get(tables.volume(device)?)?.bytes)
        });
        let total_bytes = bytes.unwrap_or(0);
        // One inode for 16 KiB, as mke2fs does by default.
        let total = total_bytes >> 14;
        let inodes = (filesystem != Filesystem::Btrfs).then_some(Inodes { total, used: 0, available: total });
        Ok(Stats { total_bytes, used_bytes: 0, available_bytes: total_bytes, inodes })
    }
}

impl SimHost {
    /// Whether that is so of the volume behind that number.
    fn meets(&self, number: DeviceNumber, what: fn(&State, &str) -> bool) -> bool {
        let volume = self.state.look(|tables| tables.volume(number).cloned());
        volume.is_some_and(|volume| what(&self.state, volume.as_str()))
    }

    fn wait_while(&self, number: DeviceNumber, what: fn(&State, &str) -> bool) {
        while self.meets(number, what) {
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn grow(&self, device: &Device) -> Result<(), Error> {
        let found = self.state.look(|tables| {
            let id = tables.volume(device.number)?;
            tables.filesystems.get(id).filter(|found| found.bytes != device.bytes).map(|_| id.clone())
        });
        let Some(id) = found else { return Ok(()) };
        self.state.change("grow a filesystem", |tables| {
            if let Some(found) = tables.filesystems.get_mut(&id) {
                found.bytes = device.bytes;
            }
        })
    }

    fn push(&self, at: &Place, carries: Carries, readonly: bool, what: String) -> Result<(), Error> {
        let mount = Mount { id: 0, parent: 0, point: at.path().to_owned(), carries, readonly, what };
        self.state.change("mount", |tables| tables.push(mount))
    }
}
