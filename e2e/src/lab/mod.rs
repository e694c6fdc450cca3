//! The disk lab: user-mode Linux guests with real device-mapper, LVM, dm-crypt and disks that can be pulled. A guest
//! is one process of the host. It needs neither root nor anything of the host's kernel, and killing it is a power cut.

mod fsx;
mod guest;
mod hardware;
mod here;
mod kernel;
mod launch;
mod power_cuts;
mod processors;
mod run;
mod serial;
mod suite;

pub use self::guest::{Guest, Outcome, Said};
pub use self::hardware::Hardware;
pub use self::launch::{ensure_possible, missing};
pub use self::power_cuts::run as run_power_cuts;
pub use self::run::{Job, is_hidden, quoted, run};
pub(crate) use self::run::{environment, surroundings};
pub use self::suite::{Kernel, run as run_suite};
pub(crate) use self::suite::{is_for_guests, side_by_side};
