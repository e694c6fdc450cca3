//! Reasons of a Volume's `Ready` and `KeyRotation` conditions.

/// Of `KeyRotation`: the new key is in force, and the old one no longer opens the volume.
pub const KEY_ROTATED: &str = "Rotated";
/// Of `KeyRotation`: the new key is made, and comes into force at the next mount.
pub const KEY_WAITING: &str = "WaitingForMount";
/// Of `KeyRotation`: nothing is done, the value with which a new key was asked for is too long.
pub const KEY_VALUE_TOO_LONG: &str = "ValueTooLong";
/// Of `KeyRotation`: the volume is not encrypted, so there is no key to change.
pub const NOT_ENCRYPTED: &str = "NotEncrypted";
/// The volume exists and can be used.
pub const PROVISIONED: &str = "Provisioned";
/// The volume is made when the first pod uses it (`binding: OnFirstUse`).
pub const WAITING_FOR_FIRST_USE: &str = "WaitingForFirstUse";
/// The volume is being made.
pub const PROVISIONING: &str = "Provisioning";
/// The volume is being grown.
pub const GROWING: &str = "Growing";
/// No StoragePool has this tier.
pub const NO_SUCH_TIER: &str = "NoSuchTier";
/// The tier exists, but no node offers a working pool of it.
pub const NO_POOL: &str = "NoPool";
/// The StorageClass that the Volume is made through does not exist, or makes something else.
pub const NO_STORAGE_CLASS: &str = "NoStorageClass";
/// No pool of the tier has room for the size.
pub const OUT_OF_SPACE: &str = "OutOfSpace";
/// A StorageQuota of the namespace has no room for the volume, or for its growth.
pub const QUOTA_EXCEEDED: &str = "QuotaExceeded";
/// A PersistentVolumeClaim of the same name exists that does not belong to this Volume.
pub const NAME_CONFLICT: &str = "NameConflict";
/// What the volume is to start with does not exist, or is of another kind.
pub const NO_SOURCE: &str = "NoSource";
/// The Volume names an owner, which this version of Tierce can't enforce.
pub const OWNER_NOT_ENFORCED: &str = "OwnerNotEnforced";
/// The node that holds the data is gone from the cluster.
pub const NODE_LOST: &str = "NodeLost";
/// The PersistentVolume behind the claim is gone.
pub const CLAIM_LOST: &str = "ClaimLost";
/// The Volume is to be deleted, but a pod still uses it.
pub const IN_USE: &str = "InUse";
/// The volume is being deleted.
pub const DELETING: &str = "Deleting";
/// The API server or the node refused; the message repeats what it said.
pub const FAILED: &str = "Failed";
