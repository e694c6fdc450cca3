//! LVM pools: each volume is a logical volume of a volume group, thin or thick.
//!
//! ```text
//! v-<id>          one volume; its record is in its tags
//! d-<id>-<n>      a deleted volume whose space is still being freed
//! ```
//! A volume appears by one `lvcreate` with its record in it, changes its record by one `lvchange`, and
//! disappears by one `lvrename`, so a crash leaves either all of it or none. Whatever else is in the group is
//! not ours; its space counts as taken.
//!
//! An LV is active from its making on, until the group is deactivated or a raw block volume is unstaged:
//! activating costs as much as making. So an active LV that is not open is not in use, and nothing that has
//! to be cleaned up.

mod call;
mod copies;
mod devices;
mod fill;
mod messages;
mod names;
mod new_group;
mod notes;
mod open;
mod physical;
mod pool;
mod release;
mod report;
mod room;
#[cfg(test)]
pub(crate) mod scripted;
mod settings;
mod swaps;
mod tags;
mod thick_copies;
mod thin_pool;
mod unfinished;
mod view;
mod volume_group;
mod volumes;
mod watch;
mod wipe;

pub(crate) use devices::{attached, marked};
pub(crate) use notes::AllNotes;
pub(crate) use open::is_pool;

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use uuid::Uuid;

use crate::{device::DeviceNumber, pool::PoolConfig};
use call::Lvm;
use notes::Notes;
use watch::Watch;

/// An LVM pool.
pub(crate) struct LvmPool {
    config: PoolConfig,
    id: Uuid,
    group: String,
    thin_pool: Option<String>,
    /// Whether the thin pool is extended from the group's free space.
    extends: bool,
    lvm: Lvm,
    /// The group's devices and their numbers.
    devices: Vec<(PathBuf, DeviceNumber)>,
    sector_bytes: u32,
    notes: Arc<Notes>,
    watch: OnceLock<Watch>,
}
