//! Simulated encryption: headers and mappers are entries of the tables; keys are known by their hashes alone.

use std::{collections::BTreeMap, io, sync::Arc};

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    devices::mapper_of,
    state::{SimHeader, State},
};
use crate::{
    Error, Key, VolumeId,
    crypt::{
        Crypt, HEADER_BYTES, Opened,
        header::Header,
        mapper::{self, Mapper},
    },
    device::{Content, Device},
    error::Context,
    filesystem::probe::Probe,
    mount::table::user_of,
};

/// What of a key the simulation keeps.
fn hash(key: &Key) -> String {
    format!("{:?}", Sha256::digest(key.bytes()))
}

/// The simulated disk's encryption.
pub(super) struct SimCrypt {
    pub(super) state: Arc<State>,
}

impl SimCrypt {
    fn header_of(&self, below: &Device) -> Option<(VolumeId, SimHeader)> {
        self.state.look(|tables| {
            let id = tables.volume(below.number)?;
            Some((id.clone(), tables.headers.get(id)?.clone()))
        })
    }

    fn change(&self, below: &Device, what: &str, change: impl FnOnce(&mut SimHeader)) -> Result<(), Error> {
        let changed = self.state.change(what, |tables| {
            let id = tables.volume(below.number).cloned()?;
            tables.headers.get_mut(&id).map(change)
        })?;
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        changed.ok_or_else(missing).doing(|| format!("{what}: {} has no header", below.node.display()))
    }
}

impl Crypt for SimCrypt {
    fn header(&self, below: &Device) -> Result<Header, Error> {
        let found = self.state.look(|tables| {
            let id = tables.volume(below.number)?;
            if let Some(header) = tables.headers.get(id) {
                return Some(Header::Luks(header.uuid));
            }
            tables.filesystems.contains_key(id).then_some(Header::Other(Probe::Unknown))
        });
        Ok(found.unwrap_or(Header::Other(Probe::Zeros)))
    }

    fn format(&self, below: &Device, header: Uuid, key: &Key) -> Result<(), Error> {
        let made = SimHeader { uuid: header, slots: BTreeMap::from([(0, hash(key))]) };
        self.state.change("make a LUKS2 header", |tables| {
            if let Some(id) = tables.volume(below.number).cloned() {
                tables.filesystems.remove(&id);
                tables.headers.insert(id, made);
            }
        })
    }

    fn put_back_header(&self, kept: &VolumeId, _: &Content, below: &Device) -> Result<(), Error> {
        self.state.change("put a LUKS2 header back", |tables| {
            if let Some(id) = tables.volume(below.number).cloned()
                && let Some(header) = tables.headers.get(kept).cloned()
            {
                tables.headers.insert(id, header);
            }
        })
    }

    fn erase(&self, below: &Device) -> Result<(), Error> {
        self.state.change("destroy the key slots", |tables| {
            if let Some(id) = tables.volume(below.number).cloned() {
                tables.headers.remove(&id);
            }
        })
    }

    fn mapper(&self, id: &VolumeId) -> Result<Option<Mapper>, Error> {
        Ok(self.state.look(|tables| mapper_of(tables, id)))
    }

    fn mappers(&self) -> Result<Vec<(VolumeId, Mapper)>, Error> {
        Ok(self.state.look(|tables| {
            let all = tables.mappers.keys();
            all.filter_map(|id| Some((id.clone(), mapper_of(tables, id)?))).collect()
        }))
    }

    fn open(&self, id: &VolumeId, below: &Device, key: &Key, _: bool) -> Result<Opened, Error> {
        let Some((_, header)) = self.header_of(below) else { return Ok(Opened::WrongKey) };
        if !header.slots.values().any(|slot| *slot == hash(key)) {
            return Ok(Opened::WrongKey);
        }
        self.state.change("open", |tables| {
            tables
                .mappers
                .insert(id.clone(), super::state::SimMapper { header: header.uuid, deferred: false });
        })?;
        Ok(Opened::Done)
    }

    fn device(&self, mapper: &Mapper) -> Result<Option<Device>, Error> {
        let bytes = self.state.look(|tables| tables.sizes.get(tables.volume(mapper.number)?).copied());
        Ok(bytes.map(|bytes| Device {
            number: mapper.number,
            node: mapper.node.clone(),
            bytes: bytes.saturating_sub(HEADER_BYTES),
            fresh: false,
            _hold: None,
        }))
    }

    fn resize(&self, _: &Mapper) -> Result<(), Error> {
        Ok(())
    }

    fn close_after_use(&self, mapper: &Mapper) -> Result<(), Error> {
        self.state.change("close after use", |tables| {
            if let Some(entry) = mapper::volume(&mapper.name).and_then(|id| tables.mappers.get_mut(&id)) {
                entry.deferred = true;
            }
        })
    }

    fn close(&self, mapper: &Mapper) -> Result<bool, Error> {
        self.state.change("close", |tables| {
            let Some(id) = mapper::volume(&mapper.name) else { return false };
            let in_use = user_of(&tables.mounts, mapper.number).is_some();
            if !in_use {
                tables.mappers.remove(&id);
            }
            !in_use
        })
    }

    fn users(&self, mapper: &Mapper) -> String {
        format!("a mount of {}", mapper.node.display())
    }

    fn holders(&self, _: &Device) -> Option<String> {
        None
    }

    fn slots(&self, below: &Device) -> Result<Vec<u32>, Error> {
        Ok(self.header_of(below).map(|(_, header)| header.slots.into_keys().collect()).unwrap_or_default())
    }

    fn opens(&self, below: &Device, key: &Key, slot: Option<u32>) -> Result<bool, Error> {
        let Some((_, header)) = self.header_of(below) else { return Ok(false) };
        let hash = hash(key);
        Ok(header
            .slots
            .iter()
            .any(|(number, known)| slot.is_none_or(|slot| slot == *number) && *known == hash))
    }

    fn add_key(&self, below: &Device, _: &Key, further: &Key, slot: u32) -> Result<(), Error> {
        self.change(below, "add a key", |header| {
            header.slots.insert(slot, hash(further));
        })
    }

    fn remove_key(&self, below: &Device, _: &Key, slot: u32) -> Result<(), Error> {
        self.change(below, "remove a key", |header| {
            header.slots.remove(&slot);
        })
    }
}
