//! A volume of another node, mounted over the network by the kernel's own NFS client. Nothing here waits for a server for longer than it is
//! told to: what may never return is done by a process of its own.

mod error;
mod identity;
mod mounted;
mod options;
mod places;

pub use error::NfsError;
pub use options::Remote;
pub use places::{Fill, bind, fill, flush, is_ours, mount, unmount};
