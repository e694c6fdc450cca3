//! LVM pools: each volume is a logical volume of a volume group, thin or thick.
//!
//! ```text
//! v-<id>          one volume; its record is in its tags
//! d-<id>-<n>      a deleted volume whose space is still being freed
//! ```
//! A volume appears by one `lvcreate` with its record in it, changes its record by one `lvchange`, and disappears by one `lvrename`, so a
//! crash leaves either all of it or none. Whatever else is in the group is not ours; its space counts as taken.
//!
//! An LV is active from its making on, until the group is deactivated or a raw block volume is unstaged: activating costs as much as
//! making. So an active LV that nobody has open is not in use, and nothing that has to be cleaned up.

mod call;
mod copies;
mod devices;
mod fill;
mod make;
mod names;
mod open;
mod pool;
mod release;
mod report;
mod room;
#[cfg(test)]
mod scripted;
mod settings;
mod tags;
mod thin_pool;
mod view;
mod volume_group;
mod volumes;
mod watch;
mod wipe;

pub(crate) use devices::{attached, marked};
pub(crate) use open::is_pool;
pub(crate) use volume_group::{AllNotes, LvmPool};
