//! Volumes of the tables as devices.

use std::path::PathBuf;

use super::state::Tables;
use crate::{
    VolumeId,
    crypt::mapper::{self, Mapper},
    device::{Attached, DeviceNumber},
    mount::table::user_of,
};

/// The node's name of a simulated device.
pub(super) fn node(number: DeviceNumber) -> PathBuf {
    PathBuf::from(format!("/dev/sim{}", number.minor))
}

/// The device that a volume is attached as: of a raw block volume until it is detached, of a filesystem as
/// long as it is mounted somewhere.
pub(super) fn attached(tables: &Tables, id: &VolumeId) -> Option<Attached> {
    let number = tables.known_number(id)?;
    let block = tables.attached.contains(id);
    let in_use = block || user_of(&tables.mounts, number).is_some() || mapper_of(tables, id).is_some();
    in_use.then(|| Attached { number, node: node(number), autoclear: !block })
}

/// The mapper of a volume: of a raw block volume until it is closed, of a filesystem as long as it is mounted
/// somewhere.
pub(super) fn mapper_of(tables: &Tables, id: &VolumeId) -> Option<Mapper> {
    let entry = tables.mappers.get(id)?;
    let below = tables.known_number(id)?;
    let number = above(below);
    let in_use = user_of(&tables.mounts, number).is_some();
    let name = mapper::name(id);
    (!entry.deferred || in_use).then(|| Mapper {
        uuid: format!("CRYPT-LUKS2-{}-{name}", entry.header.simple()),
        name,
        number,
        node: node(number),
        live: true,
        deferred: entry.deferred,
        open_count: u32::from(in_use),
        below: vec![below],
    })
}

/// The number of the mapper over a device.
fn above(below: DeviceNumber) -> DeviceNumber {
    DeviceNumber { major: below.major + 1, ..below }
}
