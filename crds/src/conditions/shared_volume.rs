//! Reasons that only a SharedVolume gives. Its `Ready` condition has those of a [Volume](super::volume) besides, and its `Served` condition those
//! of its [NodeVolume](super::node_volume).

/// Of `Ready`: the StoragePools of the tier encrypt by default, and a shared volume can't be encrypted yet.
pub const ENCRYPTION_NOT_SUPPORTED: &str = "EncryptionNotSupported";
/// Of `NameConflict`: a namespace that is to have the volume has another PersistentVolumeClaim of its name.
pub const CLAIM_EXISTS: &str = "ClaimExists";
/// Of `Shared`: a namespace is to have another access, and has the one from before until no pod there uses the volume.
pub const ACCESS_WAITS: &str = "AccessWaits";
/// Of `Shared`: the API server refuses the claim of a namespace that is to have the volume, or there is no such namespace.
pub const CLAIM_REFUSED: &str = "ClaimRefused";
