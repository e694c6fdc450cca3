//! Everything of Tierce that touches a disk: pools, image files, loop devices, filesystems and mounts.
//!
//! It knows nothing of Kubernetes or gRPC. Calls are level-based: each may be repeated and finds out from the
//! disk and the kernel what is left to do.

mod command;
mod crypt;
mod device;
mod engine;
mod error;
mod export;
mod filesystem;
mod host;
mod id;
mod kernel;
mod lasting;
mod mount;
pub mod nfs_client;
mod pool;
mod pool_error;
mod sim;
mod spec;
mod volume_mode;
mod zeros;

pub use command::{CommandOutput, Input, Program, Runner, SystemRunner};
pub use crypt::Key;
pub use device::DeviceNumber;
pub use engine::{Engine, Promise, Promises};
pub use error::{CommandError, Error};
pub use export::{Access, Export, ExportError, ExportServer, ServerSettings, Serving};
pub use host::{Host, LinuxHost};
pub use id::{InvalidId, MAX_ID_BYTES, VolumeId};
pub use mount::{folder, mountinfo};
pub use pool::{Backend, LvmKind, PoolConfig, PoolReport, PoolUsage, Provisioning, ThinPool, ThinUsage};
pub use pool_error::{PoolError, PoolErrorKind};
pub use sim::{SimConfig, SimHost};
/// The type of a pool's own id.
pub use uuid::Uuid;

pub use spec::{
    BrokenRecord, Change, Inodes, Inventory, Owner, PublishRequest, Recovery, SnapshotInfo, SnapshotSpec,
    StageRequest, Stats, VolumeInfo, VolumeSpec,
};
pub use tierce_filesystem::{Filesystem, UnknownFilesystem, mount_options};
pub use volume_mode::VolumeMode;
pub use zeros::are_zeros;
