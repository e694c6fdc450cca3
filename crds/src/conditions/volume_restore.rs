//! Reasons of a VolumeRestore's `Ready` condition.

/// The volume has the content of the snapshot.
pub const RESTORED: &str = "Restored";
/// The node is restoring it.
pub const RESTORING: &str = "Restoring";
/// The restore waits until no pod uses the volume; the message names the pods.
pub const IN_USE: &str = "InUse";
/// There is no such Volume, or it holds no data yet.
pub const NO_SUCH_VOLUME: &str = "NoSuchVolume";
/// There is no such VolumeSnapshot of Tierce in the namespace.
pub const NO_SUCH_SNAPSHOT: &str = "NoSuchSnapshot";
/// The snapshot is of another volume.
pub const OTHER_VOLUME: &str = "OtherVolume";
/// The snapshot is larger than the volume.
pub const VOLUME_TOO_SMALL: &str = "VolumeTooSmall";
/// Another restore of the same volume is under way.
pub const WAITING: &str = "Waiting";
/// The VolumeRestore is being deleted, and the node is asked whether it has begun.
pub const CALLING_OFF: &str = "CallingOff";
/// Of an Event: the VolumeRestore was deleted before the node had begun.
pub const CALLED_OFF: &str = "CalledOff";
/// The node that holds the data is gone from the cluster.
pub const NODE_LOST: &str = "NodeLost";
/// The restore is done, but somebody else's VolumeSnapshot has the name of the one that is to keep what was there before.
pub const NAME_CONFLICT: &str = "NameConflict";
/// The node refused; the message repeats what it said.
pub const FAILED: &str = "Failed";
