//! Reasons of a pool's state on one node, as a NodeStorage lists them.

/// The path is missing.
pub const PATH_MISSING: &str = "PathMissing";
/// The path can't be written.
pub const PATH_NOT_WRITABLE: &str = "PathNotWritable";
/// The filesystem below has no space left.
pub const FILESYSTEM_FULL: &str = "FilesystemFull";
/// The node plugin has not looked at it yet.
pub const NOT_OPENED: &str = "NotOpened";
/// A name or path in the spec can't be met by any disk.
pub const INVALID_SETTINGS: &str = "InvalidSettings";
/// Another StoragePool uses the same place on the node.
pub const USED_BY_OTHER_POOL: &str = "UsedByOtherPool";
/// The disk below does not answer.
pub const NOT_ANSWERING: &str = "NotAnswering";
/// What is there is not what was there before: a disk is missing, or not mounted.
pub const OTHER_DISK: &str = "OtherDisk";
/// A later version of the node plugin made the pool, in a form that this one does not know.
pub const NEWER_POOL: &str = "NewerPool";
/// The directory is no pool yet and has something in it; it was not touched.
pub const FOREIGN_CONTENT: &str = "ForeignContent";
/// There is no volume group of that name.
pub const NO_SUCH_VOLUME_GROUP: &str = "NoSuchVolumeGroup";
/// Devices of the volume group, or devices that it shall be made from, are missing.
pub const MISSING_DEVICES: &str = "MissingDevices";
/// Two devices carry the same LVM id.
pub const DUPLICATE_DEVICES: &str = "DuplicateDevices";
/// A device that the volume group shall be made from carries something; it was not touched.
pub const FOREIGN_SIGNATURE: &str = "ForeignSignature";
/// A device that the volume group shall be made from is in use, or can't be read; it was not touched.
pub const DEVICE_UNUSABLE: &str = "DeviceUnusable";
/// There is no thin pool of that name.
pub const NO_SUCH_THIN_POOL: &str = "NoSuchThinPool";
/// The logical volume of that name is no thin pool.
pub const NOT_A_THIN_POOL: &str = "NotAThinPool";
/// The thin pool would show new volumes what others wrote before.
pub const THIN_POOL_NOT_ZEROING: &str = "ThinPoolNotZeroing";
/// LVM and the thin pool disagree about what was made last.
pub const TRANSACTION_MISMATCH: &str = "TransactionMismatch";
/// The thin pool's metadata must be checked before it can be written.
pub const NEEDS_CHECK: &str = "NeedsCheck";
/// The thin pool has no room for its metadata, so it is read-only.
pub const METADATA_FULL: &str = "MetadataFull";
/// The thin pool's metadata is so full that nothing more is made in it. Its volumes go on.
pub const METADATA_NEARLY_FULL: &str = "MetadataNearlyFull";
/// The thin pool's metadata can't be written.
pub const METADATA_READ_ONLY: &str = "MetadataReadOnly";
/// The thin pool is full: it is offered, its volumes can be read, and writes to new places fail.
pub const OUT_OF_DATA: &str = "OutOfData";
/// The thin pool can't be activated, or the kernel gave up on it.
pub const THIN_POOL_FAILED: &str = "ThinPoolFailed";
/// Anything else; the message has the words.
pub const FAILED: &str = "Failed";
