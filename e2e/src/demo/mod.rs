//! What Tierce does, told as stories on clusters of their own.

mod disks;
mod main_job;
mod story;

pub use self::disks::run as run_disks;
pub use self::main_job::run;
